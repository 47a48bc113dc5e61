use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::{Error, Reason, Result};
use crate::ports::{AuditEntry, AuditLog};

/// Keeps what it is told; [`FakeAuditLog::break_down`] makes it refuse.
#[derive(Debug, Default)]
pub struct FakeAuditLog {
    entries: Mutex<Vec<AuditEntry>>,
    broken: AtomicBool,
}

impl FakeAuditLog {
    /// From now on nothing is taken, or is again.
    pub fn break_down(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    /// What was appended, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<AuditEntry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `stage outcome` of what was appended about this operation.
    #[must_use]
    pub fn stages(&self, operation_id: &str) -> Vec<String> {
        let of_it = |entry: &AuditEntry| entry.operation_id == operation_id;
        self.entries()
            .into_iter()
            .filter(of_it)
            .map(|entry| format!("{} {}", entry.stage, entry.outcome).trim_end().to_owned())
            .collect()
    }
}

#[async_trait]
impl AuditLog for FakeAuditLog {
    async fn append(&self, entry: AuditEntry) -> Result<()> {
        if !self.writable() {
            return Err(Error::new(Reason::AuditUnavailable, "the audit trail cannot be written")
                .effect("nothing was done"));
        }
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    fn writable(&self) -> bool {
        !self.broken.load(Ordering::SeqCst)
    }
}
