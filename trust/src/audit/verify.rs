//! Checking a chain, line by line, in bounded memory.

use std::io::{self, BufRead};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{ChainWriter, split_signature};
use super::record::{Hash, Line, MAX_LINE_BYTES, Stage};
use crate::key::PublicKey;

/// A checkpoint that was seen, kept by whoever checks (opsctl keeps one per agent): a history that is shorter later, or
/// another one, is then found even when it is signed well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The line of the checkpoint.
    pub seq: u64,
    /// The hash of that line.
    pub hash: Hash,
    /// The epoch after it.
    pub epoch: u64,
    /// The key of that epoch.
    pub key: PublicKey,
}

/// How the key of epoch 0 was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// It is the one that was given.
    Given,
    /// None was given; it is the one in line 0, which a forger could have written too.
    FromLine0,
    /// The check began behind a checkpoint that had been seen.
    FromSeen,
    /// The check began in the middle, and takes its first line on trust.
    FromFirstLine,
}

/// What was found in a whole and unbroken chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many lines were read.
    pub lines: u64,
    /// How many checkpoints among them; all signatures hold.
    pub checkpoints: u64,
    /// Lines after the last checkpoint: nothing is promised about these.
    pub unsigned_tail: u64,
    /// How the first key was known.
    pub root: Root,
    /// The last checkpoint.
    pub last: Option<Seen>,
    /// When the first line was written.
    pub first_ts: Option<Timestamp>,
    /// When the last line was written.
    pub last_ts: Option<Timestamp>,
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CHAIN_BROKEN at line {line}: {reason}")]
pub struct Break {
    /// The line's number, from 0; for a missing line, the one that should stand there.
    pub line: u64,
    /// What is wrong with it.
    pub reason: BreakReason,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BreakReason {
    /// Not a line of this format.
    #[error("it cannot be read")]
    Unreadable,
    /// Longer than any line.
    #[error("it is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// No newline: the write was torn, or the tail cut.
    #[error("it ends without a newline")]
    Torn,
    /// Its number is not the next one: lines were removed, added or moved.
    #[error("it says it is line {found}: lines were removed, added or moved")]
    Sequence {
        /// The number it carries.
        found: u64,
    },
    /// The line after it says that it once had other bytes.
    #[error("it was changed: the line after it names another hash")]
    Changed,
    /// The chain does not begin with a line 0 of this format.
    #[error("it is no beginning of a trail")]
    NoGenesis,
    /// The trail begins with another key than the one that was given.
    #[error("it names the root {found}, not the one that was given")]
    OtherRoot {
        /// The key it names.
        found: PublicKey,
    },
    /// A checkpoint whose count, head or epoch is not that of the lines before it.
    #[error("its checkpoint does not fit the lines before it")]
    Misfit,
    /// A checkpoint whose signature is not by its epoch's key.
    #[error("its signature is not by the key of its epoch")]
    BadSignature,
    /// The history ends before a checkpoint that was seen earlier.
    #[error("a checkpoint was seen there earlier: the history has become shorter")]
    Shorter,
    /// The line is not the checkpoint that was seen there earlier.
    #[error("another checkpoint was seen there earlier: the history was rewritten")]
    Different,
}

/// Checks lines as they come.
#[derive(Debug)]
pub struct Verifier {
    root: Root,
    given: Option<PublicKey>,
    /// `None` until the first line.
    chain: Option<ChainWriter>,
    expected: Option<Seen>,
    report: Report,
}

impl Verifier {
    /// A check from line 0. `root` is the key from a bundle; without one, line 0 is believed about its own key.
    pub fn new(root: Option<PublicKey>) -> Self {
        Self::start(if root.is_some() { Root::Given } else { Root::FromLine0 }, root, None)
    }

    /// A check that begins behind a checkpoint that was seen.
    pub fn after(seen: &Seen) -> Self {
        let chain = ChainWriter::at(seen.seq + 1, seen.hash, seen.epoch, seen.key);
        Self::start(Root::FromSeen, None, Some(chain))
    }

    /// A check of a tail: the first line has to be line 0 or a checkpoint, and is believed. This is how an agent finds
    /// where its own chain stands without reading all of it.
    pub fn of_tail() -> Self {
        Self::start(Root::FromFirstLine, None, None)
    }

    /// Demands that this checkpoint is found again.
    #[must_use]
    pub fn expecting(mut self, seen: Seen) -> Self {
        self.expected = Some(seen);
        self
    }

    /// Checks the next line, its newline included.
    pub fn line(&mut self, bytes: &[u8]) -> Result<(), Break> {
        let at = self.next_line();
        let broken = |reason| Err(Break { line: at, reason });
        if bytes.len() > MAX_LINE_BYTES {
            return broken(BreakReason::TooLong);
        }
        let Some(body) = bytes.strip_suffix(b"\n") else { return broken(BreakReason::Torn) };
        let Some(line) = Line::parse(body) else { return broken(BreakReason::Unreadable) };
        let (epoch, key) = match self.chain.clone() {
            None => self.first(&line, body)?,
            Some(chain) => self.following(&chain, &line, body)?,
        };
        let hash = Hash::of(bytes);
        let is_checkpoint = line.record.stage == Stage::Checkpoint;
        if let Some(expected) = &self.expected
            && expected.seq == line.seq
            && expected.hash != hash
        {
            return Err(Break { line: line.seq, reason: BreakReason::Different });
        }
        self.chain = Some(ChainWriter::at(line.seq + 1, hash, epoch, key));
        self.report.lines += 1;
        self.report.first_ts.get_or_insert(line.record.ts);
        self.report.last_ts = Some(line.record.ts);
        if is_checkpoint {
            self.report.checkpoints += 1;
            self.report.unsigned_tail = 0;
            self.report.last = Some(Seen { seq: line.seq, hash, epoch, key });
        } else {
            self.report.unsigned_tail += 1;
        }
        Ok(())
    }

    /// Reads a whole stream of lines, never more than [`MAX_LINE_BYTES`] at once. A break in the chain is the inner error.
    pub fn read(&mut self, mut from: impl BufRead) -> io::Result<Result<(), Break>> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = MAX_LINE_BYTES as u64 + 1;
            if io::Read::take(&mut from, limit).read_until(b'\n', &mut line)? == 0 {
                return Ok(Ok(()));
            }
            if let Err(broken) = self.line(&line) {
                return Ok(Err(broken));
            }
        }
    }

    /// Where the chain stands after the lines so far; `None` before the first. The agent writes on from here.
    pub fn position(&self) -> Option<ChainWriter> {
        self.chain.clone()
    }

    /// Ends the check.
    pub fn finish(self) -> Result<Report, Break> {
        let next = self.next_line();
        if self.chain.is_none() {
            return Err(Break { line: 0, reason: BreakReason::NoGenesis });
        }
        match &self.expected {
            Some(seen) if seen.seq >= next => Err(Break { line: next, reason: BreakReason::Shorter }),
            _ => Ok(self.report),
        }
    }

    fn start(root: Root, given: Option<PublicKey>, chain: Option<ChainWriter>) -> Self {
        let report = Report {
            lines: 0,
            checkpoints: 0,
            unsigned_tail: 0,
            root,
            last: None,
            first_ts: None,
            last_ts: None,
        };
        Self { root, given, chain, expected: None, report }
    }

    fn next_line(&self) -> u64 {
        self.chain.as_ref().map_or(0, ChainWriter::next_seq)
    }

    fn first(&self, line: &Line, body: &[u8]) -> Result<(u64, PublicKey), Break> {
        let broken = |reason| Break { line: line.seq, reason };
        if let (Root::FromFirstLine, Some(checkpoint)) = (self.root, &line.record.checkpoint) {
            // Its signature is by a key that is not known here; its shape still has to be right.
            let shaped = line.record.stage == Stage::Checkpoint && split_signature(body).is_some();
            return if shaped {
                Ok((checkpoint.epoch + 1, checkpoint.next))
            } else {
                Err(broken(BreakReason::Misfit))
            };
        }
        let genesis = match &line.record.genesis {
            Some(genesis)
                if line.seq == 0
                    && line.prev == Hash::ZERO
                    && line.record.stage == Stage::Genesis
                    && line.record.checkpoint.is_none()
                    && line.sig.is_none()
                    && genesis.version == 1 =>
            {
                genesis
            }
            _ => return Err(Break { line: 0, reason: BreakReason::NoGenesis }),
        };
        match self.given {
            Some(root) if root != genesis.audit_root => {
                Err(broken(BreakReason::OtherRoot { found: genesis.audit_root }))
            }
            _ => Ok((0, genesis.audit_root)),
        }
    }

    fn following(&self, chain: &ChainWriter, line: &Line, body: &[u8]) -> Result<(u64, PublicKey), Break> {
        let at = chain.next_seq();
        let broken = |reason| Err(Break { line: at, reason });
        if line.seq != at {
            return broken(BreakReason::Sequence { found: line.seq });
        }
        if line.prev != chain.head() {
            return Err(Break { line: at.saturating_sub(1), reason: BreakReason::Changed });
        }
        let is_checkpoint = line.record.stage == Stage::Checkpoint;
        if line.record.stage == Stage::Genesis
            || line.record.genesis.is_some()
            || is_checkpoint != line.record.checkpoint.is_some()
            || is_checkpoint != line.sig.is_some()
        {
            return broken(BreakReason::Misfit);
        }
        let Some(checkpoint) = &line.record.checkpoint else { return Ok((chain.epoch(), chain.key())) };
        if checkpoint.epoch != chain.epoch() || checkpoint.count != at || checkpoint.head != chain.head() {
            return broken(BreakReason::Misfit);
        }
        let Some((signed, signature)) = split_signature(body) else { return broken(BreakReason::Misfit) };
        if !chain.key().verifies(&signed, &signature) {
            return broken(BreakReason::BadSignature);
        }
        Ok((chain.epoch() + 1, checkpoint.next))
    }
}
