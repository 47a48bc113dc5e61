//! In-memory twins of the ports, for tests. One file each, named as its port.

mod audit_log;
mod backup_catalog;
mod backup_store;
mod clock;
mod database;
mod entropy;
mod host;
mod journal;
mod log_source;
mod run_sink;

pub use audit_log::FakeAuditLog;
pub use backup_catalog::FakeCatalog;
pub use backup_store::FakeStore;
pub use clock::FakeClock;
pub use database::{DatabaseFault, FakeDatabase};
pub use entropy::FakeEntropy;
pub use host::{FakeHost, Temper};
pub use journal::{FakeJournal, Fault};
pub use log_source::FakeLog;
pub use run_sink::RecordingRunSink;
