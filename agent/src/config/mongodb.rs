//! `[mongodb]`: the database behind the platform.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath};
use crate::adapters::mongodb::{Address, MongoDb};

/// `[mongodb]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mongodb {
    /// Where it is, and by which credential.
    pub uri: UriFile,
    /// The database that is operated.
    pub database: String,
}

/// A URI holds a password, so it lies in a file of its own.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UriFile {
    /// One line, `mongodb://…`; mode 0600.
    pub file: PathBuf,
}

impl Mongodb {
    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.uri.file);
    }

    /// The URI, read now.
    ///
    /// # Errors
    /// The file cannot be read, or others can read it too.
    pub fn uri(&self, config: &Config) -> Result<String, Error> {
        let wrong = |message: String| config.error_at(&["mongodb", "uri"], message);
        let text = ops_trust::private_file::read_private(&self.uri.file, 4096)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The server behind it; nothing is opened.
    ///
    /// # Errors
    /// As [`Mongodb::uri`], and a URI that is not usable.
    pub fn server(&self, config: &Config) -> Result<MongoDb, Error> {
        let address = Address::parse(&self.uri(config)?)
            .map_err(|error| config.error_at(&["mongodb", "uri"], error.to_string()))?;
        Ok(MongoDb::new(address, self.database.clone()))
    }
}
