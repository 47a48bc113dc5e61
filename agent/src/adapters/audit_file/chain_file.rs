//! The file itself: what is in it is a whole chain, or nothing more is written.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ops_trust::audit::{ChainWriter, Epoch, Moment, Prepared, Record, Stage, Verifier};
use ops_trust::key::PublicKey;

use super::keys;

const NAME: &str = "trail.jsonl";
/// How much of the end is looked at first for the last checkpoint; doubled until one is found.
const TAIL_BYTES: u64 = 1024 * 1024;

/// Why the trail could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is none.
    #[error("{path} is missing: no change could be written down; run: opsd init")]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Somebody changed it.
    #[error(
        "{path} is broken: {why}; keep it, find out who changed it, and put the last good copy in its place"
    )]
    Broken {
        /// The trail.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The key of the open epoch is missing or another.
    #[error("{path}: {why}; without it the trail cannot be signed")]
    Key {
        /// The key.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Line 0 of a new trail. Its key is that of `opsd init`; once a checkpoint stands, that key is gone, and so no trail
/// that was taken away is begun anew unseen.
fn begin(folder: &Path, path: &Path, agent: &str) -> Result<(), StartError> {
    let broken = |why: String| StartError::Broken { path: path.to_owned(), why };
    let epoch = keys::first(folder).map_err(|_| StartError::Missing { path: path.to_owned() })?;
    let line = ChainWriter::genesis(agent, &epoch, moment(Timestamp::now()))
        .map_err(|error| broken(error.to_string()))?;
    ops_trust::private_file::create(path, line.bytes()).map_err(|error| broken(error.to_string()))
}

/// `now` with what shows that the wall clock was moved.
pub(super) fn moment(now: Timestamp) -> Moment {
    let mono = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).unwrap_or(0)
    });
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Moment { ts: now, mono_ns: mono, boot_id: boot_id.trim().to_owned() }
}

/// An open trail.
#[derive(Debug)]
pub(super) struct ChainFile {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    /// Everything before is on disk and a whole chain.
    length: u64,
    chain: ChainWriter,
    epoch: Epoch,
    root: PublicKey,
    /// A write failed: the end of the file has to be put right before the next.
    dirty: bool,
}

impl ChainFile {
    pub(super) fn open(folder: &Path, agent: &str) -> Result<Self, StartError> {
        let path = folder.join(NAME);
        if let Err(error) = fs::symlink_metadata(&path)
            && error.kind() == std::io::ErrorKind::NotFound
        {
            begin(folder, &path, agent)?;
        }
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => StartError::Missing { path: path.clone() },
            _ => StartError::Io { path: path.clone(), source },
        };
        let found = fs::symlink_metadata(&path).map_err(io)?;
        if !found.is_file() {
            return Err(StartError::Broken { path, why: "it is not a regular file".to_owned() });
        }
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(io)?;
        let torn = set_torn_aside(folder, &path, &file)?;
        let length = file.metadata().map_err(io)?.len();
        let root = root(&mut file, &path)?;
        let chain = position(&mut file, &path, length)?;
        let epoch = keys::settle(folder, chain.epoch(), chain.key())?;
        let mut opened =
            Self { folder: folder.to_owned(), path, file, length, chain, epoch, root, dirty: false };
        if let Some((copy, bytes)) = torn {
            let mut record = Record::new(Stage::ChainBreak, moment(Timestamp::now()));
            record.reason = Some("a line at the end was torn and has been set aside".to_owned());
            record.params.insert("bytes".to_owned(), bytes.to_string());
            record.params.insert("kept_as".to_owned(), copy.display().to_string());
            tracing::warn!(kept_as = %copy.display(), bytes, "the audit trail ended in a torn line");
            opened.append(&record).map_err(|why| StartError::Broken { path: opened.path.clone(), why })?;
        }
        Ok(opened)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn root(&self) -> PublicKey {
        self.root
    }

    /// Appends a record; it is on disk when this returns.
    pub(super) fn append(&mut self, record: &Record) -> Result<(), String> {
        let line = self.chain.prepare(record).map_err(|error| error.to_string())?;
        self.write(line)
    }

    /// Signs everything so far and changes keys.
    pub(super) fn checkpoint(&mut self, now: Timestamp) -> Result<(), String> {
        let next = self.epoch.next().map_err(|error| error.to_string())?;
        keys::store(&self.folder, &next)?;
        let line = self
            .chain
            .prepare_checkpoint(moment(now), &self.epoch, &next.key.public())
            .map_err(|error| error.to_string())?;
        self.write(line)?;
        let old = std::mem::replace(&mut self.epoch, next);
        keys::erase(&self.folder, old.number).map_err(|error| error.to_string())
    }

    fn write(&mut self, line: Prepared) -> Result<(), String> {
        self.same_file()?;
        if self.dirty {
            // What a failed write may have left is no line of ours.
            self.file.set_len(self.length).map_err(|error| error.to_string())?;
            self.dirty = false;
        }
        let found = self.file.metadata().map_err(|error| error.to_string())?.len();
        if found != self.length {
            return Err(format!(
                "it has {found} bytes where {} were written: someone else writes it",
                self.length
            ));
        }
        self.dirty = true;
        self.file.write_all_at(line.bytes(), self.length).map_err(|error| error.to_string())?;
        self.file.sync_data().map_err(|error| error.to_string())?;
        self.dirty = false;
        self.length += line.bytes().len() as u64;
        self.chain.advance(line).map_err(|error| error.to_string())
    }

    /// Writing on into a file that was moved away would look like success.
    fn same_file(&self) -> Result<(), String> {
        let here = fs::symlink_metadata(&self.path).map_err(|error| error.to_string())?;
        let open = self.file.metadata().map_err(|error| error.to_string())?;
        if (here.dev(), here.ino()) == (open.dev(), open.ino()) {
            Ok(())
        } else {
            Err("another file stands in its place".to_owned())
        }
    }
}

/// Cuts a last line without newline off, into a file of its own.
fn set_torn_aside(folder: &Path, path: &Path, file: &File) -> Result<Option<(PathBuf, usize)>, StartError> {
    let io = |source| StartError::Io { path: path.to_owned(), source };
    let length = file.metadata().map_err(io)?.len();
    let window = length.min(ops_trust::audit::MAX_LINE_BYTES as u64 + 1);
    let mut tail = vec![0; usize::try_from(window).unwrap_or(0)];
    file.read_exact_at(&mut tail, length - window).map_err(io)?;
    let whole = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(last) if last + 1 == tail.len() => return Ok(None),
        Some(last) => last + 1,
        None => {
            return Err(StartError::Broken {
                path: path.to_owned(),
                why: "its end is not a line".to_owned(),
            });
        }
    };
    let torn = tail.get(whole..).unwrap_or_default();
    let start = length - torn.len() as u64;
    let copy = folder.join(format!("torn-{start}-{}.bytes", Timestamp::now().as_millisecond()));
    ops_trust::private_file::create(&copy, torn)
        .map_err(|error| StartError::Broken { path: copy.clone(), why: error.to_string() })?;
    file.set_len(start).and_then(|()| file.sync_all()).map_err(io)?;
    Ok(Some((copy, torn.len())))
}

/// The key that line 0 names.
fn root(file: &mut File, path: &Path) -> Result<PublicKey, StartError> {
    let broken = |why: &str| StartError::Broken { path: path.to_owned(), why: why.to_owned() };
    let mut first = vec![0; ops_trust::audit::MAX_LINE_BYTES];
    let read =
        file.read_at(&mut first, 0).map_err(|source| StartError::Io { path: path.to_owned(), source })?;
    let end =
        first.iter().take(read).position(|byte| *byte == b'\n').ok_or_else(|| broken("it has no line 0"))?;
    ops_trust::audit::Line::parse(first.get(..end).unwrap_or_default())
        .and_then(|line| line.record.genesis)
        .map(|genesis| genesis.audit_root)
        .ok_or_else(|| broken("line 0 names no key"))
}

/// Where the chain stands, from its last checkpoint on, or from line 0.
fn position(file: &mut File, path: &Path, length: u64) -> Result<ChainWriter, StartError> {
    let io = |source| StartError::Io { path: path.to_owned(), source };
    let broken = |why: String| StartError::Broken { path: path.to_owned(), why };
    let mut window = TAIL_BYTES;
    let start = loop {
        let from = length.saturating_sub(window);
        if from == 0 {
            break 0;
        }
        let mut tail = vec![0; usize::try_from(window).unwrap_or(0)];
        file.read_exact_at(&mut tail, from).map_err(io)?;
        if let Some(at) = last_checkpoint(&tail) {
            break from + at as u64;
        }
        window = window.saturating_mul(2);
    };
    file.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut verifier = if start == 0 { Verifier::new(None) } else { Verifier::of_tail() };
    let reader = BufReader::new(Read::by_ref(file).take(length - start));
    verifier.read(reader).map_err(io)?.map_err(|error| broken(error.to_string()))?;
    verifier.position().ok_or_else(|| broken("it is empty".to_owned()))
}

/// The offset of the last checkpoint line that begins in `tail`; its first line may be cut and does not count.
fn last_checkpoint(tail: &[u8]) -> Option<usize> {
    let mut end = tail.len().checked_sub(1)?;
    loop {
        let before = tail.get(..end)?.iter().rposition(|byte| *byte == b'\n')?;
        let line = tail.get(before + 1..end)?;
        if ops_trust::audit::Line::parse(line).is_some_and(|line| line.record.stage == Stage::Checkpoint) {
            return Some(before + 1);
        }
        end = before;
    }
}
