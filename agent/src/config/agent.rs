//! `[agent]`: who this agent is.

use std::path::{Path, PathBuf};

use ops_domain::ids::Subject;
use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath};

/// `[agent]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Its name: `auction-1`. Tokens and the audit trail carry it as `agent/auction-1`.
    pub id: String,
    /// Subject → roles. By default `policy.toml` beside the configuration.
    #[serde(default = "policy")]
    pub policy: PathBuf,
}

fn policy() -> PathBuf {
    PathBuf::from("policy.toml")
}

impl Agent {
    /// `agent/auction-1`.
    ///
    /// # Errors
    /// The id is not a name; a configuration that was checked has none such.
    pub fn subject(&self) -> ops_domain::Result<Subject> {
        let name = self.id.strip_prefix("agent/").unwrap_or(&self.id);
        Subject::parse(&format!("agent/{name}"))
    }

    pub(super) fn resolve(&mut self, folder: &Path) {
        beneath(folder, &mut self.policy);
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        self.subject().map(|_| ()).map_err(|error| config.error_at(&["agent", "id"], error.message))
    }
}
