//! What a backup says of itself: `manifest.json`, format version 1.
//!
//! It comes from outside when it is read, so it is bounded, checked field by field, and believed only when its
//! numbers fit each other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{BackupId, is_name};
use crate::ports::backup_store::{Frame, MANIFEST_MAX};
use crate::ports::database::{Capabilities, Collection, Index};
use crate::ports::dump::DOCUMENT_MAX;

/// The first field of every manifest.
pub const FORMAT: &str = "opsd-backup";
/// The version that this build writes, and the only one that it reads.
pub const VERSION: u32 = 1;
/// The uncompressed size at which a segment is full; one document more may still be in it.
pub const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

const SEGMENT_MAX: u64 = (SEGMENT_BYTES + DOCUMENT_MAX) as u64;
const COLLECTIONS_MAX: usize = 100_000;
const NAME_MAX: usize = 1024;

/// All that a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The backup's id, and its folder's name.
    pub id: BackupId,
    /// Who made it.
    pub agent: Maker,
    /// The operation that made it.
    pub operation: String,
    /// The database that was read.
    pub database: String,
    /// The server that was read.
    pub server: Capabilities,
    /// `per-collection`: each collection is whole, they are not of one instant.
    pub consistency: String,
    /// `zstd`: each segment is a frame of its own.
    pub codec: String,
    /// Why it was made.
    pub purpose: Purpose,
    /// The caller's word for it; may be empty.
    pub tag: String,
    /// Whether all is in it.
    pub state: Completeness,
    /// Wall clock, UTC.
    pub started_at: Timestamp,
    /// Wall clock, UTC.
    pub finished_at: Timestamp,
    /// Monotonic clock.
    pub took_ms: u64,
    /// Sorted by name.
    pub collections: Vec<CollectionRecord>,
    /// Collections that were there at the beginning and gone at the end.
    pub missing: Vec<String>,
    /// For people.
    pub warnings: Vec<String>,
    /// The agent's newest backup before this one.
    pub previous: Option<BackupId>,
}

/// Who made a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maker {
    /// The agent's id.
    pub id: String,
    /// Its version.
    pub version: String,
}

/// Why a backup was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Someone asked for it.
    Manual,
    /// Before a restore.
    Safety,
}

/// Whether all is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// Yes.
    Ok,
    /// Yes, and there is something to read.
    OkWithWarnings,
    /// A collection went away while it was made.
    Partial,
}

/// A collection in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionRecord {
    /// Its name.
    pub name: String,
    /// The server's id of it; may be empty.
    pub uuid: String,
    /// Its options, BSON in hex.
    pub options: String,
    /// Its indexes, that of `_id` among them.
    pub indexes: Vec<IndexRecord>,
    /// How many documents.
    pub documents: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Compressed.
    pub stored: u64,
    /// Of its documents in the order of the file, hex.
    pub crc64: String,
    /// Of its documents in any order, hex.
    pub digest: String,
    /// When it was read to its end.
    pub read_at: Timestamp,
    /// Its file.
    pub file: String,
    /// In the order of the file, without holes.
    pub segments: Vec<Segment>,
}

/// An index in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexRecord {
    /// Its name.
    pub name: String,
    /// As listed, BSON in hex.
    pub spec: String,
}

/// One zstd frame of whole documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// In its file.
    pub offset: u64,
    /// Uncompressed.
    pub bytes: u64,
    /// Compressed.
    pub stored: u64,
    /// How many documents.
    pub documents: u64,
    /// BLAKE3 of the compressed bytes, hex.
    pub hash: String,
}

/// Why bytes are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than any that this agent reads.
    #[error("it is longer than {MANIFEST_MAX} bytes")]
    TooLong,
    /// Not JSON, or not of this shape.
    #[error("it cannot be read: {0}")]
    Shape(String),
    /// Not a manifest of ours.
    #[error("it is not a manifest of opsd")]
    Foreign,
    /// Of another version.
    #[error("its format version is {0}, this agent reads {VERSION}")]
    Version(u64),
    /// Its parts do not fit each other.
    #[error("{0}")]
    Inconsistent(String),
}

impl Manifest {
    /// Parses and checks it. `id` is the name of the folder in which it lies.
    ///
    /// # Errors
    /// When anything about it is not as it should be.
    pub fn parse(bytes: &[u8], id: &BackupId) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
        }
        if bytes.len() as u64 > MANIFEST_MAX {
            return Err(ManifestError::TooLong);
        }
        let shape = |error: serde_json::Error| ManifestError::Shape(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(shape)?;
        if head.format != FORMAT {
            return Err(ManifestError::Foreign);
        }
        if head.version != u64::from(VERSION) {
            return Err(ManifestError::Version(head.version));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(shape)?;
        manifest.check(id)?;
        Ok(manifest)
    }

    /// The bytes that are written.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Strings, numbers and lists only: this cannot fail; an empty manifest would not parse and so not publish.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// All documents.
    #[must_use]
    pub fn documents(&self) -> u64 {
        self.collections.iter().fold(0, |sum, one| sum.saturating_add(one.documents))
    }

    /// All uncompressed bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.collections.iter().fold(0, |sum, one| sum.saturating_add(one.bytes))
    }

    /// All compressed bytes.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.collections.iter().fold(0, |sum, one| sum.saturating_add(one.stored))
    }

    fn check(&self, id: &BackupId) -> Result<(), ManifestError> {
        let wrong = |text: String| Err(ManifestError::Inconsistent(text));
        if self.id != *id {
            return wrong(format!("it is the manifest of {}", self.id));
        }
        if self.codec != "zstd" {
            return wrong("its codec is not zstd".to_owned());
        }
        if !is_database_name(&self.database) || (!self.tag.is_empty() && !is_name(&self.tag)) {
            return wrong("its database or tag is not a name".to_owned());
        }
        if self.collections.is_empty() || self.collections.len() > COLLECTIONS_MAX {
            return wrong(format!("it has {} collections", self.collections.len()));
        }
        if self.state != Completeness::Partial && !self.missing.is_empty() {
            return wrong("collections are missing, and it says that none is".to_owned());
        }
        for (number, collection) in self.collections.iter().enumerate() {
            if number > 0 && self.collections[number - 1].name >= collection.name {
                return wrong("its collections are not sorted".to_owned());
            }
            if let Err(text) = collection.check(number) {
                return wrong(format!("collection {}: {text}", collection.name.escape_debug()));
            }
        }
        Ok(())
    }
}

impl CollectionRecord {
    /// The collection as a server would list it.
    ///
    /// # Errors
    /// When its options or an index are not BSON in hex; a manifest that was parsed has none such.
    pub fn collection(&self) -> Result<Collection, ManifestError> {
        let bson = |text: &str, what: &str| {
            unhex(text)
                .ok_or_else(|| ManifestError::Inconsistent(format!("{what} of {} is not hex", self.name)))
        };
        let indexes = self
            .indexes
            .iter()
            .map(|index| Ok(Index { name: index.name.clone(), spec: bson(&index.spec, &index.name)? }))
            .collect::<Result<_, ManifestError>>()?;
        Ok(Collection {
            name: self.name.clone(),
            kind: "collection".to_owned(),
            uuid: self.uuid.clone(),
            options: bson(&self.options, "options")?,
            indexes,
        })
    }

    /// The name of the file of the collection of this number.
    #[must_use]
    pub fn file_name(number: usize) -> String {
        format!("c{:05}.zst", number + 1)
    }

    fn check(&self, number: usize) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > NAME_MAX || self.name.contains('\0') {
            return Err("its name is not one".to_owned());
        }
        if self.file != Self::file_name(number) {
            return Err(format!("its file is not {}", Self::file_name(number)));
        }
        if !is_hex(&self.crc64, 16) || !is_hex(&self.digest, 32) {
            return Err("a checksum is not hex".to_owned());
        }
        let documents_in = |text: &str| unhex(text).is_some_and(|bytes| is_document(&bytes));
        if !documents_in(&self.options) || !self.indexes.iter().all(|index| documents_in(&index.spec)) {
            return Err("options or indexes are not documents".to_owned());
        }
        let (mut offset, mut bytes, mut documents) = (0_u64, 0_u64, 0_u64);
        for segment in &self.segments {
            let sizes = (1..=SEGMENT_MAX).contains(&segment.bytes)
                && segment.stored > 0
                // zstd never needs more than this for what it cannot compress.
                && segment.stored <= segment.bytes + segment.bytes / 128 + 1024
                && (1..=segment.bytes / 5).contains(&segment.documents);
            if segment.offset != offset || !sizes || !is_hex(&segment.hash, 64) {
                return Err(format!("the segment at {offset} is not possible"));
            }
            let sums = offset
                .checked_add(segment.stored)
                .zip(bytes.checked_add(segment.bytes))
                .zip(documents.checked_add(segment.documents));
            let Some(((next_offset, next_bytes), next_documents)) = sums else {
                return Err("its segments are too large".to_owned());
            };
            (offset, bytes, documents) = (next_offset, next_bytes, next_documents);
        }
        if (offset, bytes, documents) != (self.stored, self.bytes, self.documents) {
            return Err("its segments do not add up".to_owned());
        }
        Ok(())
    }
}

impl Segment {
    /// As the store knows it.
    #[must_use]
    pub fn frame(&self) -> Frame {
        Frame { offset: self.offset, bytes: self.bytes, stored: self.stored, hash: self.hash.clone() }
    }

    pub(super) fn of(frame: Frame, documents: u64) -> Self {
        Self { offset: frame.offset, bytes: frame.bytes, stored: frame.stored, documents, hash: frame.hash }
    }
}

/// A name of a database that every server takes: 1 to 63 of `A-Z a-z 0-9 _ -`.
#[must_use]
pub fn is_database_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// Bytes in hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

fn is_document(bytes: &[u8]) -> bool {
    super::digest::first_document(bytes).is_some_and(|document| document.len() == bytes.len())
}

#[cfg(test)]
pub(super) mod tests;
