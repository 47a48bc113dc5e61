//! Where operations are remembered across a crash.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::ids::{OperationId, Subject};
use crate::operation::{Checkpoint, Event, Operation};

/// An operation as the journal knows it: enough to go on, undo, or say what a human must do.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The operation.
    pub operation: Operation,
    /// What [`crate::operation::Task::parameters`] gave.
    pub parameters: serde_json::Value,
    /// In the order in which they were reached.
    pub checkpoints: Vec<Checkpoint>,
}

/// Every call that returns `Ok` is durable.
#[async_trait]
pub trait Journal: Send + Sync {
    /// A new operation, before it has any effect.
    async fn insert(&self, recorded: &Recorded, idempotency: Option<(&str, &str)>) -> Result<()>;

    /// The operation of this key and subject, made at or after `since`, with the request digest it was made for.
    async fn by_idempotency_key(
        &self,
        subject: &Subject,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<(OperationId, String)>>;

    /// A point that a recovery can rely on.
    async fn checkpoint(&self, id: &OperationId, checkpoint: &Checkpoint) -> Result<()>;

    /// An event; `seq` counts from 1 without holes.
    async fn event(&self, id: &OperationId, event: &Event) -> Result<()>;

    /// The operation's newest form: state, phases, results, problem.
    async fn update(&self, operation: &Operation) -> Result<()>;

    /// One.
    async fn load(&self, id: &OperationId) -> Result<Option<Recorded>>;

    /// Its events after `seq`.
    async fn events(&self, id: &OperationId, after_seq: u64) -> Result<Vec<Event>>;

    /// Ids that contain the text, at most 10.
    async fn matching(&self, part: &str) -> Result<Vec<OperationId>>;

    /// Newest first.
    async fn list(&self, limit: u32, running: bool) -> Result<Vec<Operation>>;

    /// Those that had not ended: what a start after a crash must look at.
    async fn open(&self) -> Result<Vec<Recorded>>;
}
