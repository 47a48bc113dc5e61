//! Log files beneath the allowed folders: opened without following anything, identified, watched by inotify.

mod beneath;
mod watch;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
/// How often neighbours are looked at again because they were renamed meanwhile.
const MOST_AGAIN: u32 = 1_000;

/// Reads and follows logs. Nothing runs until someone follows.
pub struct LogFiles {
    folders: Arc<Folders>,
    watches: Watches,
}

impl LogFiles {
    /// Logs beneath these folders, absolute paths; nothing else is ever opened.
    #[must_use]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        let folders = Arc::new(Folders::new(folders));
        Self { watches: Watches::new(Arc::clone(&folders)), folders }
    }
}

impl LogSource for LogFiles {
    fn chain(&self, log: &Path) -> Result<Vec<Link>, LogFault> {
        // What is looked at one after the other may be renamed in between; then it is looked at again.
        let mut chain = Vec::new();
        for _ in 0..4 {
            chain = chain_once(&self.folders, log)?;
            let before = chain.first().filter(|link| link.index == 0).map(|link| link.facts.id);
            let after = current(&self.folders, log)?.map(|facts| facts.id);
            if before == after {
                break;
            }
        }
        // Rotation moves a file upwards, as we look: where it was seen last is where it is.
        let mut seen = HashSet::new();
        chain.reverse();
        chain.retain(|link| seen.insert(link.facts.id));
        chain.reverse();
        Ok(chain)
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

fn chain_once(folders: &Folders, log: &Path) -> Result<Vec<Link>, LogFault> {
    let mut chain = Vec::new();
    if let Some(facts) = current(folders, log)? {
        chain.push(Link { index: 0, facts });
    }
    let mut holes = 0;
    let mut below = chain.first().map(|link| link.facts.id);
    let mut index = 1;
    let mut again = 0;
    // Upwards, as rotation moves files: what is there all the while is never missed.
    while index <= MOST_ROTATED && holes < HOLES {
        let here = member_facts(folders, log, index)?;
        // Two files are neighbours only if the lower one is still there after the upper one was looked at; else a
        // younger file may stand where an older one was.
        let still = member_facts(folders, log, index - 1)?.map(|facts| facts.id);
        if still != below && again < MOST_AGAIN {
            again += 1;
            chain.retain(|link| link.index + 1 != index);
            let facts = member_facts(folders, log, index - 1)?;
            below = facts.map(|facts| facts.id);
            chain.extend(facts.map(|facts| Link { index: index - 1, facts }));
            continue;
        }
        holes = if here.is_some() { 0 } else { holes + 1 };
        below = here.map(|facts| facts.id);
        chain.extend(here.map(|facts| Link { index, facts }));
        index += 1;
    }
    Ok(chain)
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

fn current(folders: &Folders, log: &Path) -> Result<Option<FileFacts>, LogFault> {
    match look(folders, log) {
        Ok(facts) => Ok(Some(facts)),
        Err(LogFault::Missing) => Ok(None),
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
