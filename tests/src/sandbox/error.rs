//! What can keep a sandbox from standing.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::parts;
use crate::patience::TimedOut;

/// Why a sandbox does not stand.
#[derive(Debug)]
pub enum Error {
    /// A part is not to be had.
    Parts(parts::Error),
    /// Something did not get ready in time; with the last lines of its log.
    NotReady {
        /// What was waited for.
        waited: TimedOut,
        /// Last lines of the log that should tell why.
        log: String,
    },
    /// A program of the sandbox failed.
    Failed {
        /// Which, and what it was to do.
        what: String,
        /// What it said.
        evidence: String,
    },
    /// The folder cannot be used.
    Folder {
        /// The folder.
        dir: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A file or process of the sandbox could not be used.
    Io {
        /// What was being done.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was being done.
    pub(super) fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = what.into();
        move |source| Self::Io { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parts(error) => error.fmt(f),
            Self::NotReady { waited, log } => quote(f, &waited.to_string(), log),
            Self::Failed { what, evidence } => quote(f, &format!("{what} failed"), evidence),
            Self::Folder { dir, why } => write!(f, "{}: {why}", dir.display()),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, sentence: &str, evidence: &str) -> fmt::Result {
    f.write_str(sentence)?;
    evidence.lines().try_for_each(|line| write!(f, "\n  | {line}"))
}

impl std::error::Error for Error {}

impl From<parts::Error> for Error {
    fn from(error: parts::Error) -> Self {
        Self::Parts(error)
    }
}
