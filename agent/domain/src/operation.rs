//! Operations: anything that changes something. Plan → run → report, with an id, a journal and a lock a target.
//!
//! A feature writes a [`Task`]; the engine gives it a plan's digest, confirmation, audit, idempotency, locks, events,
//! and recovery after a crash.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::{Permission, Principal};
use crate::error::{Error, Evidence, Result};
use crate::ids::{OperationId, ServiceName, Subject};
use crate::ports::journal::Recorded;

mod engine;
mod live;
mod locks;
mod options;
mod plans;
mod recovery;
mod run;
mod watch;

pub use engine::{Limits, Operations, Ports};
pub use run::{PhaseHandle, Run, RunSink};

/// How a change is to be made, from the request.
#[derive(Clone, Debug, Default)]
pub struct ChangeOptions {
    /// Only plan.
    pub plan: bool,
    /// The plan to run.
    pub plan_id: String,
    /// Run only if a fresh plan has this digest.
    pub plan_digest: String,
    /// The typed target.
    pub confirm: String,
    /// Yes.
    pub confirmed: bool,
    /// Why.
    pub reason: String,
    /// Names the operation for 24 h.
    pub idempotency_key: String,
    /// The operation's own limit; `None`: the configured one.
    pub timeout: Option<Duration>,
    /// How long to wait for a lock.
    pub lock_timeout: Duration,
}

/// What must be said before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirm {
    /// Nothing.
    None,
    /// Yes.
    Ask,
    /// This text, typed.
    Type(String),
}

/// What would be done, made by a [`Task`]; the engine adds id, digest and expiry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What must be said.
    pub confirm: Confirm,
    /// In order.
    pub steps: Vec<PlanStep>,
    /// Facts to read first; live counts are shown as `~n`.
    pub facts: Vec<Evidence>,
    /// What happens if it fails.
    pub if_it_fails: String,
    /// What the digest covers beside kind and parameters: identities and hashes, never live counts.
    pub preconditions: Value,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// The name of the phase.
    pub phase: String,
    /// One line.
    pub text: String,
    /// 0: not known.
    pub estimate_ms: u64,
}

/// Something that can be done. It holds its checked parameters and the ports it works on.
#[async_trait]
pub trait Task: Send + Sync {
    /// `service.restart`.
    fn kind(&self) -> &'static str;

    /// Shown, and audited.
    fn targets(&self) -> Vec<String>;

    /// What nobody else may change meanwhile: `service/backend`, `database/test_database`. Taken in sorted order.
    fn locks(&self) -> Vec<String>;

    /// With [`Task::kind`], enough to recover it; journalled and audited, so without secrets.
    fn parameters(&self) -> Value;

    /// The configured limit of its run.
    fn timeout(&self) -> Duration;

    /// The opsctl line that asks for it, without any confirmation: what a refusal completes and shows.
    fn command(&self) -> Vec<String> {
        let words = std::iter::once("opsctl").chain(self.kind().split('.')).map(str::to_owned);
        words.chain(self.targets()).collect()
    }

    /// What it would do, from a look at the world now. Must not change anything.
    async fn plan(&self) -> Result<Plan>;

    /// Does it. It looks at `run.cancelled()` at its safe points, and ends every phase that it began.
    async fn run(&self, run: &Run) -> Outcome;
}

/// What a restarted agent does about an operation that had not ended.
#[async_trait]
pub trait Recovery: Send + Sync {
    /// The kinds it knows.
    fn kinds(&self) -> &'static [&'static str];

    /// Goes on, undoes, or says what a human must do.
    async fn recover(&self, interrupted: &Recorded, run: &Run) -> Outcome;
}

/// A point that was reached: journalled, durable, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// One word.
    pub name: String,
    /// What a recovery needs to know.
    pub data: Value,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// An ended state.
    pub state: State,
    /// One row a target.
    pub results: Vec<ResultRow>,
    /// Why it failed.
    pub problem: Option<Error>,
    /// Lines to read after the result.
    pub notes: Vec<String>,
}

impl Outcome {
    /// All went well.
    #[must_use]
    pub fn succeeded(results: Vec<ResultRow>) -> Self {
        Self { state: State::Succeeded, results, problem: None, notes: Vec::new() }
    }

    /// It failed in this state.
    #[must_use]
    pub fn failed(state: State, problem: Error, results: Vec<ResultRow>) -> Self {
        Self { state, results, problem: Some(problem), notes: Vec::new() }
    }
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for a lock.
    Pending,
    /// Runs.
    Running,
    /// Done.
    Succeeded,
    /// Failed; the problem's effect says what is left.
    Failed,
    /// Failed, and things are as before.
    Undone,
    /// Failed, and a human is needed.
    NeedsHuman,
    /// Stopped on request, at a safe point.
    Cancelled,
    /// Some targets succeeded.
    Partial,
}

impl State {
    /// No more events.
    #[must_use]
    pub const fn ended(self) -> bool {
        !matches!(self, State::Pending | State::Running)
    }
}

/// One target's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRow {
    /// What.
    pub target: String,
    /// One word: `restarted`, `FAILED`.
    pub result: String,
    /// Columns, in order.
    pub fields: Vec<(String, FieldValue)>,
}

/// A column's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldValue {
    /// A word.
    Text(String),
    /// In the unit that the name says.
    Number(i64),
    /// A moment.
    At(Timestamp),
}

/// An operation, as everyone sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// `service.restart`.
    pub kind: String,
    /// What it is about.
    pub targets: Vec<String>,
    /// Who asked.
    pub subject: Subject,
    /// Why.
    pub reason: String,
    /// Where it is.
    pub state: State,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// In order of their beginning.
    pub phases: Vec<Phase>,
    /// Once it has ended.
    pub results: Vec<ResultRow>,
    /// Once it has failed.
    pub problem: Option<Error>,
    /// Lines to read after the result.
    pub notes: Vec<String>,
    /// The last event's number.
    pub last_seq: u64,
}

/// A part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `stop`, `start`, `ready`…
    pub name: String,
    /// The target, when there are several.
    pub target: String,
    /// Where it is.
    pub state: PhaseState,
    /// When it began.
    pub started_at: Timestamp,
    /// How long so far, or in all.
    pub elapsed_ms: u64,
    /// What is known.
    pub text: String,
    /// Work done.
    pub done: u64,
    /// Work in all; 0: not measured.
    pub total: u64,
    /// `bytes`, `documents`, `probes`.
    pub unit: String,
}

/// Where a phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    /// Runs.
    Running,
    /// Done.
    Done,
    /// Failed.
    Failed,
}

/// Something that happened in an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// From 1, without holes.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// A phase began, went on or ended.
    Phase(Phase),
    /// A line for people.
    Note(String),
    /// It ended; the last event.
    Ended(State),
}

/// The answer to a change that was asked for.
#[derive(Clone, Debug)]
pub enum Started {
    /// Only planned: nothing was changed.
    Plan(Planned),
    /// It runs, or has ended already under the same idempotency key.
    Operation(Operation),
}

/// A plan that can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Random, for one use by the subject that asked.
    pub plan_id: String,
    /// SHA-256 over route, kind, parameters and preconditions, hex.
    pub digest: String,
    /// 10 minutes after the end of planning.
    pub expires_at: Timestamp,
    /// `service.restart`.
    pub kind: String,
    /// What it is about.
    pub targets: Vec<String>,
    /// What the task says.
    pub plan: Plan,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The next event.
    Event(Event),
    /// All of it, once, at the end.
    Operation(Box<Operation>),
}

impl Operation {
    /// Whether the caller may see it at all: its own, or all of its services are within the caller's.
    #[must_use]
    pub fn is_visible_to(&self, principal: &Principal) -> bool {
        let covered = |target: &String| ServiceName::parse(target).is_ok_and(|name| principal.covers(&name));
        principal.binding.services.is_empty()
            || self.subject == principal.subject
            || (self.kind.starts_with("service.") && self.targets.iter().all(covered))
    }

    /// As this caller may see it: quoted lines of logs are only for who may read the log of that service.
    #[must_use]
    pub fn shown_to(mut self, principal: &Principal) -> Self {
        if let Some(problem) = &mut self.problem {
            let targets = if problem.target.is_empty() {
                self.targets.as_slice()
            } else {
                std::slice::from_ref(&problem.target)
            };
            let covered =
                |target: &String| ServiceName::parse(target).is_ok_and(|name| principal.covers(&name));
            if !principal.has(Permission::LogRead) || !targets.iter().all(covered) {
                for evidence in problem.evidence.iter_mut().filter(|evidence| !evidence.lines.is_empty()) {
                    evidence.lines.clear();
                    "not shown: needs log.read on this service".clone_into(&mut evidence.text);
                }
            }
        }
        self
    }

    /// `ready 61 %`: the phase it is in; empty before the first.
    #[must_use]
    pub fn progress(&self) -> String {
        let Some(phase) = self.phases.iter().rev().find(|phase| phase.state == PhaseState::Running) else {
            return String::new();
        };
        let share = u128::from(phase.done) * 100 / u128::from(phase.total.max(1));
        if phase.total == 0 { phase.name.clone() } else { format!("{} {share} %", phase.name) }
    }
}

#[cfg(test)]
mod tests;
