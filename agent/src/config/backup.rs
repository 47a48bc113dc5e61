//! `[backup]`: where backups lie.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath;

/// 2 GiB: so much stays free on the volume.
const RESERVE_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// `[backup]`. Without it there are no backups.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// The folder of the backups, made with mode 0700 if it is not there; others must not be able to write into it.
    pub dir: PathBuf,
    /// What stays free on its volume, in bytes.
    #[serde(default = "reserve")]
    pub reserve_bytes: u64,
}

const fn reserve() -> u64 {
    RESERVE_BYTES
}

impl Backup {
    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.dir);
    }
}
