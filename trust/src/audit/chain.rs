//! Making the next line of a chain.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::record::{Checkpoint, Genesis, Hash, MAX_LINE_BYTES, Moment, Record, Stage, canonical};
use crate::key::{KeyError, PublicKey, SigningKey};

/// Separates these signatures from all others that an Ed25519 key of ours might make.
const SIGNATURE_CONTEXT: &[u8] = b"opsd audit checkpoint v1\n";
const SIGNATURE_PREFIX: &[u8] = b",\"sig\":\"";
const SIGNATURE_END: &[u8] = b"\"}";
const SIGNATURE_CHARACTERS: usize = 86;

/// The key of one epoch. The file it comes from is erased when its checkpoint is on disk.
#[derive(Debug)]
pub struct Epoch {
    /// The epoch's number, from 0.
    pub number: u64,
    /// Its key.
    pub key: SigningKey,
}

impl Epoch {
    /// Epoch 0 with a new key.
    pub fn first() -> Result<Self, KeyError> {
        Ok(Self { number: 0, key: SigningKey::generate()? })
    }

    /// The name of the file that holds an epoch's key (PKCS#8, PEM, 0600) in the trail's folder: `epoch-0.key`.
    pub fn file_name(number: u64) -> String {
        format!("epoch-{number}.key")
    }

    /// The epoch after this one, with a new key.
    pub fn next(&self) -> Result<Self, KeyError> {
        Ok(Self { number: self.number + 1, key: SigningKey::generate()? })
    }
}

/// Where a chain stands: enough to make its next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainWriter {
    next_seq: u64,
    head: Hash,
    epoch: u64,
    key: PublicKey,
}

/// A line that is made but not yet written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    bytes: Vec<u8>,
    after: ChainWriter,
}

impl Prepared {
    /// The exact bytes to append, newline included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The line's number.
    pub fn seq(&self) -> u64 {
        self.after.next_seq - 1
    }
}

impl ChainWriter {
    /// Begins a chain: line 0, which names the public half of `epoch`'s key.
    pub fn genesis(agent: &str, epoch: &Epoch, moment: Moment) -> Result<Prepared, WriteError> {
        let mut record = Record::new(Stage::Genesis, moment);
        let audit_root = epoch.key.public();
        record.genesis = Some(Genesis { version: 1, agent: agent.to_owned(), audit_root });
        let before = Self { next_seq: 0, head: Hash::ZERO, epoch: epoch.number, key: audit_root };
        before.finish(canonical(0, &record, Hash::ZERO)?.into_bytes(), before.epoch, before.key)
    }

    pub(super) fn at(next_seq: u64, head: Hash, epoch: u64, key: PublicKey) -> Self {
        Self { next_seq, head, epoch, key }
    }

    /// The chain after a line whose bytes are safely on disk.
    pub fn after(written: Prepared) -> Self {
        written.after
    }

    /// Moves on, once the prepared bytes are safely on disk. Fails when the line was prepared from another state: it
    /// would fork the chain.
    pub fn advance(&mut self, written: Prepared) -> Result<(), WriteError> {
        if written.after.next_seq != self.next_seq + 1 {
            return Err(WriteError::NotNext { seq: written.seq(), expected: self.next_seq });
        }
        *self = written.after;
        Ok(())
    }

    /// The number of the next line, which is also how many there are.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The hash of the last line.
    pub fn head(&self) -> Hash {
        self.head
    }

    /// The epoch whose key signs the next checkpoint.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The public half of that key. After a crash, the key file with this public half is the right one: an older one is
    /// to be erased, a newer one is of a step that never happened.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// The next line. Nothing moves until [`ChainWriter::advance`].
    pub fn prepare(&self, record: &Record) -> Result<Prepared, WriteError> {
        if matches!(record.stage, Stage::Genesis | Stage::Checkpoint)
            || record.genesis.is_some()
            || record.checkpoint.is_some()
        {
            return Err(WriteError::Reserved);
        }
        self.finish(canonical(self.next_seq, record, self.head)?.into_bytes(), self.epoch, self.key)
    }

    /// A checkpoint over everything so far, signed by `epoch`, which names the key of the epoch after it. That key has
    /// to be on disk already; `epoch`'s own is to be erased once the line is.
    pub fn prepare_checkpoint(
        &self,
        moment: Moment,
        epoch: &Epoch,
        next: &PublicKey,
    ) -> Result<Prepared, WriteError> {
        if epoch.number != self.epoch || epoch.key.public() != self.key {
            return Err(WriteError::WrongEpoch { expected: self.epoch });
        }
        let mut record = Record::new(Stage::Checkpoint, moment);
        record.checkpoint =
            Some(Checkpoint { epoch: self.epoch, count: self.next_seq, head: self.head, next: *next });
        let mut line = canonical(self.next_seq, &record, self.head)?.into_bytes();
        // The closing brace moves behind the signature.
        line.pop();
        let signature = epoch.key.sign(&signed(&line));
        line.extend_from_slice(SIGNATURE_PREFIX);
        line.extend_from_slice(URL_SAFE_NO_PAD.encode(signature).as_bytes());
        line.extend_from_slice(SIGNATURE_END);
        self.finish(line, self.epoch + 1, *next)
    }

    fn finish(&self, mut line: Vec<u8>, epoch: u64, key: PublicKey) -> Result<Prepared, WriteError> {
        line.push(b'\n');
        if line.len() > MAX_LINE_BYTES {
            return Err(WriteError::TooLong { bytes: line.len() });
        }
        let after = Self { next_seq: self.next_seq + 1, head: Hash::of(&line), epoch, key };
        Ok(Prepared { bytes: line, after })
    }
}

/// Why a line could not be made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The record is longer than a line may be.
    #[error("an audit line of {bytes} bytes: at most {MAX_LINE_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Only this module makes line 0 and checkpoints.
    #[error("line 0 and checkpoints are not written as ordinary records")]
    Reserved,
    /// The key is not the one that the chain expects.
    #[error("the key is not that of epoch {expected}, which the trail expects")]
    WrongEpoch {
        /// The epoch that the chain is in.
        expected: u64,
    },
    /// The line was prepared from another state of the chain.
    #[error("line {seq} cannot follow: the next is {expected}")]
    NotNext {
        /// The line's number.
        seq: u64,
        /// The number that comes next.
        expected: u64,
    },
    /// The record cannot be written as JSON.
    #[error("the record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Splits a checkpoint line (without newline) into the bytes that are signed and the signature.
pub(super) fn split_signature(line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let rest = line.strip_suffix(SIGNATURE_END)?;
    let at = rest.len().checked_sub(SIGNATURE_CHARACTERS)?;
    let (body, signature) = rest.split_at(at);
    let body = body.strip_suffix(SIGNATURE_PREFIX)?;
    Some((signed(body), URL_SAFE_NO_PAD.decode(signature).ok()?))
}

fn signed(body: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, body].concat()
}
