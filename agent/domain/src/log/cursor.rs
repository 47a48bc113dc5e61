//! A place in logs that survives rotation, the agent and the client: opaque text, signed, versioned.
//!
//! For each source: device, inode, birth time, offset, the file before it, and a keyed check of the up to 256 bytes before the offset,
//! because a freed inode is given to the next file at once. The check is keyed, and the whole is signed, so that
//! nobody can guess masked secrets by trying cursors.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::{SourceId, Stream};
use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::ports::FileId;

/// Bytes before the offset that are checked.
pub const WINDOW: usize = 256;

const VERSION: u8 = 2;
const SIGNATURE: usize = 12;
const MAX_TEXT: usize = 16 * 1024;
const MAX_SOURCES: u64 = 128;

/// Signs cursors; secret, kept with the agent's state.
#[derive(Clone)]
pub struct CursorKey([u8; 32]);

impl std::fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CursorKey")
    }
}

impl CursorKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The check of the bytes before an offset.
    #[must_use]
    pub fn check(&self, window: &[u8]) -> u64 {
        let hash = blake3::Hasher::new_keyed(&self.0).update(b"window").update(window).finalize();
        hash.as_bytes()[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn signature(&self, body: &[u8]) -> [u8; SIGNATURE] {
        let hash = blake3::Hasher::new_keyed(&self.0).update(b"cursor").update(body).finalize();
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(&hash.as_bytes()[..SIGNATURE]);
        signature
    }
}

/// A place in one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file.
    pub id: FileId,
    /// The next byte to read.
    pub offset: u64,
    /// [`CursorKey::check`] of the bytes before it.
    pub check: u64,
    /// The file's last write when it was read: what was written to last before is older.
    pub modified: Timestamp,
    /// The file before it in the log; `None`: it was the first. What stands between the two later are copies of what
    /// this one held.
    pub behind: Option<FileId>,
}

/// Where to go on, for all followed sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// By source.
    pub positions: BTreeMap<SourceId, Position>,
}

impl Cursor {
    /// As opaque text of `A-Z a-z 0-9 - _`.
    #[must_use]
    pub fn encode(&self, key: &CursorKey) -> String {
        let mut body = vec![VERSION];
        number(&mut body, self.positions.len() as u64);
        for (source, position) in &self.positions {
            let name = source.service.as_str().as_bytes();
            number(&mut body, name.len() as u64);
            body.extend_from_slice(name);
            body.push(u8::from(source.stream == Stream::Err));
            number(&mut body, position.id.device);
            number(&mut body, position.id.inode);
            number(&mut body, position.id.born);
            number(&mut body, position.offset);
            body.extend_from_slice(&position.check.to_be_bytes());
            // Microseconds: what jiff's range allows fits, and ns are not needed to tell older from newer.
            number(&mut body, u64::try_from(position.modified.as_microsecond()).unwrap_or(0));
            body.push(u8::from(position.behind.is_some()));
            if let Some(behind) = position.behind {
                number(&mut body, behind.device);
                number(&mut body, behind.inode);
                number(&mut body, behind.born);
            }
        }
        let signature = key.signature(&body);
        body.extend_from_slice(&signature);
        URL_SAFE_NO_PAD.encode(body)
    }

    /// Reads what [`Cursor::encode`] wrote.
    ///
    /// # Errors
    /// `CURSOR_INVALID` with what is wrong with it.
    pub fn decode(text: &str, key: &CursorKey) -> Result<Self> {
        if text.len() > MAX_TEXT {
            return Err(invalid("it is longer than 16 KiB"));
        }
        let bytes =
            URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("it is damaged: not the text of a cursor"))?;
        let Some((body, signature)) = bytes.split_last_chunk::<SIGNATURE>() else {
            return Err(invalid("it is cut short"));
        };
        if body.first().is_some_and(|version| *version != VERSION) {
            return Err(invalid("it is of another version of the agent, or damaged"));
        }
        if blake3_differs(&key.signature(body), signature) {
            return Err(invalid("it is damaged, or another agent made it"));
        }
        let mut reader = Reader { rest: &body[1..] };
        let count = reader.number()?;
        if count > MAX_SOURCES {
            return Err(invalid("it names too many sources"));
        }
        let mut cursor = Self::default();
        for _ in 0..count {
            let length = reader.number()?;
            let name = reader.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
            let name = std::str::from_utf8(name).map_err(|_| invalid("it is damaged"))?;
            let service = ServiceName::parse(name).map_err(|_| invalid("it is damaged"))?;
            let stream = if reader.bytes(1)? == [1] { Stream::Err } else { Stream::Out };
            let id = FileId { device: reader.number()?, inode: reader.number()?, born: reader.number()? };
            let offset = reader.number()?;
            let check = reader.bytes(8)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            let modified = i64::try_from(reader.number()?).ok();
            let modified = modified.and_then(|at| Timestamp::from_microsecond(at).ok());
            let modified = modified.ok_or_else(|| invalid("it is damaged"))?;
            let behind = match reader.bytes(1)? {
                [0] => None,
                _ => {
                    Some(FileId { device: reader.number()?, inode: reader.number()?, born: reader.number()? })
                }
            };
            let position = Position { id, offset, check, modified, behind };
            cursor.positions.insert(SourceId { service, stream }, position);
        }
        if reader.rest.is_empty() { Ok(cursor) } else { Err(invalid("it is damaged")) }
    }
}

/// Compares all bytes, whatever differs first.
fn blake3_differs(left: &[u8; SIGNATURE], right: &[u8; SIGNATURE]) -> bool {
    left.iter().zip(right).fold(0, |different, (left, right)| different | (left ^ right)) != 0
}

fn invalid(why: &str) -> Error {
    Error::new(Reason::CursorInvalid, format!("this cursor cannot be used: {why}"))
        .effect("nothing was done")
        .next_with(&["opsctl", "log", "tail", "--all"], "begins anew, with the last lines")
}

/// LEB128.
fn number(body: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        body.push(value as u8 | 0x80);
        value >>= 7;
    }
    body.push(value as u8);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or_else(|| invalid("it is cut short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?.first().copied().unwrap_or(0);
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid("it is damaged"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor() -> Cursor {
        let position = |offset| Position {
            id: FileId { device: 64769, inode: 1_234_567, born: 1_764_000_000_123_456_789 },
            offset,
            check: 0xdead_beef_0123_4567,
            modified: "2026-11-24T03:12:09.123456Z".parse().unwrap(),
            behind: (offset > 0).then_some(FileId { device: 64769, inode: offset, born: 0 }),
        };
        let source = |name: &str, stream| SourceId { service: ServiceName::parse(name).unwrap(), stream };
        Cursor {
            positions: BTreeMap::from([
                (source("backend", Stream::Out), position(0)),
                (source("backend", Stream::Err), position(u64::MAX)),
                (source("mongodb", Stream::Out), position(4096)),
            ]),
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let key = CursorKey::new([7; 32]);
        let text = cursor().encode(&key);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        assert_eq!(Cursor::decode(&text, &key).unwrap(), cursor());
        assert_eq!(Cursor::decode(&Cursor::default().encode(&key), &key).unwrap(), Cursor::default());
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        let key = CursorKey::new([7; 32]);
        let text = cursor().encode(&key);
        for bad in ["", "x", "!!!", "AQ", &text[..text.len() - 4], &format!("{text}AA"), &"A".repeat(20_000)]
        {
            assert_eq!(Cursor::decode(bad, &key).unwrap_err().reason, Reason::CursorInvalid, "{bad:.20}");
        }
        assert!(Cursor::decode(&text, &CursorKey::new([8; 32])).is_err());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The unused bits of the last character are the one thing that may differ without being noticed.
            if at + 1 < text.len() {
                assert!(Cursor::decode(&changed, &key).is_err(), "{at}");
            }
        }
    }

    proptest! {
        #[test]
        fn signed_nonsense_is_refused_too(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = CursorKey::new([7; 32]);
            let mut bytes = vec![VERSION];
            bytes.extend(body);
            let signature = key.signature(&bytes);
            bytes.extend(signature);
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(bytes), &key);
        }
    }
}
