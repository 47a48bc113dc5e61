//! `[supervisor]`: who keeps the programs alive.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath};

/// `[supervisor]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Supervisor {
    /// supervisord's unix socket: `file` of its `[unix_http_server]`.
    pub socket: PathBuf,
    /// supervisord's own log: `logfile` of its `[supervisord]`. Without it there is no history and no exit code.
    #[serde(default)]
    pub log: Option<PathBuf>,
    /// `username` of its `[unix_http_server]`, where it has one.
    #[serde(default)]
    pub username: Option<String>,
    /// The file that holds its `password`.
    #[serde(default)]
    pub password: Option<SecretFile>,
}

/// A secret that lies in a file of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Mode 0600.
    pub file: PathBuf,
}

impl Supervisor {
    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.socket);
        if let Some(log) = &mut self.log {
            beneath(folder, log);
        }
        if let Some(password) = &mut self.password {
            beneath(folder, &mut password.file);
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        if self.username.is_some() != self.password.is_some() {
            return Err(config
                .error_at(&["supervisor"], "username and password belong together: set both or neither"));
        }
        // A longer path does not fit into a socket's address; supervisord itself stops at about 100 bytes.
        if self.socket.as_os_str().len() > 107 {
            return Err(config
                .error_at(&["supervisor", "socket"], "the path is too long for a unix socket (107 bytes)"));
        }
        Ok(())
    }

    /// Name and password, if supervisord wants them.
    ///
    /// # Errors
    /// The file cannot be read, or others can read it too.
    pub fn login(&self, config: &Config) -> Result<Option<(String, SecretString)>, Error> {
        let (Some(user), Some(password)) = (&self.username, &self.password) else { return Ok(None) };
        let wrong = |message: String| config.error_at(&["supervisor", "password"], message);
        let text = ops_trust::private_file::read_private(&password.file, 4096)
            .map_err(|error| wrong(error.to_string()))?;
        let text = String::from_utf8_lossy(&text).trim_end().to_owned();
        Ok(Some((user.clone(), text.into())))
    }
}
