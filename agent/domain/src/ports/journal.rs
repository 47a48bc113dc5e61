//! Where operations are remembered across a crash.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::ids::{OperationId, Subject};
use crate::operation::{Checkpoint, Event, Operation};
use crate::ports::audit_log::AuditEntry;

/// An operation as the journal knows it: enough to go on, undo, or say what a human must do.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The operation.
    pub operation: Operation,
    /// What [`crate::operation::Task::parameters`] gave.
    pub parameters: serde_json::Value,
    /// What [`crate::operation::Task::locks`] gave, sorted.
    pub locks: Vec<String>,
    /// What the audit trail was told before it began.
    pub intent: AuditEntry,
    /// In the order in which they were reached.
    pub checkpoints: Vec<Checkpoint>,
}

/// A key that names an operation for a while, and what was asked for under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's key, and the route that it was used on.
    pub key: String,
    /// SHA-256 over route, kind and parameters, hex.
    pub request_digest: String,
}

/// What the audit trail has not been told yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    /// Names it for [`Journal::settled`].
    pub number: u64,
    /// What to append.
    pub entry: AuditEntry,
}

/// Every call that returns `Ok` is durable and whole; one that fails has changed nothing.
#[async_trait]
pub trait Journal: Send + Sync {
    /// An operation is about to be audited. If nothing more is heard of it, `abandoned` is owed to the audit trail.
    async fn prepare(&self, id: &OperationId, abandoned: &AuditEntry) -> Result<()>;

    /// It came to nothing: what [`Journal::prepare`] wrote is owed from now on.
    async fn abandon(&self, id: &OperationId) -> Result<()>;

    /// A new operation, audited, before it has any effect. Takes the place of what [`Journal::prepare`] wrote.
    async fn insert(&self, recorded: &Recorded, idempotency: Option<&IdempotencyKey>) -> Result<()>;

    /// The operation of this key and subject, made at or after `since`, with the request digest it was made for.
    async fn by_idempotency_key(
        &self,
        subject: &Subject,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<(OperationId, String)>>;

    /// A point that a recovery can rely on.
    async fn checkpoint(&self, id: &OperationId, checkpoint: &Checkpoint) -> Result<()>;

    /// The operation's newest form with the events that led to it; their numbers count on without holes.
    async fn advance(&self, operation: &Operation, events: &[Event]) -> Result<()>;

    /// As [`Journal::advance`], at its end: from now on these words are owed to the audit trail.
    async fn finish(&self, operation: &Operation, events: &[Event], owed: &[AuditEntry]) -> Result<()>;

    /// What the audit trail has not been told yet, the oldest first.
    async fn owed(&self) -> Result<Vec<Owed>>;

    /// It has been told.
    async fn settled(&self, number: u64) -> Result<()>;

    /// One.
    async fn load(&self, id: &OperationId) -> Result<Option<Recorded>>;

    /// At most `limit` of its events after `seq`, in order.
    async fn events(&self, id: &OperationId, after_seq: u64, limit: u32) -> Result<Vec<Event>>;

    /// Ids that contain the text, at most 10, the newest first.
    async fn matching(&self, part: &str) -> Result<Vec<OperationId>>;

    /// Newest first.
    async fn list(&self, limit: u32, running: bool) -> Result<Vec<Operation>>;

    /// Those that had not ended, the oldest first: what a start after a crash must look at. Whatever was prepared and
    /// never begun is owed from now on.
    async fn open(&self) -> Result<Vec<Recorded>>;

    /// Forgets those that ended before the moment, with their events; returns how many.
    async fn forget(&self, ended_before: Timestamp) -> Result<u64>;
}
