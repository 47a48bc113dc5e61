//! A stream is asked for: what may be read, where each log begins, and what the audit trail is told of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{COUNTED, Source, Tail, Task, WAITING};
use crate::access::{Permission, Principal};
use crate::error::{Error, Reason, Result};
use crate::log::cursor::Cursor;
use crate::log::reader::Start;
use crate::log::{
    Begin, Logs, MAX_FOLLOWERS, MAX_LINES, MAX_STREAMS, Notice, NoticeKind, Ports, SourceFile, SourceId,
    TailRequest, blocking, look, refusal,
};
use crate::ports::{AuditEntry, LogSource};

pub(in crate::log) async fn open(logs: &Logs, principal: &Principal, request: TailRequest) -> Result<Tail> {
    let cursor = match &request.from {
        Begin::Cursor(text) => Some(Cursor::decode(text, &logs.key)?),
        _ => None,
    };
    let until = request.until.as_ref().map(|text| Cursor::decode(text, &logs.key)).transpose()?;
    if let Begin::Last(lines) = request.from
        && lines > MAX_LINES
    {
        return Err(invalid(format!("{lines} lines are too many: at most {MAX_LINES}")));
    }
    if until.is_some() && request.follow {
        return Err(invalid("following and an end exclude each other".to_owned()));
    }
    let mut asked = request.services.clone();
    if let Some(cursor) = cursor.as_ref().filter(|_| asked.is_empty()) {
        asked.extend(cursor.positions.keys().map(|source| source.service.clone()));
        asked.dedup();
    }
    let services = logs.allowed(principal, &asked, Permission::LogRead)?;
    if request.raw {
        logs.allowed(principal, &services, Permission::LogRaw)?;
    }
    let mut places = logs.places.of(&services, request.stream).await?;
    if let Some(cursor) = &cursor {
        // A cursor of one stream goes on with that one.
        let known = |source: &SourceId| cursor.positions.contains_key(source);
        if places.iter().any(|place| known(&place.source)) {
            places.retain(|place| known(&place.source));
        }
    }
    if places.is_empty() {
        return Err(Error::new(Reason::LogNotFound, "there is no log that you may read")
            .next(&["opsctl", "log", "sources"]));
    }
    let subject = principal.subject.as_str();
    let permit = logs.used.take(subject.to_owned(), MAX_STREAMS).ok_or_else(|| {
        let sentence = format!(
            "{} has {MAX_STREAMS} log streams open, the most there may be",
            principal.subject.short()
        );
        Error::new(Reason::LimitExceeded, sentence).retryable()
    })?;
    let intent = if request.raw { Some(intent(principal, &request, &services)) } else { None };
    if let Some(entry) = &intent {
        logs.ports.audit.append(entry.clone()).await?;
    }
    let opened = begin(logs, places, &request, cursor, until).await;
    let (sources, start) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            result(&logs.ports, intent, error.reason.name(), 0).await?;
            return Err(error);
        }
    };
    let (out, batches) = mpsc::channel(WAITING);
    let failure = Arc::new(Mutex::new(None));
    let end = CancellationToken::new();
    let mut task = Task {
        ports: logs.ports.clone(),
        key: logs.key.clone(),
        sources,
        out,
        follow: request.follow,
        skip_on_lag: request.skip_on_lag,
        raw: request.raw,
        bytes: 0,
        expires_at: principal.expires_at,
    };
    let (ended, closing, slot) = (end.clone(), logs.closing.clone(), Arc::clone(&failure));
    tokio::spawn(async move {
        let _permit = permit;
        let run = task.run(start);
        let outcome = tokio::select! {
            biased;
            () = ended.cancelled() => None,
            () = closing.cancelled() => Some(Err(Error::new(Reason::ShuttingDown, "the agent is shutting down").retryable())),
            outcome = run => Some(outcome),
        };
        let mut failed = outcome.and_then(Result::err);
        let code = failed.as_ref().map_or("OK", |error: &Error| error.reason.name());
        if let Err(error) = result(&task.ports, intent, code, task.bytes).await {
            failed = failed.or(Some(error));
        }
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = failed;
        // The channel closes last, so that whoever sees its end sees the failure too.
        drop(task);
    });
    Ok(Tail { batches, failure, _end: end.drop_guard() })
}

fn invalid(sentence: String) -> Error {
    Error::new(Reason::InvalidArgument, sentence).effect("nothing was done")
}

fn intent(principal: &Principal, request: &TailRequest, services: &[crate::ids::ServiceName]) -> AuditEntry {
    let names: Vec<&str> = services.iter().map(crate::ids::ServiceName::as_str).collect();
    AuditEntry {
        stage: "intent".to_owned(),
        subject: principal.subject.to_string(),
        roles: principal.binding.roles.iter().map(|role| role.name().to_owned()).collect(),
        route: "ops.v1.LogService/TailLog".to_owned(),
        rule: Permission::LogRaw.name().to_owned(),
        decision: "allowed".to_owned(),
        target: names.join(","),
        params: serde_json::json!({
            "raw": true,
            "follow": request.follow,
            "stream": request.stream.map(crate::log::Stream::name),
        }),
        request_id: principal.request_id.clone(),
        peer: principal.peer.clone(),
        certificate_sha256: principal.certificate_sha256.clone(),
        ..AuditEntry::default()
    }
}

async fn result(ports: &Ports, intent: Option<AuditEntry>, outcome: &str, bytes: u64) -> Result<()> {
    let Some(mut entry) = intent else { return Ok(()) };
    entry.stage = "result".to_owned();
    entry.outcome = outcome.to_owned();
    entry.params["bytes"] = bytes.into();
    ports.audit.append(entry).await
}

/// Opens every source. Those that cannot be read are told with the start; when none can, the first one's error is.
async fn begin(
    logs: &Logs,
    places: Vec<crate::log::places::Place>,
    request: &TailRequest,
    cursor: Option<Cursor>,
    until: Option<Cursor>,
) -> Result<(Vec<Source>, Notice)> {
    let (files, key, used) = (Arc::clone(&logs.ports.files), logs.key.clone(), Arc::clone(&logs.used));
    let (from, follow) = (request.from.clone(), request.follow);
    let (sources, all, lines) = blocking(move || {
        let mut sources = Vec::new();
        let mut all = Vec::new();
        let mut lines = Some(0);
        for place in places {
            let mut file = look(files.as_ref(), place);
            if file.unreadable.is_none() {
                let start = match &from {
                    Begin::Last(lines) => Start::Last(*lines),
                    Begin::Start => Start::Beginning,
                    Begin::Cursor(_) => {
                        match cursor.as_ref().and_then(|cursor| cursor.positions.get(&file.id)) {
                            Some(position) => Start::At(*position),
                            None => Start::Beginning,
                        }
                    }
                };
                let until = until.as_ref().and_then(|until| until.positions.get(&file.id).copied());
                let opened = Source::open(&files, &file, start, follow, until, &key);
                match opened {
                    Ok(mut source) => {
                        if follow {
                            let name = file.path.to_string_lossy().into_owned();
                            let permit = used.take(name, MAX_FOLLOWERS).ok_or_else(|| {
                                let sentence =
                                    format!("{MAX_FOLLOWERS} follow this log already, the most there may be");
                                Error::new(Reason::LimitExceeded, sentence)
                                    .about(&file.id.service)
                                    .retryable()
                            })?;
                            source._permit = Some(permit);
                        }
                        sources.push(source);
                    }
                    Err(fault) => file.unreadable = Some(refusal(&file.id, &file.path, fault)),
                }
            }
            lines = match (lines, count(files.as_ref(), &file)) {
                (Some(sum), Some(count)) => Some(sum + count),
                _ => None,
            };
            all.push(file);
        }
        if sources.is_empty() {
            let first = all.into_iter().find_map(|file| file.unreadable);
            return Err(first.unwrap_or_else(|| Error::new(Reason::LogNotFound, "there is no log")));
        }
        Ok((sources, all, lines))
    })
    .await?;
    let unreadable = all.iter().filter(|file| file.unreadable.is_some()).count();
    let text = match unreadable {
        0 => String::new(),
        count => format!("{count} of {} logs cannot be read", all.len()),
    };
    let notice = Notice { kind: NoticeKind::Start(all), at: logs.ports.clock.now(), text, bytes: 0, lines };
    Ok((sources, notice))
}

/// Lines of the current file, where counting them is cheap.
fn count(files: &dyn LogSource, file: &SourceFile) -> Option<u64> {
    if file.unreadable.is_some() {
        return Some(0);
    }
    if file.size > COUNTED {
        return None;
    }
    let open = files.open(&file.path, 0).ok()?;
    crate::log::reader::count_lines(open.as_ref(), 0, file.size).ok()
}
