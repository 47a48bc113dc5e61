use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::ports::log_source::{Changes, LogFault, Names};
use crate::ports::{FileFacts, FileId, Link, LogFile, LogSource};

/// One log and its rotated files in memory, whatever path is asked for. Each change is one tick later.
pub struct FakeLog {
    state: Mutex<Folder>,
    data: watch::Sender<u64>,
    names: watch::Sender<Names>,
}

#[derive(Default)]
struct Folder {
    files: BTreeMap<u32, Arc<Node>>,
    freed: Vec<u64>,
    inodes: u64,
    ticks: u64,
    fault: Option<LogFault>,
}

struct Node {
    id: FileId,
    content: Mutex<(Vec<u8>, u64)>,
}

impl Default for FakeLog {
    fn default() -> Self {
        let log = Self {
            state: Mutex::default(),
            data: watch::Sender::new(0),
            names: watch::Sender::new(Names::default()),
        };
        log.create();
        log
    }
}

impl FakeLog {
    /// A log with nothing in it.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Writes at the end of the current file.
    pub fn append(&self, bytes: &[u8]) {
        let mut folder = self.folder();
        folder.ticks += 1;
        if let Some(node) = folder.files.get(&0) {
            let mut content = node.content();
            content.0.extend_from_slice(bytes);
            content.1 = folder.ticks;
        }
        drop(folder);
        self.data.send_modify(|count| *count += 1);
    }

    /// As supervisord does: older files shift, the current becomes `.1`, a new one is made; `keep` rotated remain.
    pub fn rotate(&self, keep: u32) {
        self.shift(keep);
        self.create();
    }

    /// As logrotate's copytruncate.
    pub fn copytruncate(&self, keep: u32) {
        let mut folder = self.folder();
        let Some(current) = folder.files.remove(&0) else { return };
        folder.shift(keep);
        let (bytes, _) = current.content().clone();
        let copy = folder.node();
        copy.content().0 = bytes;
        if keep > 0 {
            folder.files.insert(1, copy);
        }
        let tick = folder.ticks;
        *current.content() = (Vec::new(), tick);
        folder.files.insert(0, current);
        drop(folder);
        self.names.send_modify(|names| {
            names.changes += 1;
            names.born += u64::from(keep > 0);
            names.copied += u64::from(keep > 0);
        });
        self.data.send_modify(|count| *count += 1);
    }

    /// Cuts the current file to nothing, without a copy.
    pub fn truncate(&self) {
        let folder = self.folder();
        if let Some(node) = folder.files.get(&0) {
            node.content().0.clear();
        }
        drop(folder);
        self.data.send_modify(|count| *count += 1);
    }

    /// Removes the current file. Its inode is given to the next one.
    pub fn delete(&self) {
        let mut folder = self.folder();
        if let Some(node) = folder.files.remove(&0) {
            folder.free(node);
        }
        drop(folder);
        self.names.send_modify(|names| names.changes += 1);
    }

    /// Makes a new current file.
    pub fn create(&self) {
        let mut folder = self.folder();
        let node = folder.node();
        folder.files.insert(0, node);
        drop(folder);
        self.names.send_modify(|names| {
            names.changes += 1;
            names.born += 1;
        });
    }

    /// Everything fails from now on.
    pub fn fail(&self, fault: LogFault) {
        self.folder().fault = Some(fault);
        self.data.send_modify(|count| *count += 1);
    }

    fn shift(&self, keep: u32) {
        self.folder().shift(keep);
        self.names.send_modify(|names| names.changes += 1);
    }

    fn folder(&self) -> MutexGuard<'_, Folder> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    fn node(&mut self) -> Arc<Node> {
        self.ticks += 1;
        let inode = self.freed.pop().unwrap_or_else(|| {
            self.inodes += 1;
            self.inodes
        });
        let id = FileId { device: 1, inode, born: self.ticks };
        Arc::new(Node { id, content: Mutex::new((Vec::new(), self.ticks)) })
    }

    fn shift(&mut self, keep: u32) {
        let files = std::mem::take(&mut self.files);
        for (index, node) in files {
            if index < keep {
                self.files.insert(index + 1, node);
            } else {
                self.free(node);
            }
        }
    }

    /// An inode is free when nobody holds the file open.
    fn free(&mut self, node: Arc<Node>) {
        if Arc::strong_count(&node) == 1 {
            self.freed.push(node.id.inode);
        }
    }
}

impl Node {
    fn content(&self) -> MutexGuard<'_, (Vec<u8>, u64)> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> FileFacts {
        let content = self.content();
        let modified = Timestamp::from_microsecond(i64::try_from(content.1).unwrap_or(0)).unwrap_or_default();
        FileFacts { id: self.id, size: content.0.len() as u64, modified }
    }
}

struct Open(Arc<Node>);

impl LogFile for Open {
    fn facts(&self) -> Result<FileFacts, LogFault> {
        Ok(self.0.facts())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, LogFault> {
        let content = self.0.content();
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.0.len());
        let count = buffer.len().min(content.0.len() - from);
        buffer[..count].copy_from_slice(&content.0[from..from + count]);
        Ok(count)
    }
}

impl LogSource for FakeLog {
    fn chain_to(&self, _log: &Path, enough: &dyn Fn(FileId) -> bool) -> Result<Vec<Link>, LogFault> {
        let folder = self.folder();
        if let Some(fault) = &folder.fault {
            return Err(fault.clone());
        }
        let mut chain: Vec<Link> =
            folder.files.iter().map(|(index, node)| Link { index: *index, facts: node.facts() }).collect();
        if let Some(last) = chain.iter().position(|link| enough(link.facts.id)) {
            chain.truncate(last + 1);
        }
        Ok(chain)
    }

    fn catch_up(&self) {}

    fn open(&self, _log: &Path, index: u32) -> Result<Box<dyn LogFile>, LogFault> {
        let folder = self.folder();
        if let Some(fault) = &folder.fault {
            return Err(fault.clone());
        }
        let node = folder.files.get(&index).ok_or(LogFault::Missing)?;
        Ok(Box::new(Open(Arc::clone(node))))
    }

    fn changes(&self, _log: &Path) -> Result<Changes, LogFault> {
        Ok(Changes { data: self.data.subscribe(), names: self.names.subscribe(), guard: Box::new(()) })
    }
}
