use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::Result;
use crate::ports::backup_catalog::{BackupCatalog, CatalogEntry};

/// A catalog in memory.
#[derive(Debug, Default)]
pub struct FakeCatalog(Mutex<Vec<CatalogEntry>>);

impl FakeCatalog {
    /// Forgets everything, as an agent on another host never knew it.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[async_trait]
impl BackupCatalog for FakeCatalog {
    async fn append(&self, entry: CatalogEntry) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    async fn entries(&self) -> Result<Vec<CatalogEntry>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}
