use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::ids::BackupId;
use crate::ports::backup_store::{BackupStore, Frame, Space, Staging, StoreError, StoredManifest};

type Files = BTreeMap<String, Vec<u8>>;

/// A store in memory; what it stores is not compressed. Clones share what is in it.
#[derive(Clone, Debug, Default)]
pub struct FakeStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    published: BTreeMap<BackupId, Files>,
    partial: BTreeMap<BackupId, Files>,
    used_up: u64,
}

impl FakeStore {
    /// How much of a GB is not free.
    pub fn use_up(&self, bytes: u64) {
        self.state().used_up = bytes;
    }

    /// Changes a stored file of a published backup.
    pub fn damage(&self, id: &BackupId, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(bytes) = self.state().published.get_mut(id).and_then(|files| files.get_mut(file)) {
            change(bytes);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(id: &BackupId) -> StoreError {
    StoreError::NotFound { id: id.to_string() }
}

fn segment(files: Option<&Files>, file: &str, frame: &Frame) -> Result<Bytes, StoreError> {
    let corrupt = |why: &str| StoreError::Corrupt { file: file.to_owned(), why: why.to_owned() };
    let bytes = files.and_then(|files| files.get(file)).ok_or_else(|| corrupt("it is missing"))?;
    let range = usize::try_from(frame.offset).ok().zip(usize::try_from(frame.stored).ok());
    let stored = range.and_then(|(from, length)| bytes.get(from..from + length));
    let stored = stored.ok_or_else(|| corrupt("it is cut"))?;
    if blake3::hash(stored).to_hex().as_str() != frame.hash {
        return Err(corrupt("a segment has another hash"));
    }
    Ok(Bytes::copy_from_slice(stored))
}

#[async_trait]
impl BackupStore for FakeStore {
    fn location(&self) -> String {
        "/backups".to_owned()
    }

    async fn space(&self) -> Result<Space, StoreError> {
        let total = 1_000_000_000;
        Ok(Space { free: total - self.state().used_up, total, reserve: 1000 })
    }

    async fn begin(&self, id: &BackupId) -> Result<Box<dyn Staging>, StoreError> {
        self.state().partial.insert(id.clone(), Files::new());
        Ok(Box::new(FakeStaging { store: self.clone(), id: id.clone(), open: String::new() }))
    }

    async fn list(&self) -> Result<Vec<BackupId>, StoreError> {
        Ok(self.state().published.keys().cloned().collect())
    }

    async fn partials(&self) -> Result<Vec<BackupId>, StoreError> {
        Ok(self.state().partial.keys().cloned().collect())
    }

    async fn discard(&self, id: &BackupId) -> Result<(), StoreError> {
        self.state().partial.remove(id);
        Ok(())
    }

    async fn manifest(&self, id: &BackupId) -> Result<StoredManifest, StoreError> {
        let state = self.state();
        let files = state.published.get(id).ok_or_else(|| not_found(id))?;
        let bytes = files.get("manifest.json").cloned().unwrap_or_default();
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let copy = files.get("manifest.copy").cloned().unwrap_or_default();
        Ok(StoredManifest { bytes: bytes.into(), hash, copy: copy.into() })
    }

    async fn files(&self, id: &BackupId) -> Result<Vec<(String, u64)>, StoreError> {
        let state = self.state();
        let files = state.published.get(id).ok_or_else(|| not_found(id))?;
        Ok(files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    async fn segment(
        &self,
        id: &BackupId,
        file: &str,
        frame: &Frame,
        _decode: bool,
    ) -> Result<Bytes, StoreError> {
        segment(self.state().published.get(id), file, frame)
    }
}

struct FakeStaging {
    store: FakeStore,
    id: BackupId,
    open: String,
}

impl FakeStaging {
    fn write(&self, file: &str, bytes: Vec<u8>) {
        if let Some(files) = self.store.state().partial.get_mut(&self.id) {
            files.insert(file.to_owned(), bytes);
        }
    }
}

#[async_trait]
impl Staging for FakeStaging {
    async fn open(&mut self, file: &str) -> Result<(), StoreError> {
        file.clone_into(&mut self.open);
        self.write(file, Vec::new());
        Ok(())
    }

    async fn append(&mut self, documents: Bytes) -> Result<Frame, StoreError> {
        let mut state = self.store.state();
        let file = state.partial.get_mut(&self.id).and_then(|files| files.get_mut(&self.open));
        let Some(file) = file else { return Err(not_found(&self.id)) };
        let frame = Frame {
            offset: file.len() as u64,
            bytes: documents.len() as u64,
            stored: documents.len() as u64,
            hash: blake3::hash(&documents).to_hex().to_string(),
        };
        file.extend_from_slice(&documents);
        Ok(frame)
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        self.open.clear();
        Ok(())
    }

    async fn read_back(&mut self, file: &str, frame: &Frame) -> Result<Bytes, StoreError> {
        segment(self.store.state().partial.get(&self.id), file, frame)
    }

    async fn seal(&mut self, manifest: &[u8]) -> Result<(), StoreError> {
        let hash = blake3::hash(manifest).to_hex();
        self.write("manifest.copy", [hash.as_bytes(), b"\n", manifest].concat());
        self.write("manifest.json", manifest.to_vec());
        Ok(())
    }

    async fn publish(self: Box<Self>) -> Result<(), StoreError> {
        let mut state = self.store.state();
        let files = state.partial.remove(&self.id).ok_or_else(|| not_found(&self.id))?;
        state.published.insert(self.id, files);
        Ok(())
    }
}
