//! Reads and counted denials: two files that take turns, best effort.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ops_domain::ports::AuditEntry;
use serde::Serialize;

/// Half of the ring is the file that is written, half the one before.
#[derive(Debug)]
pub(super) struct Ring {
    current: PathBuf,
    before: PathBuf,
    half: u64,
    file: Option<File>,
    written: u64,
}

#[derive(Serialize)]
struct Noted<'a> {
    ts: Timestamp,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

impl Ring {
    pub(super) fn new(folder: &Path, bytes: u64) -> Self {
        let current = folder.join("access.jsonl");
        let written = fs::metadata(&current).map_or(0, |found| found.len());
        let before = folder.join("access.1.jsonl");
        Self { current, before, half: (bytes / 2).max(1), file: None, written }
    }

    /// Writes one line, or nothing: whoever reads the ring knows that it has holes.
    pub(super) fn note(&mut self, entry: &AuditEntry, now: Timestamp) {
        let Ok(mut line) = serde_json::to_vec(&Noted { ts: now, entry }) else { return };
        line.push(b'\n');
        if self.written + line.len() as u64 > self.half {
            self.file = None;
            drop(fs::rename(&self.current, &self.before));
            self.written = 0;
        }
        if self.file.is_none() {
            self.file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.current).ok();
        }
        if let Some(file) = &mut self.file {
            match file.write_all(&line) {
                Ok(()) => self.written += line.len() as u64,
                Err(_) => self.file = None,
            }
        }
    }
}
