//! `[token]`: the key that signs access tokens.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath, safety};

/// `[token]`. Without it no tokens are minted, and none are taken.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// An Ed25519 key (PKCS#8, PEM), mode 0600.
    pub key: PathBuf,
}

impl Token {
    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.key);
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        safety::private_file(&self.key).map_err(|message| config.error_at(&["token", "key"], message))
    }
}
