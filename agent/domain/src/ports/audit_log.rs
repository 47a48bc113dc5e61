//! The audit trail, as those who act see it.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// One thing to write down. The adapter adds sequence, times, boot id and chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// `intent`, `result`, `denied`, `abandoned`.
    pub stage: String,
    /// Who.
    pub subject: String,
    /// Role names at that moment.
    pub roles: Vec<String>,
    /// `ops.v1.ServiceService/RestartServices`, or the agent's own act.
    pub route: String,
    /// The permission that decided.
    pub rule: String,
    /// `allowed`, `denied`.
    pub decision: String,
    /// What it is about: services, database, backup id.
    pub target: String,
    /// Parameters, without secrets.
    pub params: serde_json::Value,
    /// `OK` or a reason's name; empty for an intent.
    pub outcome: String,
    /// Why, as the caller said.
    pub reason: String,
    /// The operation, if it is one.
    pub operation_id: String,
    /// The request.
    pub request_id: String,
    /// The socket's peer.
    pub peer: String,
    /// SHA-256 of the certificate, hex.
    pub certificate_sha256: String,
}

/// Append only; what is appended is on disk when the call returns.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends and fsyncs within 2 s.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE`: nothing was written down, so nothing may be done. A failed `result` freezes every later
    /// `intent` until it could be written.
    async fn append(&self, entry: AuditEntry) -> Result<()>;

    /// Writes a read or a counted denial into the ring beside the trail: best effort, never waits, freezes nothing.
    fn note(&self, _entry: AuditEntry) {}

    /// Whether an intent would be taken now.
    fn writable(&self) -> bool;
}
