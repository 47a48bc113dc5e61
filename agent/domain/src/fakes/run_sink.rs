use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Reason, Result};
use crate::ids::OperationId;
use crate::operation::{Checkpoint, Phase, PhaseState, Run, RunSink};
use crate::ports::Clock;

/// Keeps what a running task says, for tests of tasks.
pub struct RecordingRunSink {
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    phases: Vec<Phase>,
    notes: Vec<String>,
    checkpoints: Vec<Checkpoint>,
    refuse_checkpoint: Option<String>,
}

impl RecordingRunSink {
    /// A sink that reads this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, said: Mutex::default() })
    }

    /// A run of `op-0000000000` with this much time, and its cancel switch.
    #[must_use]
    pub fn run(self: &Arc<Self>, time: Duration) -> (Run, CancellationToken) {
        let token = CancellationToken::new();
        let deadline = self.clock.monotonic() + time;
        let sink: Arc<dyn RunSink> = Arc::<Self>::clone(self);
        // The name keeps its rule.
        #[allow(clippy::expect_used)]
        let id = OperationId::parse("op-0000000000").expect("a name");
        (Run::new(id, sink, token.clone(), deadline), token)
    }

    /// The journal will refuse the checkpoint of this name.
    pub fn refuse_checkpoint(&self, name: &str) {
        self.said().refuse_checkpoint = Some(name.to_owned());
    }

    /// Every phase in every form, in order.
    #[must_use]
    pub fn phases(&self) -> Vec<Phase> {
        self.said().phases.clone()
    }

    /// The phases that have ended, in order: name and state.
    #[must_use]
    pub fn ended(&self) -> Vec<(String, PhaseState)> {
        let ended = |phase: &&Phase| phase.state != PhaseState::Running;
        self.said().phases.iter().filter(ended).map(|phase| (phase.name.clone(), phase.state)).collect()
    }

    /// The notes, in order.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.said().notes.clone()
    }

    /// The checkpoints, in order.
    #[must_use]
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        self.said().checkpoints.clone()
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RunSink for RecordingRunSink {
    fn phase(&self, phase: Phase) {
        self.said().phases.push(phase);
    }

    fn note(&self, text: String) {
        self.said().notes.push(text);
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        let mut said = self.said();
        if said.refuse_checkpoint.as_ref() == Some(&checkpoint.name) {
            return Err(Error::new(Reason::StateUnavailable, "the journal did not take it"));
        }
        said.checkpoints.push(checkpoint);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}
