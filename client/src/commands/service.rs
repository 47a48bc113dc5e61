//! `opsctl service`: what runs, and start, stop and restart with proof.

use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use ops_proto::v1::service_service_client::ServiceServiceClient;
use ops_proto::v1::{
    GetServiceRequest, ListServicesRequest, RestartServicesRequest, Service, StartServicesRequest,
    StopServicesRequest, WaitFor, WatchServicesRequest, WatchServicesResponse,
};

use crate::change::change;
use crate::commands::status::service_table;
use crate::completion;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Table, ago, memory, percent, timestamp, visible};
use crate::session::Session;

mod watch;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All services, and programs that are not managed
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  opsctl service list\n  opsctl service list -o wide\n\n\
            Exit codes: 0 all as expected, 1 one is not"
    )]
    List,
    /// One service: state, readiness, history, last lines of stderr
    #[command(after_help = "Examples:\n  opsctl service get backend\n\nExit codes: 0 as expected, 1 not")]
    Get(One),
    /// Start services in their order, and see that they get ready
    #[command(after_help = "Examples:\n  opsctl service start backend\n  opsctl service start --all --yes")]
    Start(StartArgs),
    /// Stop services in reverse order, and see that they are gone
    #[command(
        after_help = "Examples:\n  opsctl service stop backend --yes\n  opsctl service stop backend --force --yes"
    )]
    Stop(StopArgs),
    /// Restart services one after the other: a new process, ready, with its measured downtime
    #[command(after_help = "Examples:\n  opsctl service restart backend --reason \"sockets stuck\"\n  \
            opsctl service restart --all --yes\n  opsctl service restart backend --wait running")]
    Restart(StartArgs),
    /// What changes, as it changes; Ctrl-C ends
    #[command(after_help = "Examples:\n  opsctl service watch\n  opsctl service watch backend -o jsonl")]
    Watch(Several),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its name
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completion::services))]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Several {
    /// Only these; all when none is named
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completion::services))]
    names: Vec<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct Which {
    /// Their names
    #[arg(value_name = "NAME", required_unless_present = "all", add = ArgValueCompleter::new(completion::services))]
    names: Vec<String>,
    /// All that are expected to run
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// What is started or restarted.
#[derive(Clone, Debug, clap::Args)]
pub struct StartArgs {
    #[command(flatten)]
    which: Which,
    /// What to wait for
    #[arg(long, value_name = "STATE", default_value = "ready", value_enum)]
    wait: Wait,
}

/// What is stopped.
#[derive(Clone, Debug, clap::Args)]
pub struct StopArgs {
    #[command(flatten)]
    which: Which,
    /// SIGKILL for what has not stopped after 5 s
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Wait {
    /// Until its readiness probe has passed
    Ready,
    /// Until supervisord calls it RUNNING
    Running,
    /// Not at all
    None,
}

impl Wait {
    const fn wire(self) -> i32 {
        (match self {
            Wait::Ready => WaitFor::Ready,
            Wait::Running => WaitFor::Running,
            Wait::None => WaitFor::None,
        }) as i32
    }
}

impl Which {
    fn words(&self, verb: &str) -> String {
        if self.all { format!("{verb} all services") } else { format!("{verb} {}", self.names.join(" ")) }
    }
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers, and how an operation failed.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::List => list(session).await,
        Verb::Get(One { name }) => get(name, session).await,
        Verb::Start(args) => start(args, session).await,
        Verb::Stop(args) => stop(args, session).await,
        Verb::Restart(args) => restart(args, session).await,
        Verb::Watch(Several { names }) => watch::run(names, session).await,
    }
}

/// `opsctl start` and `opsctl service start`.
///
/// # Errors
/// As [`run`].
pub async fn start(args: StartArgs, session: &Session) -> Result<Exit> {
    change(session, &args.which.words("start"), async |connection, options| {
        let request = StartServicesRequest {
            names: args.which.names.clone(),
            all: args.which.all,
            wait: args.wait.wire(),
            options: Some(options),
        };
        let answer = ServiceServiceClient::new(connection).start_services(request).await?;
        Ok(answer.into_inner().outcome.map(Into::into))
    })
    .await
}

/// `opsctl stop` and `opsctl service stop`.
///
/// # Errors
/// As [`run`].
pub async fn stop(args: StopArgs, session: &Session) -> Result<Exit> {
    change(session, &args.which.words("stop"), async |connection, options| {
        let request = StopServicesRequest {
            names: args.which.names.clone(),
            all: args.which.all,
            force: args.force,
            options: Some(options),
        };
        let answer = ServiceServiceClient::new(connection).stop_services(request).await?;
        Ok(answer.into_inner().outcome.map(Into::into))
    })
    .await
}

/// `opsctl restart` and `opsctl service restart`.
///
/// # Errors
/// As [`run`].
pub async fn restart(args: StartArgs, session: &Session) -> Result<Exit> {
    change(session, &args.which.words("restart"), async |connection, options| {
        let request = RestartServicesRequest {
            names: args.which.names.clone(),
            all: args.which.all,
            wait: args.wait.wire(),
            options: Some(options),
        };
        let answer = ServiceServiceClient::new(connection).restart_services(request).await?;
        Ok(answer.into_inner().outcome.map(Into::into))
    })
    .await
}

async fn list(session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = ServiceServiceClient::new(session.connect().await?);
            Ok(client.list_services(ListServicesRequest {}).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("service_list", &answer)?;
    } else {
        output.table(&service_table(&answer.services, session.now()))?;
        if answer.services.is_empty() {
            output.note("-- no services are configured");
        }
        if !answer.history_missing.is_empty() {
            output.note(&visible(&format!("-- no history, no exit codes: {}", answer.history_missing)));
        }
    }
    let well = answer.services.iter().all(|service| service.ok);
    Ok(if well { Exit::Done } else { Exit::Failed })
}

async fn get(name: String, session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = ServiceServiceClient::new(session.connect().await?);
            Ok(client.get_service(GetServiceRequest { name }).await?.into_inner())
        })
        .await?;
    let service = answer.service.clone().unwrap_or_default();
    if session.output.is_document() {
        session.output.document("service", &answer)?;
    } else {
        show(&service, session)?;
    }
    Ok(if service.ok { Exit::Done } else { Exit::Failed })
}

fn show(service: &Service, session: &Session) -> Result<()> {
    let output = &session.output;
    output.table(&service_table(std::slice::from_ref(service), session.now()))?;
    output.line("")?;
    output.table(&facts(service, session.now()))?;
    if !service.transitions.is_empty() {
        let mut table = Table::new(&["WHEN", "EVENT", "FACTS"]);
        for transition in &service.transitions {
            let at = transition.at.as_ref().and_then(timestamp);
            let at = at.map(|at| output.clock(at)).unwrap_or_default();
            table.row([at.into(), transition.event.clone().into(), transition.text.clone().into()]);
        }
        output.line("")?;
        output.table(&table)?;
    }
    if !service.stderr.is_empty() {
        let lines: String = service.stderr.iter().map(|line| format!("| {}\n", visible(line))).collect();
        output.bytes(format!("\nstderr, last {} lines\n{lines}", service.stderr.len()).as_bytes())?;
    }
    Ok(())
}

fn facts(service: &Service, now: Timestamp) -> Table {
    let mut table = Table::new(&["FACT", "VALUE"]);
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.into(), value.into()]);
        }
    };
    let age = match service.readiness_age_ms {
        0..100 => String::new(),
        age => format!(", {:.1}s ago", age as f64 / 1000.0),
    };
    fact("program", service.program.clone());
    fact("pid", if service.pid == 0 { String::new() } else { service.pid.to_string() });
    fact("ready", format!("{}{age}", service.readiness_text));
    fact(
        "expected",
        if service.managed { service.expected.clone() } else { "unmanaged, read-only".to_owned() },
    );
    fact("after", service.after.join(", "));
    fact("protected", service.protected.join(", "));
    fact("cpu", service.cpu_percent.map(percent).unwrap_or_default());
    fact("memory", service.memory_bytes.map(memory).unwrap_or_default());
    fact("exit code", service.exit_code.map(|code| code.to_string()).unwrap_or_default());
    fact("killed by", service.exit_signal.clone());
    fact("spawn", service.spawn_error.clone());
    let at = service.last_change_at.as_ref().and_then(timestamp);
    let at = at.map(|at| format!(", {}", ago(at, now))).unwrap_or_default();
    if !service.last_change.is_empty() {
        fact("changed", format!("{}{at}", service.last_change));
    }
    table
}
