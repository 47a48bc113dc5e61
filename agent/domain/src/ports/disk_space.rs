//! How full a filesystem is.

/// A filesystem at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskUsage {
    /// Its size.
    pub total: u64,
    /// What an ordinary user can still write.
    pub available: u64,
    /// What is taken, of what an ordinary user could have: as `df` counts it.
    pub used_percent: u8,
}

/// `statvfs`.
pub trait DiskSpace: Send + Sync {
    /// The filesystem that `path` lies on.
    ///
    /// # Errors
    /// Why it cannot be said, in words.
    fn usage(&self, path: &str) -> Result<DiskUsage, String>;
}
