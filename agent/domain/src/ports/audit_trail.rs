//! The audit trail, as those who read it see it.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use crate::error::Result;

/// One line of the trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number, from 0.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// `intent`, `result`, `denied`, `checkpoint`…
    pub stage: String,
    /// Who.
    pub subject: String,
    /// Which call.
    pub route: String,
    /// What it is about.
    pub target: String,
    /// `allowed`, `denied`.
    pub decision: String,
    /// `OK` or a reason's name.
    pub outcome: String,
    /// Why, as the caller said.
    pub reason: String,
    /// The operation.
    pub operation_id: String,
    /// The request.
    pub request_id: String,
    /// The socket's peer.
    pub peer: String,
}

/// Which lines to list.
#[derive(Clone, Debug)]
pub struct AuditQuery {
    /// At most so many.
    pub limit: usize,
    /// Only this subject's.
    pub subject: Option<String>,
    /// Only those at or after.
    pub since: Option<Timestamp>,
}

/// Reading; the lines are not verified here, because a verdict of the agent about itself is worth nothing.
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// Newest first. Of a long trail only the last 64 MiB are searched.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`.
    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditLine>>;

    /// The exact bytes from the first line to the last that was written when the call came, whole lines, at most
    /// 256 KiB a piece.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`.
    async fn read(&self) -> Result<BoxStream<'static, Result<Bytes>>>;
}
