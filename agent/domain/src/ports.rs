//! What the outside world looks like from here: one trait a file, few methods.

pub mod audit_log;
pub mod audit_trail;
pub mod backup_catalog;
pub mod backup_store;
pub mod clock;
pub mod database;
pub mod disk_space;
pub mod dump;
pub mod entropy;
pub mod health_source;
pub mod journal;
pub mod log_excerpt;
pub mod log_source;
pub mod policy_source;
pub mod prober;
pub mod process_table;
pub mod service_history;
pub mod service_manager;
pub mod token_signer;

pub use audit_log::{AuditEntry, AuditLog};
pub use audit_trail::{AuditLine, AuditQuery, AuditTrail};
pub use clock::Clock;
pub use disk_space::{DiskSpace, DiskUsage};
pub use entropy::Entropy;
pub use health_source::{HealthSource, Serving};
pub use journal::Journal;
pub use log_excerpt::LogExcerpt;
pub use log_source::{FileFacts, FileId, Link, LogFault, LogFile, LogSource};
pub use policy_source::PolicySource;
pub use prober::Prober;
pub use process_table::ProcessTable;
pub use service_history::ServiceHistory;
pub use service_manager::ServiceManager;
pub use token_signer::{SignedToken, TokenRequest, TokenSigner};
