//! Logs, read from their files: last lines, following through every rotation, cursors, masks.
//!
//! Nothing is lost and nothing comes twice; where bytes left the disk before they were read, the gap is declared.

pub mod cursor;
pub mod excerpt;
pub mod lines;
pub mod mask;
pub mod places;
mod reader;
mod tail;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::access::{Permission, Principal, Scope, authorize};
use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::ports::{AuditLog, Clock, LogFault, LogSource};

pub use cursor::{Cursor, CursorKey};
pub use places::{Logged, Places};
pub use tail::Tail;

/// The most last lines that one may ask for.
pub const MAX_LINES: u32 = 100_000;
/// How many may follow one file.
const MAX_FOLLOWERS: usize = 1024;
/// How many streams one subject may have.
const MAX_STREAMS: usize = 64;

/// Which of a service's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

impl Stream {
    /// `out`, `err`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Out => "out",
            Stream::Err => "err",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stream of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    /// The service.
    pub service: ServiceName,
    /// Its stream.
    pub stream: Stream,
}

/// A source and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Which.
    pub id: SourceId,
    /// Its file; empty when there is none.
    pub path: PathBuf,
    /// Bytes of the current file.
    pub size: u64,
    /// Its last write; `None`: it is not there.
    pub modified: Option<Timestamp>,
    /// Rotated files beside it.
    pub rotated: u32,
    /// Why it cannot be read; `None`: it can.
    pub unreadable: Option<Error>,
}

/// What to read.
#[derive(Clone, Debug)]
pub struct TailRequest {
    /// Of these services; empty: of all that the caller may read, or those of the cursor.
    pub services: Vec<ServiceName>,
    /// One stream; `None`: both.
    pub stream: Option<Stream>,
    /// Where to begin.
    pub from: Begin,
    /// Go on when the end is reached.
    pub follow: bool,
    /// A cursor to end at.
    pub until: Option<String>,
    /// Stay at the newest line when the reader is slow.
    pub skip_on_lag: bool,
    /// Without masks.
    pub raw: bool,
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The last lines of each source.
    Last(u32),
    /// The beginning of the current files.
    Start,
    /// Where an earlier answer ended.
    Cursor(String),
}

/// A line, or a piece of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its bytes without the line feed, masked unless raw.
    pub text: Vec<u8>,
    /// Offset of its first byte in its file.
    pub offset: u64,
    /// It goes on in the next one, or its end was not written yet.
    pub continues: bool,
    /// Something in it was masked.
    pub masked: bool,
}

/// What happened between lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Said first: all sources, and which of them cannot be read.
    Start(Vec<SourceFile>),
    /// The log went on in a new file.
    Rotated,
    /// The file was cut, and begins anew.
    Truncated,
    /// Bytes that could not be had, or were skipped.
    Gap {
        /// More may be missing than `bytes`.
        at_least: bool,
    },
    /// The end that was asked for, or the longest time of a stream; go on by cursor.
    End,
}

/// A notice with its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub kind: NoticeKind,
    /// When it was noticed.
    pub at: Timestamp,
    /// One line for people, without the time.
    pub text: String,
    /// Bytes of a gap; 0: not known.
    pub bytes: u64,
    /// Lines of a gap, or lines of the files at the start; `None`: not countable.
    pub lines: Option<u64>,
}

/// Whole lines of one source in order, then perhaps a notice, then where to go on after both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Whose; `None`: about all of them.
    pub source: Option<SourceId>,
    /// The lines.
    pub lines: Vec<Line>,
    /// What happened after them.
    pub notice: Option<Notice>,
    /// Where to go on, for all sources.
    pub cursor: String,
}

/// All logs of this agent.
pub struct Logs {
    ports: Ports,
    places: Places,
    key: CursorKey,
    closing: CancellationToken,
    used: Arc<Used>,
}

/// What logs are read with.
#[derive(Clone)]
pub struct Ports {
    /// The files.
    pub files: Arc<dyn LogSource>,
    /// Where raw reading is written down.
    pub audit: Arc<dyn AuditLog>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Used(Mutex<HashMap<String, usize>>);

/// One of a limited number; given back when dropped.
struct Permit {
    used: Arc<Used>,
    name: String,
}

impl Used {
    fn take(self: &Arc<Self>, name: String, most: usize) -> Option<Permit> {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = used.entry(name.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Permit { used: Arc::clone(self), name })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.used.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = used.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.name);
            }
        }
    }
}

impl Logs {
    /// Logs at these places.
    #[must_use]
    pub fn new(ports: Ports, places: Places, key: CursorKey) -> Self {
        Self { ports, places, key, closing: CancellationToken::new(), used: Arc::default() }
    }

    /// Ends every open stream with `SHUTTING_DOWN`; each of them has told its reader where to go on.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// The files of these services, of all that the caller may read when none is named; also those that cannot be
    /// read, with the reason.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `SERVICE_NOT_FOUND`, `SUPERVISOR_UNREACHABLE`.
    pub async fn sources(&self, principal: &Principal, services: &[ServiceName]) -> Result<Vec<SourceFile>> {
        let services = self.allowed(principal, services, Permission::LogRead)?;
        let places = self.places.of(&services, None).await?;
        let files = Arc::clone(&self.ports.files);
        blocking(move || Ok(places.into_iter().map(|place| look(files.as_ref(), place)).collect())).await
    }

    /// Lines, as a stream. Raw reading is written down before its first byte is read, and again when it ends.
    ///
    /// # Errors
    /// As [`Logs::sources`]; `LOG_NOT_FOUND`, `LOG_UNREADABLE`, `LOG_REFUSED` when no source can be read;
    /// `CURSOR_INVALID`; `INVALID_ARGUMENT`; `LIMIT_EXCEEDED`; `AUDIT_UNAVAILABLE` for raw.
    pub async fn tail(&self, principal: &Principal, request: TailRequest) -> Result<Tail> {
        tail::open(self, principal, request).await
    }

    fn allowed(
        &self,
        principal: &Principal,
        services: &[ServiceName],
        permission: Permission,
    ) -> Result<Vec<ServiceName>> {
        authorize(principal, permission, Scope::Services(services))?;
        self.places.known(services, principal)?;
        if services.is_empty() { Ok(self.places.all(principal)) } else { Ok(services.to_vec()) }
    }
}

fn look(files: &dyn LogSource, place: places::Place) -> SourceFile {
    let mut file = SourceFile {
        id: place.source,
        path: PathBuf::new(),
        size: 0,
        modified: None,
        rotated: 0,
        unreadable: None,
    };
    match place.path {
        Ok(path) => file.path = path,
        Err(error) => {
            file.unreadable = Some(error);
            return file;
        }
    }
    let looked = files.chain(&file.path).and_then(|chain| {
        if let Some(current) = chain.first().filter(|link| link.index == 0) {
            file.size = current.facts.size;
            file.modified = Some(current.facts.modified);
        }
        file.rotated = u32::try_from(chain.iter().filter(|link| link.index > 0).count()).unwrap_or(u32::MAX);
        match files.open(&file.path, 0) {
            // Between two steps of a rotation.
            Err(LogFault::Missing) if !chain.is_empty() => Ok(()),
            opened => opened.map(drop),
        }
    });
    file.unreadable = looked.err().map(|fault| refusal(&file.id, &file.path, fault));
    file
}

/// What a person is told about a file that cannot be read.
fn refusal(source: &SourceId, path: &Path, fault: LogFault) -> Error {
    let shown: String = path.to_string_lossy().chars().flat_map(char::escape_debug).collect();
    let (service, stream) = (&source.service, source.stream);
    let error = match fault {
        LogFault::Missing => {
            Error::new(Reason::LogNotFound, format!("the {stream} log of {service} is not there: {shown}"))
                .fact("hint", "it is made when the program is started for the first time")
                .next(&["opsctl", "service", "get", service.as_str()])
        }
        LogFault::Denied => Error::new(
            Reason::LogUnreadable,
            format!("the {stream} log of {service} cannot be read: permission denied for the agent's user: {shown}"),
        )
        .fact("hint", format!("on the agent's host, as root: setfacl -m u:opsd:r {shown}")),
        LogFault::Refused(why) => {
            Error::new(Reason::LogRefused, format!("the {stream} log of {service} is not read: {why}"))
                .fact("path", shown)
                .fact("hint", "logs are regular files beneath the `folders` of [log] in opsd.toml")
        }
        LogFault::Failed(why) => {
            Error::new(Reason::LogUnreadable, format!("the {stream} log of {service} cannot be read: {why}: {shown}"))
        }
    };
    error.about(service).next(&["opsctl", "log", "sources", service.as_str()])
}

/// Runs what blocks for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::new(Reason::Internal, "reading a log failed inside the agent")))
}

#[cfg(test)]
mod tests;
