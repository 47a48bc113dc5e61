//! `[log]`: where logs may be read.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath};

/// `[log]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Logs are read beneath these folders only, never through a symlink. Empty: none are read.
    #[serde(default)]
    pub folders: Vec<PathBuf>,
}

impl Log {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for path in &mut self.folders {
            beneath(folder, path);
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        for path in &self.folders {
            let wrong = |message: String| config.error_at(&["log", "folders"], message);
            if path.components().count() < 2 || path.components().any(|part| part.as_os_str() == "..") {
                return Err(wrong(format!(
                    "{} is no folder for logs: name the folder itself, not / and not a way through ..",
                    path.display()
                )));
            }
            match std::fs::symlink_metadata(path) {
                Ok(data) if data.is_symlink() => {
                    return Err(wrong(format!(
                        "{} is a symlink: name the folder that it leads to",
                        path.display()
                    )));
                }
                Ok(data) if !data.is_dir() => {
                    return Err(wrong(format!("{} is not a folder", path.display())));
                }
                // A folder may be made later; until then its logs are not there.
                _ => {}
            }
        }
        Ok(())
    }
}
