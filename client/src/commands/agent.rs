//! `opsctl agent`: the agent itself.

use ops_proto::v1::agent_service_client::AgentServiceClient;
use ops_proto::v1::{GetAgentRequest, GetAgentResponse, ReloadAgentRequest};

use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, memory, span, timestamp, visible};
use crate::session::Session;

/// The agent's verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Version, uptime, memory, audit trail, certificate, paths
    #[command(after_help = "Examples:\n  opsctl agent info\n  opsctl agent info -o json")]
    Info,
    /// Read policy and certificates again; the old ones stay when the new are bad
    #[command(after_help = "Examples:\n  opsctl agent reload --reason 'bob is an operator now'")]
    Reload,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::Info => info(session).await,
        Verb::Reload => reload(session).await,
    }
}

async fn info(session: &Session) -> Result<Exit> {
    let agent = session
        .within(async {
            let mut client = AgentServiceClient::new(session.connect().await?);
            Ok(client.get_agent(GetAgentRequest {}).await?.into_inner())
        })
        .await?;
    if session.output.is_document() {
        session.output.document("agent", &agent)?;
        return Ok(Exit::Done);
    }
    session.output.table(&table(&agent, session))?;
    Ok(Exit::Done)
}

fn table(agent: &GetAgentResponse, session: &Session) -> Table {
    let now = session.now();
    let mut table = Table::new(&["FACT", "VALUE"]);
    let mut fact = |name: &str, value: Cell| table.row([name.into(), value]);
    fact("agent", agent.id.clone().into());
    fact("version", format!("{}, {}", agent.version, agent.api).into());
    fact("up", span(agent.uptime_ms / 1000).into());
    fact("memory", memory(agent.memory_bytes).into());
    fact("pid", agent.pid.to_string().into());
    let audit = match agent.audit_writable {
        true => "writable".into(),
        false => Cell::new("NOT WRITABLE: nothing can be changed", Tone::Bad),
    };
    fact("audit", audit);
    fact("operations", format!("{} running", agent.running_operations).into());
    fact("policy", format!("generation {}", agent.policy_generation).into());
    if let Some(at) = agent.server_certificate_expires_at.as_ref().and_then(timestamp) {
        fact("certificate", format!("ends {}", ago(at, now)).into());
    }
    if let Some(at) = agent.time.as_ref().and_then(timestamp) {
        let ahead = at.duration_since(now).as_secs_f64();
        let words = if ahead < 0.0 { "behind" } else { "ahead of" };
        let tone = if ahead.abs() > 30.0 { Tone::Warn } else { Tone::Normal };
        fact("clock", Cell::new(format!("{:.1} s {words} this machine's", ahead.abs()), tone));
    }
    fact("audit-root", agent.audit_root.clone().into());
    for path in &agent.paths {
        fact(&path.name, path.text.clone().into());
    }
    table
}

async fn reload(session: &Session) -> Result<Exit> {
    let options = Some(session.change_options());
    let mut client = AgentServiceClient::new(session.connect().await?);
    let answer = client.reload_agent(ReloadAgentRequest { options }).await?.into_inner();
    if session.output.is_document() {
        session.output.document("agent_reload", &answer)?;
        return Ok(Exit::Done);
    }
    session.output.note(&format!("{}reload", session.target_prefix()));
    session.output.line(&format!("policy generation {}", answer.policy_generation))?;
    for change in &answer.changes {
        session.output.line(&visible(change))?;
    }
    Ok(Exit::Done)
}
