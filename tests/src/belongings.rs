//! The processes of a sandbox, found by the mark that each of them inherits in its environment.
//!
//! Pids that were written down miss what supervisord started later, and may be another's by now. The mark
//! misses nothing and hits nobody else: it is the sandbox's own folder.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::patience::eventually;

/// The environment variable that marks a process of a sandbox; its value is the sandbox's folder.
pub const MARK: &str = "OPS_SANDBOX_DIR";

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(10);

/// A process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of `/proc/PID/stat`, see proc(5)).
    pub started: u64,
}

impl Process {
    /// The process that has this pid now; `None` when there is none, or only its remains.
    pub fn at(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command in parentheses may hold spaces and parentheses: fields are counted from its end.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, started })
    }

    /// Whether it is still there.
    pub fn is_alive(self) -> bool {
        Self::at(self.pid) == Some(self)
    }

    /// Sends it a signal; `false` when it is gone.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn signal(self, signal: Signal) -> io::Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Every process of the sandbox in `dir`, but this one.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn all(dir: &Path) -> io::Result<Vec<Process>> {
    let mark = [MARK.as_bytes(), b"=", dir.as_os_str().as_encoded_bytes()].concat();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let marked = |pid: &i32| {
        // Unreadable: another user's, or gone by now; neither is ours.
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    Ok(fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(marked)
        .filter_map(Process::at)
        .collect())
}

/// Kills every process of the sandbox in `dir`, stopped ones too, and waits until they are gone.
///
/// # Errors
/// When one cannot be killed or does not go.
pub fn kill_all(dir: &Path) -> io::Result<()> {
    eventually(GONE, "the end of the sandbox's processes", || {
        // Again each time: a supervisor may have started another meanwhile.
        let left = all(dir).map_err(|error| error.to_string())?;
        for process in &left {
            process.signal(Signal::SIGKILL).map_err(|error| format!("pid {}: {error}", process.pid))?;
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{} left", left.len())) }
    })
    .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn only_marked_processes_are_killed() {
        let dir = tempfile::tempdir().unwrap();
        let program = |mark: &Path| {
            let mut cat = Command::new("cat");
            cat.env(MARK, mark).stdin(Stdio::piped()).stdout(Stdio::null());
            cat.spawn().unwrap()
        };
        let (mut ours, mut other) = (program(dir.path()), program(&dir.path().join("x")));
        let found = eventually(Duration::from_secs(5), "the marked process", || {
            // Between fork and exec it still has our environment.
            let found = all(dir.path()).map_err(|error| error.to_string())?;
            if found.is_empty() { Err("not yet".to_owned()) } else { Ok(found) }
        });
        assert_eq!(found.unwrap()[0].pid, i32::try_from(ours.id()).unwrap());

        kill_all(dir.path()).unwrap();
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        drop(other.stdin.take());
        assert!(other.wait().unwrap().success());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let now = Process::at(own).unwrap();
        assert!(now.is_alive());
        assert!(!Process { started: now.started + 1, ..now }.is_alive());
        assert!(!Process { started: now.started + 1, ..now }.signal(Signal::SIGKILL).unwrap());
    }
}
