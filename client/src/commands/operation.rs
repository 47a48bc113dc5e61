//! `opsctl operation`: everything that changes something, while it runs and afterwards.

use clap_complete::engine::ArgValueCompleter;
use ops_proto::v1::operation_service_client::OperationServiceClient;
use ops_proto::v1::{
    CancelOperationRequest, ConfirmLevel, ErrorReason, GetOperationRequest, ListOperationsRequest, Operation,
    OperationState, PhaseState,
};

use crate::attach::report::{failure, results, running_phase, state_word};
use crate::attach::{attach, follow};
use crate::completion;
use crate::confirm::confirm;
use crate::error::{Error, Result, render};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, date_time, milliseconds, timestamp, visible};
use crate::session::{Session, short};

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Operations, the newest first
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  opsctl operation list\n  opsctl operation list --running -o json"
    )]
    List(ListArgs),
    /// One operation: who, why, phases, result, what failed
    #[command(after_help = "Examples:\n  opsctl operation get op-7k2m9q1c0d\n  opsctl operation get 7k2m")]
    Get(One),
    /// Follow an operation to its end; exits as it ends, with 9 when --timeout is over first
    #[command(
        after_help = "Examples:\n  opsctl operation wait op-7k2m9q1c0d\n  opsctl operation wait 7k2m --timeout 2m"
    )]
    Wait(One),
    /// Ask an operation to stop at its next safe point, and see how it ends
    #[command(after_help = "Examples:\n  opsctl operation cancel op-7k2m9q1c0d --yes")]
    Cancel(One),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those that still run
    #[arg(long)]
    running: bool,
    /// How many, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its id, or any part of one that is unique
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::operations))]
    id: String,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers; for `wait` also how the operation failed.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::List(args) => list(&args, session).await,
        Verb::Get(One { id }) => show(&get(session, &id).await?, session),
        Verb::Wait(One { id }) => {
            // Not within `--timeout`: that is how long to wait for the end.
            let operation = fetch(session, &id).await?;
            session.output.note(&format!("{}{}", session.target_prefix(), title(&operation)));
            attach(session, &operation.id, session.global.timeout).await
        }
        Verb::Cancel(One { id }) => cancel(&id, session).await,
    }
}

async fn list(args: &ListArgs, session: &Session) -> Result<Exit> {
    let request = ListOperationsRequest { limit: args.limit, running: args.running };
    let answer = session
        .within(async {
            let mut client = OperationServiceClient::new(session.connect().await?);
            Ok(client.list_operations(request).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("operation_list", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["OPERATION", "KIND", "TARGETS", "BY", "STATE", "BEGAN", "TOOK", "FACTS"]);
    for operation in &answer.operations {
        let (word, tone) = state_word(operation.state());
        table.row([
            operation.id.clone().into(),
            operation.operation.clone().into(),
            operation.targets.join(",").into(),
            short(&operation.subject).into(),
            Cell::new(word, tone),
            began(operation, session).map_or_else(Cell::none, Into::into),
            took(operation, session).into(),
            facts(operation).into(),
        ]);
    }
    output.table(&table)?;
    if table.is_empty() {
        output.note(if args.running { "-- no operation runs" } else { "-- there has been no operation yet" });
    }
    Ok(Exit::Done)
}

async fn get(session: &Session, id: &str) -> Result<Operation> {
    session.within(fetch(session, id)).await
}

async fn fetch(session: &Session, id: &str) -> Result<Operation> {
    let mut client = OperationServiceClient::new(session.connect().await?);
    let answer = client.get_operation(GetOperationRequest { id: id.to_owned() }).await?;
    answer.into_inner().operation.ok_or_else(nothing)
}

fn nothing() -> Error {
    Error::new(ErrorReason::Internal, "the agent answered without an operation")
}

fn show(operation: &Operation, session: &Session) -> Result<Exit> {
    let output = &session.output;
    if output.is_document() {
        output.document("operation", operation)?;
        return Ok(Exit::Done);
    }
    let (word, tone) = state_word(operation.state());
    let began = operation.created_at.as_ref().and_then(timestamp);
    let began = began.map(|at| format!("{}, {}", date_time(at, output.zone()), ago(at, session.now())));
    let mut table = Table::new(&["FACT", "VALUE"]);
    table.row(["operation".into(), title(operation).into()]);
    table.row(["state".into(), Cell::new(word, tone)]);
    table.row(["by".into(), short(&operation.subject).into()]);
    if !operation.reason.is_empty() {
        table.row(["reason".into(), operation.reason.clone().into()]);
    }
    table.row(["began".into(), began.unwrap_or_default().into()]);
    table.row(["took".into(), took(operation, session).into()]);
    output.table(&table)?;
    if !operation.phases.is_empty() {
        output.line("")?;
        let mut table = Table::new(&["PHASE", "TARGET", "STATE", "TOOK", "FACTS"]);
        for phase in &operation.phases {
            let (word, tone) = match phase.state() {
                PhaseState::Done => ("done", Tone::Normal),
                PhaseState::Failed => ("FAILED", Tone::Bad),
                PhaseState::Running | PhaseState::Unspecified => ("running", Tone::Normal),
            };
            let target = if phase.target.is_empty() { "-" } else { &phase.target };
            table.row([
                phase.name.clone().into(),
                target.into(),
                Cell::new(word, tone),
                length(phase.elapsed_ms).into(),
                phase.text.clone().into(),
            ]);
        }
        output.table(&table)?;
    }
    if !operation.results.is_empty() {
        output.line("")?;
        output.table(&results(operation, output))?;
    }
    for note in &operation.notes {
        output.note(&visible(&format!("note: {note}")));
    }
    if operation.finished_at.is_some()
        && let Some(error) = failure(operation)
    {
        output.note(render(&error, session.shown_context(), output.stderr()).trim_end());
    }
    Ok(Exit::Done)
}

async fn cancel(id: &str, session: &Session) -> Result<Exit> {
    let operation = get(session, id).await?;
    if operation.finished_at.is_some() {
        return had_ended(&operation, session);
    }
    let mut options = session.change_options();
    if !options.plan {
        let what = format!("cancel {}", title(&operation));
        confirm(session, &mut options, ConfirmLevel::Ask, &what, "", None)?;
    }
    let planned = options.plan;
    let mut client = OperationServiceClient::new(session.connect().await?);
    let request = CancelOperationRequest { id: operation.id.clone(), options: Some(options) };
    let asked = client.cancel_operation(request).await?.into_inner().operation.ok_or_else(nothing)?;
    if asked.finished_at.is_some() {
        return had_ended(&asked, session);
    }
    let output = &session.output;
    if planned || session.global.detach {
        if output.is_document() {
            output.document("operation", &asked)?;
        } else if planned {
            output.line(&format!("would ask {} to stop at its next safe point", title(&asked)))?;
        } else {
            output.line(&asked.id)?;
        }
        return Ok(Exit::Done);
    }
    output.note(&format!("{}cancel {}", session.target_prefix(), title(&operation)));
    let Some(ended) = follow(session, &operation.id, session.global.timeout).await? else {
        return Ok(Exit::Interrupted);
    };
    if ended.state() != OperationState::Cancelled {
        return had_ended(&ended, session);
    }
    if output.is_document() {
        output.document("operation", &ended)?;
    } else if !ended.results.is_empty() {
        output.table(&results(&ended, output))?;
    }
    let effect = ended.problem.as_ref().map(|problem| problem.effect.as_str()).unwrap_or_default();
    let effect = if effect.is_empty() { String::new() } else { format!(": {effect}") };
    output.note(&visible(&format!("cancelled {}{effect}", title(&ended))));
    Ok(Exit::Done)
}

/// There was nothing left to cancel.
fn had_ended(operation: &Operation, session: &Session) -> Result<Exit> {
    if session.output.is_document() {
        session.output.document("operation", operation)?;
    }
    let (word, _) = state_word(operation.state());
    let when = operation.finished_at.as_ref().and_then(timestamp).map(|at| ago(at, session.now()));
    session.output.always(&format!(
        "error: {} was not cancelled: it ended {}, {word}\n",
        title(operation),
        when.unwrap_or_default()
    ));
    Ok(Exit::Precondition)
}

/// `op-7k2m9q1c0d, service.restart backend`.
fn title(operation: &Operation) -> String {
    visible(&format!("{}, {} {}", operation.id, operation.operation, operation.targets.join(" ")))
        .into_owned()
}

fn began(operation: &Operation, session: &Session) -> Option<String> {
    let at = operation.created_at.as_ref().and_then(timestamp)?;
    Some(ago(at, session.now()))
}

fn took(operation: &Operation, session: &Session) -> String {
    let Some(began) = operation.created_at.as_ref().and_then(timestamp) else { return String::new() };
    let ended = operation.finished_at.as_ref().and_then(timestamp).unwrap_or_else(|| session.now());
    let ms = ended.as_millisecond().saturating_sub(began.as_millisecond());
    length(u64::try_from(ms).unwrap_or(0))
}

fn length(ms: u64) -> String {
    // A length in ms as a float loses nothing below 285,000 years.
    #[allow(clippy::cast_precision_loss)]
    milliseconds(ms as f64)
}

/// The running phase, or why it failed.
fn facts(operation: &Operation) -> String {
    match &operation.problem {
        Some(problem) => problem.message.clone(),
        None => running_phase(operation).unwrap_or_else(|| operation.reason.clone()),
    }
}
