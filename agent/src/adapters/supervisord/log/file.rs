//! The log's bytes: new lines since the last look, over renames and truncation, in bounded pieces.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What is read of the past: far more than a day of a quiet supervisord.
const BACKLOG: u64 = 8 * 1024 * 1024;
const LONGEST_LINE: usize = 4096;
const DAY: Duration = Duration::from_secs(26 * 3600);

/// What a look found.
pub(super) enum Look {
    /// Its new lines; it is still the file at the path.
    Same(Vec<String>),
    /// Its last lines; another file is at the path now, or none.
    Replaced(Vec<String>),
}

/// An open log.
pub(super) struct LogFile {
    file: File,
    offset: u64,
    rest: Vec<u8>,
    skipping: bool,
}

impl LogFile {
    /// Opens it at its beginning, or, the first time, not further back than the backlog.
    pub(super) fn open(path: &Path, first: bool) -> io::Result<Self> {
        let mut file = regular(path)?;
        let length = file.metadata()?.len();
        let offset = if first { length.saturating_sub(BACKLOG) } else { 0 };
        file.seek(SeekFrom::Start(offset))?;
        Ok(Self { file, offset, rest: Vec::new(), skipping: offset > 0 })
    }

    pub(super) fn look(&mut self, path: &Path) -> io::Result<Look> {
        // The path is asked first: what was written before it was renamed is then still read.
        let now = std::fs::metadata(path).ok().map(|there| (there.dev(), there.ino()));
        let here = self.file.metadata()?;
        if here.len() < self.offset {
            self.file.seek(SeekFrom::Start(0))?;
            (self.offset, self.skipping) = (0, false);
            self.rest.clear();
        }
        let lines = self.read()?;
        Ok(if now == Some((here.dev(), here.ino())) { Look::Same(lines) } else { Look::Replaced(lines) })
    }

    fn read(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let length = self.file.read(&mut piece)?;
            if length == 0 {
                return Ok(lines);
            }
            self.offset += length as u64;
            let mut bytes = &piece[..length];
            while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                self.rest.extend_from_slice(&bytes[..end]);
                if !self.skipping && self.rest.len() <= LONGEST_LINE {
                    lines.push(String::from_utf8_lossy(&self.rest).into_owned());
                }
                self.skipping = false;
                self.rest.clear();
                bytes = &bytes[end + 1..];
            }
            if self.rest.len() + bytes.len() > LONGEST_LINE {
                self.skipping = true;
                self.rest.clear();
            } else if !self.skipping {
                self.rest.extend_from_slice(bytes);
            }
        }
    }
}

/// The lines of `path.N` … `path.1` that may be younger than a day, a file each, oldest first.
pub(super) fn recent_backups(path: &Path) -> Vec<Vec<String>> {
    let mut left = BACKLOG;
    let mut files = Vec::new();
    for number in 1..=50 {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        let path = PathBuf::from(name);
        let Ok(about) = std::fs::metadata(&path) else { break };
        let young = about
            .modified()
            .is_ok_and(|at| SystemTime::now().duration_since(at).unwrap_or(Duration::ZERO) < DAY);
        if !young || about.len() > left {
            break;
        }
        left -= about.len();
        // What cannot be read ends the past here.
        let Ok(mut file) = LogFile::open(&path, true) else { break };
        let Ok(lines) = file.read() else { break };
        files.push(lines);
    }
    files.reverse();
    files
}

fn regular(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK a FIFO would hold the follower for ever.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits() | nix::fcntl::OFlag::O_CLOEXEC.bits())
        .open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}
