//! The chain is checked in the client, which believes nothing that the agent says about it.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use ops_proto::v1::audit_service_client::AuditServiceClient;
use ops_proto::v1::{ErrorReason, ReadAuditRequest};
use ops_trust::audit::{Break, BreakReason, MAX_LINE_BYTES, Report, Root, Seen, Verifier};
use ops_trust::key::PublicKey;
use serde_json::json;

use crate::context::{Environment, SeenStore, Store};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{count, date_time};
use crate::session::Session;

/// The trail's name in its folder.
const TRAIL: &str = "trail.jsonl";

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A trail on this machine, file or folder, instead of the agent's answer
    #[arg(long, value_name = "PATH")]
    from: Option<PathBuf>,
    /// The public key of the trail's first epoch, as `opsd init` printed it; else the context's
    #[arg(long, value_name = "KEY")]
    root: Option<PublicKey>,
}

pub(super) async fn run(args: Args, session: &Session) -> Result<Exit> {
    let root = args.root;
    let found = match &args.from {
        Some(path) => file(path, root.or_else(|| named_root(session)))?,
        None => agent(root, session).await?,
    };
    match found.checked {
        Ok(report) => {
            if let (Some(store), Some(last)) = (&found.seen, &report.last) {
                store.save(last)?;
            }
            show(&found.what, &report, session)?;
            Ok(Exit::Done)
        }
        Err(broken) => Err(failure(&found.what, &broken, found.from_file, session)?),
    }
}

/// What was checked, and how it ended.
struct Found {
    what: String,
    from_file: bool,
    seen: Option<SeenStore>,
    checked: std::result::Result<Report, Break>,
}

/// The root of a context that was named by flag; the current context may be of another agent than the file.
fn named_root(session: &Session) -> Option<PublicKey> {
    session.shown_context()?;
    session.target().ok()?.audit_root
}

fn file(path: &Path, root: Option<PublicKey>) -> Result<Found> {
    let path = if path.is_dir() { path.join(TRAIL) } else { path.to_owned() };
    let failed = |error| Error::file(&path, &error);
    let mut verifier = Verifier::new(root);
    let read = verifier.read(BufReader::new(File::open(&path).map_err(failed)?)).map_err(failed)?;
    let checked = read.and_then(|()| verifier.finish());
    Ok(Found { what: path.display().to_string(), from_file: true, seen: None, checked })
}

async fn agent(root: Option<PublicKey>, session: &Session) -> Result<Found> {
    let target = session.target()?;
    let store = Store::open(&session.choice(), &Environment::capture()).ok();
    let seen = store.as_ref().and_then(|store| SeenStore::of(store, target));
    if seen.is_none() {
        session
            .output
            .note("note: no place to remember this agent's checkpoint; a shorter history is not found");
    }
    let before: Option<Seen> = seen.as_ref().map(SeenStore::load).transpose()?.flatten();
    let mut verifier = Verifier::new(root.or(target.audit_root));
    if let Some(before) = before {
        verifier = verifier.expecting(before);
    }
    let mut client = AuditServiceClient::new(session.connect().await?);
    let mut stream = client.read_audit(ReadAuditRequest {}).await?.into_inner();
    let mut lines = Lines { verifier, carry: Vec::new() };
    let mut checked = Ok(());
    while let Some(part) = stream.message().await? {
        checked = lines.take(&part.lines);
        if checked.is_err() {
            break;
        }
    }
    let checked = checked.and_then(|()| lines.finish());
    let what = target.agent.as_ref().map_or_else(|| "the agent".to_owned(), ToString::to_string);
    Ok(Found { what, from_file: false, seen, checked })
}

/// Lines out of messages, however they are cut.
struct Lines {
    verifier: Verifier,
    carry: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), Break> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.carry.extend_from_slice(piece);
            // A line that never ends is handed over too long, and refused for that.
            if piece.ends_with(b"\n") || self.carry.len() > MAX_LINE_BYTES {
                self.verifier.line(&self.carry)?;
                self.carry.clear();
            }
        }
        Ok(())
    }

    fn finish(mut self) -> std::result::Result<Report, Break> {
        if !self.carry.is_empty() {
            self.verifier.line(&self.carry)?;
        }
        self.verifier.finish()
    }
}

fn show(what: &str, report: &Report, session: &Session) -> Result<()> {
    let output = &session.output;
    if output.is_document() {
        let mut document = json!({
            "kind": "audit_verification",
            "version": ops_proto::json::VERSION,
            "outcome": "intact",
            "trail": what,
        });
        if let (Some(document), Ok(serde_json::Value::Object(fields))) =
            (document.as_object_mut(), serde_json::to_value(report))
        {
            document.extend(fields);
        }
        return output.value(&document);
    }
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    output.line(&format!(
        "INTACT  {what}: {}, {} signed",
        count(number(report.lines), "line", "lines"),
        count(number(report.checkpoints), "checkpoint", "checkpoints"),
    ))?;
    if let (Some(first), Some(last)) = (report.first_ts, report.last_ts) {
        let zone = output.zone();
        output.line(&format!("from {} to {}", date_time(first, zone), date_time(last, zone)))?;
    }
    match report.root {
        Root::Given | Root::FromSeen => {}
        Root::FromLine0 | Root::FromFirstLine => output.note(
            "note: no root key was given, so line 0 is believed about its own; a bundle and `opsctl agent info` name it",
        ),
    }
    if report.unsigned_tail > 0 {
        output.note(&format!(
            "note: {} after the last checkpoint; nothing is promised about these yet",
            count(number(report.unsigned_tail), "line", "lines"),
        ));
    }
    Ok(())
}

fn failure(what: &str, broken: &Break, from_file: bool, session: &Session) -> Result<Error> {
    if session.output.is_document() {
        session.output.value(&json!({
            "kind": "audit_verification",
            "version": ops_proto::json::VERSION,
            "outcome": "broken",
            "trail": what,
            "line": broken.line,
            "break": broken.reason.to_string(),
        }))?;
    }
    let error = Error::new(
        ErrorReason::AuditBroken,
        format!("the audit trail of {what} is broken at line {}: {}", broken.line, broken.reason),
    )
    .reported();
    Ok(match broken.reason {
        BreakReason::OtherRoot { .. } if from_file => error.effect("is the context of the same agent?"),
        _ if from_file => error,
        _ => error.next_with(&["opsctl", "audit", "export"], "keep the evidence"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trail_is_broken_however_it_is_cut() {
        for bytes in [&b"{}\n"[..], b"garbage", b"", &[b'x'; MAX_LINE_BYTES + 2]] {
            let mut lines = Lines { verifier: Verifier::new(None), carry: Vec::new() };
            let mut checked = Ok(());
            for byte in bytes.chunks(7) {
                checked = checked.and_then(|()| lines.take(byte));
            }
            assert!(checked.and_then(|()| lines.finish()).is_err());
        }
    }
}
