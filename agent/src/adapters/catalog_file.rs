//! What this agent knows of its own backups: a file of JSON lines in its state folder, appended and fsynced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use nix::fcntl::OFlag;
use ops_domain::error::{Error, Reason, Result};
use ops_domain::ports::backup_catalog::{BackupCatalog, CatalogEntry};
use tokio::sync::Mutex;

/// More than a million lines; a longer file is not read.
const LENGTH_MAX: u64 = 256 * 1024 * 1024;

/// `backups.jsonl`.
#[derive(Clone)]
pub struct CatalogFile {
    path: PathBuf,
    turn: Arc<Mutex<()>>,
}

impl CatalogFile {
    /// The file is made at the first append.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, turn: Arc::default() }
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::new(Reason::StateUnavailable, format!("the catalog of backups {} failed", self.path.display()))
            .fact("system", error.to_string())
    }

    fn read(&self) -> io::Result<Vec<CatalogEntry>> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(file) => file.take(LENGTH_MAX).read_to_string(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A line that was cut by a crash, or that a later build wrote, says nothing; the others still do.
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn write(&self, entry: &CatalogEntry) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&self.path)?;
        let length = file.metadata()?.len();
        let mut line = Vec::new();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::Start(length - 1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                line.push(b'\n');
            }
        }
        serde_json::to_writer(&mut line, entry)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()?;
        if length == 0
            && let Some(folder) = self.path.parent()
        {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

#[async_trait]
impl BackupCatalog for CatalogFile {
    async fn append(&self, entry: CatalogEntry) -> Result<()> {
        let _turn = self.turn.lock().await;
        let this = self.clone();
        let written = tokio::task::spawn_blocking(move || this.write(&entry)).await;
        written.map_err(io::Error::other).and_then(|written| written).map_err(|error| self.failed(&error))
    }

    async fn entries(&self) -> Result<Vec<CatalogEntry>> {
        let this = self.clone();
        let read = tokio::task::spawn_blocking(move || this.read()).await;
        read.map_err(io::Error::other).and_then(|read| read).map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use ops_domain::ids::BackupId;

    use super::*;

    fn made(id: &str) -> CatalogEntry {
        CatalogEntry::Made {
            id: BackupId::parse(id).unwrap(),
            manifest_hash: "ab".repeat(32),
            at: "2026-11-24T01:30:00Z".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_line_that_was_cut_does_not_spoil_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backups.jsonl");
        let catalog = CatalogFile::new(path.clone());
        assert_eq!(catalog.entries().await.unwrap(), []);
        catalog.append(made("20261124T0130Z-m3")).await.unwrap();
        let mut cut = std::fs::read(&path).unwrap();
        cut.extend_from_slice(b"{\"entry\":\"ma");
        std::fs::write(&path, cut).unwrap();
        catalog.append(made("20261124T0131Z-k7")).await.unwrap();
        let entries = catalog.entries().await.unwrap();
        assert_eq!(entries, [made("20261124T0130Z-m3"), made("20261124T0131Z-k7")]);
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = CatalogFile::new(folder.path().join("gone/backups.jsonl"));
        let error = catalog.append(made("20261124T0130Z-m3")).await.unwrap_err();
        assert_eq!(error.reason, Reason::StateUnavailable);
    }
}
