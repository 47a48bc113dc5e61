//! What a restarted agent does about a backup or restore that its predecessor did not end.
//!
//! Before the first swap of a restore it undoes, after it it finishes, unless undoing had begun already.

use std::sync::Arc;

use async_trait::async_trait;

use super::restore::Patience;
use super::swap::{Ledger, Reached};
use super::{Inner, manifest::Manifest};
use crate::error::{Error, Reason, Result};
use crate::ids::BackupId;
use crate::operation::{Checkpoint, Outcome, Recovery, Run, State};
use crate::ports::journal::Recorded;

/// Of every kind of this feature.
pub(super) struct BackupRecovery {
    pub(super) inner: Arc<Inner>,
}

#[async_trait]
impl Recovery for BackupRecovery {
    fn kinds(&self) -> &'static [&'static str] {
        &["backup.create", "backup.verify", "backup.restore"]
    }

    async fn recover(&self, interrupted: &Recorded, run: &Run) -> Outcome {
        let checkpoints = &interrupted.checkpoints;
        match interrupted.operation.kind.as_str() {
            "backup.create" => self.create(checkpoints).await,
            "backup.restore" => self.restore(checkpoints, run).await,
            _ => Outcome::failed(
                State::Failed,
                interrupted_error("the check").effect("nothing changed"),
                Vec::new(),
            ),
        }
    }
}

impl BackupRecovery {
    async fn create(&self, checkpoints: &[Checkpoint]) -> Outcome {
        let Some(id) = staged(checkpoints) else {
            let error = interrupted_error("the backup").effect("nothing was written");
            return Outcome::failed(State::Failed, error, Vec::new());
        };
        if let Some(manifest) = self.published(&id).await {
            let mut outcome = Outcome::succeeded(Vec::new());
            outcome.notes.push(format!(
                "{id} was whole and published when the agent stopped: {} documents",
                manifest.documents()
            ));
            return outcome;
        }
        let error = interrupted_error("the backup").about(&id);
        let error = match self.discard(&id).await {
            Ok(()) => error.effect("what was written of it was removed; older backups are as they were"),
            Err(left) => error.effect(format!("{id}.partial could not be removed: {}", left.message)),
        };
        Outcome::failed(State::Failed, error.next(&["opsctl", "backup", "create"]), Vec::new())
    }

    async fn restore(&self, checkpoints: &[Checkpoint], run: &Run) -> Outcome {
        // Its safety backup, when it was being written.
        if let Some(id) = staged(checkpoints)
            && self.published(&id).await.is_none()
            && let Err(left) = self.discard(&id).await
        {
            run.note(format!("{id}.partial could not be removed: {}", left.message));
        }
        let has = |name: &str| checkpoints.iter().any(|checkpoint| checkpoint.name == name);
        let ledger = checkpoints
            .iter()
            .find(|checkpoint| checkpoint.name == "load")
            .map(|checkpoint| serde_json::from_value::<Ledger>(checkpoint.data.clone()));
        let ledger = match ledger {
            None => {
                let error = interrupted_error("the restore").effect("nothing was changed");
                return Outcome::failed(State::Failed, error, Vec::new());
            }
            Some(Ok(ledger)) => ledger,
            Some(Err(unread)) => {
                let error = Error::new(Reason::UndoFailed, "the journal of the restore cannot be read")
                    .fact("journal", unread.to_string());
                return Outcome::failed(State::NeedsHuman, error, Vec::new());
            }
        };
        let reached = reached(checkpoints);
        let error = interrupted_error("the restore").about(&ledger.database);
        if has("drop") {
            return self.finish(&ledger, &reached, run, error, true).await;
        }
        if has("undo") || !has("swap-out") {
            return self.inner.undo_patiently(run, &ledger, &reached, error).await;
        }
        self.finish(&ledger, &reached, run, error, false).await
    }

    /// Goes on where it stopped; if that cannot be done, undoes.
    async fn finish(
        &self,
        ledger: &Ledger,
        reached: &Reached,
        run: &Run,
        error: Error,
        swapped: bool,
    ) -> Outcome {
        let mut reached = reached.clone();
        if !swapped {
            let phase = run.phase("swap", "");
            let finished = self.swap_on(ledger, &mut reached, run).await;
            match finished {
                Ok(()) => phase.done(format!("finished, {} collections", ledger.pairs.len())),
                Err(why) => {
                    phase.failed(why.message.clone());
                    let both = error.fact("finish", why.message);
                    return self.inner.undo_patiently(run, ledger, &reached, both).await;
                }
            }
            if let Err(refused) = run.checkpoint("drop", serde_json::Value::Null).await {
                let error =
                    refused.effect(format!("{} is restored, the old collections are left", ledger.database));
                return Outcome::failed(State::NeedsHuman, error, Vec::new());
            }
        }
        let mut outcome = Outcome::succeeded(Vec::new());
        outcome.notes.push(format!(
            "the agent stopped during the swap; the restore was finished: {} is {}",
            ledger.database, ledger.backup
        ));
        if let Err(left) = self.drop_olds(ledger, run).await {
            outcome.notes.push(format!("the replaced collections could not be removed: {}", left.message));
        }
        outcome
    }

    async fn swap_on(&self, ledger: &Ledger, reached: &mut Reached, run: &Run) -> Result<()> {
        // Each step looks at what is there before it does anything, so all of them can be done again.
        let patience = Patience::new(run);
        loop {
            let swapped = self.inner.swap_in(run, ledger, reached).await;
            if !patience.again(run, &swapped).await {
                swapped?;
                return self.inner.check_swapped(ledger).await;
            }
        }
    }

    async fn drop_olds(&self, ledger: &Ledger, run: &Run) -> Result<()> {
        let patience = Patience::new(run);
        loop {
            let dropped = self.inner.drop_olds(ledger).await;
            if !patience.again(run, &dropped).await {
                return dropped;
            }
        }
    }

    async fn published(&self, id: &BackupId) -> Option<Arc<Manifest>> {
        let backup = self.inner.one(id).await.ok()?;
        backup.manifest.filter(|_| backup.problem.is_none())
    }

    async fn discard(&self, id: &BackupId) -> Result<()> {
        Ok(self.inner.store()?.discard(id).await?)
    }
}

fn staged(checkpoints: &[Checkpoint]) -> Option<BackupId> {
    let staged = checkpoints.iter().rev().find(|checkpoint| checkpoint.name == "stage")?;
    BackupId::parse(staged.data.get("id")?.as_str()?).ok()
}

fn reached(checkpoints: &[Checkpoint]) -> Reached {
    let entered = checkpoints
        .iter()
        .filter(|checkpoint| checkpoint.name == "swap-in")
        .filter_map(|checkpoint| usize::try_from(checkpoint.data.get("pair")?.as_u64()?).ok())
        .collect();
    Reached { entered }
}

fn interrupted_error(what: &str) -> Error {
    Error::new(Reason::Interrupted, format!("the agent stopped during {what}"))
}
