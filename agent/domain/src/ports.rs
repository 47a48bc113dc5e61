//! What the outside world looks like from here: one trait a file, few methods.

pub mod audit_log;
pub mod clock;
pub mod database;
pub mod dump;
pub mod entropy;
pub mod journal;

pub use audit_log::{AuditEntry, AuditLog};
pub use clock::Clock;
pub use entropy::Entropy;
pub use journal::Journal;
