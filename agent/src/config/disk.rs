//! `[disk]`: the filesystems whose space is watched.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::beneath;

/// `[disk]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// A path on each. Empty: space is not judged.
    pub paths: Vec<PathBuf>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { paths: vec![PathBuf::from("/")] }
    }
}

impl Disk {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for path in &mut self.paths {
            beneath(folder, path);
        }
    }
}
