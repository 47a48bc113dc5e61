//! What happened to the files, and what that means for the plan.

use super::{Gap, Part, Reader, Segment, start};
use crate::ports::{Link, LogFault, LogFile};

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
}

/// The newest known file was cut.
struct Cut {
    /// Copies that hold what it held before, the oldest first.
    copies: Vec<Link>,
    /// Where to go on in the first of them.
    from: u64,
    lost: Option<Gap>,
    /// Links that are neither copies nor successors, from the oldest on.
    passed: usize,
}

impl Reader {
    /// Looks at the folder, unless nothing can have changed there. True when the plan changed.
    ///
    /// # Errors
    /// Any fault of the log.
    pub(in crate::log) fn observe(&mut self) -> Result<bool, LogFault> {
        // Taken before the folder is read: what is counted here is visible there, or is gone for good.
        let names = self.names.as_mut().map(|names| *names.borrow_and_update());
        if !self.undecided && names.is_some_and(|names| self.observed == Some(names.changes)) {
            return Ok(false);
        }
        // Asked before the folder is read: a copy that was made before the cut is then surely seen there.
        let mut was_cut = self.back_was_cut()?;
        let chain = self.source.chain(&self.log)?;
        self.observed = names.map(|names| names.changes);
        self.undecided = false;
        self.missing = chain.first().is_none_or(|link| link.index != 0);
        let was = self.plan.len();
        self.look_at_sizes(&chain)?;
        let Some(back_id) = self.parts().last().map(|part| part.id) else { return Ok(false) };
        let place = chain.iter().position(|link| link.facts.id == back_id);
        let newer = match place {
            Some(at) => {
                let unheld = self.parts().last().filter(|back| back.file.is_none());
                was_cut |= unheld.is_some_and(|back| chain[at].facts.size < back.seen);
                let copies = self.unknown(&chain[at + 1..]);
                self.take_copies(copies, true, was_cut)?;
                &chain[..at]
            }
            None => {
                let unknown = self.unknown(&chain);
                let count = unknown.len();
                &chain[..count - self.take_copies(unknown, false, was_cut)?]
            }
        };
        if let Some(names) = names {
            // The file that has the name is the last one that took it.
            let known = if !self.missing && place == Some(0) {
                Some(names.appeared)
            } else {
                names.appearance_of(back_id)
            };
            self.appeared = self.appeared.max(known.unwrap_or(0));
            let unseen = names.appeared.saturating_sub(self.appeared) > newer.len() as u64;
            if !newer.is_empty() {
                if unseen {
                    let gap = Gap { bytes: 0, at_least: true, lines: None, skipped: false };
                    self.plan.push_back(Segment::Gap(gap));
                }
                self.appeared = names.appeared;
            }
        }
        for link in newer.iter().rev() {
            self.plan.push_back(Segment::Part(Part::new(link)));
        }
        if !self.undecided && (place.is_some() || !newer.is_empty()) {
            self.remember_older(&chain);
        }
        Ok(self.plan.len() != was)
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
        for segment in &mut self.plan {
            let Segment::Part(part) = segment else { continue };
            match chain.iter().find(|link| link.facts.id == part.id) {
                Some(link) => {
                    // A file that shrank keeps its size until that has been looked into.
                    part.seen = part.seen.max(link.facts.size);
                    part.modified = link.facts.modified;
                    part.index = Some(link.index);
                    part.whole = link.index > 0;
                }
                None => {
                    part.index = None;
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

    fn remember_older(&mut self, chain: &[Link]) {
        let Some(back) = self.parts().last().map(|part| part.id) else { return };
        if let Some(at) = chain.iter().position(|link| link.facts.id == back) {
            self.older = chain[at + 1..].iter().map(|link| link.facts.id).collect();
        }
    }

    /// If the newest known file was cut: puts copies of what it held into the plan, before it. Answers how many of
    /// the links, from the oldest on, do not come after it.
    fn take_copies(&mut self, links: Vec<Link>, named: bool, was_cut: bool) -> Result<usize, LogFault> {
        let Some(cut) = self.cut(links, named, was_cut)? else { return Ok(0) };
        let Some(Segment::Part(mut back)) = self.plan.pop_back() else { return Ok(0) };
        let front_was_back = self.plan.is_empty();
        if front_was_back {
            self.window.clear();
        }
        if let Some(gap) = cut.lost {
            self.plan.push_back(Segment::Gap(gap));
        }
        for (number, link) in cut.copies.iter().enumerate() {
            let mut part = Part::new(link);
            part.copy = true;
            part.offset = if number == 0 { cut.from } else { 0 };
            self.plan.push_back(Segment::Part(part));
        }
        if cut.copies.is_empty() {
            self.plan.push_back(Segment::Truncated);
        }
        back.offset = 0;
        back.seen = 0;
        if let Some(file) = &back.file {
            let facts = file.facts()?;
            (back.seen, back.modified) = (facts.size, facts.modified);
        }
        self.plan.push_back(Segment::Part(back));
        Ok(cut.passed)
    }

    /// Whether the newest known file was cut, and where its bytes are. `links` are the unknown files, the newest
    /// first: those behind it when it is `named`, else all.
    fn cut(&mut self, mut links: Vec<Link>, named: bool, was_cut: bool) -> Result<Option<Cut>, LogFault> {
        let Some(Segment::Part(back)) = self.plan.back() else { return Ok(None) };
        let (offset, seen) = (back.offset, back.seen);
        let opened;
        let file: &dyn LogFile = match &back.file {
            Some(file) => file.as_ref(),
            None if !named => return Ok(None),
            None => match self.open(back.id)? {
                Some(file) => {
                    opened = file;
                    opened.as_ref()
                }
                None => return Ok(None),
            },
        };
        let mut cut = was_cut;
        if !cut && (!named || links.is_empty()) {
            return Ok(None);
        }
        let mut copies = Vec::new();
        for link in &links {
            copies.push(self.open(link.facts.id)?);
        }
        // The newest copy may be one in the making, of what the file holds now.
        if let Some(Some(copy)) = copies.first()
            && named
            && is_copy(copy.as_ref(), file)?
        {
            self.undecided = true;
            links.remove(0);
            copies.remove(0);
        }
        for copy in copies.iter().flatten().filter(|_| named) {
            // What was read stands in a copy, and the file holds something else than the copy.
            cut |= offset == 0 || start::holds(copy.as_ref(), offset, &self.window)?;
        }
        if !cut {
            return Ok(None);
        }
        links.reverse();
        copies.reverse();
        if offset > 0 {
            for (number, copy) in copies.iter().enumerate() {
                if let Some(copy) = copy
                    && start::holds(copy.as_ref(), offset, &self.window)?
                {
                    let mut copies = links.split_off(number);
                    if !named {
                        // What is younger than the copy may be a copy or a successor; it is read as a successor.
                        copies.truncate(1);
                    }
                    return Ok(Some(Cut { copies, from: offset, lost: None, passed: number + 1 }));
                }
            }
        }
        let copies = if named { links } else { Vec::new() };
        let known = if offset > 0 || copies.is_empty() { seen.saturating_sub(offset) } else { 0 };
        let unknown = offset > 0 && !copies.is_empty();
        let lost = (known > 0 || unknown).then_some(Gap {
            bytes: known,
            at_least: true,
            lines: None,
            skipped: false,
        });
        Ok(Some(Cut { copies, from: 0, lost, passed: 0 }))
    }
}

/// Whether the file still holds what the copy was made of. An empty copy tells nothing: it may be just being made.
fn is_copy(copy: &dyn LogFile, file: &dyn LogFile) -> Result<bool, LogFault> {
    let size = copy.facts()?.size;
    start::holds(file, size, &start::window_before(copy, size)?)
}
