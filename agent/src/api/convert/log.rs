//! Logs between the domain and the wire.

use ops_domain::log::{Batch, Begin, Line, Notice, NoticeKind, SourceFile, SourceId, Stream, TailRequest};
use ops_domain::{Error, Reason, Result};
use ops_proto::v1;

use super::{problem, services, timestamp};

/// Last lines when nobody says how many.
const LINES: u32 = 50;
/// Longest cursor, in bytes; the domain has the exact limit.
const CURSOR_BYTES: usize = 64 * 1024;

/// What to read.
///
/// # Errors
/// `INVALID_ARGUMENT`, `CURSOR_INVALID`.
pub fn request(request: v1::TailLogRequest) -> Result<TailRequest> {
    if request.cursor.len().max(request.until_cursor.len()) > CURSOR_BYTES {
        return Err(Error::new(Reason::CursorInvalid, "this cursor cannot be used: it is too long"));
    }
    let from = match (request.cursor.as_str(), request.lines) {
        ("", lines) => Begin::Last(lines.unwrap_or(LINES)),
        (_, Some(_)) => {
            return Err(Error::new(
                Reason::InvalidArgument,
                "a cursor and a number of lines exclude each other",
            )
            .effect("nothing was done"));
        }
        ("start", None) => Begin::Start,
        (cursor, None) => Begin::Cursor(cursor.to_owned()),
    };
    let stream = match v1::LogStream::try_from(request.stream) {
        Ok(v1::LogStream::Unspecified) => None,
        Ok(v1::LogStream::Out) => Some(Stream::Out),
        Ok(v1::LogStream::Err) => Some(Stream::Err),
        Err(_) => {
            return Err(
                Error::new(Reason::InvalidArgument, "there is no such stream").effect("nothing was done")
            );
        }
    };
    Ok(TailRequest {
        services: services(&request.services)?,
        stream,
        from,
        follow: request.follow,
        until: Some(request.until_cursor).filter(|cursor| !cursor.is_empty()),
        skip_on_lag: request.skip_on_lag,
        raw: request.raw,
    })
}

/// Sources.
#[must_use]
pub fn sources(files: &[SourceFile]) -> v1::ListSourcesResponse {
    v1::ListSourcesResponse { sources: files.iter().map(source).collect() }
}

/// A batch.
#[must_use]
pub fn batch(batch: Batch) -> v1::TailLogResponse {
    let id = batch.source;
    v1::TailLogResponse {
        lines: match &id {
            Some(id) => batch.lines.into_iter().map(|text| line(id, text)).collect(),
            None => Vec::new(),
        },
        notice: batch.notice.map(|text| notice(id.as_ref(), text)),
        cursor: batch.cursor,
    }
}

fn line(id: &SourceId, line: Line) -> v1::LogLine {
    v1::LogLine {
        service: id.service.to_string(),
        stream: stream(id.stream),
        text: line.text,
        offset: line.offset,
        continues: line.continues,
        masked: line.masked,
    }
}

fn notice(id: Option<&SourceId>, notice: Notice) -> v1::LogNotice {
    let mut at_least = false;
    let mut sources = Vec::new();
    let kind = match notice.kind {
        NoticeKind::Start(files) => {
            sources = files.iter().map(source).collect();
            v1::LogNoticeKind::Start
        }
        NoticeKind::Rotated => v1::LogNoticeKind::Rotated,
        NoticeKind::Truncated => v1::LogNoticeKind::Truncated,
        NoticeKind::Gap { at_least: more } => {
            at_least = more;
            v1::LogNoticeKind::Gap
        }
        NoticeKind::End => v1::LogNoticeKind::End,
    };
    v1::LogNotice {
        kind: kind.into(),
        at: Some(timestamp(notice.at)),
        service: id.map(|id| id.service.to_string()).unwrap_or_default(),
        stream: id.map(|id| stream(id.stream)).unwrap_or_default(),
        text: notice.text,
        bytes: notice.bytes,
        lines: notice.lines,
        at_least,
        sources,
    }
}

fn source(file: &SourceFile) -> v1::LogSource {
    v1::LogSource {
        service: file.id.service.to_string(),
        stream: stream(file.id.stream),
        path: file.path.to_string_lossy().into_owned(),
        size_bytes: file.size,
        modified_at: file.modified.map(timestamp),
        rotated: file.rotated,
        unreadable: file.unreadable.as_ref().map(|error| error.message.clone()).unwrap_or_default(),
        problem: file.unreadable.as_ref().map(problem),
    }
}

fn stream(stream: Stream) -> i32 {
    match stream {
        Stream::Out => v1::LogStream::Out.into(),
        Stream::Err => v1::LogStream::Err.into(),
    }
}
