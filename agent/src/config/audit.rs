//! `[audit]`: where the audit trail lies and when it is signed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::beneath;

/// `[audit]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The trail, its keys and the ring of reads. By default `audit` in the state folder.
    pub dir: PathBuf,
    /// How long a line may take to be on disk before the change is refused.
    #[serde(with = "super::duration")]
    pub write_timeout: Duration,
    /// A checkpoint at the latest this long after a change's record.
    #[serde(with = "super::duration")]
    pub checkpoint_after_change: Duration,
    /// A checkpoint at the latest this long after any other record.
    #[serde(with = "super::duration")]
    pub checkpoint_after: Duration,
    /// A checkpoint at the latest after this many records.
    pub checkpoint_records: u64,
    /// The size of the ring of reads and counted denials, in bytes.
    pub access_bytes: u64,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            write_timeout: Duration::from_secs(2),
            checkpoint_after_change: Duration::from_secs(1),
            checkpoint_after: Duration::from_secs(60),
            checkpoint_records: 1_000,
            access_bytes: 256 * 1024 * 1024,
        }
    }
}

impl Audit {
    pub(super) fn resolve(&mut self, folder: &Path, state: &Path) {
        if self.dir.as_os_str().is_empty() {
            self.dir = state.join("audit");
        }
        beneath(folder, &mut self.dir);
    }
}
