//! The agent's own process: memory, and the lock that keeps a second agent off the same state.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Resident memory in bytes (`/proc/self/statm`, second field, in pages); 0 when it cannot be read.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages =
        procfs::process::Process::myself().and_then(|process| process.statm()).map(|memory| memory.resident);
    pages.map_or(0, |pages| pages * procfs::page_size())
}

/// The state folder is ours as long as this lives; the kernel gives it free when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

/// Why the state folder is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another agent has it.
    #[error("another opsd{} works on {folder}: stop it, or name another [state] dir", pid.map_or(String::new(), |pid| format!(" (pid {pid})")))]
    Held {
        /// The state folder.
        folder: PathBuf,
        /// The other's process, as it wrote it down.
        pid: Option<u32>,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl StateLock {
    /// Takes the lock, without waiting.
    ///
    /// # Errors
    /// Another agent has it, or the file cannot be made.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let path = folder.join("lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| {
            if errno != Errno::EWOULDBLOCK {
                return io(errno.into());
            }
            let mut text = String::new();
            let read = std::io::Read::take(&file, 32).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            LockError::Held { folder: folder.to_owned(), pid }
        })?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = StateLock::take(folder.path()).unwrap();
        let error = StateLock::take(folder.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        StateLock::take(folder.path()).unwrap();
    }

    #[test]
    fn memory_is_measured() {
        assert!(resident_bytes() > 100_000);
    }
}
