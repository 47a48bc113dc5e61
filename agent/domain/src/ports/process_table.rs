//! What the kernel knows of a process.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The identity of a process: a pid is used again, this is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessStart {
    /// The kernel's boot id.
    pub boot_id: String,
    /// Its start, in clock ticks since that boot.
    pub ticks: u64,
}

/// One look at a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// When it began, for comparing.
    pub start: ProcessStart,
    /// When it began, for people.
    pub started_at: Timestamp,
    /// Resident memory.
    pub memory_bytes: u64,
    /// User and system time so far, of all its threads.
    pub cpu: Duration,
}

/// `/proc`.
pub trait ProcessTable: Send + Sync {
    /// `None`: there is no such process, or it may not be looked at.
    fn process(&self, pid: u32) -> Option<Process>;

    /// Our own pid: what we never stop.
    fn own_pid(&self) -> u32;
}
