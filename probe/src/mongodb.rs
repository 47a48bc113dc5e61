//! MongoDB: `hello`, then `ping`, as OP_MSG, without credentials; both are answered before authentication.
//!
//! Source: MongoDB's wire protocol, OP_MSG (opcode 2013) with one section of kind 0.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::BODY_LIMIT;
use crate::sample::{Attempt, Failure, Verdict, shown};
use crate::stream::connect;
use crate::target::SocketTarget;

const OP_MSG: i32 = 2013;

pub(crate) async fn ping(target: &SocketTarget, attempt: &mut Attempt) -> Verdict {
    let mut stream = connect(target, attempt).await?;
    let (hello, took) = attempt.phase("waiting for hello", command(&mut stream, "hello", 1)).await?;
    attempt.timings.first_byte = Some(took);
    let hello = hello?;
    if hello.writable == Some(false) {
        return Err((Failure::Database, "it answers but takes no writes (not the primary)".to_owned()));
    }
    let (ping, took) = attempt.phase("waiting for ping", command(&mut stream, "ping", 2)).await?;
    ping?;
    Ok(format!("MongoDB {target} ping in {}", shown(took)))
}

async fn command(stream: &mut TcpStream, name: &str, id: i32) -> Result<Answer, (Failure, String)> {
    let gone = |error: std::io::Error| (Failure::Protocol, format!("the connection broke: {error}"));
    stream.write_all(&message(name, id)).await.map_err(gone)?;
    let mut head = [0; 16];
    stream.read_exact(&mut head).await.map_err(gone)?;
    let word = |at: usize| i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let strange = || (Failure::Protocol, "what answers there does not speak MongoDB's protocol".to_owned());
    let length = usize::try_from(word(0)).map_err(|_| strange())?;
    if !(16 + 5 + 5..=BODY_LIMIT).contains(&length) || word(8) != id || word(12) != OP_MSG {
        return Err(strange());
    }
    let mut body = vec![0; length - 16];
    stream.read_exact(&mut body).await.map_err(gone)?;
    let document = body.get(5..).filter(|_| body[4] == 0).ok_or_else(strange)?;
    let answer = Answer::parse(document).ok_or_else(strange)?;
    if !answer.ok {
        let why = answer.error.unwrap_or_else(|| "without saying why".to_owned());
        return Err((Failure::Database, format!("{name} was refused: {why}")));
    }
    Ok(answer)
}

/// `{NAME: 1, $db: "admin"}` in an OP_MSG.
fn message(name: &str, id: i32) -> Vec<u8> {
    let mut document = vec![0; 4];
    document.push(0x10);
    document.extend_from_slice(name.as_bytes());
    document.push(0);
    document.extend_from_slice(&1_i32.to_le_bytes());
    document.extend_from_slice(b"\x02$db\0\x06\0\0\0admin\0\0");
    let size = i32::try_from(document.len()).unwrap_or(0);
    document[..4].copy_from_slice(&size.to_le_bytes());
    let mut bytes = Vec::new();
    for word in [16 + 5 + size, id, 0, OP_MSG, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&document);
    bytes
}

/// What is looked at in a reply.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    ok: bool,
    error: Option<String>,
    writable: Option<bool>,
}

impl Answer {
    /// Walks the top level of a BSON document; `None` when it is not one.
    fn parse(document: &[u8]) -> Option<Self> {
        let mut answer = Answer::default();
        let size = usize::try_from(i32_at(document, 0)?).ok()?;
        if size != document.len() || document.last() != Some(&0) {
            return None;
        }
        let mut at = 4;
        while at < size - 1 {
            let kind = *document.get(at)?;
            let name_end = at + 1 + document.get(at + 1..)?.iter().position(|byte| *byte == 0)?;
            let name = document.get(at + 1..name_end)?;
            let value = document.get(name_end + 1..)?;
            let length = length(kind, value)?;
            let value = value.get(..length)?;
            match (name, kind) {
                (b"ok", 0x01) => answer.ok = f64::from_le_bytes(value.try_into().ok()?) == 1.0,
                (b"ok", 0x10) => answer.ok = i32_at(value, 0)? == 1,
                (b"ok", 0x08) => answer.ok = value == [1],
                (b"isWritablePrimary", 0x08) => answer.writable = Some(value == [1]),
                (b"errmsg", 0x02) => {
                    let text = value.get(4..length - 1)?;
                    answer.error = Some(String::from_utf8_lossy(text).chars().take(200).collect());
                }
                _ => {}
            }
            at = name_end + 1 + length;
        }
        Some(answer)
    }
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The length of a value of this kind (bsonspec.org).
fn length(kind: u8, value: &[u8]) -> Option<usize> {
    let prefixed = |extra: usize| usize::try_from(i32_at(value, 0)?).ok()?.checked_add(extra);
    match kind {
        0x01 | 0x09 | 0x11 | 0x12 => Some(8),
        0x02 => prefixed(4).filter(|length| *length >= 5),
        0x03 | 0x04 => prefixed(0).filter(|length| *length >= 5),
        0x05 => prefixed(5),
        0x06 | 0x0a | 0x7f | 0xff => Some(0),
        0x07 => Some(12),
        0x08 => Some(1),
        0x10 => Some(4),
        0x13 => Some(16),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_the_protocol_says() {
        let bytes = message("ping", 7);
        assert_eq!(usize::try_from(i32_at(&bytes, 0).unwrap()).unwrap(), bytes.len());
        assert_eq!((i32_at(&bytes, 4), i32_at(&bytes, 12)), (Some(7), Some(2013)));
        let document = &bytes[21..];
        assert_eq!(usize::try_from(i32_at(document, 0).unwrap()).unwrap(), document.len());
        assert!(!Answer::parse(document).unwrap().ok);
    }

    #[test]
    fn every_cut_of_a_reply_is_refused_without_a_panic() {
        let mut reply = b"\0\0\0\0\x08isWritablePrimary\0\x01\x02errmsg\0\x03\0\0\0no\0\x01ok\0".to_vec();
        reply.extend_from_slice(&1.0_f64.to_le_bytes());
        reply.push(0);
        let size = i32::try_from(reply.len()).unwrap();
        reply[..4].copy_from_slice(&size.to_le_bytes());
        let whole = Answer::parse(&reply).unwrap();
        assert_eq!(whole, Answer { ok: true, error: Some("no".into()), writable: Some(true) });
        for cut in 0..reply.len() {
            assert_eq!(Answer::parse(&reply[..cut]), None);
        }
        for at in 0..reply.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = reply.clone();
                damaged[at] = value;
                let _ = Answer::parse(&damaged);
            }
        }
    }
}
