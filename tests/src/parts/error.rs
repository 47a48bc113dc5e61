//! What can keep a part from being had, and what to do about it.

use std::fmt;
use std::path::PathBuf;

/// Why a part is not to be had.
#[derive(Debug)]
pub enum Error {
    /// A program of the machine is missing.
    Missing {
        /// The program.
        program: &'static str,
        /// What it is needed for.
        needed_for: &'static str,
        /// What a person can do.
        remedy: &'static str,
    },
    /// A step ran and failed.
    Step {
        /// What was run, in words.
        what: String,
        /// Its last lines.
        evidence: String,
        /// What a person can do.
        remedy: &'static str,
    },
    /// A file or folder of the parts could not be used.
    Io {
        /// What was being done.
        doing: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A builder ended by panic; its own message stands above.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, needed_for, remedy } => {
                write!(f, "{program} is missing, needed for {needed_for}; {remedy}")
            }
            Self::Step { what, evidence, remedy } => {
                write!(f, "{what} failed; {remedy}")?;
                for line in evidence.lines() {
                    write!(f, "\n  | {line}")?;
                }
                Ok(())
            }
            Self::Io { doing, path, source } => write!(f, "{doing} {}: {source}", path.display()),
            Self::Interrupted => f.write_str("a builder of parts ended early"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
