//! Are a backup's bytes what its manifest says?

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::digest::{Sums, Tally};
use super::manifest::{CollectionRecord, Manifest};
use super::{Backup, Damage, Inner, Level, bytes_in_words, corrupt};
use crate::error::{Error, Evidence, Reason, Result};
use crate::ids::BackupId;
use crate::operation::{Confirm, FieldValue, Outcome, Plan, PlanStep, ResultRow, Run, State, Task};
use crate::ports::backup_catalog::CatalogEntry;
use crate::ports::backup_store::{BackupStore, Frame, Staging, StoreError};

/// `backup.verify`.
pub(super) struct Verify {
    pub(super) inner: Arc<Inner>,
    pub(super) id: BackupId,
    pub(super) level: Level,
}

/// What was read on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) segments: u64,
    pub(super) stored: u64,
    pub(super) documents: u64,
}

/// Why a check did not end well.
#[derive(Debug)]
pub(super) enum Unsound {
    /// The bytes are wrong.
    Damaged(Damage),
    /// The bytes could not be had.
    Store(StoreError),
    /// Someone asked to stop.
    Cancelled,
}

/// Where segments come from: the store, or a staging about to be published.
#[async_trait]
pub(super) trait Source: Send {
    async fn segment(&mut self, file: &str, frame: &Frame, decode: bool) -> Result<Bytes, StoreError>;
}

/// A published backup.
pub(super) struct Published<'a> {
    pub(super) store: &'a dyn BackupStore,
    pub(super) id: &'a BackupId,
}

#[async_trait]
impl Source for Published<'_> {
    async fn segment(&mut self, file: &str, frame: &Frame, decode: bool) -> Result<Bytes, StoreError> {
        self.store.segment(self.id, file, frame, decode).await
    }
}

/// A backup that is still staged.
pub(super) struct Staged<'a>(pub(super) &'a mut dyn Staging);

#[async_trait]
impl Source for Staged<'_> {
    async fn segment(&mut self, file: &str, frame: &Frame, _decode: bool) -> Result<Bytes, StoreError> {
        self.0.read_back(file, frame).await
    }
}

/// Reads every segment and compares, to the level that is asked for. `progress` is told the stored bytes so far.
pub(super) async fn check(
    source: &mut dyn Source,
    manifest: &Manifest,
    level: Level,
    run: Option<&Run>,
    mut progress: impl FnMut(u64) + Send,
) -> Result<Checked, Unsound> {
    let mut checked = Checked { documents: manifest.documents(), ..Checked::default() };
    if level == Level::Manifest {
        return Ok(checked);
    }
    for collection in &manifest.collections {
        let damaged = |why: String| {
            Unsound::Damaged(Damage {
                file: collection.file.clone(),
                collection: collection.name.clone(),
                why,
            })
        };
        let mut tally = Tally::default();
        for segment in &collection.segments {
            if run.is_some_and(|run| run.cancelled().is_cancelled()) {
                return Err(Unsound::Cancelled);
            }
            let decode = level == Level::Structure;
            let bytes = match source.segment(&collection.file, &segment.frame(), decode).await {
                Ok(bytes) => bytes,
                Err(StoreError::Corrupt { why, .. }) => return Err(damaged(why)),
                Err(error) => return Err(Unsound::Store(error)),
            };
            if decode {
                let (next, counted) = add(tally, bytes).await.map_err(&damaged)?;
                tally = next;
                if counted != segment.documents {
                    return Err(damaged(format!(
                        "the segment at {} holds {counted} documents, the manifest says {}",
                        segment.offset, segment.documents
                    )));
                }
            }
            checked.segments += 1;
            checked.stored += segment.stored;
            progress(checked.stored);
        }
        if level == Level::Structure {
            compare(collection, &tally.sums()).map_err(&damaged)?;
        }
    }
    Ok(checked)
}

/// Adds a piece off the async threads: hashing 8 MiB takes milliseconds.
pub(super) async fn add(tally: Tally, piece: Bytes) -> Result<(Tally, u64), String> {
    let mut tally = tally;
    tokio::task::spawn_blocking(move || {
        let counted = tally.add(&piece).map_err(|error| error.to_string())?;
        Ok((tally, counted))
    })
    .await
    .unwrap_or_else(|error| Err(error.to_string()))
}

fn compare(collection: &CollectionRecord, sums: &Sums) -> Result<(), String> {
    let pairs = [
        ("documents", sums.documents.to_string(), collection.documents.to_string()),
        ("bytes", sums.bytes.to_string(), collection.bytes.to_string()),
        ("crc64", sums.crc64.clone(), collection.crc64.clone()),
        ("digest", sums.digest.clone(), collection.digest.clone()),
    ];
    match pairs.into_iter().find(|(_, found, said)| found != said) {
        Some((what, found, said)) => Err(format!("{what} {found}, the manifest says {said}")),
        None => Ok(()),
    }
}

impl Inner {
    /// Checks a published backup and writes into the catalog what came of it.
    pub(super) async fn verified(
        &self,
        backup: &Backup,
        level: Level,
        run: Option<&Run>,
        at: jiff::Timestamp,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Checked, Error> {
        let found = match (&backup.seen, &backup.manifest) {
            (Some(damage), _) => Err(Unsound::Damaged(damage.clone())),
            (None, Some(manifest)) => {
                let mut source = Published { store: &**self.store()?, id: &backup.id };
                check(&mut source, manifest, level, run, progress).await
            }
            (None, None) => Err(Unsound::Damaged(Damage {
                file: "manifest.json".to_owned(),
                collection: String::new(),
                why: "it cannot be read".to_owned(),
            })),
        };
        let problem = match &found {
            Ok(_) => None,
            Err(Unsound::Damaged(damage)) => Some(damage.clone()),
            // Nothing was learnt about the backup.
            Err(Unsound::Store(error)) => return Err(error.clone().into()),
            Err(Unsound::Cancelled) => return Err(cancelled()),
        };
        if !backup.manifest_hash.is_empty() {
            let entry = CatalogEntry::Verified {
                id: backup.id.clone(),
                manifest_hash: backup.manifest_hash.clone(),
                level,
                problem,
                at,
            };
            self.ports.catalog.append(entry).await?;
        }
        match found {
            Ok(checked) => Ok(checked),
            Err(Unsound::Damaged(damage)) => Err(corrupt(&backup.id, &damage)),
            Err(_) => Err(cancelled()),
        }
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(Reason::Cancelled, "stopped on request")
}

#[async_trait]
impl Task for Verify {
    fn kind(&self) -> &'static str {
        "backup.verify"
    }

    fn targets(&self) -> Vec<String> {
        vec![self.id.to_string()]
    }

    fn locks(&self) -> Vec<String> {
        vec![format!("backup/{}", self.id)]
    }

    fn parameters(&self) -> Value {
        json!({ "id": self.id, "level": self.level })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(6 * 3600)
    }

    async fn plan(&self) -> Result<Plan> {
        let backup = self.inner.one(&self.id).await?;
        let size = backup.manifest.as_ref().map_or(0, |manifest| manifest.stored());
        let text = match self.level {
            Level::Manifest => "manifest and sizes".to_owned(),
            Level::Checksum => format!("hash {} of stored bytes", bytes_in_words(size)),
            Level::Structure => format!("hash, decompress, walk and digest {}", bytes_in_words(size)),
        };
        Ok(Plan {
            confirm: Confirm::None,
            steps: vec![PlanStep { phase: "verify".to_owned(), text, estimate_ms: 0 }],
            facts: vec![Evidence { name: "backup".to_owned(), text: self.id.to_string(), lines: Vec::new() }],
            if_it_fails: "nothing changes; the backup is listed as corrupt when its sizes are wrong"
                .to_owned(),
            preconditions: json!({ "manifest_hash": backup.manifest_hash }),
        })
    }

    async fn run(&self, run: &Run) -> Outcome {
        let mut phase = run.phase("verify", "");
        let backup = match self.inner.one(&self.id).await {
            Ok(backup) => backup,
            Err(error) => {
                phase.failed(error.message.clone());
                return Outcome::failed(State::Failed, error, Vec::new());
            }
        };
        let total = backup.manifest.as_ref().map_or(0, |manifest| manifest.stored());
        let result = self
            .inner
            .verified(&backup, self.level, Some(run), run.now(), |done| phase.progress(done, total, "bytes"))
            .await;
        let row = |result: &str, checked: Checked| ResultRow {
            target: self.id.to_string(),
            result: result.to_owned(),
            fields: vec![
                ("level".to_owned(), FieldValue::Text(self.level.name().to_owned())),
                ("segments".to_owned(), number(checked.segments)),
                ("documents".to_owned(), number(checked.documents)),
                ("stored_bytes".to_owned(), number(checked.stored)),
            ],
        };
        match result {
            Ok(checked) => {
                phase.done(format!(
                    "{} read, {} segment hashes, {} collections equal",
                    bytes_in_words(checked.stored),
                    checked.segments,
                    backup.manifest.as_ref().map_or(0, |manifest| manifest.collections.len())
                ));
                Outcome::succeeded(vec![row("ok", checked)])
            }
            Err(error) if error.reason == Reason::Cancelled => {
                phase.failed("stopped on request");
                Outcome::failed(State::Cancelled, error.effect("nothing changed"), Vec::new())
            }
            Err(error) => {
                phase.failed(error.message.clone());
                let rows = vec![row("CORRUPT", Checked::default())];
                Outcome::failed(State::Failed, error.effect("nothing changed; it will not be restored"), rows)
            }
        }
    }
}

pub(super) fn number(value: u64) -> FieldValue {
    FieldValue::Number(i64::try_from(value).unwrap_or(i64::MAX))
}
