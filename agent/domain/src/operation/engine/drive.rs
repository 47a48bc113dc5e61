//! From the first step of a run to its last word.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::{Beginning, Engine, internal};
use crate::error::{Error, Reason};
use crate::operation::live::{Cause, Live};
use crate::operation::{Outcome, State};
use crate::ports::AuditEntry;

impl Engine {
    /// Runs the work to its end, writes it down, and lets the locks go. `agent`: the intent of the agent's own act,
    /// when it recovers what another process began.
    pub(in crate::operation) async fn drive(
        self: Arc<Self>,
        live: Arc<Live>,
        beginning: Beginning,
        work: impl Future<Output = Outcome> + Send + 'static,
        agent: Option<AuditEntry>,
    ) {
        let mut outcome = self.attend(&live, beginning.timeout, tokio::spawn(work)).await;
        settle_cause(&mut outcome, &live, beginning.timeout);
        let told = match &outcome.problem {
            _ if outcome.state == State::Succeeded => "OK",
            Some(problem) => problem.reason.name(),
            None => Reason::Internal.name(),
        };
        let intents = std::iter::once(beginning.recorded.intent).chain(agent);
        let result = |intent| AuditEntry { stage: "result".into(), outcome: told.into(), ..intent };
        let owed: Vec<_> = intents.map(result).collect();
        let (operation, written) = live.finish(&outcome, &owed).await;
        let settled = match &written {
            Ok(()) => self.settle().await,
            Err(_) => self.tell(owed).await,
        };
        if let Err(error) = settled {
            tracing::error!(operation = %operation.id, %error, "the audit trail is owed a result");
        }
        drop(beginning.held);
        match written {
            Ok(()) => drop(self.running().remove(&operation.id)),
            // It stays here as it ended; the next start finds it open in the journal and looks again.
            Err(error) => {
                tracing::error!(operation = %operation.id, %error, "the journal did not take its end");
            }
        }
        live.publish(operation);
        self.ended.notify_waiters();
    }

    async fn tell(&self, entries: Vec<AuditEntry>) -> crate::Result<()> {
        for entry in entries {
            self.ports.audit.append(entry).await?;
        }
        Ok(())
    }

    /// Writes events while the work runs, and asks it to stop when its time is over.
    async fn attend(&self, live: &Live, timeout: Duration, mut work: JoinHandle<Outcome>) -> Outcome {
        let mut deadline = self.ports.clock.sleep(timeout);
        let mut late = false;
        loop {
            tokio::select! {
                ended = &mut work => {
                    return ended.unwrap_or_else(|error| {
                        tracing::error!(operation = %live.operation().id, %error, "an operation panicked");
                        given_up(live, internal("the agent failed while it ran; its log says more"))
                    });
                }
                () = live.pending() => live.flush().await,
                () = &mut deadline => {
                    if late {
                        work.abort();
                        let seconds = (timeout + self.limits.grace).as_secs();
                        let message = format!("it reached no safe point within {seconds} s and was given up");
                        return given_up(live, Error::new(Reason::DeadlineExceeded, message));
                    }
                    late = true;
                    live.stop(Cause::Deadline);
                    deadline = self.ports.clock.sleep(self.limits.grace);
                }
            }
        }
    }
}

/// The end of a run that could not say itself how it ended.
fn given_up(live: &Live, problem: Error) -> Outcome {
    let (state, effect) = match live.checkpointed() {
        Some(point) => (State::NeedsHuman, format!("unknown; the last point it reached is \"{point}\"")),
        None => (State::Failed, "unknown; it had reached no point that is journalled".to_owned()),
    };
    let targets = live.operation().targets.join(", ");
    Outcome::failed(state, problem.about(targets).effect(effect), Vec::new())
}

/// Why a run that stopped when asked was asked.
fn settle_cause(outcome: &mut Outcome, live: &Live, timeout: Duration) {
    let operation = live.operation();
    let (kind, about) = (&operation.kind, operation.targets.join(", "));
    if !outcome.state.ended() {
        let problem = internal(format!("{kind} ended without an end")).about(&about);
        *outcome = Outcome::failed(State::Failed, problem, std::mem::take(&mut outcome.results));
    }
    if outcome.state != State::Cancelled {
        return;
    }
    let (reason, message) = match live.cause() {
        Some(Cause::Deadline) => {
            outcome.state = State::Failed;
            (Reason::DeadlineExceeded, format!("{kind} did not end within {} s", timeout.as_secs_f64()))
        }
        Some(Cause::Shutdown) => (Reason::Interrupted, format!("{kind} was stopped: the agent shut down")),
        Some(Cause::Asked(subject)) => {
            (Reason::Cancelled, format!("{kind} was cancelled by {}", subject.short()))
        }
        None => (Reason::Cancelled, format!("{kind} was cancelled")),
    };
    let said = outcome.problem.take();
    let mut problem = Error::new(reason, message).about(&about);
    if let Some(said) = said {
        problem = Error { evidence: said.evidence, next: said.next, effect: said.effect, ..problem };
        if said.reason != Reason::Cancelled {
            problem = problem.fact("stopped", said.message);
        }
    }
    outcome.problem = Some(problem);
}
