//! Where reading begins: at the last lines, at the beginning, at a cursor.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::{BLOCK, Gap, Mark, Part, Reader, Segment};
use crate::log::cursor::{CursorKey, Position, WINDOW};
use crate::log::lines::{PIECE, Splitter};
use crate::ports::log_source::Names;
use crate::ports::{Link, LogFault, LogFile, LogSource};

/// How far back the last lines are looked for.
const REACH: u64 = 256 * 1024 * 1024;
/// Of a line that one begins in, this much is looked at for a secret that is cut.
const CONTEXT: usize = 4096;

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub(in crate::log) enum Start {
    /// The last lines, also from rotated files.
    Last(u32),
    /// The beginning of the current file.
    Beginning,
    /// A cursor's place.
    At(Position),
    /// Behind this many bytes of a file; where it is gone, the beginning of the current one.
    Behind {
        /// `st_dev`.
        device: u64,
        /// `st_ino`.
        inode: u64,
        /// Bytes to leave out.
        length: u64,
    },
}

impl Reader {
    /// Opens a log. `names` are those of a subscription made before. The bytes are the beginning of the line that it
    /// begins in, empty at a line's beginning.
    ///
    /// # Errors
    /// [`LogFault::Missing`] when the log is not there, and any other fault.
    pub(in crate::log) fn begin(
        source: Arc<dyn LogSource>,
        log: &Path,
        names: Option<watch::Receiver<Names>>,
        start: Start,
        key: &CursorKey,
    ) -> Result<(Self, Vec<u8>), LogFault> {
        let observed = names.as_ref().map(|names| *names.borrow());
        let mut chain = chain(source.as_ref(), log)?;
        let (first, offset, gap) = match start {
            Start::Beginning => (0, 0, None),
            Start::Last(lines) => {
                let (first, offset) = last_lines(source.as_ref(), log, &chain, lines)?;
                (first, offset, None)
            }
            Start::Behind { device, inode, length } => {
                let same = |link: &&Link| (link.facts.id.device, link.facts.id.inode) == (device, inode);
                match chain.iter().find(same).filter(|link| link.facts.size >= length) {
                    Some(found) => (chain.iter().position(|link| link == found).unwrap_or(0), length, None),
                    None => (0, 0, None),
                }
            }
            Start::At(position) => place(source.as_ref(), log, &mut chain, position, key)?,
        };
        let mut plan: VecDeque<Segment> =
            chain[..=first].iter().rev().map(|link| Segment::Part(Part::new(link))).collect();
        if let Some(Segment::Part(part)) = plan.front_mut() {
            part.offset = offset;
        }
        let facts = chain[first].facts;
        let mut reader = Self {
            source,
            log: log.to_owned(),
            plan,
            older: chain[first + 1..].iter().map(|link| link.facts.id).collect(),
            undecided: false,
            observed: observed.map(|names| names.changes),
            appeared: observed.map_or(0, |names| names.appeared),
            names,
            missing: chain[0].index != 0,
            window: Vec::new(),
            splitter: Splitter::default(),
            mark: Mark { id: facts.id, offset, window: Vec::new(), modified: facts.modified },
            until: None,
            buffer: Vec::new(),
        };
        // Opened at once: what cannot be read is told now, and what is held cannot leave the disk unread.
        let mut context = Vec::new();
        if let Some(file) = reader.open(facts.id)? {
            context = line_before(file.as_ref(), offset)?;
            reader.hold(file)?;
            reader.mark.window = reader.window.clone();
        }
        reader.splitter = Splitter::new(!context.is_empty());
        if let Some(gap) = gap {
            reader.plan.push_front(Segment::Gap(gap));
        }
        Ok((reader, context))
    }

    /// Ends where the log ends now.
    pub(in crate::log) fn end_here(&mut self) {
        self.until = self.parts().last().map(|part| (part.id, part.seen));
    }

    /// Ends at a cursor's place. False when its file is not among those to be read: the end is the end of the log.
    ///
    /// # Errors
    /// Any fault of the log.
    pub(in crate::log) fn end_at(&mut self, position: Position, key: &CursorKey) -> Result<bool, LogFault> {
        let mut chain = chain(self.source.as_ref(), &self.log)?;
        let (at, offset, gap) = place(self.source.as_ref(), &self.log, &mut chain, position, key)?;
        let id = chain[at].facts.id;
        if gap.is_some() || !self.parts().any(|part| part.id == id) {
            self.end_here();
            return Ok(false);
        }
        self.until = Some((id, offset));
        Ok(true)
    }
}

fn chain(source: &dyn LogSource, log: &Path) -> Result<Vec<Link>, LogFault> {
    let chain = source.chain(log)?;
    if chain.is_empty() { Err(LogFault::Missing) } else { Ok(chain) }
}

/// The place of a cursor: index into the chain, offset, and the gap before it if its bytes are gone. The chain is looked
/// at anew as long as its files are renamed while they are opened.
fn place(
    source: &dyn LogSource,
    log: &Path,
    files: &mut Vec<Link>,
    position: Position,
    key: &CursorKey,
) -> Result<(usize, u64, Option<Gap>), LogFault> {
    for _ in 0..16 {
        if let Some(place) = place_in(source, log, files, position, key)? {
            return Ok(place);
        }
        *files = chain(source, log)?;
    }
    Err(LogFault::Failed("its files are renamed faster than they can be opened".to_owned()))
}

/// `None`: a file was renamed meanwhile.
fn place_in(
    source: &dyn LogSource,
    log: &Path,
    chain: &[Link],
    position: Position,
    key: &CursorKey,
) -> Result<Option<(usize, u64, Option<Gap>)>, LogFault> {
    let same = chain.iter().position(|link| link.facts.id == position.id);
    if let Some(at) = same
        && position.offset == 0
    {
        // Files behind it that are younger and were written to later are copies of what it held meanwhile.
        let copies = chain[at + 1..].iter().take_while(|link| {
            position.id.born > 0
                && link.facts.id.born > position.id.born
                && link.facts.modified > position.modified
        });
        return Ok(Some((at + copies.count(), 0, None)));
    }
    let elsewhere = (0..chain.len()).rev().filter(|at| Some(*at) != same && position.offset > 0);
    for at in same.into_iter().chain(elsewhere) {
        if chain[at].facts.size < position.offset {
            continue;
        }
        let file = match source.open(log, chain[at].index) {
            Ok(file) if file.facts()?.id == chain[at].facts.id => file,
            Err(fault) if Some(at) == same && fault != LogFault::Missing => return Err(fault),
            Ok(_) | Err(LogFault::Missing) => return Ok(None),
            Err(_) => continue,
        };
        let window = window_before(file.as_ref(), position.offset)?;
        if window.len() as u64 == position.offset.min(WINDOW as u64) && key.check(&window) == position.check {
            return Ok(Some((at, position.offset, None)));
        }
    }
    // Gone. What was not written to since the cursor's file was is older than it.
    let newer = chain.iter().take_while(|link| link.facts.modified > position.modified).count();
    let gap = Gap { bytes: 0, at_least: true, lines: None, skipped: false };
    Ok(Some((newer.saturating_sub(1), 0, Some(gap))))
}

/// Where the last `lines` lines begin: index into the chain, and offset. A line runs on over the end of a rotated file;
/// a stretch without a line feed counts as one line for each [`PIECE`] of it.
fn last_lines(
    source: &dyn LogSource,
    log: &Path,
    chain: &[Link],
    lines: u32,
) -> Result<(usize, u64), LogFault> {
    let mut last = (0, chain[0].facts.size);
    if lines == 0 {
        return Ok(last);
    }
    let mut count = Backwards { wanted: u64::from(lines), run: 0, ended: false };
    let mut reached = 0;
    let mut buffer = vec![0; BLOCK];
    for (at, link) in chain.iter().enumerate() {
        let file = match source.open(log, link.index) {
            Ok(file) if file.facts()?.id == link.facts.id => file,
            Err(fault) if at == 0 && fault != LogFault::Missing => return Err(fault),
            // Rotated meanwhile, or not readable: what was found so far must do.
            _ => break,
        };
        let mut end = link.facts.size;
        last = (at, end);
        while end > 0 {
            let from = end.saturating_sub(BLOCK as u64);
            let length = usize::try_from(end - from).unwrap_or(BLOCK);
            let read = file.read_at(from, &mut buffer[..length])?;
            if let Some(index) = count.find(&buffer[..read]) {
                return Ok((at, from + index as u64));
            }
            end = from;
            last = (at, end);
            reached += length as u64;
            if reached >= REACH {
                return Ok(last);
            }
        }
    }
    Ok(last)
}

/// Counts lines from the end of a log towards its beginning.
struct Backwards {
    wanted: u64,
    /// Bytes since the last line feed or full piece.
    run: usize,
    /// Something stands behind where we are: a line feed here ends a line and begins another.
    ended: bool,
}

impl Backwards {
    /// The block before the one looked at last: where the first wanted line begins, if it does in this block.
    fn find(&mut self, block: &[u8]) -> Option<usize> {
        let mut end = block.len();
        loop {
            let feed = memchr::memrchr(b'\n', &block[..end]);
            let start = feed.map_or(0, |at| at + 1);
            let mut length = end - start;
            while self.run + length > PIECE {
                let cut = PIECE - self.run;
                length -= cut;
                self.run = 0;
                self.ended = true;
                self.wanted -= 1;
                if self.wanted == 0 {
                    return Some(start + length);
                }
            }
            self.run += length;
            end = feed?;
            // The line feed at the very end ends the last line, it does not begin another.
            if self.ended || self.run > 0 {
                self.wanted -= 1;
                if self.wanted == 0 {
                    return Some(start);
                }
            }
            self.ended = true;
            self.run = 0;
        }
    }
}

/// The last place before `size`, and not before `from`, where a line begins; a stretch without a line feed that is
/// longer than a block has none: its end is the place.
pub(super) fn last_line_start(file: &dyn LogFile, from: u64, size: u64) -> Result<u64, LogFault> {
    let begin = size.saturating_sub(BLOCK as u64).max(from);
    let mut buffer = vec![0; usize::try_from(size.saturating_sub(begin)).unwrap_or(BLOCK)];
    let count = file.read_at(begin, &mut buffer)?;
    let feed = memchr::memrchr(b'\n', &buffer[..count]);
    Ok(feed.map_or(if begin == from { from } else { size }, |at| begin + at as u64 + 1))
}

/// Up to 256 bytes before an offset; fewer where the file has become shorter.
pub(super) fn window_before(file: &dyn LogFile, offset: u64) -> Result<Vec<u8>, LogFault> {
    before(file, offset, WINDOW)
}

/// Whether the file has these bytes just before the offset.
pub(super) fn holds(file: &dyn LogFile, offset: u64, window: &[u8]) -> Result<bool, LogFault> {
    Ok(file.facts()?.size >= offset && before(file, offset, window.len())? == window)
}

/// The beginning of the line that an offset is in; empty at the beginning of a line.
fn line_before(file: &dyn LogFile, offset: u64) -> Result<Vec<u8>, LogFault> {
    let mut bytes = before(file, offset, CONTEXT)?;
    match memchr::memrchr(b'\n', &bytes) {
        Some(feed) => Ok(bytes.split_off(feed + 1)),
        None => Ok(bytes),
    }
}

fn before(file: &dyn LogFile, offset: u64, length: usize) -> Result<Vec<u8>, LogFault> {
    let from = offset.saturating_sub(length as u64);
    let mut bytes = vec![0; usize::try_from(offset - from).unwrap_or(length)];
    let count = file.read_at(from, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
