//! `opsctl log`: which logs there are, their last lines, and what is written to them from now on.

use ops_proto::v1::log_service_client::LogServiceClient;
use ops_proto::v1::{ErrorReason, ListSourcesRequest, LogSource, LogStream, TailLogRequest};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, memory, timestamp};
use crate::session::Session;

mod follow;
mod show;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// The log files of services, and whether the agent can read them
    #[command(after_help = "Examples:\n  opsctl log sources\n  opsctl log sources backend -o json")]
    Sources(SourcesArgs),
    /// The last lines, and with -f what follows, through rotations and cut connections
    Tail(TailArgs),
}

#[derive(Debug, clap::Args)]
struct SourcesArgs {
    /// Only these services; all that you may read when none is named
    #[arg(value_name = "SERVICE", add = clap_complete::ArgValueCompleter::new(crate::completion::services))]
    services: Vec<String>,
}

/// Arguments of `log tail`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  opsctl log tail backend -n 100\n  opsctl log tail backend --stream err -f\n  \
    opsctl log tail --all -f -o json | jq -r .text\n  opsctl log tail backend --cursor start > backend.log\n\n\
    A cursor is a place in the logs. It is printed when Ctrl-C ends a tail, and stands in the JSON lines;\n\
    going on by it gives every line once, or says how much is missing.\n\n\
    Exit codes: 0 done, 10 some of the logs could not be read, 130 Ctrl-C"
)]
pub struct TailArgs {
    /// Of these services
    #[arg(value_name = "SERVICE", required_unless_present_any = ["all", "cursor"], add = clap_complete::ArgValueCompleter::new(crate::completion::services))]
    services: Vec<String>,
    /// Of all services that you may read
    #[arg(long, conflicts_with = "services")]
    all: bool,
    /// How many of the last lines of each log, 0 to 100000; 50 when nothing is said
    #[arg(short = 'n', long, value_name = "LINES", conflicts_with = "cursor", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    lines: Option<u32>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only this stream: out, err
    #[arg(long, value_name = "STREAM", value_enum, hide_possible_values = true)]
    stream: Option<Stream>,
    /// Go on at this place; `start` is the beginning of the current files
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// End at this place
    #[arg(long, value_name = "CURSOR", conflicts_with = "follow")]
    until_cursor: Option<String>,
    /// What to do when this terminal is slower than the log: skip; otherwise all comes, late
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    on_lag: Option<OnLag>,
    /// Secrets and escape sequences as they are; for admins, and written down
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Out,
    Err,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnLag {
    Skip,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::Sources(args) => sources(args, session).await,
        Verb::Tail(args) => tail(args, session).await,
    }
}

/// `log tail`, also by its short form.
///
/// # Errors
/// As [`run`]; `CURSOR_INVALID`, `LOG_NOT_FOUND`, `LOG_UNREADABLE`, `LOG_REFUSED`.
pub async fn tail(args: TailArgs, session: &Session) -> Result<Exit> {
    if args.all && args.cursor.as_deref().is_some_and(|cursor| cursor != "start") {
        return Err(Error::usage("--all and a cursor exclude each other: a cursor knows its logs"));
    }
    let stream = match args.stream {
        None => LogStream::Unspecified,
        Some(Stream::Out) => LogStream::Out,
        Some(Stream::Err) => LogStream::Err,
    };
    let request = TailLogRequest {
        services: args.services,
        stream: stream.into(),
        lines: args.lines,
        follow: args.follow,
        cursor: args.cursor.unwrap_or_default(),
        until_cursor: args.until_cursor.unwrap_or_default(),
        skip_on_lag: args.on_lag == Some(OnLag::Skip),
        raw: args.raw,
    };
    follow::run(request, session).await
}

async fn sources(args: SourcesArgs, session: &Session) -> Result<Exit> {
    let request = ListSourcesRequest { services: args.services };
    let answer = session
        .within(async {
            let mut client = LogServiceClient::new(session.connect().await?);
            Ok(client.list_sources(request).await?.into_inner())
        })
        .await?;
    let broken = answer.sources.iter().filter(|source| is_broken(source)).count();
    if session.output.is_document() {
        session.output.document("log_source_list", &answer)?;
    } else {
        let mut table = Table::new(&["SERVICE", "STREAM", "SIZE", "ROTATED", "WRITTEN", "READ", "PATH"]);
        for source in &answer.sources {
            table.row(row(source, session));
        }
        session.output.table(&table)?;
        for source in answer.sources.iter().filter(|source| is_broken(source)) {
            session.output.note(&format!("-- {}", crate::output::visible(&source.unreadable)));
        }
    }
    Ok(match broken {
        0 => Exit::Done,
        _ if broken == answer.sources.len() => Exit::Failed,
        _ => Exit::Partial,
    })
}

/// It is there, and cannot be read. One that is not there yet is no failure of a list.
fn is_broken(source: &LogSource) -> bool {
    source.problem.as_ref().is_some_and(|problem| problem.reason() != ErrorReason::LogNotFound)
}

fn row(source: &LogSource, session: &Session) -> [Cell; 7] {
    let written = source.modified_at.as_ref().and_then(timestamp);
    let readable = match &source.problem {
        None => Cell::new("yes", Tone::Good),
        Some(problem) if problem.reason() == ErrorReason::LogNotFound => Cell::new("none", Tone::Dim),
        Some(_) => Cell::new("NO", Tone::Bad),
    };
    [
        source.service.clone().into(),
        stream_name(source.stream()).into(),
        if written.is_some() { memory(source.size_bytes).into() } else { Cell::none() },
        source.rotated.to_string().into(),
        written.map_or(Cell::none(), |at| ago(at, session.now()).into()),
        readable,
        source.path.clone().into(),
    ]
}

/// `out`, `err`.
fn stream_name(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Err => "err",
        LogStream::Out | LogStream::Unspecified => "out",
    }
}
