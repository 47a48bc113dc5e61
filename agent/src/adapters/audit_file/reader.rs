//! Reading the trail: backwards for a listing, forwards for its exact bytes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use ops_domain::ports::{AuditLine, AuditQuery, AuditTrail};
use ops_domain::{Error, Reason, Result};
use ops_trust::audit::{Line, MAX_LINE_BYTES};

/// The parameter under which a record's target stands.
pub(super) const TARGET: &str = "target";
/// How much of the trail a listing looks through at most.
const SEARCHED_BYTES: u64 = 64 * 1024 * 1024;
const PIECE_BYTES: usize = 256 * 1024;

/// The trail, read only.
#[derive(Clone, Debug)]
pub struct TrailReader {
    path: PathBuf,
}

impl TrailReader {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        Error::new(Reason::StateUnavailable, format!("the audit trail cannot be read: {error}"))
            .fact("file", self.path.display().to_string())
    }

    fn open(&self) -> Result<(File, u64)> {
        let opened = File::open(&self.path).and_then(|file| file.metadata().map(|found| (file, found.len())));
        opened.map_err(|error| self.unreadable(&error))
    }

    fn newest(&self, query: &AuditQuery) -> Result<Vec<AuditLine>> {
        let (file, length) = self.open()?;
        let first = length.saturating_sub(SEARCHED_BYTES);
        let (mut end, mut rest, mut found) = (length, Vec::new(), Vec::new());
        while end > first && found.len() < query.limit {
            let size = (end - first).min(PIECE_BYTES as u64);
            let mut piece = vec![0; usize::try_from(size).unwrap_or(0)];
            end -= size;
            file.read_exact_at(&mut piece, end).map_err(|error| self.unreadable(&error))?;
            piece.append(&mut rest);
            // The first line of a piece may have begun before it.
            let whole = if end == 0 {
                0
            } else {
                piece.iter().position(|byte| *byte == b'\n').map_or(piece.len(), |at| at + 1)
            };
            let lines = piece.get(whole..).unwrap_or_default();
            for line in lines.split(|byte| *byte == b'\n').rev().filter(|line| !line.is_empty()) {
                let Some(line) = Line::parse(line) else { continue };
                if query.since.is_some_and(|since| line.record.ts < since) {
                    return Ok(found);
                }
                let wanted =
                    query.subject.as_ref().is_none_or(|subject| line.record.sub.as_ref() == Some(subject));
                if wanted && found.len() < query.limit {
                    found.push(shown(line));
                }
            }
            piece.truncate(whole);
            if piece.len() > MAX_LINE_BYTES {
                break;
            }
            rest = piece;
        }
        Ok(found)
    }
}

#[async_trait]
impl AuditTrail for TrailReader {
    async fn list(&self, query: AuditQuery) -> Result<Vec<AuditLine>> {
        let reader = self.clone();
        tokio::task::spawn_blocking(move || reader.newest(&query))
            .await
            .unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the listing ended without an answer")))
    }

    async fn read(&self) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (file, length) = self.open()?;
        let reader = self.clone();
        // No file any more: an error was told, and an error ends a stream; it is never a clean end.
        let pieces = unfold((Some(file), 0), move |(file, at)| {
            let reader = reader.clone();
            async move {
                let file = file.filter(|_| at < length)?;
                let read =
                    tokio::task::spawn_blocking(move || piece(&file, at, length).map(|bytes| (file, bytes)));
                match read.await.ok()? {
                    Ok((file, bytes)) => {
                        let next = at + bytes.len() as u64;
                        Some((Ok(Bytes::from(bytes)), (Some(file), next)))
                    }
                    Err(error) => Some((Err(reader.unreadable(&error)), (None, at))),
                }
            }
        });
        Ok(pieces.boxed())
    }
}

/// Whole lines from `at` on.
fn piece(file: &File, at: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let size = usize::try_from(length - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, at)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    if whole == 0 {
        return Err(std::io::Error::other("a line is longer than any line may be, or torn"));
    }
    bytes.truncate(whole);
    Ok(bytes)
}

fn shown(line: Line) -> AuditLine {
    let stage = serde_json::to_value(line.record.stage);
    let stage = stage.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let mut record = line.record;
    AuditLine {
        seq: line.seq,
        at: record.ts,
        stage,
        subject: record.sub.unwrap_or_default(),
        route: record.route.unwrap_or_default(),
        target: record.params.remove(TARGET).unwrap_or_default(),
        decision: record.decision.unwrap_or_default(),
        outcome: record.code.unwrap_or_default(),
        reason: record.reason.unwrap_or_default(),
        operation_id: record.op_id.unwrap_or_default(),
        request_id: record.req_id.unwrap_or_default(),
        peer: record.peer_addr.unwrap_or_default(),
    }
}
