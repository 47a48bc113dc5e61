//! One log, read in order through every kind of rotation.
//!
//! A reader has a plan: the files it still has to read, the oldest first, the newest known at its back. Reading works
//! on the front; looking at the folder ([`Reader::observe`]) makes the plan longer at its back. What is in the plan
//! and left the disk before it was read is a gap, with the size it was last seen with.

mod observe;
mod start;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::cursor::{CursorKey, Position, WINDOW};
use super::lines::{Piece, Splitter};
use crate::ports::log_source::Names;
use crate::ports::{FileId, LogFault, LogFile, LogSource};

pub(super) use start::Start;

/// Bytes that are read at once.
const BLOCK: usize = 64 * 1024;
/// What is skipped is read to count its lines up to this size.
const COUNTED: u64 = 64 * 1024 * 1024;

/// What one step gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Lines, or parts of one.
    Lines(Vec<Piece>),
    /// A file was read to its end and the log goes on in the next.
    Rotated {
        /// Its size.
        bytes: u64,
        /// The number behind its name now; `None`: it was removed.
        index: Option<u32>,
    },
    /// The file was cut to nothing and begins anew; what was copied before was read from the copy.
    Truncated,
    /// Bytes that cannot be had.
    Gap(Gap),
    /// Nothing more for now.
    CaughtUp,
    /// Nothing more for now, and the log's own name is gone.
    Missing,
    /// The end that was asked for.
    Done,
}

/// Bytes between two lines that are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// How many are known of.
    pub(super) bytes: u64,
    /// More may be missing than that.
    pub(super) at_least: bool,
    /// Lines, where they were counted.
    pub(super) lines: Option<u64>,
    /// They are still on disk: the reader was too slow and wanted to skip.
    pub(super) skipped: bool,
}

enum Segment {
    Part(Part),
    Gap(Gap),
    Truncated,
}

/// A file of the plan.
struct Part {
    id: FileId,
    file: Option<Box<dyn LogFile>>,
    /// Next byte to read.
    offset: u64,
    /// Its size when it was last looked at.
    seen: u64,
    modified: Timestamp,
    /// Its place in the chain when it was last looked at; `None`: not there.
    index: Option<u32>,
    /// A copy that copytruncate made.
    copy: bool,
    /// `seen` is its last size: it had lost the log's own name by then.
    whole: bool,
}

/// Where to go on: after the last line that was handed out.
struct Mark {
    id: FileId,
    offset: u64,
    window: Vec<u8>,
    modified: Timestamp,
    behind: Option<FileId>,
}

pub(super) struct Reader {
    source: Arc<dyn LogSource>,
    log: PathBuf,
    plan: VecDeque<Segment>,
    /// Files behind the newest known one that have nothing new.
    older: HashSet<FileId>,
    /// A copy may be in the making: look again even when no name changed.
    undecided: bool,
    names: Option<watch::Receiver<Names>>,
    observed: Option<u64>,
    /// Of [`Names::born`], [`Names::copied`] and [`Names::lost`], those that are accounted for.
    born: u64,
    copied: u64,
    lost: u64,
    /// Something is missing, where nothing comes after it yet.
    owed: bool,
    /// The file before the front.
    behind: Option<FileId>,
    missing: bool,
    /// Up to 256 bytes before the front's offset.
    window: Vec<u8>,
    splitter: Splitter,
    mark: Mark,
    until: Option<(FileId, u64)>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Where to go on.
    pub(super) fn position(&self, key: &CursorKey) -> Position {
        let Mark { id, offset, ref window, modified, behind } = self.mark;
        Position { id, offset, check: key.check(window), modified, behind }
    }

    /// Known bytes that were not read yet.
    pub(super) fn backlog(&self) -> u64 {
        self.parts().map(|part| part.seen.saturating_sub(part.offset)).sum()
    }

    /// The next thing in order. Blocks for the disk only.
    ///
    /// # Errors
    /// Any fault of the log: it ends the reading.
    pub(super) fn step(&mut self) -> Result<Step, LogFault> {
        loop {
            if std::mem::take(&mut self.owed) {
                return Ok(Step::Gap(observe::UNKNOWN));
            }
            let front = match self.plan.front_mut() {
                Some(Segment::Part(part)) => part,
                Some(Segment::Gap(_) | Segment::Truncated) => {
                    if let Some(lines) = self.rest_of_line() {
                        return Ok(lines);
                    }
                    self.join_gaps()?;
                    return self.note();
                }
                None => return Ok(Step::CaughtUp),
            };
            if front.file.is_none() {
                let id = front.id;
                match self.open(id)? {
                    Some(file) => self.hold(file)?,
                    None => self.lose_front()?,
                }
                continue;
            }
            // Taken before the read: only then has the read seen all that was written before the next file.
            let settled = self.settled();
            let limit = self.limit();
            if limit == Some(0) {
                return Ok(self.rest_of_line().unwrap_or(Step::Done));
            }
            match self.read(limit)? {
                Read::Bytes(count) => {
                    // Near the beginning of a file little stands before the offset that would tell whether it was
                    // cut before this read: only a copy beside it tells.
                    let near = self.front().is_some_and(|part| part.offset < WINDOW as u64);
                    if near && self.plan.len() == 1 && self.observe()? {
                        continue;
                    }
                    if let Some(lines) = self.split(count) {
                        return Ok(lines);
                    }
                }
                Read::Changed => self.on_changed()?,
                Read::End if settled => {
                    if let Some(step) = self.advance() {
                        return Ok(step);
                    }
                }
                Read::End => {
                    // A successor that is empty fills up without any name changing.
                    self.undecided |= self.plan.len() > 1;
                    if !self.observe()? && !self.settled() {
                        self.hold_next()?;
                        return Ok(if self.missing { Step::Missing } else { Step::CaughtUp });
                    }
                }
            }
        }
    }

    /// What has no end yet, as a piece; for those who do not wait for it.
    pub(super) fn rest_of_line(&mut self) -> Option<Step> {
        let mut pieces = Vec::new();
        if !self.splitter.flush(&mut pieces) {
            return None;
        }
        self.mark_here();
        Some(Step::Lines(pieces))
    }

    /// Goes to the newest line, and says what that left out. `None` when there is nothing to leave out.
    ///
    /// # Errors
    /// As [`Reader::step`].
    pub(super) fn skip(&mut self) -> Result<Option<Gap>, LogFault> {
        self.observe()?;
        let (before, size) = {
            let Some(back) = self.parts().last() else { return Ok(None) };
            (back.offset, back.seen)
        };
        let counted = self.backlog() <= COUNTED;
        let mut gap = Gap { bytes: self.splitter.held() as u64, at_least: false, lines: None, skipped: true };
        let mut lines = 0;
        // Everything but the newest file.
        while self.plan.len() > 1 {
            match self.plan.pop_front() {
                Some(Segment::Part(mut part)) => {
                    self.older.insert(part.id);
                    self.behind = Some(part.id);
                    if part.file.is_none() {
                        part.file = self.open(part.id)?;
                    }
                    if let Some(file) = &part.file {
                        let end = file.facts()?.size;
                        gap.bytes += end.saturating_sub(part.offset);
                        if counted {
                            lines += count_lines(file.as_ref(), part.offset, end)?;
                        }
                    } else {
                        gap.bytes += part.seen.saturating_sub(part.offset);
                        gap.at_least = true;
                    }
                }
                Some(Segment::Gap(lost)) => {
                    gap.bytes += lost.bytes;
                    gap.at_least |= lost.at_least;
                }
                _ => {}
            }
        }
        let Some(id) = self.parts().next().map(|part| part.id) else { return Ok(None) };
        let held = match self.plan.front_mut() {
            Some(Segment::Part(part)) => part.file.take(),
            _ => None,
        };
        let file = match held {
            Some(file) => Some(file),
            None => self.open(id)?,
        };
        let Some(file) = file else {
            self.lose_front()?;
            return Ok(None);
        };
        let end = start::last_line_start(file.as_ref(), before, size)?;
        gap.bytes += end - before;
        if counted {
            lines += count_lines(file.as_ref(), before, end)?;
        }
        self.splitter.forget();
        let window = start::window_before(file.as_ref(), end)?;
        if let Some(Segment::Part(part)) = self.plan.front_mut() {
            part.offset = end;
            part.file = Some(file);
        }
        self.window = window;
        self.mark_here();
        if gap.bytes == 0 {
            return Ok(None);
        }
        gap.lines = (counted && !gap.at_least).then_some(lines);
        Ok(Some(gap))
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.plan.iter().filter_map(|segment| match segment {
            Segment::Part(part) => Some(part),
            _ => None,
        })
    }

    fn front(&self) -> Option<&Part> {
        match self.plan.front() {
            Some(Segment::Part(part)) => Some(part),
            _ => None,
        }
    }

    /// Whether the writer has left the front for good: the file after it has bytes, or has a successor itself.
    fn settled(&self) -> bool {
        match self.plan.get(1) {
            None => false,
            Some(Segment::Part(next)) => next.seen > 0 || self.plan.len() > 2,
            Some(_) => true,
        }
    }

    /// How much of the front may still be read; `None`: all of it.
    fn limit(&self) -> Option<u64> {
        let (id, end) = self.until?;
        let front = self.front()?;
        (front.id == id).then(|| end.saturating_sub(front.offset))
    }

    /// Opens a file of the chain by what it is, however it is named by now. `None`: it left the disk.
    fn open(&self, id: FileId) -> Result<Option<Box<dyn LogFile>>, LogFault> {
        let Some(file) = start::open_as(self.source.as_ref(), &self.log, id)? else { return Ok(None) };
        let facts = file.facts()?;
        let other = self.parts().any(|part| part.id == id && !part.can_be(facts));
        Ok((!other).then_some(file))
    }

    fn hold(&mut self, file: Box<dyn LogFile>) -> Result<(), LogFault> {
        if let Some(Segment::Part(part)) = self.plan.front_mut() {
            self.window = start::window_before(file.as_ref(), part.offset)?;
            part.file = Some(file);
        }
        Ok(())
    }

    /// The file after the front, which is still empty, cannot leave the disk unread either.
    fn hold_next(&mut self) -> Result<(), LogFault> {
        let id = match self.plan.get(1) {
            Some(Segment::Part(next)) if next.file.is_none() => next.id,
            _ => return Ok(()),
        };
        let file = self.open(id)?;
        if let Some(Segment::Part(next)) = self.plan.get_mut(1) {
            next.file = file;
        }
        Ok(())
    }

    /// The front left the disk before it was read.
    fn lose_front(&mut self) -> Result<(), LogFault> {
        let Some(Segment::Part(part)) = self.plan.pop_front() else { return Ok(()) };
        self.older.insert(part.id);
        self.behind = Some(part.id);
        let gap = Gap {
            bytes: part.seen.saturating_sub(part.offset) + self.splitter.held() as u64,
            at_least: !part.whole,
            lines: None,
            skipped: false,
        };
        self.splitter.forget();
        if self.parts().next().is_none() {
            self.begin_anew()?;
            self.push_gap_front(Gap { at_least: true, ..gap });
        } else {
            self.push_gap_front(gap);
        }
        // A file that is held already is not asked for its window again.
        self.window.clear();
        if let Some(Segment::Part(part)) = self.plan.front()
            && let Some(file) = &part.file
        {
            self.window = start::window_before(file.as_ref(), part.offset)?;
        }
        Ok(())
    }

    fn push_gap_front(&mut self, gap: Gap) {
        if let Some(Segment::Gap(next)) = self.plan.front_mut() {
            next.bytes += gap.bytes;
            next.at_least |= gap.at_least;
        } else if gap.bytes > 0 || gap.at_least {
            self.plan.push_front(Segment::Gap(gap));
        }
    }

    /// Reads after the front's offset, and checks that what stood before it still stands there.
    fn read(&mut self, limit: Option<u64>) -> Result<Read, LogFault> {
        let Some(Segment::Part(part)) = self.plan.front_mut() else { return Ok(Read::End) };
        let Some(file) = part.file.as_ref() else { return Ok(Read::End) };
        let before = self.window.len();
        let wanted = limit.map_or(BLOCK, |limit| usize::try_from(limit).unwrap_or(BLOCK).min(BLOCK));
        self.buffer.resize(before + wanted, 0);
        let count = file.read_at(part.offset - before as u64, &mut self.buffer)?;
        if count < before || self.buffer[..before] != self.window[..] {
            return Ok(Read::Changed);
        }
        // A read of many bytes is no moment: a file that is cut and written to meanwhile gives some of each.
        let again = &mut [0; WINDOW][..count.min(WINDOW)];
        let same = file.read_at(part.offset - before as u64, again)?;
        if same < again.len() || self.buffer[..same] != *again {
            return Ok(Read::Changed);
        }
        self.buffer.truncate(count);
        let facts = file.facts()?;
        part.modified = facts.modified;
        if count > before {
            part.seen = part.seen.max(facts.size);
            Ok(Read::Bytes(count - before))
        } else if part.offset == 0 && facts.size < part.seen {
            Ok(Read::Changed)
        } else {
            Ok(Read::End)
        }
    }

    /// The last `count` bytes of the buffer to lines; the window and the mark move on.
    fn split(&mut self, count: usize) -> Option<Step> {
        let (id, offset, modified) = {
            let Some(Segment::Part(part)) = self.plan.front_mut() else { return None };
            let offset = part.offset;
            part.offset += count as u64;
            (part.id, offset, part.modified)
        };
        let before = self.buffer.len() - count;
        let mut pieces = Vec::new();
        let done = self.splitter.push(&self.buffer[before..], offset, &mut pieces);
        if let Some(done) = done {
            let end = before + done;
            let window = self.buffer[end.saturating_sub(WINDOW)..end].to_vec();
            self.mark = Mark { id, offset: offset + done as u64, window, modified, behind: self.behind };
        }
        let window = self.buffer.len().saturating_sub(WINDOW);
        self.window.clear();
        self.window.extend_from_slice(&self.buffer[window..]);
        (!pieces.is_empty()).then_some(Step::Lines(pieces))
    }

    fn mark_here(&mut self) {
        if let Some(Segment::Part(part)) = self.plan.front() {
            let (id, offset, modified) = (part.id, part.offset, part.modified);
            self.mark = Mark { id, offset, window: self.window.clone(), modified, behind: self.behind };
        }
    }

    /// Leaves the front, which was read to its end.
    fn advance(&mut self) -> Option<Step> {
        let Some(Segment::Part(done)) = self.plan.pop_front() else { return None };
        self.older.insert(done.id);
        self.behind = Some(done.id);
        self.window.clear();
        let next_is_file = matches!(self.plan.front(), Some(Segment::Part(_)));
        if next_is_file && self.splitter.held() == 0 {
            self.mark_here();
        }
        if self.until.is_some_and(|(id, _)| id == done.id) {
            return Some(self.rest_of_line().unwrap_or(Step::Done));
        }
        if !next_is_file {
            return None;
        }
        Some(if done.copy { Step::Truncated } else { Step::Rotated { bytes: done.seen, index: done.index } })
    }

    /// Files behind a gap that left the disk too are one gap with it.
    fn join_gaps(&mut self) -> Result<(), LogFault> {
        while let (Some(Segment::Gap(gap)), Some(Segment::Part(next))) = (self.plan.front(), self.plan.get(1))
            && next.file.is_none()
        {
            let gap = *gap;
            if let Some(file) = self.open(next.id)? {
                if let Some(Segment::Part(next)) = self.plan.get_mut(1) {
                    next.file = Some(file);
                }
                break;
            }
            self.plan.pop_front();
            self.lose_front()?;
            self.push_gap_front(gap);
        }
        Ok(())
    }

    /// A gap or a truncation at the front becomes a step; where to go on is behind it.
    fn note(&mut self) -> Result<Step, LogFault> {
        let step = match self.plan.pop_front() {
            Some(Segment::Gap(gap)) => Step::Gap(gap),
            _ => Step::Truncated,
        };
        self.splitter.forget();
        self.window.clear();
        if let Some(Segment::Part(part)) = self.plan.front() {
            if let Some(file) = &part.file {
                self.window = start::window_before(file.as_ref(), part.offset)?;
            }
            if part.offset == 0 || part.file.is_some() {
                self.mark_here();
            }
        }
        Ok(step)
    }
}

enum Read {
    Bytes(usize),
    End,
    /// What stood before the offset is not there any more.
    Changed,
}

pub(super) fn count_lines(file: &dyn LogFile, from: u64, end: u64) -> Result<u64, LogFault> {
    let mut buffer = vec![0; BLOCK];
    let mut at = from;
    let mut lines = 0;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
        let count = file.read_at(at, &mut buffer[..wanted])?;
        if count == 0 {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..count]).count() as u64;
        at += count as u64;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
