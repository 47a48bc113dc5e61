//! `/proc`: what the kernel knows of a process.

use std::time::Duration;

use jiff::Timestamp;
use ops_domain::ports::process_table::{Process, ProcessStart, ProcessTable};

/// This host's `/proc`. The boot id and the boot's moment are read once: a new boot is a new agent.
#[derive(Debug)]
pub struct ProcTable {
    boot_id: String,
    boot_at: Option<Timestamp>,
}

impl ProcTable {
    /// Reads the boot's identity.
    #[must_use]
    pub fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let seconds = procfs::boot_time_secs().ok().and_then(|seconds| i64::try_from(seconds).ok());
        Self {
            boot_id: boot_id.trim().to_owned(),
            boot_at: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        }
    }
}

impl Default for ProcTable {
    fn default() -> Self {
        Self::new()
    }
}

impl ProcessTable for ProcTable {
    fn process(&self, pid: u32) -> Option<Process> {
        let stat = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        // A zombie is a process that is no more.
        if stat.state == 'Z' {
            return None;
        }
        let per_second = procfs::ticks_per_second().max(1);
        let length = |ticks: u64| Duration::from_millis(ticks.saturating_mul(1000) / per_second);
        Some(Process {
            start: ProcessStart { boot_id: self.boot_id.clone(), ticks: stat.starttime },
            started_at: self.boot_at?.checked_add(length(stat.starttime)).ok()?,
            memory_bytes: stat.rss.saturating_mul(procfs::page_size()),
            cpu: length(stat.utime.saturating_add(stat.stime)),
        })
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_is_seen_and_no_process_is_none() {
        let table = ProcTable::new();
        let own = table.process(table.own_pid()).unwrap();
        assert!(own.memory_bytes > 0 && !own.start.boot_id.is_empty());
        assert!(own.started_at <= Timestamp::now());
        assert_eq!(table.process(table.own_pid()).unwrap().start, own.start);
        assert_eq!(table.process(u32::MAX), None);
        assert_eq!(table.process(0), None);
    }
}
