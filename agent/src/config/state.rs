//! `[state]`: where the agent remembers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath, safety};

/// `[state]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// A folder of the agent's own, mode 0700: journal, audit trail, lock.
    pub dir: PathBuf,
}

impl State {
    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.dir);
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        safety::private_folder(&self.dir).map_err(|message| config.error_at(&["state", "dir"], message))
    }
}
