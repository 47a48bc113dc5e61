//! `opsctl version`: ours, and the agent's when there is one that answers.

use ops_proto::v1::agent_service_client::AgentServiceClient;
use ops_proto::v1::{GetAgentRequest, GetAgentResponse};
use serde_json::json;

use crate::error::Result;
use crate::exit::Exit;
use crate::session::Session;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  opsctl version\n  opsctl version --client -o json")]
pub struct Args {
    /// Only opsctl's own; ask no agent
    #[arg(long)]
    client: bool,
}

/// Prints both versions; an agent that does not answer is said, and no failure.
///
/// # Errors
/// stdout cannot be written.
pub async fn run(args: &Args, session: &Session) -> Result<Exit> {
    let agent = if args.client { None } else { Some(session.within(ask(session)).await) };
    let output = &session.output;
    if output.is_document() {
        let mut document = json!({
            "kind": "version",
            "version": ops_proto::json::VERSION,
            "client": { "version": crate::VERSION, "api": "ops.v1" },
        });
        match agent {
            Some(Ok(agent)) => {
                document["agent"] = json!({ "version": agent.version, "api": agent.api, "id": agent.id });
            }
            Some(Err(error)) => {
                document["agent_error"] = session.complete(error).document()["error"].clone();
            }
            None => {}
        }
        output.value(&document)?;
        return Ok(Exit::Done);
    }
    output.line(&format!("client  {}  ops.v1", crate::VERSION))?;
    match agent {
        Some(Ok(agent)) => output.line(&format!("agent   {}  {}  {}", agent.version, agent.api, agent.id))?,
        Some(Err(error)) => {
            let error = session.complete(error);
            output.line("agent   -")?;
            output.note(&format!("note: {error}"));
        }
        None => {}
    }
    Ok(Exit::Done)
}

async fn ask(session: &Session) -> Result<GetAgentResponse> {
    let mut client = AgentServiceClient::new(session.connect().await?);
    Ok(client.get_agent(GetAgentRequest {}).await?.into_inner())
}
