//! The last checkpoint of each agent's audit trail that this user has seen.

use std::path::PathBuf;

use ops_trust::audit::Seen;
use ops_trust::private_file;

use super::{Error, Store, Target};

const MAX_SEEN_BYTES: u64 = 4096;

/// One small file per agent beside the configuration, named by trust domain and agent: contexts may come and go.
#[derive(Debug)]
pub struct SeenStore {
    path: PathBuf,
}

impl SeenStore {
    /// The file for this agent; `None` when the target does not say which agent it is.
    pub fn of(store: &Store, target: &Target) -> Option<Self> {
        let agent = target.agent.as_ref()?;
        let file = format!("{}.{}.json", target.ca.domain(), agent.name());
        Some(Self { path: store.base().join("audit").join(file) })
    }

    /// The checkpoint that was seen last.
    pub fn load(&self) -> Result<Option<Seen>, Error> {
        if !self.path.exists() {
            return Ok(None);
        }
        let bytes = private_file::read(&self.path, MAX_SEEN_BYTES)?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| Error::Config {
            path: self.path.clone(),
            problem: "not a checkpoint that opsctl wrote; if you know why, delete it".into(),
        })
    }

    /// Remembers a checkpoint.
    pub fn save(&self, seen: &Seen) -> Result<(), Error> {
        if let Some(folder) = self.path.parent().filter(|f| !f.exists()) {
            std::fs::create_dir_all(folder)
                .map_err(|source| private_file::Error::Io { path: folder.to_owned(), source })?;
        }
        let json = serde_json::to_vec(seen)
            .map_err(|e| Error::Config { path: self.path.clone(), problem: e.to_string() })?;
        Ok(private_file::replace(&self.path, &json)?)
    }
}
