//! Where backups lie: a folder with one entry a backup, each whole or not there.

use async_trait::async_trait;
use bytes::Bytes;

use crate::ids::BackupId;

/// A manifest longer than this is not read.
pub const MANIFEST_MAX: u64 = 64 * 1024 * 1024;

/// A place of backups.
#[async_trait]
pub trait BackupStore: Send + Sync {
    /// For people: the folder.
    fn location(&self) -> String;

    /// Free and all bytes of the volume, and what must stay free.
    async fn space(&self) -> Result<Space, StoreError>;

    /// Begins a backup, alone in the store until the staging is gone.
    async fn begin(&self, id: &BackupId) -> Result<Box<dyn Staging>, StoreError>;

    /// What is published, in no order: names that are backup ids.
    async fn list(&self) -> Result<Vec<BackupId>, StoreError>;

    /// What was begun and not published.
    async fn partials(&self) -> Result<Vec<BackupId>, StoreError>;

    /// Removes what was begun and not published; it need not exist.
    async fn discard(&self, id: &BackupId) -> Result<(), StoreError>;

    /// The manifest and its second copy, at most [`MANIFEST_MAX`] each, unparsed.
    async fn manifest(&self, id: &BackupId) -> Result<StoredManifest, StoreError>;

    /// The length of each file beside the manifests: name, bytes.
    async fn files(&self, id: &BackupId) -> Result<Vec<(String, u64)>, StoreError>;

    /// Reads a segment and compares the hash of its stored bytes; `decode` also decompresses it, to exactly
    /// `frame.bytes`.
    async fn segment(
        &self,
        id: &BackupId,
        file: &str,
        frame: &Frame,
        decode: bool,
    ) -> Result<Bytes, StoreError>;
}

/// A backup being written. Dropped without [`Staging::publish`], it stays a partial one.
#[async_trait]
pub trait Staging: Send {
    /// Opens the next file. The same name again, before it was closed, begins it anew; what was never closed is not
    /// part of the backup.
    async fn open(&mut self, file: &str) -> Result<(), StoreError>;

    /// Compresses whole documents and appends them to the open file.
    async fn append(&mut self, documents: Bytes) -> Result<Frame, StoreError>;

    /// Makes the open file durable and closes it.
    async fn close(&mut self) -> Result<(), StoreError>;

    /// Reads a segment back, as [`BackupStore::segment`] will.
    async fn read_back(&mut self, file: &str, frame: &Frame) -> Result<Bytes, StoreError>;

    /// Writes the second copy and the manifest, last of all; durable when it returns.
    async fn seal(&mut self, manifest: &[u8]) -> Result<(), StoreError>;

    /// Gives it its name; durable when it returns.
    async fn publish(self: Box<Self>) -> Result<(), StoreError>;
}

/// One compressed run of whole documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it begins in its file.
    pub offset: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Compressed.
    pub stored: u64,
    /// BLAKE3 of the stored bytes, hex.
    pub hash: String,
}

/// Both copies of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredManifest {
    /// `manifest.json`.
    pub bytes: Bytes,
    /// BLAKE3 of `bytes`, hex.
    pub hash: String,
    /// `manifest.copy`: the hash in hex, a newline, the same bytes again.
    pub copy: Bytes,
}

/// Room on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    /// In all.
    pub total: u64,
    /// What must stay free.
    pub reserve: u64,
}

/// What went wrong with the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// None is configured.
    #[error("no backup folder is configured")]
    Unconfigured,
    /// The folder is not one to trust.
    #[error("{path}: {why}")]
    Refused {
        /// The folder.
        path: String,
        /// `it is a symbolic link`.
        why: String,
    },
    /// Another backup is being written into it.
    #[error("{path} is in use by another backup")]
    Locked {
        /// The folder.
        path: String,
    },
    /// No such backup.
    #[error("there is no backup {id}")]
    NotFound {
        /// Its id.
        id: String,
    },
    /// Bytes are not what they should be.
    #[error("{file}: {why}")]
    Corrupt {
        /// The file of the backup.
        file: String,
        /// `cut at byte 812`.
        why: String,
    },
    /// The volume is full.
    #[error("{what}: no space left on the volume")]
    NoSpace {
        /// What was being done.
        what: String,
    },
    /// The system failed.
    #[error("{what}: {detail}")]
    Io {
        /// What was being done.
        what: String,
        /// In the system's words.
        detail: String,
    },
}
