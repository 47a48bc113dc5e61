//! Where reading begins: at the last lines, at the beginning, at a cursor.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::{BLOCK, Gap, Mark, Part, Reader, Segment};
use crate::log::cursor::{CursorKey, Position, WINDOW};
use crate::log::lines::{PIECE, Splitter};
use crate::ports::log_source::Names;
use crate::ports::{FileId, Link, LogFault, LogFile, LogSource};

/// How far back the last lines are looked for.
const REACH: u64 = 256 * 1024 * 1024;
/// How often files are looked at again that came or were renamed meanwhile.
pub(super) const MOST_LOOKS: u32 = 1_000;
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
        let looked = |names: &Option<watch::Receiver<Names>>| {
            source.catch_up();
            names.as_ref().map(|names| *names.borrow())
        };
        for _ in 0..MOST_LOOKS {
            let observed = looked(&names);
            let mut chain = chain(source.as_ref(), log)?;
            let ids: Vec<_> = chain.iter().map(|link| link.facts.id).collect();
            let making = copy_in_the_making(source.as_ref(), log, &mut chain, None)?;
            // What was read before is no copy in the making.
            let making = making.is_some_and(|id| !matches!(start, Start::At(position) if position.id == id));
            if making {
                chain.remove(1);
            }
            let Some(place) = begin_in(source.as_ref(), log, &chain, start, key)? else { continue };
            let after = looked(&names);
            // Files that came meanwhile may be anywhere in what was seen.
            let steady = match (observed, after) {
                (Some(before), Some(after)) => (before.born, before.lost) == (after.born, after.lost),
                _ => self::chain(source.as_ref(), log)?.iter().map(|link| link.facts.id).eq(ids),
            };
            if steady {
                return Self::at(source, log, names, &chain, observed, making, place);
            }
        }
        Err(too_fast())
    }

    fn at(
        source: Arc<dyn LogSource>,
        log: &Path,
        names: Option<watch::Receiver<Names>>,
        chain: &[Link],
        observed: Option<Names>,
        making: bool,
        (first, offset, gap): Place,
    ) -> Result<(Self, Vec<u8>), LogFault> {
        let mut plan: VecDeque<Segment> =
            chain[..=first].iter().rev().map(|link| Segment::Part(Part::new(link))).collect();
        if let Some(Segment::Part(part)) = plan.front_mut() {
            part.offset = offset;
        }
        let behind = chain.get(first + 1).map(|link| link.facts.id);
        let before = observed.unwrap_or_default();
        let facts = chain[first].facts;
        let mut reader = Self {
            source,
            log: log.to_owned(),
            plan,
            older: chain[first + 1..].iter().map(|link| link.facts.id).collect(),
            undecided: making,
            observed: observed.map(|names| names.changes),
            born: before.born.saturating_sub(u64::from(making)),
            copied: before.copied.saturating_sub(u64::from(making)),
            lost: before.lost,
            owed: false,
            behind,
            names,
            missing: chain[0].index != 0,
            window: Vec::new(),
            splitter: Splitter::default(),
            mark: Mark { id: facts.id, offset, window: Vec::new(), modified: facts.modified, behind },
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
        let mut found = None;
        for _ in 0..MOST_LOOKS {
            let chain = chain(self.source.as_ref(), &self.log)?;
            if let Some((at, offset, gap)) = place_in(self.source.as_ref(), &self.log, &chain, position, key)?
            {
                found = Some((chain[at].facts.id, offset, gap));
                break;
            }
        }
        let (id, offset, gap) = found.ok_or_else(too_fast)?;
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

/// Opens a file of the chain by what it is, however it is named by now. `None`: it left the disk.
pub(super) fn open_as(
    source: &dyn LogSource,
    log: &Path,
    id: FileId,
) -> Result<Option<Box<dyn LogFile>>, LogFault> {
    // Each retry needs a rotation between two system calls.
    for _ in 0..MOST_LOOKS {
        let chain = source.chain_to(log, &|other| other == id)?;
        let Some(link) = chain.iter().find(|link| link.facts.id == id) else { return Ok(None) };
        match source.open(log, link.index) {
            Ok(file) if file.facts()?.id == id => return Ok(Some(file)),
            Ok(_) | Err(LogFault::Missing) => {}
            Err(fault) => return Err(fault),
        }
    }
    Err(too_fast())
}

pub(super) fn too_fast() -> LogFault {
    LogFault::Failed("its files are renamed faster than they can be opened".to_owned())
}

/// The newest rotated file, if it may be a copy that is being made of what the current one holds. If it is not, its size
/// is what it is now. `held`: the current file, where it is open already.
pub(super) fn copy_in_the_making(
    source: &dyn LogSource,
    log: &Path,
    chain: &mut [Link],
    held: Option<(FileId, &dyn LogFile)>,
) -> Result<Option<FileId>, LogFault> {
    let [current, newest, ..] = chain else { return Ok(None) };
    // A copy is never older than what it is made of.
    let older = 0 < newest.facts.id.born && newest.facts.id.born < current.facts.id.born;
    if (current.index, newest.index) != (0, 1) || older {
        return Ok(None);
    }
    let opened;
    let file = match held.filter(|(id, _)| *id == current.facts.id) {
        Some((_, file)) => file,
        None => match open_as(source, log, current.facts.id)? {
            Some(file) => {
                opened = file;
                opened.as_ref()
            }
            None => return Ok(None),
        },
    };
    let Some(copy) = open_as(source, log, newest.facts.id)? else { return Ok(None) };
    let size = copy.facts()?.size;
    // An empty one tells nothing: it may be just being made.
    if holds(file, size, &window_before(copy.as_ref(), size)?)? {
        return Ok(Some(newest.facts.id));
    }
    // The file was cut, or never held this: nothing is added to it any more.
    newest.facts = copy.facts()?;
    Ok(None)
}

/// Index into the chain, offset, and the gap before it if bytes are gone.
type Place = (usize, u64, Option<Gap>);

/// `None`: a file was renamed meanwhile.
fn begin_in(
    source: &dyn LogSource,
    log: &Path,
    chain: &[Link],
    start: Start,
    key: &CursorKey,
) -> Result<Option<Place>, LogFault> {
    Ok(Some(match start {
        Start::Beginning => (0, 0, None),
        Start::Last(lines) => {
            let (first, offset) = last_lines(source, log, chain, lines)?;
            (first, offset, None)
        }
        Start::Behind { device, inode, length } => {
            let same = |link: &&Link| (link.facts.id.device, link.facts.id.inode) == (device, inode);
            match chain.iter().find(same).filter(|link| link.facts.size >= length) {
                Some(found) => (chain.iter().position(|link| link == found).unwrap_or(0), length, None),
                None => (0, 0, None),
            }
        }
        Start::At(position) => return place_in(source, log, chain, position, key),
    }))
}

/// The place of a cursor. `None`: a file was renamed meanwhile.
fn place_in(
    source: &dyn LogSource,
    log: &Path,
    chain: &[Link],
    position: Position,
    key: &CursorKey,
) -> Result<Option<Place>, LogFault> {
    let same = chain.iter().position(|link| link.facts.id == position.id);
    // What came between the cursor's file and the one before it are copies of what the former held since.
    let behind = position.behind.and_then(|id| chain.iter().position(|link| link.facts.id == id));
    let copies = match (same, behind, position.behind) {
        (None, ..) => 0..0,
        (Some(at), Some(behind), _) => at + 1..behind.max(at + 1),
        (Some(at), None, None) => at + 1..chain.len(),
        // The one before is gone; copies are younger than their file.
        (Some(at), None, Some(_)) => {
            let younger = chain[at + 1..].iter().take_while(|link| link.facts.id.born > position.id.born);
            at + 1..at + 1 + younger.count()
        }
    };
    if let Some(at) = same
        && position.offset == 0
    {
        // Born in the same tick of the clock: it cannot be told whether it is a copy.
        let unsure = position.behind.is_some()
            && behind.is_none()
            && chain.get(copies.end).is_some_and(|link| link.facts.id.born == position.id.born);
        return Ok(Some((at + copies.len(), 0, unsure.then_some(super::observe::UNKNOWN))));
    }
    let others = (0..chain.len()).rev().filter(|at| Some(*at) != same && !copies.contains(at));
    let others = others.filter(|_| position.offset > 0);
    for at in copies.clone().rev().chain(same).chain(others) {
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
    Ok(Some((newer.saturating_sub(1), 0, Some(super::observe::UNKNOWN))))
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
