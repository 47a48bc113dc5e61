//! The audit trail as a file: one thread owns it, appends, syncs, signs.
//!
//! | file in the folder | what it is |
//! | --- | --- |
//! | `trail.jsonl` | the chain of [`ops_trust::audit`] |
//! | `epoch-N.key` | the key of the epoch that is open; erased once its checkpoint is on disk |
//! | `access.jsonl`, `access.1.jsonl` | the ring of reads and counted denials: best effort |
//! | `torn-*.bytes` | a last line that a crash tore, kept as it was found |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use ops_domain::ports::{AuditEntry, AuditLog};
use ops_domain::{Error, Reason, Result};
use ops_trust::key::PublicKey;
use tokio::sync::oneshot;

mod chain_file;
mod keys;
mod reader;
mod ring;
mod writer;

pub use chain_file::StartError;
pub use reader::TrailReader;

use writer::{Message, Writer};

/// When lines are signed, and how long one may take. See `[audit]` in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Per line.
    pub write_timeout: Duration,
    /// A checkpoint this long after a change's record.
    pub checkpoint_after_change: Duration,
    /// A checkpoint this long after any other record.
    pub checkpoint_after: Duration,
    /// A checkpoint after so many records.
    pub checkpoint_records: u64,
    /// Size of the ring, in bytes.
    pub access_bytes: u64,
}

/// Lines that may wait for the thread before callers are refused.
const WAITING: usize = 1_024;

/// The trail. Dropping it writes a last checkpoint when one is due.
#[derive(Debug)]
pub struct AuditFile {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    writable: Arc<AtomicBool>,
    path: PathBuf,
    write_timeout: Duration,
    root: PublicKey,
}

impl AuditFile {
    /// Opens the trail in `folder`, or begins it with the key that `opsd init` made: finds where the chain stands, finishes or discards a half-done change of keys, and
    /// sets a torn last line aside, which the trail then says.
    ///
    /// # Errors
    /// There is no trail, it is broken, or the key of its epoch is missing.
    pub fn open(folder: &Path, agent: &str, settings: Settings) -> Result<Self, StartError> {
        let chain = chain_file::ChainFile::open(folder, agent)?;
        let (path, root) = (chain.path().to_owned(), chain.root());
        let writable = Arc::new(AtomicBool::new(true));
        let (sender, receiver) = sync_channel(WAITING);
        let ring = ring::Ring::new(folder, settings.access_bytes);
        let writer = Writer::new(chain, ring, settings, Arc::clone(&writable));
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|source| StartError::Io { path: path.clone(), source })?;
        Ok(Self {
            sender: Some(sender),
            thread: Some(thread),
            writable,
            path,
            write_timeout: settings.write_timeout,
            root,
        })
    }

    /// The public half of the first key.
    #[must_use]
    pub fn root(&self) -> PublicKey {
        self.root
    }

    /// For those who read.
    #[must_use]
    pub fn reader(&self) -> TrailReader {
        TrailReader::new(&self.path)
    }

    fn send(&self, message: Message) -> Result<(), TrySendError<Message>> {
        match &self.sender {
            Some(sender) => sender.try_send(message),
            None => Err(TrySendError::Disconnected(message)),
        }
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::new(
            Reason::AuditUnavailable,
            format!("the audit trail cannot be written ({why}), so nothing is changed"),
        )
        .fact("file", self.path.display().to_string())
        .effect("nothing was done")
    }
}

#[async_trait]
impl AuditLog for AuditFile {
    async fn append(&self, entry: AuditEntry) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Append(Box::new(entry), reply)).map_err(|error| match error {
            TrySendError::Full(_) => self.unavailable("too many lines are waiting for the disk"),
            TrySendError::Disconnected(_) => self.unavailable("it has been closed"),
        })?;
        match tokio::time::timeout(self.write_timeout, answer).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(why))) => Err(self.unavailable(&why)),
            Ok(Err(_)) => Err(self.unavailable("it has been closed")),
            Err(_) => Err(self.unavailable(&format!("the disk took longer than {:?}", self.write_timeout))),
        }
    }

    fn note(&self, entry: AuditEntry) {
        // A full queue means that the disk is behind; a read that is not noted costs less than a caller who waits.
        drop(self.send(Message::Note(Box::new(entry))));
    }

    fn writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }
}

impl Drop for AuditFile {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests;
