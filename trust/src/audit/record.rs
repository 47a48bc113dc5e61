//! What one line of the trail says.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::key::PublicKey;

/// Longest line, in bytes, its newline included.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// A SHA-256 value, written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// What stands in `prev` of line 0.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = |b: &u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        if text.len() != 64 || !text.as_bytes().iter().all(lower) {
            return Err("not 64 lower-case hex digits");
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |d: u8| if d.is_ascii_digit() { d - b'0' } else { d - b'a' + 10 };
            *byte = pair.iter().fold(0, |value, d| value << 4 | digit(*d));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// What kind of line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Line 0.
    Genesis,
    /// Something is about to change; on disk before it does.
    Intent,
    /// How it ended; also a read that is audited.
    Result,
    /// An intent of which nothing came.
    Abandoned,
    /// Somebody was refused.
    Denied,
    /// The agent found the chain broken and goes on from what it found.
    ChainBreak,
    /// Old lines were removed, on purpose.
    Cut,
    /// A signed statement over all lines before it.
    Checkpoint,
}

/// When something happened: the wall clock, and what shows that the wall clock was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Wall clock, UTC, nanoseconds.
    pub ts: Timestamp,
    /// Monotonic clock since boot, nanoseconds.
    pub mono_ns: u64,
    /// The kernel's boot id.
    pub boot_id: String,
}

/// One event. What does not apply is left out of the line; secrets never get here: `params` holds `redacted` for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Wall clock, UTC, nanoseconds.
    pub ts: Timestamp,
    /// Monotonic clock since boot, nanoseconds.
    pub mono_ns: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// What kind of line.
    pub stage: Stage,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub req_id: Option<String>,
    /// The operation's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op_id: Option<String>,
    /// Where the caller's connection came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_addr: Option<String>,
    /// SHA-256 of the caller's certificate, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_sha256: Option<String>,
    /// Who called, `user/alice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub: Option<String>,
    /// The caller's roles at that moment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The rule of the policy that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The rpc or REST route that was matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The call's parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// `allow` or `deny`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// The status code that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The reason that was answered, or that the caller gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A digest of what was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect_digest: Option<String>,
    /// Line 0 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<Genesis>,
    /// Checkpoint lines only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
}

impl Record {
    /// An event of this kind with nothing else said yet.
    pub fn new(stage: Stage, moment: Moment) -> Self {
        Self {
            ts: moment.ts,
            mono_ns: moment.mono_ns,
            boot_id: moment.boot_id,
            stage,
            req_id: None,
            op_id: None,
            peer_addr: None,
            cert_sha256: None,
            sub: None,
            roles: Vec::new(),
            rule: None,
            route: None,
            params: BTreeMap::new(),
            decision: None,
            code: None,
            reason: None,
            effect_digest: None,
            genesis: None,
            checkpoint: None,
        }
    }
}

/// What line 0 says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Version of this format: 1.
    pub version: u32,
    /// Whose trail it is, `agent/auction-1`.
    pub agent: String,
    /// The public key of epoch 0.
    pub audit_root: PublicKey,
}

/// What a checkpoint says; its signature stands at the end of the line and covers everything before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The epoch whose key signs it.
    pub epoch: u64,
    /// How many lines stand before it.
    pub count: u64,
    /// The hash of the line before it.
    pub head: Hash,
    /// The public key of the next epoch.
    pub next: PublicKey,
}

/// A whole line, as it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 0.
    pub seq: u64,
    /// What it says. Fields that a newer agent adds are tolerated: the hash covers them.
    #[serde(flatten)]
    pub record: Record,
    /// The hash of the line before.
    pub prev: Hash,
    /// Checkpoint lines only: 64 bytes in URL-safe base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sig: Option<String>,
}

impl Line {
    /// Reads one line, with or without its newline.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_LINE_BYTES { None } else { serde_json::from_slice(bytes).ok() }
    }
}

/// A line without newline and signature. JSON already escapes what is below 0x20; DEL, the C1 controls, line separators
/// and what turns text around are escaped here, so that a line is harmless on every terminal.
pub(super) fn canonical(seq: u64, record: &Record, prev: Hash) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    struct Unsigned<'a> {
        seq: u64,
        #[serde(flatten)]
        record: &'a Record,
        prev: Hash,
    }
    let json = serde_json::to_string(&Unsigned { seq, record, prev })?;
    if json.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        let harmful = character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if harmful {
            // All of them lie in the basic plane, so four digits do; writing into a String cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Ok(escaped)
}
