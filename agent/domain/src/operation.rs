//! Operations: anything that changes something. Plan → run → report, with an id, a journal and a lock a target.
//!
//! A feature writes a [`Task`]; the engine gives it a plan's digest, confirmation, audit, idempotency, locks, events,
//! and recovery after a crash.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Evidence, Result};
use crate::ids::{OperationId, Subject};
use crate::ports::journal::Recorded;

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

/// Where a running task's words go: the engine, or a recorder in tests.
#[async_trait]
pub trait RunSink: Send + Sync {
    /// A phase in its newest form. Progress may be thinned out; begin and end never are.
    fn phase(&self, phase: Phase);

    /// A line for people.
    fn note(&self, text: String);

    /// Durable when it returns.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: the journal did not take it, so the step must not be done.
    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<()>;

    /// Now, for phases.
    fn now(&self) -> Timestamp;

    /// Monotonic.
    fn monotonic(&self) -> Duration;
}

/// What a task is given while it runs.
#[derive(Clone)]
pub struct Run {
    id: OperationId,
    sink: Arc<dyn RunSink>,
    cancelled: CancellationToken,
    deadline: Duration,
}

impl Run {
    /// For the engine, and for tests of tasks. `deadline` is in monotonic time.
    #[must_use]
    pub fn new(
        id: OperationId,
        sink: Arc<dyn RunSink>,
        cancelled: CancellationToken,
        deadline: Duration,
    ) -> Self {
        Self { id, sink, cancelled, deadline }
    }

    /// The operation's id.
    #[must_use]
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Someone asked it to stop; end at the next safe point.
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    /// What is left of its time.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_sub(self.sink.monotonic())
    }

    /// Now, UTC.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.sink.now()
    }

    /// Monotonic time.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        self.sink.monotonic()
    }

    /// Begins a phase; `target` is empty when the operation has only one.
    pub fn phase(&self, name: &str, target: &str) -> PhaseHandle {
        let phase = Phase {
            name: name.to_owned(),
            target: target.to_owned(),
            state: PhaseState::Running,
            started_at: self.sink.now(),
            elapsed_ms: 0,
            text: String::new(),
            done: 0,
            total: 0,
            unit: String::new(),
        };
        self.sink.phase(phase.clone());
        PhaseHandle { began: self.sink.monotonic(), phase, sink: Arc::clone(&self.sink) }
    }

    /// A line for people.
    pub fn note(&self, text: impl Into<String>) {
        self.sink.note(text.into());
    }

    /// Journals a point that a recovery can rely on; durable when it returns.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: do not do the step.
    pub async fn checkpoint(&self, name: &str, data: Value) -> Result<()> {
        self.sink.checkpoint(Checkpoint { name: name.to_owned(), data }).await
    }
}

/// A phase that has begun and must be ended by [`PhaseHandle::done`] or [`PhaseHandle::failed`].
#[must_use]
pub struct PhaseHandle {
    began: Duration,
    phase: Phase,
    sink: Arc<dyn RunSink>,
}

impl PhaseHandle {
    /// Work done of all, in `unit`.
    pub fn progress(&mut self, done: u64, total: u64, unit: &str) {
        (self.phase.done, self.phase.total) = (done, total);
        unit.clone_into(&mut self.phase.unit);
        self.send();
    }

    /// What is known so far.
    pub fn text(&mut self, text: impl Into<String>) {
        self.phase.text = text.into();
        self.send();
    }

    /// It went well.
    pub fn done(mut self, text: impl Into<String>) {
        self.phase.state = PhaseState::Done;
        self.text(text);
    }

    /// It failed.
    pub fn failed(mut self, text: impl Into<String>) {
        self.phase.state = PhaseState::Failed;
        self.text(text);
    }

    /// How long so far.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.sink.monotonic().saturating_sub(self.began)
    }

    fn send(&mut self) {
        self.phase.elapsed_ms = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.sink.phase(self.phase.clone());
    }
}
