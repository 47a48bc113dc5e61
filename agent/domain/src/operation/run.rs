//! What a task is given while it runs, and how it speaks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::ids::OperationId;
use crate::operation::{Checkpoint, Phase, PhaseState};

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
