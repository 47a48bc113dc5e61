//! What a start does about operations that another process began and did not end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::access::{Permission, Principal, Role};
use crate::error::{Error, Reason, Result};
use crate::ids::OperationId;
use crate::operation::engine::{Beginning, Engine, Holder};
use crate::operation::locks::Take;
use crate::operation::{Checkpoint, PhaseState};
use crate::operation::{Operations, Outcome, Recovery, RunSink as _, State};
use crate::ports::AuditEntry;
use crate::ports::journal::Recorded;

/// The engine's own checkpoint: one a try.
const TRY: &str = "engine.recovery";
/// A recovery that brought the agent down this often is not tried again.
const TRIES: usize = 3;
/// The time of a recovery.
const TIME: Duration = Duration::from_secs(3600);
/// How long until a recovery that could not be audited is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// As audited: the agent's own act.
const ROUTE: &str = "agent/recover";

impl Operations {
    /// Takes the locks of every operation that had not ended, then lets its kind's recovery run, in the background.
    /// Returns their ids once all locks are held: only then may the api be opened.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: the journal cannot be read.
    pub async fn recover(&self, recoveries: &[Arc<dyn Recovery>]) -> Result<Vec<OperationId>> {
        let engine = &self.engine;
        let open = engine.ports.journal.open().await?;
        if let Err(error) = engine.settle().await {
            tracing::error!(%error, "the audit trail is owed results of before");
        }
        let mut ids = Vec::new();
        for recorded in open {
            let id = recorded.operation.id.clone();
            let kind = recorded.operation.kind.as_str();
            let recovery = recoveries.iter().find(|recovery| recovery.kinds().contains(&kind)).cloned();
            let holder = Holder {
                id: id.clone(),
                kind: recorded.operation.kind.clone(),
                subject: recorded.operation.subject.clone(),
                since: recorded.operation.created_at,
            };
            // Two that had not ended cannot have held the same lock; were it so, both are told to the same recovery.
            let take = |name: &String| match engine.locks.take(name, holder.clone()) {
                Take::Now(held) => Some(held),
                Take::Later(_) => None,
            };
            let held = recorded.locks.iter().filter_map(take).collect();
            engine.go_live(recorded.operation.clone());
            tokio::spawn(Arc::clone(engine).resume(Beginning { recorded, timeout: TIME, held }, recovery));
            ids.push(id);
        }
        Ok(ids)
    }
}

impl Engine {
    async fn resume(self: Arc<Self>, mut beginning: Beginning, recovery: Option<Arc<dyn Recovery>>) {
        let Some(live) = self.live(&beginning.recorded.operation.id) else { return };
        let intent = self.recovery_intent(&beginning.recorded);
        loop {
            let taken = match self.settle().await {
                Ok(()) => self.ports.audit.append(intent.clone()).await,
                refused => refused,
            };
            let Err(error) = taken else { break };
            tracing::error!(operation = %live.operation().id, %error, "its recovery waits for the audit trail");
            self.ports.clock.sleep(AGAIN).await;
        }
        let interrupted = &mut beginning.recorded;
        let before = interrupted.checkpoints.len();
        interrupted.checkpoints.retain(|point| point.name != TRY);
        let tries = before - interrupted.checkpoints.len();
        let point = Checkpoint { name: TRY.to_owned(), data: json!({ "try": tries + 1 }) };
        for mut phase in live.operation().phases {
            if phase.state == PhaseState::Running {
                phase.state = PhaseState::Failed;
                "interrupted: the agent ended".clone_into(&mut phase.text);
                live.phase(phase);
            }
        }
        let last = interrupted.checkpoints.last().map_or("the first step", |point| point.name.as_str());
        let note =
            format!("the agent ended while this ran, after \"{last}\"; the next one goes on from there");
        live.note(note.clone());
        let journalled = live.checkpoint(point).await;
        let (run, interrupted) = (self.run(&live, TIME), interrupted.clone());
        let work = async move {
            let mut outcome = match (recovery, journalled) {
                (_, Err(error)) => needs_human(&interrupted, &error.message),
                (None, _) => needs_human(&interrupted, "this build knows no recovery for it"),
                (_, _) if tries >= TRIES => {
                    needs_human(&interrupted, &format!("{tries} recoveries of it did not end"))
                }
                (Some(recovery), Ok(())) => recovery.recover(&interrupted, &run).await,
            };
            outcome.notes.insert(0, note);
            outcome
        };
        self.drive(live, beginning, work, Some(intent)).await;
    }

    fn recovery_intent(&self, recorded: &Recorded) -> AuditEntry {
        let principal = Principal::agent(&self.agent, String::new());
        AuditEntry {
            stage: "intent".to_owned(),
            subject: principal.subject.to_string(),
            roles: vec![Role::Admin.name().to_owned()],
            route: ROUTE.to_owned(),
            rule: Permission::OperationCancelAny.name().to_owned(),
            decision: "allowed".to_owned(),
            target: recorded.intent.target.clone(),
            params: json!({ "operation": recorded.operation.kind, "parameters": recorded.parameters }),
            reason: "the agent ended while it ran".to_owned(),
            operation_id: recorded.operation.id.to_string(),
            ..AuditEntry::default()
        }
    }
}

fn needs_human(interrupted: &Recorded, why: &str) -> Outcome {
    let operation = &interrupted.operation;
    let last = interrupted.checkpoints.last().map_or("none", |point| point.name.as_str());
    let problem = Error::new(
        Reason::Interrupted,
        format!(
            "{} was interrupted when the agent ended, and nothing was done about it: {why}",
            operation.kind
        ),
    )
    .about(operation.targets.join(", "))
    .fact("checkpoint", last)
    .effect("unknown; look at the target before anything else is done")
    .next(&["opsctl", "operation", "get", operation.id.as_str()])
    .next(&["opsctl", "status"]);
    Outcome::failed(State::NeedsHuman, problem, Vec::new())
}
