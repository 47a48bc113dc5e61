//! `opsctl audit`: what was done by whom; proof that the trail was not changed; its exact bytes.

use std::time::Duration;

use jiff::Timestamp;
use ops_proto::v1::audit_service_client::AuditServiceClient;
use ops_proto::v1::{AuditRecord, ListAuditRequest, ReadAuditRequest};

use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, parse_duration, timestamp};
use crate::session::Session;

mod verify;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The newest records
    #[command(
        after_help = "Examples:\n  opsctl audit list -n 20\n  opsctl audit list --subject user/ana --since 2h"
    )]
    List(ListArgs),
    /// Check the chain and its signatures, here and not in the agent
    #[command(after_help = "Examples:\n  opsctl audit verify\n  \
        opsctl audit verify --from /var/lib/opsd/audit --root KEY\n\n\
        opsctl remembers the last checkpoint it saw of each agent; a history that has become shorter\n\
        or different since then is found even when it is signed well.")]
    Verify(verify::Args),
    /// The trail's exact bytes, line by line
    #[command(after_help = "Examples:\n  opsctl audit export > trail.jsonl\n  \
        opsctl audit export | jq -r 'select(.stage==\"denied\") | .sub'")]
    Export,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// How many records, newest first
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Only this subject's: user/ana, service/ci-deploy
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only from then on: 15m, 2h, or 2026-11-24T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<Since>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(Timestamp),
}

fn parse_since(text: &str) -> std::result::Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    text.parse().map(Since::At).map_err(|_| "write it like 15m, 2h or 2026-11-24T03:00:00Z".to_owned())
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers; `AUDIT_BROKEN`.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::List(args) => list(args, session).await,
        Verb::Verify(args) => verify::run(args, session).await,
        Verb::Export => export(session).await,
    }
}

async fn list(args: ListArgs, session: &Session) -> Result<Exit> {
    let since = args.since.map(|since| match since {
        Since::At(at) => at,
        Since::Ago(ago) => session.now().checked_sub(ago).unwrap_or(Timestamp::MIN),
    });
    let request = ListAuditRequest {
        limit: args.limit,
        subject: args.subject.unwrap_or_default(),
        since: since
            .map(|at| prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }),
    };
    let answer = session
        .within(async {
            let mut client = AuditServiceClient::new(session.connect().await?);
            Ok(client.list_audit(request).await?.into_inner())
        })
        .await?;
    if session.output.is_document() {
        session.output.document("audit_list", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        "SEQ",
        "TIME",
        "STAGE",
        "SUBJECT",
        "OUTCOME",
        "CALL",
        "OPERATION",
        "+PEER",
        "+REQUEST",
        "TARGET",
    ]);
    for record in &answer.records {
        table.row(row(record, session));
    }
    session.output.table(&table)?;
    Ok(Exit::Done)
}

fn row(record: &AuditRecord, session: &Session) -> [Cell; 10] {
    let at = record.at.as_ref().and_then(timestamp);
    let at = at.map(|at| crate::output::date_time(at, session.output.zone()));
    let outcome = match (record.outcome.as_str(), record.decision.as_str()) {
        ("", "denied") => Cell::new("denied", Tone::Warn),
        ("", _) => Cell::none(),
        ("OK", _) => "OK".into(),
        (reason, _) => Cell::new(reason, Tone::Warn),
    };
    let call = record.route.rsplit('/').next().unwrap_or_default();
    let target = match record.reason.as_str() {
        "" => record.target.clone(),
        reason => format!("{}  \"{reason}\"", record.target),
    };
    [
        record.seq.to_string().into(),
        at.unwrap_or_default().into(),
        record.stage.clone().into(),
        record.subject.clone().into(),
        outcome,
        call.into(),
        record.operation_id.clone().into(),
        record.peer.clone().into(),
        record.request_id.clone().into(),
        target.trim().into(),
    ]
}

async fn export(session: &Session) -> Result<Exit> {
    let mut client = AuditServiceClient::new(session.connect().await?);
    let mut stream = client.read_audit(ReadAuditRequest {}).await?.into_inner();
    while let Some(part) = stream.message().await? {
        session.output.bytes(&part.lines)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_an_age_or_a_moment() {
        assert_eq!(parse_since("2h"), Ok(Since::Ago(Duration::from_secs(7200))));
        let at = Timestamp::from_second(1_795_000_000).unwrap();
        assert_eq!(parse_since("2026-11-18T11:06:40Z"), Ok(Since::At(at)));
        assert!(parse_since("yesterday").is_err());
    }
}
