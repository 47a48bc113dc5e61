//! A backup being written.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use ops_domain::ports::backup_store::{Frame, Staging, StoreError};

use super::step::{Step, Steps};
use super::{COPY, MANIFEST, failed, folder, read_segment, segment};

/// `ID.partial`, and the lock of the store.
pub(super) struct StagingDir {
    /// Taken out while a blocking task works on it.
    work: Option<Work>,
}

struct Work {
    partial: PathBuf,
    published: PathBuf,
    parent: PathBuf,
    open: Option<(String, File, u64)>,
    steps: Arc<dyn Steps>,
    _lock: File,
}

impl StagingDir {
    pub(super) fn begin(
        partial: PathBuf,
        published: PathBuf,
        parent: PathBuf,
        lock: File,
        steps: Arc<dyn Steps>,
    ) -> Result<Self, StoreError> {
        let work = Work { partial, published, parent, open: None, steps, _lock: lock };
        let what = || format!("make {}", work.partial.display());
        work.step(Step::MakeFolder, what(), || DirBuilder::new().mode(0o700).create(&work.partial))?;
        Ok(Self { work: Some(work) })
    }

    async fn blocking<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut Work) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Io {
            what: "write a backup".to_owned(),
            detail: "an earlier step of it was torn".to_owned(),
        };
        let mut work = self.work.take().ok_or_else(gone)?;
        let (work, result) = tokio::task::spawn_blocking(move || {
            let result = step(&mut work);
            (work, result)
        })
        .await
        .map_err(|_| gone())?;
        self.work = Some(work);
        result
    }
}

impl Work {
    fn step<T>(
        &self,
        step: Step,
        what: String,
        call: impl FnOnce() -> std::io::Result<T>,
    ) -> Result<T, StoreError> {
        self.steps.before(&step).and_then(|()| call()).map_err(|error| failed(what, &error))
    }

    fn write(&self, mut file: &File, bytes: &[u8], what: String) -> Result<(), StoreError> {
        if let Some(through) = self.steps.torn(bytes.len()) {
            // What a full disk leaves behind: the beginning.
            let _ = file.write_all(&bytes[..through.min(bytes.len())]);
        }
        self.step(Step::Write(bytes.len()), what, || file.write_all(bytes))
    }

    fn open(&mut self, name: &str) -> Result<(), StoreError> {
        let what = format!("make {name}");
        if let Some((open, file, length)) = &mut self.open
            && open == name
        {
            *length = 0;
            return file.set_len(0).and_then(|()| file.rewind()).map_err(|error| failed(what, &error));
        }
        let path = self.partial.join(name);
        let file = self.step(Step::MakeFile, what, || folder::make(&path))?;
        self.open = Some((name.to_owned(), file, 0));
        Ok(())
    }

    fn append(&mut self, documents: &[u8]) -> Result<Frame, StoreError> {
        let Some((name, file, offset)) = &self.open else {
            let detail = "no file is open".to_owned();
            return Err(StoreError::Io { what: "append a segment".to_owned(), detail });
        };
        let what = format!("write {name}");
        let stored =
            segment::encode(documents).map_err(|error| failed(format!("compress {name}"), &error))?;
        self.write(file, &stored, what)?;
        let frame = Frame {
            offset: *offset,
            bytes: documents.len() as u64,
            stored: stored.len() as u64,
            hash: blake3::hash(&stored).to_hex().to_string(),
        };
        if let Some((_, _, offset)) = &mut self.open {
            *offset += frame.stored;
        }
        Ok(frame)
    }

    fn close(&mut self) -> Result<(), StoreError> {
        let Some((name, file, _)) = self.open.take() else { return Ok(()) };
        self.sync(&name, &file)
    }

    /// Durable, and never written again.
    fn sync(&self, name: &str, file: &File) -> Result<(), StoreError> {
        self.step(Step::Protect, format!("protect {name}"), || {
            file.set_permissions(Permissions::from_mode(0o440))
        })?;
        // A second try after a failed fsync would say yes to pages that are lost, so there is none.
        self.step(Step::SyncFile, format!("sync {name}"), || file.sync_all())
    }

    fn sync_folder(&self, folder: &Path) -> Result<(), StoreError> {
        let what = format!("sync {}", folder.display());
        self.step(Step::SyncFolder, what, || File::open(folder)?.sync_all())
    }

    fn seal(&mut self, manifest: &[u8]) -> Result<(), StoreError> {
        if let Some((name, file, _)) = self.open.take() {
            drop(file);
            fs::remove_file(self.partial.join(&name))
                .map_err(|error| failed(format!("remove {name}"), &error))?;
        }
        self.sync_folder(&self.partial)?;
        let hash = blake3::hash(manifest).to_hex();
        let copy = [hash.as_bytes(), b"\n", manifest].concat();
        for (name, bytes) in [(COPY, &copy[..]), (MANIFEST, manifest)] {
            let path = self.partial.join(name);
            let file = self.step(Step::MakeFile, format!("make {name}"), || folder::make(&path))?;
            self.write(&file, bytes, format!("write {name}"))?;
            self.sync(name, &file)?;
            self.sync_folder(&self.partial)?;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<(), StoreError> {
        let what = || format!("name {}", self.published.display());
        // A rename would silently take the place of an empty folder of this name.
        if self.published.symlink_metadata().is_ok() {
            return Err(StoreError::Io { what: what(), detail: "the name is taken".to_owned() });
        }
        self.step(Step::Rename, what(), || fs::rename(&self.partial, &self.published))?;
        let synced = self.sync_folder(&self.parent);
        if synced.is_err() {
            // Without its parent's fsync the name may not outlive a power cut: take it back and say so.
            let _ = fs::rename(&self.published, &self.partial);
        }
        synced
    }
}

#[async_trait]
impl Staging for StagingDir {
    async fn open(&mut self, file: &str) -> Result<(), StoreError> {
        let file = file.to_owned();
        self.blocking(move |work| work.open(&file)).await
    }

    async fn append(&mut self, documents: Bytes) -> Result<Frame, StoreError> {
        self.blocking(move |work| work.append(&documents)).await
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        self.blocking(Work::close).await
    }

    async fn read_back(&mut self, file: &str, frame: &Frame) -> Result<Bytes, StoreError> {
        let (file, frame) = (file.to_owned(), frame.clone());
        self.blocking(move |work| read_segment(&work.partial, &file, &frame, true)).await
    }

    async fn seal(&mut self, manifest: &[u8]) -> Result<(), StoreError> {
        let manifest = manifest.to_vec();
        self.blocking(move |work| work.seal(&manifest)).await
    }

    async fn publish(mut self: Box<Self>) -> Result<(), StoreError> {
        self.blocking(Work::publish).await
    }
}
