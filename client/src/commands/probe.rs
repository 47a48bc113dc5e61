//! `opsctl probe`: one measured question, asked by the agent or from here.

use std::time::Duration;

use clap::Subcommand;
use clap_complete::ArgValueCompleter;
use ops_probe::{Expectation, Failure, HttpTarget, Roots, SocketTarget, Target};
use ops_proto::v1::probe_service_client::ProbeServiceClient;
use ops_proto::v1::{
    ErrorReason, ListProbesRequest, Probe, ProbeFailure, ProbeSample, ProbeVerdict, RunProbeRequest,
    RunProbeResponse,
};

use crate::completion;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, milliseconds};
use crate::session::Session;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The configured probes, and the readiness of each service
    #[command(visible_alias = "ls", after_help = "Examples:\n  opsctl probe list")]
    List,
    /// Ask one, with the time of each phase
    #[command(
        after_help = "Examples:\n  opsctl probe run backend\n  opsctl probe run api-health --from client --count 3\n\n\
            Exit codes: 0 all passed, 1 one failed"
    )]
    Run(RunArgs),
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Its name
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completion::probes))]
    name: String,
    /// Who asks: the agent on its host, or this machine
    #[arg(long, value_name = "PLACE", default_value = "agent", value_enum)]
    from: From,
    /// How often, at most 100
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum From {
    /// The agent, on its host
    Agent,
    /// This machine
    Client,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::List => list(session).await,
        Verb::Run(args) => ask(args, session).await,
    }
}

async fn list(session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = ProbeServiceClient::new(session.connect().await?);
            Ok(client.list_probes(ListProbesRequest {}).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("probe_list", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["PROBE", "KIND", "SERVICE", "TIMEOUT", "TARGET"]);
    for probe in &answer.probes {
        let expect = probe.expect.iter().map(|text| format!("  {text}")).collect::<String>();
        table.row([
            probe.name.clone().into(),
            probe.kind.clone().into(),
            if probe.service.is_empty() { Cell::none() } else { probe.service.clone().into() },
            milliseconds(probe.timeout_ms as f64).into(),
            format!("{}{expect}", probe.target).into(),
        ]);
    }
    output.table(&table)?;
    if answer.probes.is_empty() {
        output.note("-- no probes are configured");
    }
    Ok(Exit::Done)
}

async fn ask(args: RunArgs, session: &Session) -> Result<Exit> {
    let answer = match args.from {
        From::Agent => {
            let request = RunProbeRequest { name: args.name, count: args.count };
            session
                .within(async {
                    let mut client = ProbeServiceClient::new(session.connect().await?);
                    Ok(client.run_probe(request).await?.into_inner())
                })
                .await?
        }
        From::Client => from_here(&args, session).await?,
    };
    let output = &session.output;
    if output.is_document() {
        let mut document = ops_proto::json::document("probe_run", &answer);
        if let Some(object) = document.as_object_mut() {
            let from = if args.from == From::Agent { "agent" } else { "client" };
            object.insert("from".to_owned(), from.into());
        }
        output.value(&document)?;
    } else {
        output.table(&table(&answer, args.from))?;
    }
    let passed = answer.samples.iter().all(|sample| sample.verdict() == ProbeVerdict::Ok);
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// The agent says what the probe is, this machine asks.
async fn from_here(args: &RunArgs, session: &Session) -> Result<RunProbeResponse> {
    let listed = session
        .within(async {
            let mut client = ProbeServiceClient::new(session.connect().await?);
            Ok(client.list_probes(ListProbesRequest {}).await?.into_inner())
        })
        .await?;
    let Some(probe) = listed.probes.iter().find(|probe| probe.name == args.name).cloned() else {
        // The agent knows near names, and says so.
        let request = RunProbeRequest { name: args.name.clone(), count: 1 };
        let mut client = ProbeServiceClient::new(session.connect().await?);
        return Ok(client.run_probe(request).await?.into_inner());
    };
    let (question, roots) = question(&probe).map_err(|why| {
        Error::new(ErrorReason::NotSupported, format!("{} cannot be asked from here: {why}", probe.name))
            .about(&probe.name)
    })?;
    let mut samples = Vec::new();
    for _ in 0..args.count {
        let at = session.now();
        let sample = ops_probe::run(&question, &roots).await;
        samples.push(wire(&sample, at));
    }
    Ok(RunProbeResponse { probe: Some(probe), samples })
}

fn question(probe: &Probe) -> std::result::Result<(ops_probe::Probe, Roots), String> {
    let socket = || SocketTarget::parse(&probe.target).map_err(|error| error.to_string());
    let target = match probe.kind.as_str() {
        "http" => Target::Http(HttpTarget::parse(&probe.target).map_err(|error| error.to_string())?),
        "tcp" => Target::Tcp(socket()?),
        "closed" => Target::Closed(socket()?),
        "mongodb" => Target::Mongodb(socket()?),
        other => return Err(format!("this opsctl knows no probes of kind {other}")),
    };
    let expect = probe.expect.iter().map(|text| Expectation::parse(text).map_err(|error| error.to_string()));
    let expect = expect.collect::<std::result::Result<Vec<_>, _>>()?;
    let roots = if probe.ca.is_empty() {
        Roots::system()
    } else {
        Roots::from_pem(probe.ca.as_bytes()).map_err(|error| error.to_string())?
    };
    let timeout = Duration::from_millis(probe.timeout_ms.clamp(1, 60_000));
    Ok((ops_probe::Probe { target, timeout, expect }, roots))
}

fn wire(sample: &ops_probe::Sample, at: jiff::Timestamp) -> ProbeSample {
    let in_ms = |length: Duration| length.as_secs_f64() * 1000.0;
    let failure = match sample.failure {
        None => ProbeFailure::None,
        Some(Failure::Dns) => ProbeFailure::Dns,
        Some(Failure::Connect) => ProbeFailure::Connect,
        Some(Failure::Tls) => ProbeFailure::Tls,
        Some(Failure::Timeout) => ProbeFailure::Timeout,
        Some(Failure::Status) => ProbeFailure::Status,
        Some(Failure::Body) => ProbeFailure::Body,
        Some(Failure::Protocol) => ProbeFailure::Protocol,
        Some(Failure::Database) => ProbeFailure::Database,
    };
    let verdict = if sample.passed() { ProbeVerdict::Ok } else { ProbeVerdict::Fail };
    ProbeSample {
        at: Some(prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }),
        verdict: verdict as i32,
        failure: failure as i32,
        text: sample.text.clone(),
        status: sample.status.unwrap_or_default().into(),
        dns_ms: sample.timings.dns.map(in_ms),
        connect_ms: sample.timings.connect.map(in_ms),
        tls_ms: sample.timings.tls.map(in_ms),
        first_byte_ms: sample.timings.first_byte.map(in_ms),
        total_ms: in_ms(sample.timings.total),
        certificate_days: sample.certificate_days,
        address: sample.address.map(|address| address.to_string()).unwrap_or_default(),
    }
}

/// One row: medians over all samples, and the first failure's words.
fn table(answer: &RunProbeResponse, from: From) -> Table {
    let samples = &answer.samples;
    let good = samples.iter().filter(|sample| sample.verdict() == ProbeVerdict::Ok).count();
    let worst = samples.iter().find(|sample| sample.verdict() != ProbeVerdict::Ok);
    let median = |of: &dyn Fn(&ProbeSample) -> Option<f64>| {
        let mut all: Vec<f64> = samples.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).map_or_else(Cell::none, |value| milliseconds(*value).into())
    };
    let result = match worst {
        None => Cell::new("ok", Tone::Normal),
        Some(sample) => {
            Cell::new(sample.failure().as_str_name().trim_start_matches("PROBE_FAILURE_"), Tone::Bad)
        }
    };
    let shown = worst.or(samples.last());
    let mut facts = Vec::new();
    if samples.len() > 1 {
        facts.push(format!("{good} of {}, median", samples.len()));
    }
    facts.extend(worst.map(|sample| sample.text.clone()));
    facts.extend(shown.and_then(|sample| sample.certificate_days).map(|days| format!("cert {days} d left")));
    let mut table =
        Table::new(&["PROBE", "FROM", "RESULT", "STATUS", "DNS", "CONNECT", "TLS", "TTFB", "TOTAL", "FACTS"]);
    table.row([
        answer.probe.as_ref().map(|probe| probe.name.clone()).unwrap_or_default().into(),
        if from == From::Agent { "agent" } else { "client" }.into(),
        result,
        shown
            .filter(|sample| sample.status > 0)
            .map_or_else(Cell::none, |sample| sample.status.to_string().into()),
        median(&|sample| sample.dns_ms),
        median(&|sample| sample.connect_ms),
        median(&|sample| sample.tls_ms),
        median(&|sample| sample.first_byte_ms),
        median(&|sample| Some(sample.total_ms)),
        facts.join("; ").into(),
    ]);
    table
}
