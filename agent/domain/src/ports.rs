//! What the outside world looks like from here: one trait a file, few methods.

pub mod audit_log;
pub mod clock;
pub mod database;
pub mod dump;
pub mod entropy;
pub mod journal;
pub mod log_excerpt;
pub mod prober;
pub mod process_table;
pub mod service_history;
pub mod service_manager;

pub use audit_log::{AuditEntry, AuditLog};
pub use clock::Clock;
pub use entropy::Entropy;
pub use journal::Journal;
pub use log_excerpt::LogExcerpt;
pub use prober::Prober;
pub use process_table::ProcessTable;
pub use service_history::ServiceHistory;
pub use service_manager::ServiceManager;
