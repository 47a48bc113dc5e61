//! `opsctl explain`: what a reason means, what to check, what to run. Needs no agent.

use ops_proto::reasons;
use ops_proto::v1::ErrorReason;
use serde_json::json;

use crate::error::{Error, Result, reason_name};
use crate::exit::Exit;
use crate::output::Table;
use crate::session::Session;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  opsctl explain START_FATAL\n  opsctl explain            all reasons")]
pub struct Args {
    /// The reason, as it stands below an error; without one all are listed
    #[arg(value_name = "REASON")]
    reason: Option<String>,
}

/// Prints a page, or the list.
///
/// # Errors
/// No such reason; near names are suggested.
pub fn run(args: &Args, session: &Session) -> Result<Exit> {
    match &args.reason {
        Some(name) => page(name, session)?,
        None => list(session)?,
    }
    Ok(Exit::Done)
}

/// Every reason there is, in the order of the contract.
pub fn all() -> impl Iterator<Item = ErrorReason> {
    // The numbers of the contract are below 1,000 and have holes.
    (1..1000).filter_map(|number| ErrorReason::try_from(number).ok())
}

fn page(asked: &str, session: &Session) -> Result<()> {
    let name = asked.to_ascii_uppercase().replace('-', "_");
    let known = all().find(|reason| reason_name(*reason) == name);
    let (Some(reason), Some(text)) = (known, reasons::page(&name)) else {
        return Err(unknown(asked, &name));
    };
    if session.output.is_document() {
        return session.output.value(&json!({
            "kind": "reason",
            "version": ops_proto::json::VERSION,
            "reason": name,
            "exit_code": Exit::of_reason(reason).code(),
            "summary": reasons::summary(&name),
            "page": text,
        }));
    }
    session.output.bytes(text.as_bytes())
}

fn unknown(asked: &str, name: &str) -> Error {
    let mut near: Vec<(f64, &str)> = all()
        .map(|reason| (strsim::jaro_winkler(reason_name(reason), name), reason_name(reason)))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let error = Error::usage(format!("there is no reason {asked}"));
    match near.first() {
        Some((_, name)) => error.next(&["opsctl", "explain", name]),
        None => error.next(&["opsctl", "explain"]),
    }
}

fn list(session: &Session) -> Result<()> {
    if session.output.is_document() {
        let reasons: Vec<_> = all()
            .map(|reason| {
                let name = reason_name(reason);
                let exit_code = Exit::of_reason(reason).code();
                json!({ "reason": name, "exit_code": exit_code, "summary": reasons::summary(name) })
            })
            .collect();
        let version = ops_proto::json::VERSION;
        return session
            .output
            .value(&json!({ "kind": "reason_list", "version": version, "reasons": reasons }));
    }
    let mut table = Table::new(&["REASON", "EXIT", "MEANING"]);
    for reason in all() {
        let name = reason_name(reason);
        let exit = Exit::of_reason(reason).code().to_string();
        table.row([name.into(), exit.into(), reasons::summary(name).unwrap_or_default().into()]);
    }
    session.output.table(&table)
}
