//! Making a backup: check, dump, verify, publish.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::digest::{Tally, first_document};
use super::manifest::{
    CollectionRecord, Completeness, FORMAT, IndexRecord, Manifest, Purpose, SEGMENT_BYTES, Segment, VERSION,
    hex,
};
use super::verify::{Staged, Unsound, add, cancelled, check, number};
use super::{Inner, Level, bytes_in_words, corrupt};
use crate::error::{Error, Evidence, Reason, Result};
use crate::ids::{BackupId, OperationId};
use crate::operation::{
    Confirm, FieldValue, Outcome, PhaseHandle, Plan, PlanStep, ResultRow, Run, State, Task,
};
use crate::ports::backup_catalog::CatalogEntry;
use crate::ports::backup_store::{Space, Staging, StoreError};
use crate::ports::database::{Capabilities, Collection, DatabaseError, Stats};

/// NamespaceNotFound, QueryPlanKilled: the collection went away while it was read.
const GONE: [i32; 2] = [26, 175];

/// `backup.create`.
pub(super) struct Create {
    pub(super) inner: Arc<Inner>,
    pub(super) database: String,
    pub(super) tag: String,
}

/// A published backup.
pub(super) struct Made {
    pub(super) manifest: Manifest,
}

/// What a look at the database and the store said before anything was written.
struct Preflight {
    server: Capabilities,
    collections: Vec<Collection>,
    warnings: Vec<String>,
    needed: u64,
    space: Space,
}

#[async_trait]
impl Task for Create {
    fn kind(&self) -> &'static str {
        "backup.create"
    }

    fn targets(&self) -> Vec<String> {
        vec![self.database.clone()]
    }

    fn locks(&self) -> Vec<String> {
        vec![format!("database/{}", self.database)]
    }

    fn parameters(&self) -> Value {
        json!({ "database": self.database, "tag": self.tag })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(6 * 3600)
    }

    async fn plan(&self) -> Result<Plan> {
        let preflight = self.inner.preflight(&self.database).await?;
        let text = format!(
            "{} collections, ~{} uncompressed",
            preflight.collections.len(),
            bytes_in_words(preflight.needed)
        );
        let step = |phase: &str, text: String| PlanStep { phase: phase.to_owned(), text, estimate_ms: 0 };
        let fact = |name: &str, text: String| Evidence { name: name.to_owned(), text, lines: Vec::new() };
        Ok(Plan {
            confirm: Confirm::None,
            steps: vec![
                step("dump", text),
                step("verify", "read back, compare hashes, counts and digests".to_owned()),
                step("publish", "fsync, manifest last, rename".to_owned()),
            ],
            facts: vec![
                fact("from", format!("{}, {}", self.database, preflight.server)),
                fact("into", self.inner.store()?.location()),
                fact("free", bytes_in_words(preflight.space.free)),
            ],
            if_it_fails: "what was written of it is removed; older backups are not touched".to_owned(),
            preconditions: json!({ "database": self.database, "server": preflight.server.kind }),
        })
    }

    async fn run(&self, run: &Run) -> Outcome {
        match self.inner.make(run, &self.database, &self.tag, Purpose::Manual).await {
            Ok(made) => outcome(&made),
            Err(error) if error.reason == Reason::Cancelled => {
                Outcome::failed(State::Cancelled, error, Vec::new())
            }
            Err(error) => Outcome::failed(State::Failed, error, Vec::new()),
        }
    }
}

fn outcome(made: &Made) -> Outcome {
    let manifest = &made.manifest;
    let partial = manifest.state == Completeness::Partial;
    let row = ResultRow {
        target: manifest.id.to_string(),
        result: if partial { "PARTIAL" } else { "" }.to_owned(),
        fields: vec![
            ("collections".to_owned(), number(manifest.collections.len() as u64)),
            ("documents".to_owned(), number(manifest.documents())),
            ("data_bytes".to_owned(), number(manifest.bytes())),
            ("stored_bytes".to_owned(), number(manifest.stored())),
            ("consistency".to_owned(), FieldValue::Text(manifest.consistency.clone())),
            ("verified".to_owned(), FieldValue::Text(Level::Structure.name().to_owned())),
            ("took_ms".to_owned(), number(manifest.took_ms)),
        ],
    };
    let mut outcome = Outcome::succeeded(vec![row]);
    outcome.notes.extend(apart(manifest));
    outcome.notes.extend(manifest.warnings.iter().cloned());
    if partial {
        outcome.state = State::Partial;
        outcome.problem = Some(
            Error::new(
                Reason::BackupIncomplete,
                format!("{} collections went away while the backup was made", manifest.missing.len()),
            )
            .about(&manifest.id)
            .lines("missing", "", manifest.missing.clone())
            .effect("it is kept, as partial; latest never names it"),
        );
    }
    outcome
}

/// How far the collections are from being of one instant.
fn apart(manifest: &Manifest) -> Option<String> {
    let ends: Vec<_> = manifest.collections.iter().map(|collection| collection.read_at).collect();
    let first = ends.iter().min()?;
    let last = ends.iter().max()?;
    let apart = last.duration_since(*first).as_secs_f64();
    (ends.len() > 1 && apart >= 0.05)
        .then(|| format!("each collection is whole; they were read up to {apart:.1} s apart"))
}

impl Inner {
    async fn preflight(&self, database: &str) -> Result<Preflight> {
        let port = self.database()?;
        let server = port.capabilities().await?;
        let mut warnings = Vec::new();
        let mut collections = port.collections(database).await?;
        collections.retain(|collection| {
            let kept = collection.kind == "collection" && !is_ours(&collection.name);
            if !kept {
                let what = if is_ours(&collection.name) { "left by a restore" } else { &collection.kind };
                warnings.push(format!("{} is not in the backup ({what})", collection.name.escape_debug()));
            }
            kept
        });
        if collections.is_empty() {
            return Err(Error::new(
                Reason::BackupIncomplete,
                format!("{database} holds no collections: there is nothing to back up"),
            )
            .about(database)
            .fact("server", server.to_string())
            .next(&["opsctl", "db", "count"])
            .effect("nothing was written"));
        }
        let Stats { data_bytes, .. } = port.stats(database).await?;
        let space = self.store()?.space().await?;
        if space.free < data_bytes.saturating_add(space.reserve) {
            return Err(self.no_space(data_bytes, space).await);
        }
        Ok(Preflight { server, collections, warnings, needed: data_bytes, space })
    }

    async fn no_space(&self, needed: u64, space: Space) -> Error {
        let folder = self.store().map(|store| store.location()).unwrap_or_default();
        let mut error = Error::new(Reason::NoSpace, format!("not enough room for this backup in {folder}"))
            .about(folder)
            .fact(
                "needs",
                format!(
                    "{}, and {} that stay free (backup.reserve_bytes)",
                    bytes_in_words(needed),
                    bytes_in_words(space.reserve)
                ),
            )
            .fact("free", format!("{} of {}", bytes_in_words(space.free), bytes_in_words(space.total)))
            .effect("nothing was written");
        if let Ok(Some(newest)) = self.all().await.map(|all| all.into_iter().find(super::is_latest)) {
            error = error.fact("newest", newest.id.to_string());
        }
        error.next(&["opsctl", "backup", "list"])
    }

    /// Makes a backup, its phases included. Whatever fails, what was written of it is removed.
    pub(super) async fn make(&self, run: &Run, database: &str, tag: &str, purpose: Purpose) -> Result<Made> {
        let mut phase = run.phase("check", "");
        let preflight = match self.preflight(database).await {
            Ok(preflight) => preflight,
            Err(error) => {
                phase.failed(error.message.clone());
                return Err(error);
            }
        };
        phase.text("");
        phase.done(format!(
            "{} collections, all readable; needs ~{}, {} free",
            preflight.collections.len(),
            bytes_in_words(preflight.needed),
            bytes_in_words(preflight.space.free)
        ));
        let id = self.new_id(run).await?;
        run.checkpoint("stage", json!({ "id": id })).await?;
        let began = run.monotonic();
        let mut manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: id.clone(),
            agent: self.maker.clone(),
            operation: run.id().to_string(),
            database: database.to_owned(),
            server: preflight.server.clone(),
            consistency: "per-collection".to_owned(),
            codec: "zstd".to_owned(),
            purpose,
            tag: tag.to_owned(),
            state: Completeness::Ok,
            started_at: run.now(),
            finished_at: run.now(),
            took_ms: 0,
            collections: Vec::new(),
            missing: Vec::new(),
            warnings: preflight.warnings.clone(),
            previous: self.all().await?.into_iter().find(super::is_latest).map(|newest| newest.id),
        };
        match self.write(run, &preflight, &mut manifest, began).await {
            Ok(()) => Ok(Made { manifest }),
            Err(error) => {
                let removed = self.store()?.discard(&id).await;
                let effect = match removed {
                    Ok(()) => "what was written of it was removed; older backups are as they were".to_owned(),
                    Err(left) => {
                        format!("{id}.partial could not be removed: {left}; older backups are as they were")
                    }
                };
                Err(error.effect(effect))
            }
        }
    }

    async fn write(
        &self,
        run: &Run,
        preflight: &Preflight,
        manifest: &mut Manifest,
        began: Duration,
    ) -> Result<()> {
        let mut staging = self.store()?.begin(&manifest.id).await?;
        let mut phase = run.phase("dump", "");
        if let Err(error) = self.dump_all(run, preflight, manifest, &mut *staging, &mut phase).await {
            phase.failed(error.message.clone());
            return Err(error);
        }
        phase.done(format!("{} documents, {}", manifest.documents(), bytes_in_words(manifest.bytes())));

        let mut phase = run.phase("verify", "");
        let total = manifest.stored();
        let checked = check(&mut Staged(&mut *staging), manifest, Level::Structure, Some(run), |done| {
            phase.progress(done, total, "bytes");
        })
        .await;
        let checked = match checked {
            Ok(checked) => checked,
            Err(unsound) => {
                let error = match unsound {
                    Unsound::Damaged(damage) => corrupt(&manifest.id, &damage),
                    Unsound::Store(error) => error.into(),
                    Unsound::Cancelled => cancelled(),
                };
                phase.failed(error.message.clone());
                return Err(error);
            }
        };
        phase.done(format!(
            "read back: {} segment hashes, {} counts and digests equal",
            checked.segments,
            manifest.collections.len()
        ));

        let phase = run.phase("publish", "");
        manifest.finished_at = run.now();
        let took = run.monotonic().saturating_sub(began);
        manifest.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match self.publish(run, manifest, staging).await {
            Ok(()) => {
                phase.done("fsynced, manifest last, renamed");
                Ok(())
            }
            Err(error) => {
                phase.failed(error.message.clone());
                Err(error)
            }
        }
    }

    async fn publish(&self, run: &Run, manifest: &Manifest, mut staging: Box<dyn Staging>) -> Result<()> {
        let bytes = manifest.encode();
        // What this agent could not read again must not get a name.
        Manifest::parse(&bytes, &manifest.id).map_err(|error| {
            Error::new(Reason::Internal, format!("the manifest would not be read: {error}"))
        })?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        staging.seal(&bytes).await?;
        // Before the name: a crash between the two leaves a line too many, never a backup that is not ours.
        let made = CatalogEntry::Made { id: manifest.id.clone(), manifest_hash: hash.clone(), at: run.now() };
        self.ports.catalog.append(made).await?;
        let verified = CatalogEntry::Verified {
            id: manifest.id.clone(),
            manifest_hash: hash,
            level: Level::Structure,
            problem: None,
            at: run.now(),
        };
        self.ports.catalog.append(verified).await?;
        run.checkpoint("publish", json!({ "id": manifest.id })).await?;
        Ok(staging.publish().await?)
    }

    async fn dump_all(
        &self,
        run: &Run,
        preflight: &Preflight,
        manifest: &mut Manifest,
        staging: &mut dyn Staging,
        phase: &mut PhaseHandle,
    ) -> Result<()> {
        let database = manifest.database.clone();
        let mut gone = BTreeSet::new();
        for collection in &preflight.collections {
            let number = manifest.collections.len();
            let done = manifest.bytes();
            let read = self
                .dump_one(run, &database, collection, number, staging, |bytes| {
                    phase.progress(done + bytes, preflight.needed.max(done + bytes), "bytes");
                })
                .await;
            match read {
                Ok(record) => {
                    if record.documents == 0 {
                        manifest.warnings.extend(self.doubt(&database, &collection.name).await);
                    }
                    manifest.collections.push(record);
                }
                Err(Halt::Gone) => {
                    gone.insert(collection.name.clone());
                }
                Err(Halt::Failed(error)) => return Err(error),
            }
        }
        let left: BTreeSet<String> =
            self.database()?.collections(&database).await?.into_iter().map(|one| one.name).collect();
        for name in preflight.collections.iter().map(|one| &one.name) {
            if !left.contains(name) {
                gone.insert(name.clone());
            }
        }
        // Its documents may have been cut off in the middle without a word.
        manifest.missing = gone.into_iter().collect();
        if manifest.collections.is_empty() {
            return Err(Error::new(
                Reason::BackupIncomplete,
                format!("every collection of {database} went away while the backup was made"),
            )
            .about(database));
        }
        if !manifest.missing.is_empty() {
            manifest.state = Completeness::Partial;
        } else if !manifest.warnings.is_empty() {
            manifest.state = Completeness::OkWithWarnings;
        }
        Ok(())
    }

    async fn dump_one(
        &self,
        run: &Run,
        database: &str,
        collection: &Collection,
        number: usize,
        staging: &mut dyn Staging,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<CollectionRecord, Halt> {
        let file = CollectionRecord::file_name(number);
        let mut batches = self.dump()?.read(database, &collection.name).await?;
        staging.open(&file).await?;
        let mut tally = Tally::default();
        let mut segments = Vec::new();
        let mut pending = BytesMut::with_capacity(SEGMENT_BYTES);
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                () = run.cancelled().cancelled() => return Err(Halt::Failed(cancelled())),
            };
            let Some(batch) = batch.transpose()? else { break };
            let mut rest = batch.bytes;
            while let Some(length) = first_document(&rest).map(<[u8]>::len) {
                pending.extend_from_slice(&rest.split_to(length));
                if pending.len() >= SEGMENT_BYTES {
                    let full = pending.split().freeze();
                    segments.push(segment(staging, &mut tally, full).await?);
                    progress(tally.sums().bytes);
                }
            }
            if !rest.is_empty() {
                let what = format!("read {database}.{}", collection.name);
                let detail = "a batch holds what is not a whole document".to_owned();
                return Err(Halt::Failed(DatabaseError::Protocol { what, detail }.into()));
            }
        }
        if !pending.is_empty() {
            segments.push(segment(staging, &mut tally, pending.freeze()).await?);
        }
        staging.close().await?;
        let sums = tally.sums();
        progress(sums.bytes);
        Ok(CollectionRecord {
            name: collection.name.clone(),
            uuid: collection.uuid.clone(),
            options: hex(&collection.options),
            indexes: collection
                .indexes
                .iter()
                .map(|index| IndexRecord { name: index.name.clone(), spec: hex(&index.spec) })
                .collect(),
            documents: sums.documents,
            bytes: sums.bytes,
            stored: segments.iter().map(|segment| segment.stored).sum(),
            crc64: sums.crc64,
            digest: sums.digest,
            read_at: run.now(),
            file,
            segments,
        })
    }

    /// No documents were read: does the server think otherwise?
    async fn doubt(&self, database: &str, collection: &str) -> Option<String> {
        let counted = self.ports.database.as_ref()?.count(database, collection, true).await.ok()?;
        (counted > 0).then(|| {
            format!("{}: no document was read, the server counts ~{counted}", collection.escape_debug())
        })
    }

    /// The minute, and the end of the operation's id: as much of it as makes it unique here.
    async fn new_id(&self, run: &Run) -> Result<BackupId> {
        let store = self.store()?;
        let mut taken: BTreeSet<BackupId> = store.list().await?.into_iter().collect();
        taken.extend(store.partials().await?);
        let minute = run.now().strftime("%Y%m%dT%H%MZ").to_string();
        let tail = tail(run.id());
        (2..=tail.len())
            .map(|length| format!("{minute}-{}", &tail[tail.len() - length..]))
            .filter_map(|text| BackupId::parse(&text).ok())
            .find(|id| !taken.contains(id))
            .ok_or_else(|| Error::new(Reason::Internal, "no backup id is free").retryable())
    }
}

/// Why a collection was not read to its end.
enum Halt {
    Gone,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Failed(error)
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        Halt::Failed(error.into())
    }
}

impl From<DatabaseError> for Halt {
    fn from(error: DatabaseError) -> Self {
        match error.code() {
            Some(code) if GONE.contains(&code) => Halt::Gone,
            _ => Halt::Failed(error.into()),
        }
    }
}

async fn segment(staging: &mut dyn Staging, tally: &mut Tally, documents: Bytes) -> Result<Segment> {
    let (next, counted) = add(std::mem::take(tally), documents.clone())
        .await
        .map_err(|detail| Error::new(Reason::Internal, format!("a segment cannot be summed: {detail}")))?;
    *tally = next;
    Ok(Segment::of(staging.append(documents).await?, counted))
}

/// The random part of an operation's id.
pub(super) fn tail(id: &OperationId) -> &str {
    id.as_str().rsplit('-').next().unwrap_or_default()
}

/// Whether a collection is one that a restore makes on its way.
pub(super) fn is_ours(name: &str) -> bool {
    ["__rst_", "__old_", "__mid_"].iter().any(|prefix| name.starts_with(prefix))
}
