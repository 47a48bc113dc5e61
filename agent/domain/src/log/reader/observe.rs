//! What happened to the files, and what that means for the plan.

use std::collections::{HashSet, VecDeque};

use super::{Gap, Part, Reader, Segment, start};
use crate::log::cursor::WINDOW;
use crate::ports::log_source::Names;
use crate::ports::{FileFacts, FileId, Link, LogFault};

impl Part {
    pub(super) fn new(link: &Link) -> Self {
        Self {
            id: link.facts.id,
            file: None,
            offset: 0,
            seen: link.facts.size,
            modified: link.facts.modified,
            index: Some(link.index),
            copy: false,
            whole: link.index > 0,
        }
    }

    /// Whether a file of its identity is it. An inode that was freed goes to the next file, and within one tick of the
    /// clock both are born at once; but a rotated file is not cut, and grows when it is written to.
    pub(super) fn can_be(&self, facts: FileFacts) -> bool {
        !self.whole || facts.size > self.seen || facts.size == self.seen && facts.modified == self.modified
    }
}

/// Bytes that nobody knows the number of.
pub(super) const UNKNOWN: Gap = Gap { bytes: 0, at_least: true, lines: None, skipped: false };

/// Files that were come to know before those that left the disk are forgotten.
const MOST_OLDER: usize = 32 * 1024;

/// What was seen while no file came.
struct Look {
    chain: Vec<Link>,
    names: Option<Names>,
    /// The newest known file does not hold what was read of it.
    was_cut: bool,
}

impl Reader {
    /// Looks at the folder, unless nothing can have changed there. True when the plan changed.
    ///
    /// # Errors
    /// Any fault of the log.
    pub(in crate::log) fn observe(&mut self) -> Result<bool, LogFault> {
        let names = self.names_now();
        if !self.undecided && names.is_some_and(|names| self.observed == Some(names.changes)) {
            return Ok(false);
        }
        for _ in 0..start::MOST_LOOKS {
            if let Some(look) = self.look()? {
                return self.take_in(look);
            }
        }
        Err(start::too_fast())
    }

    /// All that has happened to names until now.
    pub(super) fn names_now(&mut self) -> Option<Names> {
        self.source.catch_up();
        self.names.as_mut().map(|names| *names.borrow_and_update())
    }

    /// `None`: a file came meanwhile, so that what was seen is of no one moment.
    fn look(&mut self) -> Result<Option<Look>, LogFault> {
        let names = self.names_now();
        // Asked before the folder is read: a copy that was made before the cut is then surely seen there.
        let was_cut = self.back_was_cut()?;
        let back = self.parts().last().map(|part| part.id);
        let enough = |id| Some(id) != back && self.is_known(id);
        let chain = self.source.chain_to(&self.log, &enough)?;
        let steady = match names {
            Some(names) => {
                self.names_now().is_some_and(|now| (now.born, now.lost) == (names.born, names.lost))
            }
            None => {
                let again = self.source.chain_to(&self.log, &|id| Some(id) != back && self.is_known(id))?;
                again.iter().map(|link| link.facts.id).eq(chain.iter().map(|link| link.facts.id))
            }
        };
        Ok(steady.then_some(Look { chain, names, was_cut }))
    }

    fn is_known(&self, id: FileId) -> bool {
        self.older.contains(&id) || self.parts().any(|part| part.id == id)
    }

    /// Makes a look part of the plan.
    fn take_in(&mut self, look: Look) -> Result<bool, LogFault> {
        let Look { mut chain, names, mut was_cut } = look;
        self.missing = chain.first().is_none_or(|link| link.index != 0);
        let Some(back) = self.parts().last() else { return Ok(false) };
        let (back_id, back_rotated) = (back.id, back.whole);
        if let Some(link) = chain.iter().find(|link| link.facts.id == back_id) {
            was_cut |= back.file.is_none() && link.facts.size < back.seen;
        }
        let unknown = chain.iter().filter(|link| !self.is_known(link.facts.id)).count() as u64;
        let mut making = None;
        if chain.get(1).is_some_and(|link| !self.is_known(link.facts.id)) {
            let held = self.parts().last().and_then(|back| Some((back.id, back.file.as_deref()?)));
            making = start::copy_in_the_making(self.source.as_ref(), &self.log, &mut chain, held)?;
        }
        self.undecided = making.is_some();
        chain.retain(|link| Some(link.facts.id) != making);
        self.look_at_sizes(&chain)?;
        // Each file that came is here, or is gone unseen.
        let (mut lost, mut copied) = (false, self.names.is_none());
        if let Some(names) = names {
            let open = u64::from(making.is_some());
            lost = names.lost != self.lost || names.born.saturating_sub(self.born) > unknown;
            copied = names.lost != self.lost || names.copied.saturating_sub(self.copied) > open;
            self.observed = Some(names.changes);
            // A file is there before the kernel tells of it.
            self.born = names.born.max(self.born + unknown).saturating_sub(open);
            self.copied = names.copied.saturating_sub(open);
            self.lost = names.lost;
        }
        let place = chain.iter().position(|link| link.facts.id == back_id);
        if place.is_none() {
            // It may have been cut as the folder was read; from now on it cannot be.
            was_cut |= self.back_was_cut()?;
        }
        let behind = self.unknown(&chain[place.map_or(0, |at| at + 1)..]);
        let mut told = false;
        let (newer, mut changed) = match place {
            Some(at) => {
                let changed = self.cut_in_place(behind, was_cut, lost)?;
                told = lost && changed;
                (chain[..at].to_vec(), changed)
            }
            // It lost its name before it could be cut.
            None if back_rotated => (behind, false),
            None => self.cut_and_gone(behind, was_cut, copied, lost)?,
        };
        if lost && !newer.is_empty() {
            self.plan.push_back(Segment::Gap(UNKNOWN));
        } else if lost && !told {
            self.owed = true;
        }
        changed |= lost || !newer.is_empty();
        for link in newer.iter().rev() {
            self.plan.push_back(Segment::Part(Part::new(link)));
        }
        let planned: HashSet<FileId> = self.parts().map(|part| part.id).collect();
        self.older.extend(chain.iter().map(|link| link.facts.id).filter(|id| !planned.contains(id)));
        if self.older.len() > MOST_OLDER {
            let there: HashSet<FileId> =
                self.source.chain(&self.log)?.iter().map(|link| link.facts.id).collect();
            self.older.retain(|id| there.contains(id));
        }
        Ok(changed)
    }

    /// A plan of the newest file only, when nothing of the old one is left.
    pub(super) fn begin_anew(&mut self) -> Result<(), LogFault> {
        let names = self.names_now();
        let mut chain = self.source.chain(&self.log)?;
        let making = start::copy_in_the_making(self.source.as_ref(), &self.log, &mut chain, None)?;
        let (newest, rest) = chain.split_first().ok_or(LogFault::Missing)?;
        let mut part = Part::new(newest);
        // Between two steps of a rotation the newest one may be one that was read already.
        if newest.index > 0 && self.older.contains(&part.id) {
            part.offset = part.seen;
        }
        self.older = rest.iter().map(|link| link.facts.id).filter(|id| Some(*id) != making).collect();
        self.plan = VecDeque::from([Segment::Part(part)]);
        self.undecided = true;
        if let Some(names) = names {
            let open = u64::from(making.is_some());
            (self.born, self.copied) = (names.born.saturating_sub(open), names.copied.saturating_sub(open));
            self.lost = names.lost;
        }
        Ok(())
    }

    /// What stood before the offset is not there any more.
    pub(super) fn on_changed(&mut self) -> Result<(), LogFault> {
        self.undecided = true;
        if !self.observe()? {
            // Not the newest file: one that has been rotated was written over.
            self.lose_front()?;
        }
        Ok(())
    }

    /// Whether what was read of the newest known file, or how large it was, is not true of it any more.
    fn back_was_cut(&self) -> Result<bool, LogFault> {
        let Some(Segment::Part(back)) = self.plan.back() else { return Ok(false) };
        let Some(file) = &back.file else { return Ok(false) };
        if back.offset > 0 {
            return Ok(!start::holds(file.as_ref(), back.offset, &self.window)?);
        }
        Ok(file.facts()?.size < back.seen)
    }

    fn look_at_sizes(&mut self, chain: &[Link]) -> Result<(), LogFault> {
        let back = self.parts().last().map(|part| part.id);
        for segment in &mut self.plan {
            let Segment::Part(part) = segment else { continue };
            match chain.iter().find(|link| link.facts.id == part.id && part.can_be(link.facts)) {
                Some(link) => {
                    // A file that shrank keeps its size until that has been looked into.
                    part.seen = part.seen.max(link.facts.size);
                    part.modified = link.facts.modified;
                    part.index = Some(link.index);
                    part.whole = link.index > 0;
                }
                None => {
                    // A look ends at the first file that is known to be behind the newest one.
                    if Some(part.id) == back {
                        part.index = None;
                    }
                    if let Some(file) = &part.file {
                        part.seen = part.seen.max(file.facts()?.size);
                    }
                }
            }
        }
        Ok(())
    }

    /// The links up to the first known one.
    fn unknown(&self, links: &[Link]) -> Vec<Link> {
        let unknown = |link: &&Link| {
            !self.older.contains(&link.facts.id) && !self.parts().any(|part| part.id == link.facts.id)
        };
        links.iter().take_while(unknown).copied().collect()
    }

    /// The newest known file is in the chain; `copies` are files behind it that came since, the newest first. True when
    /// it was cut: what it held before is put into the plan before it.
    fn cut_in_place(&mut self, mut copies: Vec<Link>, was_cut: bool, lost: bool) -> Result<bool, LogFault> {
        copies.retain(|copy| copy.facts.size > 0);
        copies.reverse();
        // Of a file that nothing was read of yet, only a copy tells that it was cut; the copy may be what was lost.
        let unread = self.parts().last().is_some_and(|back| back.offset == 0);
        if !was_cut && copies.is_empty() && !(lost && unread) {
            return Ok(false);
        }
        let holder = self.holder(&copies)?;
        let Some(back) = self.pop_back() else { return Ok(false) };
        let known = if was_cut { back.seen.saturating_sub(back.offset) } else { 0 };
        let mut from = 0;
        match holder {
            Some(number) => {
                copies.drain(..number);
                from = back.offset;
            }
            // All of it is in the copies.
            None if back.offset == 0 && !copies.is_empty() => {}
            None if known > 0 || !copies.is_empty() => {
                self.plan.push_back(Segment::Gap(Gap { bytes: known, ..UNKNOWN }));
            }
            None => {}
        }
        if copies.is_empty() && was_cut {
            self.plan.push_back(Segment::Truncated);
        }
        for (number, link) in copies.iter().enumerate() {
            self.push_copy(link, if number == 0 { from } else { 0 });
        }
        if lost {
            self.plan.push_back(Segment::Gap(UNKNOWN));
        }
        self.push_cut(back)?;
        Ok(true)
    }

    /// The newest known file is not in the chain. Answers what comes after the plan, the newest first, and whether the
    /// plan changed: what it held is read where its place among the unknown ones is certain, else it is a gap.
    fn cut_and_gone(
        &mut self,
        mut unknown: Vec<Link>,
        was_cut: bool,
        copied: bool,
        lost: bool,
    ) -> Result<(Vec<Link>, bool), LogFault> {
        // A copy of nothing changes nothing.
        unknown.retain(|link| link.index == 0 || link.facts.size > 0);
        let copied = copied && (lost || unknown.iter().any(|link| link.index > 0));
        let Some(back) = self.parts().last() else { return Ok((unknown, false)) };
        let proven = !was_cut && back.offset >= WINDOW as u64;
        if back.file.is_none() || proven || (!was_cut && !copied) || (unknown.is_empty() && !was_cut) {
            return Ok((unknown, false));
        }
        let oldest_first: Vec<Link> = unknown.iter().rev().copied().collect();
        let holder = if copied { self.holder(&oldest_first)? } else { None };
        let Some(back) = self.pop_back() else { return Ok((unknown, false)) };
        let unread = back.seen.saturating_sub(back.offset);
        if let Some(number) = holder {
            unknown.truncate(oldest_first.len() - number - 1);
            self.push_copy(&oldest_first[number], back.offset);
        } else if unread > 0 {
            self.plan.push_back(Segment::Gap(Gap { bytes: unread, ..UNKNOWN }));
        }
        // Without a copy among them they all came after it; what has the log's own name is no copy.
        let successors = !copied || unknown.iter().all(|link| link.index == 0);
        if successors && (holder.is_some() || was_cut) {
            if holder.is_none() {
                self.plan.push_back(Segment::Truncated);
            }
            self.push_cut(back)?;
        } else {
            self.older.insert(back.id);
            if unknown.is_empty() {
                // There has to be a file to go on with.
                self.plan.push_back(Segment::Gap(UNKNOWN));
                self.push_cut(back)?;
            } else {
                self.plan.push_back(Segment::Gap(UNKNOWN));
            }
        }
        Ok((unknown, true))
    }

    /// The first of these that holds what was read of the newest known file.
    fn holder(&self, copies: &[Link]) -> Result<Option<usize>, LogFault> {
        let Some(offset) = self.parts().last().map(|back| back.offset).filter(|offset| *offset > 0) else {
            return Ok(None);
        };
        for (number, link) in copies.iter().enumerate() {
            if let Some(copy) = self.open(link.facts.id)?
                && start::holds(copy.as_ref(), offset, &self.window)?
            {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    fn pop_back(&mut self) -> Option<Part> {
        match self.plan.pop_back() {
            Some(Segment::Part(back)) => Some(back),
            other => {
                self.plan.extend(other);
                None
            }
        }
    }

    fn push_copy(&mut self, link: &Link, offset: u64) {
        let part = Part { copy: true, offset, ..Part::new(link) };
        self.plan.push_back(Segment::Part(part));
    }

    /// A file that begins anew.
    fn push_cut(&mut self, mut back: Part) -> Result<(), LogFault> {
        back.offset = 0;
        back.seen = 0;
        if let Some(file) = &back.file {
            let facts = file.facts()?;
            (back.seen, back.modified) = (facts.size, facts.modified);
        }
        self.plan.push_back(Segment::Part(back));
        Ok(())
    }
}
