//! What this agent knows of its own backups, kept beside its state and not beside the backups.

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::{Damage, Level};
use crate::error::Result;
use crate::ids::BackupId;

/// One line of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case", deny_unknown_fields)]
pub enum CatalogEntry {
    /// A backup of ours, about to be published.
    Made {
        /// Its id.
        id: BackupId,
        /// BLAKE3 of its manifest, hex.
        manifest_hash: String,
        /// When.
        at: Timestamp,
    },
    /// A check of its bytes.
    Verified {
        /// Its id.
        id: BackupId,
        /// BLAKE3 of the manifest it had.
        manifest_hash: String,
        /// How deep.
        level: Level,
        /// What was wrong; `None`: all well.
        problem: Option<Damage>,
        /// When.
        at: Timestamp,
    },
}

/// Append only.
#[async_trait]
pub trait BackupCatalog: Send + Sync {
    /// Durable when it returns.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: it was not written.
    async fn append(&self, entry: CatalogEntry) -> Result<()>;

    /// All, oldest first.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: it cannot be read.
    async fn entries(&self) -> Result<Vec<CatalogEntry>>;
}
