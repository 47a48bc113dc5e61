//! In-memory twins of the ports, for tests. One file each, named as its port.

mod audit_log;
mod clock;
mod entropy;
mod host;
mod journal;
mod log_source;
mod run_sink;

pub use audit_log::FakeAuditLog;
pub use clock::FakeClock;
pub use entropy::FakeEntropy;
pub use host::{FakeHost, Temper};
pub use journal::{FakeJournal, Fault};
pub use log_source::FakeLog;
pub use run_sink::RecordingRunSink;
