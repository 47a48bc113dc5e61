//! Logs, read from their files: last lines, following through every rotation, cursors, masks.
//!
//! Nothing is lost and nothing comes twice; where bytes left the disk before they were read, the gap is declared.

pub mod cursor;
pub mod lines;
pub mod mask;
mod reader;

use std::fmt;

use crate::ids::ServiceName;

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
