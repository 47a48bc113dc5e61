//! Log files and what happens to them, as those who read them see it.
//!
//! Every method blocks for as long as the disk takes: callers are on a thread for blocking work.

use std::path::Path;

use jiff::Timestamp;
use tokio::sync::watch;

/// What tells one file from another, also when its inode was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`; ext4 gives a freed one to the next file at once.
    pub inode: u64,
    /// Birth time in ns since the epoch; 0 where the filesystem does not keep it.
    pub born: u64,
}

/// A file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// Which.
    pub id: FileId,
    /// Bytes.
    pub size: u64,
    /// Last write.
    pub modified: Timestamp,
}

/// A member of a log's chain: the current file (0) or a rotated one (`.1`, `.2`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// 0 is the current file, `n` the one with `.n` behind its name.
    pub index: u32,
    /// What it is.
    pub facts: FileFacts,
}

/// Why a file could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFault {
    /// There is none of this name.
    #[error("no such file")]
    Missing,
    /// The agent's user may not read it.
    #[error("permission denied")]
    Denied,
    /// Not beneath an allowed folder, behind a symlink, or not a regular file; says which.
    #[error("{0}")]
    Refused(String),
    /// The disk or the system failed; says how.
    #[error("{0}")]
    Failed(String),
}

/// An open file. It stays readable when its name is gone.
pub trait LogFile: Send {
    /// What it is now.
    ///
    /// # Errors
    /// [`LogFault::Failed`].
    fn facts(&self) -> Result<FileFacts, LogFault>;

    /// Reads at an offset until the buffer is full or the file ends; the number of bytes.
    ///
    /// # Errors
    /// [`LogFault::Failed`], as an EIO.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, LogFault>;
}

/// How often names changed beside a log; numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Creations, removals and renames among the log and its rotated files.
    pub changes: u64,
    /// Files that came to be under the log's name or one of its rotated files', also those that are gone again.
    pub born: u64,
    /// Of these, those that came to be as a rotated file: copies.
    pub copied: u64,
    /// How often notifications were lost.
    pub lost: u64,
}

/// Notifications about one log. Dropping it ends them.
pub struct Changes {
    /// Grows with each write to the log or one of its rotated files.
    pub data: watch::Receiver<u64>,
    /// Names.
    pub names: watch::Receiver<Names>,
    /// Kept for its drop: the last follower of a log takes the watch away.
    pub guard: Box<dyn std::any::Any + Send + Sync>,
}

/// Log files beneath the allowed folders.
pub trait LogSource: Send + Sync {
    /// The current file, if it is there, and the rotated ones, the newest first, up to the first one that `enough` is
    /// true of. Not readable ones are in it. What is there all the while is in it, in its order, whatever is renamed.
    ///
    /// # Errors
    /// Any [`LogFault`] of the log's own name but [`LogFault::Missing`], which is an empty chain.
    fn chain_to(&self, log: &Path, enough: &dyn Fn(FileId) -> bool) -> Result<Vec<Link>, LogFault>;

    /// All of the chain.
    ///
    /// # Errors
    /// As [`LogSource::chain_to`].
    fn chain(&self, log: &Path) -> Result<Vec<Link>, LogFault> {
        self.chain_to(log, &|_| false)
    }

    /// All that happened to names before this call is in [`Changes::names`] after it.
    fn catch_up(&self);

    /// Opens a member of the chain. Never waits for a writer, whatever stands there.
    ///
    /// # Errors
    /// Any [`LogFault`].
    fn open(&self, log: &Path, index: u32) -> Result<Box<dyn LogFile>, LogFault>;

    /// Begins notifications; all followers of a log share one watch.
    ///
    /// # Errors
    /// Any [`LogFault`].
    fn changes(&self, log: &Path) -> Result<Changes, LogFault>;
}
