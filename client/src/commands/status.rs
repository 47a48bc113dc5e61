//! `opsctl status`: services and checks in one answer, worst first, with the cause on the screen.

use jiff::Timestamp;
use ops_proto::v1::health_service_client::HealthServiceClient;
use ops_proto::v1::{Check, GetStatusRequest, GetStatusResponse, NextCommand, Service, Verdict};

use crate::error::{Result, next_lines};
use crate::exit::Exit;
use crate::output::{Cell, Output, Table, Tone, timestamp, visible};
use crate::session::{Session, short};

mod services;

pub use services::table as service_table;

/// How many lines of stderr are shown; `log tail` has the rest.
const EXCERPT: usize = 3;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  opsctl status\n  opsctl status backend frontend\n  \
    opsctl status -q -o json | jq -r .verdict\n\n\
    Exit codes: 0 healthy or warn, 1 failing, 9 something could not be checked")]
pub struct Args {
    /// Only these services; all when none is named
    #[arg(value_name = "SERVICE", add = clap_complete::ArgValueCompleter::new(crate::completion::services))]
    services: Vec<String>,
    /// Exit with 1 from this verdict on: fail, warn
    #[arg(long, value_name = "VERDICT", default_value = "fail", value_enum, hide_possible_values = true)]
    fail_on: FailOn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    Fail,
    Warn,
}

/// Asks and shows.
///
/// # Errors
/// What the agent or the connection answers.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    let request = GetStatusRequest { services: args.services };
    let status = session
        .within(async {
            let mut client = HealthServiceClient::new(session.connect().await?);
            Ok(client.get_status(request).await?.into_inner())
        })
        .await?;
    if session.output.is_document() {
        session.output.document("status", &status)?;
    } else {
        session.output.note(&header(&status, session));
        session.output.bytes(body(&status, session).as_bytes())?;
        let next = next(&status);
        if !next.is_empty() {
            let text = next_lines(&next, session.shown_context(), session.output.stderr());
            session.output.note(&format!("\n{}", text.trim_end()));
        }
    }
    Ok(match status.verdict() {
        Verdict::Ok => Exit::Done,
        Verdict::Warn if args.fail_on == FailOn::Warn => Exit::Failed,
        Verdict::Warn => Exit::Done,
        Verdict::Fail => Exit::Failed,
        Verdict::Unknown | Verdict::Unspecified => Exit::Inconclusive,
    })
}

/// `prod  auction-1.example.net:7443  ana (operator)  03:12:09 UTC`
fn header(status: &GetStatusResponse, session: &Session) -> String {
    let at = status.at.as_ref().and_then(timestamp).unwrap_or_else(|| session.now());
    let at = at.to_zoned(session.output.zone().clone()).strftime("%H:%M:%S %Z").to_string();
    let who = format!("{} ({})", short(&status.subject), status.roles.join(", "));
    format!("{}{}  {at}", session.target_prefix(), visible(&who))
}

fn body(status: &GetStatusResponse, session: &Session) -> String {
    let output = &session.output;
    let (word, tone) = match status.verdict() {
        Verdict::Ok => ("HEALTHY", Tone::Good),
        Verdict::Warn => ("WARN", Tone::Warn),
        Verdict::Fail => ("FAILING", Tone::Bad),
        Verdict::Unknown | Verdict::Unspecified => ("UNKNOWN", Tone::Warn),
    };
    let mut text = format!("{}  {}\n", output.stdout().tone(tone, word), visible(&status.summary));
    if !status.services.is_empty() {
        text.push('\n');
        text.push_str(&output.rendered(&service_table(&status.services, session.now())));
    }
    if !status.checks.is_empty() {
        text.push('\n');
        text.push_str(&output.rendered(&checks(&status.checks)));
    }
    text.push_str(&excerpt(&status.services, output));
    text
}

fn checks(checks: &[Check]) -> Table {
    let mut table = Table::new(&["CHECK", "VERDICT", "FACTS"]);
    for check in checks {
        let verdict = match check.verdict() {
            Verdict::Ok => Cell::new("ok", Tone::Good),
            Verdict::Warn => Cell::new("warn", Tone::Warn),
            Verdict::Fail => Cell::new("FAIL", Tone::Bad),
            Verdict::Unknown | Verdict::Unspecified => Cell::new("unknown", Tone::Warn),
        };
        table.row([check.name.clone().into(), verdict, check.text.clone().into()]);
    }
    table
}

/// The last lines of the first failing service that has any.
fn excerpt(services: &[Service], output: &Output) -> String {
    let Some(service) = services.iter().find(|service| !service.ok && !service.stderr.is_empty()) else {
        return String::new();
    };
    let lines = &service.stderr[service.stderr.len().saturating_sub(EXCERPT)..];
    let died = service.transitions.first().and_then(|last| last.at.as_ref()).and_then(timestamp);
    let died = died.map(|at: Timestamp| format!(" ({})", output.clock(at))).unwrap_or_default();
    let count = match lines.len() {
        1 => "last line".to_owned(),
        n => format!("last {n} lines"),
    };
    let mut text = format!("\n{} stderr, {count}{died}\n", visible(&service.name));
    for line in lines {
        text.push_str(&format!("| {}\n", visible(line)));
    }
    text
}

/// What to run about the worst service.
fn next(status: &GetStatusResponse) -> Vec<NextCommand> {
    let command = |words: &[&str]| NextCommand {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        note: String::new(),
    };
    match status.services.iter().find(|service| !service.ok) {
        Some(service) => vec![
            command(&["opsctl", "log", "tail", &service.name, "--stream", "err", "-n", "50"]),
            command(&["opsctl", "service", "get", &service.name]),
        ],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
