//! Backups in a folder.
//!
//! ```text
//! FOLDER/.lock                        held while a backup is written
//! FOLDER/ID.partial/                  being written; removed if it never ends
//! FOLDER/ID/c00001.zst …              one file a collection: zstd frames of whole documents, readable by `zstd -d`
//! FOLDER/ID/manifest.copy             the manifest's BLAKE3 in hex, a newline, the manifest again
//! FOLDER/ID/manifest.json             written last
//! ```
//!
//! Each file is fsynced, then the folder, then the manifests, then the folder is renamed and its parent fsynced: an
//! `ID` without `.partial` is whole. Nothing that exists is ever opened for writing.

mod folder;
mod segment;
mod staging;
mod step;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use nix::errno::Errno;
use ops_domain::ids::BackupId;
use ops_domain::ports::backup_store::{
    BackupStore, Frame, MANIFEST_MAX, Space, Staging, StoreError, StoredManifest,
};

pub use step::{Step, Steps};

const PARTIAL: &str = ".partial";
const MANIFEST: &str = "manifest.json";
const COPY: &str = "manifest.copy";
const LOCK: &str = ".lock";

/// A folder of backups.
#[derive(Clone)]
pub struct StoreDir {
    folder: PathBuf,
    reserve: u64,
    steps: Arc<dyn Steps>,
}

impl StoreDir {
    /// Nothing is opened or made yet: the folder is looked at each time, so that one that was mended is taken at once.
    #[must_use]
    pub fn new(folder: PathBuf, reserve: u64) -> Self {
        Self::with_steps(folder, reserve, Arc::new(step::AsTheyAre))
    }

    /// The same, with someone who decides before each step whether it succeeds; for tests.
    #[must_use]
    pub fn with_steps(folder: PathBuf, reserve: u64, steps: Arc<dyn Steps>) -> Self {
        Self { folder, reserve, steps }
    }

    /// Makes the folder, ours alone, when there is none; what is there is left as it is.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn prepare(&self) -> Result<(), StoreError> {
        folder::make_folder(&self.folder)
            .map_err(|error| failed(format!("make {}", self.folder.display()), &error))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.unwrap_or_else(|error| {
            Err(StoreError::Io { what: "work on the backup folder".to_owned(), detail: error.to_string() })
        })
    }

    /// The folder, checked.
    fn checked(&self) -> Result<&Path, StoreError> {
        folder::check(&self.folder)?;
        Ok(&self.folder)
    }

    fn of(&self, id: &BackupId) -> PathBuf {
        self.folder.join(id.as_str())
    }

    fn partial(&self, id: &BackupId) -> PathBuf {
        self.folder.join(format!("{id}{PARTIAL}"))
    }

    /// Held until the file is dropped, or the process dies.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.checked()?.join(LOCK);
        let file =
            folder::open_lock(&path).map_err(|error| failed(format!("open {}", path.display()), &error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(StoreError::Locked { path: self.folder.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(failed(format!("lock {}", path.display()), &error)),
        }
    }

    fn entries(&self, partial: bool) -> Result<Vec<BackupId>, StoreError> {
        let folder = self.checked()?;
        let what = || format!("list {}", folder.display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(folder).map_err(|error| failed(what(), &error))? {
            let entry = entry.map_err(|error| failed(what(), &error))?;
            // Never through a link: what is listed lies in here.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let id = match (name.strip_suffix(PARTIAL), partial) {
                (Some(id), true) => id,
                (None, false) => name,
                _ => continue,
            };
            ids.extend(BackupId::parse(id).ok().filter(folder::is_backup));
        }
        Ok(ids)
    }

    fn read_manifest(&self, id: &BackupId) -> Result<StoredManifest, StoreError> {
        self.checked()?;
        let folder = self.of(id);
        folder::check_backup(&folder, id)?;
        let read = |name: &str| -> Result<Bytes, StoreError> {
            let file = folder::open_read(&folder.join(name)).map_err(|error| missing(name, &error))?;
            let mut bytes = Vec::new();
            // A few bytes for the hash in the copy.
            let limit = MANIFEST_MAX + 66;
            file.take(limit)
                .read_to_end(&mut bytes)
                .map_err(|error| failed(format!("read {name}"), &error))?;
            if bytes.len() as u64 >= limit {
                let why = format!("it is longer than {MANIFEST_MAX} bytes");
                return Err(StoreError::Corrupt { file: name.to_owned(), why });
            }
            Ok(bytes.into())
        };
        let bytes = read(MANIFEST)?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        Ok(StoredManifest { bytes, hash, copy: read(COPY)? })
    }

    fn sizes(&self, id: &BackupId) -> Result<Vec<(String, u64)>, StoreError> {
        self.checked()?;
        let folder = self.of(id);
        folder::check_backup(&folder, id)?;
        let what = || format!("list {}", folder.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(|error| failed(what(), &error))? {
            let entry = entry.map_err(|error| failed(what(), &error))?;
            let metadata = entry.metadata().map_err(|error| failed(what(), &error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if metadata.is_file() && name != MANIFEST && name != COPY {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }
}

#[async_trait]
impl BackupStore for StoreDir {
    fn location(&self) -> String {
        self.folder.display().to_string()
    }

    async fn space(&self) -> Result<Space, StoreError> {
        self.blocking(|this| {
            let what = || format!("measure {}", this.folder.display());
            let volume = nix::sys::statvfs::statvfs(this.checked()?)
                .map_err(|error| failed(what(), &io::Error::from(error)))?;
            let unit = volume.fragment_size();
            Ok(Space {
                free: unit.saturating_mul(volume.blocks_available()),
                total: unit.saturating_mul(volume.blocks()),
                reserve: this.reserve,
            })
        })
        .await
    }

    async fn begin(&self, id: &BackupId) -> Result<Box<dyn Staging>, StoreError> {
        let id = id.clone();
        self.blocking(move |this| {
            let lock = this.lock()?;
            let staging = staging::StagingDir::begin(
                this.partial(&id),
                this.of(&id),
                this.folder.clone(),
                lock,
                Arc::clone(&this.steps),
            )?;
            Ok(Box::new(staging) as Box<dyn Staging>)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<BackupId>, StoreError> {
        self.blocking(|this| this.entries(false)).await
    }

    async fn partials(&self) -> Result<Vec<BackupId>, StoreError> {
        self.blocking(|this| this.entries(true)).await
    }

    async fn discard(&self, id: &BackupId) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |this| {
            let partial = this.partial(&id);
            if fs::symlink_metadata(&partial).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                return Ok(());
            }
            // Another agent's backup that is being written is not ours to remove.
            let _lock = this.lock()?;
            let what = || format!("remove {}", partial.display());
            this.steps.before(&Step::Remove).map_err(|error| failed(what(), &error))?;
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(what(), &error)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn manifest(&self, id: &BackupId) -> Result<StoredManifest, StoreError> {
        let id = id.clone();
        self.blocking(move |this| this.read_manifest(&id)).await
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<(String, u64)>, StoreError> {
        let id = id.clone();
        self.blocking(move |this| this.sizes(&id)).await
    }

    async fn segment(
        &self,
        id: &BackupId,
        file: &str,
        frame: &Frame,
        decode: bool,
    ) -> Result<Bytes, StoreError> {
        let (id, file, frame) = (id.clone(), file.to_owned(), frame.clone());
        self.blocking(move |this| {
            this.checked()?;
            let folder = this.of(&id);
            folder::check_backup(&folder, &id)?;
            read_segment(&folder, &file, &frame, decode)
        })
        .await
    }
}

/// Reads, hashes and, if asked to, decompresses a segment.
fn read_segment(folder: &Path, name: &str, frame: &Frame, decode: bool) -> Result<Bytes, StoreError> {
    let corrupt = |why: String| StoreError::Corrupt { file: name.to_owned(), why };
    if Path::new(name).components().count() != 1 || !name.ends_with(".zst") {
        return Err(corrupt("it is not the name of a segment file".to_owned()));
    }
    let mut file = folder::open_read(&folder.join(name)).map_err(|error| missing(name, &error))?;
    let what = || format!("read {name}");
    file.seek(SeekFrom::Start(frame.offset)).map_err(|error| failed(what(), &error))?;
    let mut stored = Vec::new();
    file.take(frame.stored).read_to_end(&mut stored).map_err(|error| failed(what(), &error))?;
    if (stored.len() as u64) < frame.stored {
        return Err(corrupt(format!("cut at byte {}", frame.offset + stored.len() as u64)));
    }
    if blake3::hash(&stored).to_hex().as_str() != frame.hash {
        return Err(corrupt(format!("the segment at byte {} has another hash", frame.offset)));
    }
    if !decode {
        return Ok(stored.into());
    }
    segment::decode(&stored, frame.bytes)
        .map_err(|why| corrupt(format!("the segment at byte {}: {why}", frame.offset)))
}

fn missing(name: &str, error: &io::Error) -> StoreError {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "it is missing",
        io::ErrorKind::InvalidInput => "it is not a regular file",
        // What O_NOFOLLOW answers.
        _ if error.raw_os_error() == Some(Errno::ELOOP as i32) => "it is a symbolic link",
        _ => return failed(format!("open {name}"), error),
    };
    StoreError::Corrupt { file: name.to_owned(), why: why.to_owned() }
}

/// What a failed call means.
fn failed(what: String, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace { what },
        _ => StoreError::Io { what, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
