//! The last lines of a service's log, as evidence.

use async_trait::async_trait;

/// A place in a file: what came behind it came later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogMark {
    /// The file's device and inode.
    pub file: (u64, u64),
    /// Its length then.
    pub length: u64,
}

/// Lines of a log, masked, with control characters as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The last of them, oldest first.
    pub lines: Vec<String>,
    /// How many there were since the mark, when all of it was read.
    pub total: Option<u64>,
}

/// Files beneath the allowed folders, regular ones only, read to a bound.
#[async_trait]
pub trait LogExcerpt: Send + Sync {
    /// Where the file ends now; `None`: it cannot be read, or is not there yet.
    async fn mark(&self, path: &str) -> Option<LogMark>;

    /// The last `lines` lines since the mark, or of the whole file.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    async fn since(&self, path: &str, mark: Option<&LogMark>, lines: usize) -> Result<Excerpt, String>;

    /// Whether `pattern`, a regular expression, is in what came since the mark.
    ///
    /// # Errors
    /// Why it cannot be read, in words.
    async fn contains(&self, path: &str, mark: Option<&LogMark>, pattern: &str) -> Result<bool, String>;
}
