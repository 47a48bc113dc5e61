//! `[tls]`: the agent's certificate and the CA of its callers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath, safety};

/// `[tls]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The CA's certificate; the agent never holds its key.
    pub ca: PathBuf,
    /// The agent's certificate.
    pub cert: PathBuf,
    /// Its key, mode 0600.
    pub key: PathBuf,
}

impl Tls {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for path in [&mut self.ca, &mut self.cert, &mut self.key] {
            beneath(folder, path);
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        safety::private_file(&self.key).map_err(|message| config.error_at(&["tls", "key"], message))?;
        for (name, path) in [("ca", &self.ca), ("cert", &self.cert)] {
            safety::trusted_file(path).map_err(|message| config.error_at(&["tls", name], message))?;
        }
        Ok(())
    }
}
