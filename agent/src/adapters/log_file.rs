//! Log files beneath the allowed folders: opened without following anything, identified, watched by inotify.

mod beneath;
mod watch;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use ops_domain::ports::log_source::Changes;
use ops_domain::ports::{FileFacts, FileId, Link, LogFault, LogFile, LogSource};

use beneath::Folders;
use watch::Watches;

/// The most rotated files of a log that are looked at.
const MOST_ROTATED: u32 = 10_000;
/// A rotation moves one file at a time, so this many missing numbers in a row are the end of the chain.
const HOLES: u32 = 3;
/// Reads and follows logs. Nothing runs until someone follows.
pub struct LogFiles {
    folders: Folders,
    watches: Watches,
}

impl LogFiles {
    /// Logs beneath these folders, absolute paths; nothing else is ever opened.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let folders = Folders::new(folders);
        Self { watches: Watches::new(), folders }
    }
}

impl LogSource for LogFiles {
    fn chain_to(&self, log: &Path, enough: &dyn Fn(FileId) -> bool) -> Result<Vec<Link>, LogFault> {
        let mut chain = Vec::new();
        let mut holes = 0;
        // Upwards, as rotation moves files: what is there all the while is never missed, and what is older than it
        // is met after it.
        for index in 0..=MOST_ROTATED {
            match member_facts(&self.folders, log, index)? {
                Some(facts) => {
                    holes = 0;
                    chain.push(Link { index, facts });
                    if enough(facts.id) {
                        break;
                    }
                }
                None if index > 0 => holes += 1,
                None => {}
            }
            if holes == HOLES {
                break;
            }
        }
        // A file that was met again was moved as we looked: where it was seen last is where it is.
        let mut seen = HashSet::new();
        chain.reverse();
        chain.retain(|link: &Link| seen.insert(link.facts.id));
        chain.reverse();
        Ok(chain)
    }

    fn catch_up(&self) {
        self.watches.catch_up();
    }

    fn open(&self, log: &Path, index: u32) -> Result<Box<dyn LogFile>, LogFault> {
        // Without O_NONBLOCK the open of a FIFO waits for a writer; on a regular file it changes nothing.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self.folders.open(&member(log, index), flags)?;
        facts(&file)?;
        Ok(Box::new(Open(file)))
    }

    fn changes(&self, log: &Path) -> Result<Changes, LogFault> {
        self.watches.follow(log)
    }
}

struct Open(File);

impl LogFile for Open {
    fn facts(&self) -> Result<FileFacts, LogFault> {
        facts(&self.0)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, LogFault> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.0.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        Ok(filled)
    }
}

/// `x.log` and 2 is `x.log.2`.
fn member(log: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return log.to_owned();
    }
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{index}"));
    PathBuf::from(name)
}

/// What may not be read as a log is no member of its chain; the log's own name says why.
fn member_facts(folders: &Folders, log: &Path, index: u32) -> Result<Option<FileFacts>, LogFault> {
    match look(folders, &member(log, index)) {
        Ok(facts) => Ok(Some(facts)),
        Err(LogFault::Missing) => Ok(None),
        Err(LogFault::Refused(_)) if index > 0 => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// A file's facts without opening it for reading, so that the right to read is not asked for.
fn look(folders: &Folders, path: &Path) -> Result<FileFacts, LogFault> {
    facts(&folders.open(path, OFlag::O_PATH)?)
}

/// Regular files only.
fn facts(file: &File) -> Result<FileFacts, LogFault> {
    let data = file.metadata().map_err(|error| failed(&error))?;
    if !data.is_file() {
        return Err(LogFault::Refused("it is not a regular file".to_owned()));
    }
    let born = data.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let modified = i32::try_from(data.mtime_nsec()).ok();
    let modified = modified.and_then(|nanos| Timestamp::new(data.mtime(), nanos).ok()).unwrap_or_default();
    Ok(FileFacts {
        id: FileId {
            device: data.dev(),
            inode: data.ino(),
            born: born.and_then(|age| u64::try_from(age.as_nanos()).ok()).unwrap_or(0),
        },
        size: data.size(),
        modified,
    })
}

fn failed(error: &std::io::Error) -> LogFault {
    // The system's own words, without "(os error 5)".
    let words = error.raw_os_error().map(|code| Errno::from_raw(code).desc().to_lowercase());
    LogFault::Failed(words.unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests;
