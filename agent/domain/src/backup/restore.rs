//! Putting a backup back: check, load beside the live data, compare, safety backup, swap.

mod load;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::manifest::{Manifest, Purpose};
use super::swap::{Ledger, Reached};
use super::verify::{Checked, cancelled, number};
use super::{Backup, Inner, Level, bytes_in_words};
use crate::error::{Error, Reason, Result};
use crate::ids::BackupId;
use crate::operation::{
    Checkpoint, FieldValue, Outcome, Phase, PhaseHandle, Plan, ResultRow, Run, RunSink, State, Task,
};
use crate::ports::database::Capabilities;

/// How long an undo waits for a database that went away.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks whether it is there again.
const PAUSE: Duration = Duration::from_secs(1);

/// `backup.restore`.
pub(super) struct Restore {
    inner: Arc<Inner>,
    id: BackupId,
    manifest_hash: String,
    /// The live database.
    database: String,
    /// A new one instead.
    to: Option<String>,
}

/// What a look at the world said before anything was written.
struct Ground {
    backup: Backup,
    manifest: Arc<Manifest>,
    server: Capabilities,
    /// Live collections of the target, with their kind.
    live: BTreeMap<String, String>,
    /// What the server would not keep.
    losses: Vec<String>,
}

impl Restore {
    pub(super) fn new(inner: Arc<Inner>, backup: &Backup, database: String, to: Option<String>) -> Self {
        Self { inner, id: backup.id.clone(), manifest_hash: backup.manifest_hash.clone(), database, to }
    }

    fn target(&self) -> &str {
        self.to.as_deref().unwrap_or(&self.database)
    }

    /// Looks, and changes nothing.
    async fn ground(&self) -> Result<Ground> {
        let backup = self.inner.one(&self.id).await?;
        if backup.manifest_hash != self.manifest_hash {
            return Err(Error::new(Reason::PlanStale, format!("backup {} is another one now", self.id))
                .about(&self.id)
                .effect("nothing was done"));
        }
        let manifest = match (&backup.problem, &backup.manifest) {
            (Some(damage), _) => return Err(super::corrupt(&self.id, damage).effect("nothing was done")),
            (None, Some(manifest)) => Arc::clone(manifest),
            (None, None) => return Err(Error::new(Reason::BackupNotFound, "its manifest cannot be read")),
        };
        let port = self.inner.database()?;
        let server = port.capabilities().await?;
        let listed = port.collections(self.target()).await?;
        if let Some(to) = &self.to {
            let there = port.databases().await?.contains(to);
            if there || !listed.is_empty() {
                return Err(Error::new(
                    Reason::InvalidArgument,
                    format!("database {to} exists already: --to takes a name that is free"),
                )
                .about(to)
                .effect("nothing was done"));
            }
        }
        let live: BTreeMap<String, String> = listed.into_iter().map(|one| (one.name, one.kind)).collect();
        for collection in &manifest.collections {
            if live.get(&collection.name).is_some_and(|kind| kind != "collection") {
                return Err(Error::new(
                    Reason::NotSupported,
                    format!(
                        "{} is a view or a time series now, the backup has a collection",
                        collection.name
                    ),
                )
                .about(&collection.name)
                .effect("nothing was done"));
            }
        }
        let mut losses = Vec::new();
        for collection in &manifest.collections {
            let listed = collection
                .collection()
                .map_err(|error| Error::new(Reason::BackupCorrupt, error.to_string()).about(&self.id))?;
            losses.extend(self.inner.dump()?.losses(&server, &listed));
        }
        Ok(Ground { backup, manifest, server, live, losses })
    }

    fn ledger(&self, ground: &Ground, run: &Run) -> Ledger {
        let live = self.to.is_none();
        let pairs = ground
            .manifest
            .collections
            .iter()
            .enumerate()
            .map(|(number, collection)| {
                let mut pair = Ledger::pair(run.id(), number, &collection.name, live);
                pair.had_live = ground.live.contains_key(&collection.name);
                pair.copied = live && needs_copy(&ground.server, &collection.name);
                pair
            })
            .collect();
        Ledger { database: self.target().to_owned(), backup: self.id.clone(), live, pairs }
    }

    async fn go(&self, run: &Run) -> Result<Outcome, Outcome> {
        let ground = self.prove(run).await.map_err(|error| unchanged(error, self.target()))?;
        let ledger = self.ledger(&ground, run);
        let journalled = serde_json::to_value(&ledger).unwrap_or_default();
        run.checkpoint("load", journalled).await.map_err(|error| unchanged(error, self.target()))?;
        let mut reached = Reached::default();
        let loaded = self.load_and_compare(run, &ground, &ledger).await;
        if let Err(error) = loaded {
            return Err(self.undone(run, &ledger, &reached, error, None).await);
        }
        if self.to.is_some() {
            let mut outcome = Outcome::succeeded(rows(&ground.manifest, &BTreeMap::new(), false));
            outcome.notes.push(format!(
                "restored: {} is {}, {} documents, proven equal",
                self.target(),
                self.id,
                ground.manifest.documents()
            ));
            outcome.notes.extend(ground.losses);
            return Ok(outcome);
        }
        let safety = match self.safety(run, &ground).await {
            Ok(safety) => safety,
            Err(error) => return Err(self.undone(run, &ledger, &reached, error, None).await),
        };
        let kept = safety.as_ref().map(|safety| safety.id.clone());
        if let Err(error) = self.swap(run, &ledger, &mut reached).await {
            return Err(self.undone(run, &ledger, &reached, error, kept).await);
        }
        let before: BTreeMap<String, u64> = safety
            .iter()
            .flat_map(|safety| &safety.collections)
            .map(|collection| (collection.name.clone(), collection.documents))
            .collect();
        let mut outcome = Outcome::succeeded(rows(&ground.manifest, &before, true));
        outcome.notes.push(format!(
            "restored: {} is {}, {} documents, proven equal",
            self.database,
            self.id,
            ground.manifest.documents()
        ));
        if let Some(kept) = &kept {
            outcome.notes.push(format!("to go back: opsctl backup restore {kept}"));
        }
        outcome.notes.extend(ground.losses);
        if let Err(error) = self.finish(run, &ledger).await {
            let left = format!(
                "the replaced collections could not be removed ({}): {}",
                names(&ledger),
                error.message
            );
            outcome.notes.push(left);
        }
        Ok(outcome)
    }

    /// The bytes are what they should be, and the target is as it must be.
    async fn prove(&self, run: &Run) -> Result<Ground> {
        let mut phase = run.phase("check", "");
        let proven = self.proven(run, &mut phase).await;
        match proven {
            Ok((ground, checked)) => {
                let counts = ground.manifest.collections.len();
                phase.done(format!(
                    "{} read, {} segment hashes, {counts} counts and digests equal",
                    bytes_in_words(checked.stored),
                    checked.segments
                ));
                Ok(ground)
            }
            Err(error) => {
                phase.failed(error.message.clone());
                Err(error)
            }
        }
    }

    async fn proven(&self, run: &Run, phase: &mut PhaseHandle) -> Result<(Ground, Checked)> {
        let ground = self.ground().await?;
        let total = ground.manifest.stored();
        let progress = |done| phase.progress(done, total, "bytes");
        let backup = &ground.backup;
        let checked = self.inner.verified(backup, Level::Structure, Some(run), run.now(), progress).await?;
        Ok((ground, checked))
    }

    /// A backup of what is about to be replaced; `None` when there is nothing.
    async fn safety(&self, run: &Run, ground: &Ground) -> Result<Option<Manifest>> {
        let phase = run.phase("safety", "");
        if ground.live.is_empty() {
            phase.done(format!("{} holds no collections: nothing to keep", self.database));
            return Ok(None);
        }
        let quiet = Run::new(
            run.id().clone(),
            Arc::new(WithoutPhases(run.clone())),
            run.cancelled().clone(),
            run.monotonic().saturating_add(run.remaining()),
        );
        match self.inner.make(&quiet, &self.database, "", Purpose::Safety).await {
            Ok(made) => {
                phase.done(format!("{}, {} documents", made.manifest.id, made.manifest.documents()));
                Ok(Some(made.manifest))
            }
            Err(error) => {
                phase.failed(error.message.clone());
                Err(error)
            }
        }
    }

    async fn swap(&self, run: &Run, ledger: &Ledger, reached: &mut Reached) -> Result<()> {
        if run.cancelled().is_cancelled() {
            return Err(cancelled());
        }
        let phase = run.phase("swap", "");
        let swapped = self.swapped(run, ledger, reached).await;
        match swapped {
            Ok(()) => {
                phase.done(format!("{} collections", ledger.pairs.len()));
                Ok(())
            }
            Err(error) => {
                phase.failed(error.message.clone());
                Err(error)
            }
        }
    }

    async fn swapped(&self, run: &Run, ledger: &Ledger, reached: &mut Reached) -> Result<()> {
        run.checkpoint("swap", Value::Null).await?;
        self.inner.swap_in(run, ledger, reached).await?;
        self.inner.check_swapped(ledger).await
    }

    async fn finish(&self, run: &Run, ledger: &Ledger) -> Result<()> {
        run.checkpoint("drop", Value::Null).await?;
        self.inner.drop_olds(ledger).await
    }

    async fn undone(
        &self,
        run: &Run,
        ledger: &Ledger,
        reached: &Reached,
        error: Error,
        kept: Option<BackupId>,
    ) -> Outcome {
        let mut outcome = self.inner.undo_patiently(run, ledger, reached, error).await;
        outcome.notes.extend(kept.map(|kept| format!("kept: safety backup {kept}")));
        outcome
    }
}

impl Inner {
    async fn undo_again(&self, run: &Run, ledger: &Ledger, reached: &Reached) -> Result<Vec<String>> {
        let patience = Patience::new(run);
        loop {
            let undone = self.undo(ledger, reached).await;
            if !patience.again(run, &undone).await {
                return undone;
            }
        }
    }

    /// Undoes, waiting for a database that went away, and says what came of it.
    pub(super) async fn undo_patiently(
        &self,
        run: &Run,
        ledger: &Ledger,
        reached: &Reached,
        error: Error,
    ) -> Outcome {
        let phase = run.phase("undo", "");
        // If even this cannot be journalled, undoing is still what a restarted agent would be told by the rest.
        let journalled = run.checkpoint("undo", json!({ "reason": error.reason })).await;
        let undone = match journalled {
            Err(refused) if !reached.entered.is_empty() => Err(refused),
            _ => self.undo_again(run, ledger, reached).await,
        };
        let target = &ledger.database;
        match undone {
            Ok(aside) => {
                let what =
                    if reached.entered.is_empty() { "loaded collections removed" } else { "swapped back" };
                phase.done(format!("{what}, {target} is as before"));
                let state = if error.reason == Reason::Cancelled { State::Cancelled } else { State::Undone };
                let mut outcome = Outcome::failed(
                    state,
                    error.effect(format!("undone, {target} is as before")),
                    Vec::new(),
                );
                if !aside.is_empty() {
                    outcome
                        .notes
                        .push(format!("written while it was swapped, and kept: {}", aside.join(", ")));
                }
                outcome
            }
            Err(why) => {
                phase.failed(why.message.clone());
                if reached.entered.is_empty() && ledger.live {
                    let left = format!("{target} is as before; {} could not be removed", scratches(ledger));
                    return Outcome::failed(State::Failed, error.effect(left), Vec::new());
                }
                Outcome::failed(State::NeedsHuman, needs_human(ledger, &error, &why), Vec::new())
            }
        }
    }
}

/// How long an undo or a recovery waits for a database that went away.
pub(super) struct Patience {
    began: Duration,
}

impl Patience {
    pub(super) fn new(run: &Run) -> Self {
        Self { began: run.monotonic() }
    }

    /// Whether to do it again: after a pause, while the database is not there.
    pub(super) async fn again<T>(&self, run: &Run, result: &Result<T>) -> bool {
        let away = result.as_ref().is_err_and(|error| error.reason == Reason::DatabaseUnreachable);
        let again = away && run.monotonic().saturating_sub(self.began) < PATIENCE;
        if again {
            tokio::time::sleep(PAUSE).await;
        }
        again
    }
}

fn needs_human(ledger: &Ledger, error: &Error, why: &Error) -> Error {
    let moves =
        ledger.pairs.iter().map(|pair| format!("{} → {} → {}", pair.name, pair.old, pair.name)).collect();
    Error::new(
        Reason::UndoFailed,
        format!(
            "{} could not be put back: {}; the restore had failed: {}",
            ledger.database, why.message, error.message
        ),
    )
    .about(&ledger.database)
    .lines("renames", "name → where the live one went → back", moves)
    .effect(format!("{} may be half old and half new; nothing was deleted", ledger.database))
}

fn scratches(ledger: &Ledger) -> String {
    match ledger.pairs.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.scratch.clone(),
        [first, .., last] => format!("{} to {}", first.scratch, last.scratch),
    }
}

fn names(ledger: &Ledger) -> String {
    let olds: Vec<&str> =
        ledger.pairs.iter().filter(|pair| pair.had_live).map(|pair| pair.old.as_str()).collect();
    olds.join(", ")
}

fn unchanged(error: Error, target: &str) -> Outcome {
    let state = if error.reason == Reason::Cancelled { State::Cancelled } else { State::Failed };
    Outcome::failed(state, error.effect(format!("nothing was changed, {target} is as before")), Vec::new())
}

/// FerretDB refuses to rename a name with a dot (code 73).
pub(super) fn needs_copy(server: &Capabilities, name: &str) -> bool {
    !server.rename_dotted && name.contains('.')
}

fn rows(manifest: &Manifest, before: &BTreeMap<String, u64>, live: bool) -> Vec<ResultRow> {
    manifest
        .collections
        .iter()
        .map(|collection| {
            let mut fields = Vec::new();
            if live {
                let before =
                    before.get(&collection.name).map_or(FieldValue::Text("-".to_owned()), |n| number(*n));
                fields.push(("before".to_owned(), before));
            }
            fields.push(("restored".to_owned(), number(collection.documents)));
            fields.push(("digest".to_owned(), FieldValue::Text("equal".to_owned())));
            ResultRow { target: collection.name.clone(), result: String::new(), fields }
        })
        .collect()
}

/// A run inside a run: its checkpoints count, its phases are the outer one's business.
struct WithoutPhases(Run);

#[async_trait]
impl RunSink for WithoutPhases {
    fn phase(&self, _phase: Phase) {}

    fn note(&self, text: String) {
        self.0.note(text);
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        self.0.checkpoint(&checkpoint.name, checkpoint.data).await
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[async_trait]
impl Task for Restore {
    fn kind(&self) -> &'static str {
        "backup.restore"
    }

    fn targets(&self) -> Vec<String> {
        // The id first: with the typed name behind it, this is the line that a refusal tells one to run.
        std::iter::once(self.id.to_string()).chain(self.to.clone()).collect()
    }

    fn locks(&self) -> Vec<String> {
        vec![format!("database/{}", self.target()), format!("backup/{}", self.id)]
    }

    fn parameters(&self) -> Value {
        json!({
            "backup": self.id, "manifest_hash": self.manifest_hash, "database": self.target(),
            "live": self.to.is_none(),
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(12 * 3600)
    }

    async fn plan(&self) -> Result<Plan> {
        self.planned().await
    }

    async fn run(&self, run: &Run) -> Outcome {
        self.go(run).await.unwrap_or_else(|failed| failed)
    }
}
