//! `opsctl access`: who you are to the agent, what roles there are, access tokens.

use std::time::Duration;

use ops_proto::v1::access_service_client::AccessServiceClient;
use ops_proto::v1::{CreateTokenRequest, CredentialKind, ListRolesRequest, WhoAmIRequest, WhoAmIResponse};

use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, parse_duration, timestamp, visible};
use crate::session::Session;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Your name, roles, services and permissions, as the agent sees them
    #[command(
        after_help = "Examples:\n  opsctl access whoami\n  opsctl --context prod-admin access whoami -o json"
    )]
    Whoami,
    /// The roles that the agent knows, and their permissions
    #[command(after_help = "Examples:\n  opsctl access roles")]
    Roles,
    /// Access tokens: short-lived, for CI and curl
    Token(TokenArgs),
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    #[command(subcommand)]
    verb: TokenVerb,
}

#[derive(Debug, clap::Subcommand)]
enum TokenVerb {
    /// Mint a token for yourself; needs your certificate. With -q only the token is printed
    #[command(after_help = "Examples:\n  jwt=$(opsctl access token create --ttl 10m -q)\n  \
        opsctl access token create --permission status --permission service")]
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// How long it lasts: 1m to 60m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    ttl: Duration,
    /// Another subject of the policy (admin only): service/ci-deploy
    #[arg(long = "for", value_name = "SUBJECT")]
    subject: Option<String>,
    /// Narrow it to this permission; repeat for several
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Bind it to your certificate: worthless without it
    #[arg(long)]
    bind: bool,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::Whoami => whoami(session).await,
        Verb::Roles => roles(session).await,
        Verb::Token(TokenArgs { verb: TokenVerb::Create(args) }) => create(args, session).await,
    }
}

async fn whoami(session: &Session) -> Result<Exit> {
    let me = session
        .within(async {
            let mut client = AccessServiceClient::new(session.connect().await?);
            Ok(client.who_am_i(WhoAmIRequest {}).await?.into_inner())
        })
        .await?;
    if session.output.is_document() {
        session.output.document("whoami", &me)?;
    } else {
        session.output.table(&facts(&me, session))?;
    }
    Ok(Exit::Done)
}

fn facts(me: &WhoAmIResponse, session: &Session) -> Table {
    let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let credential = match me.credential() {
        CredentialKind::Certificate => "certificate",
        CredentialKind::Token => "token",
        CredentialKind::Both => "token and certificate",
        CredentialKind::Unspecified => "-",
    };
    let roles = match me.roles.as_slice() {
        [] => Cell::new("none: the policy binds nothing to this subject", Tone::Warn),
        roles => roles.join(", ").into(),
    };
    let ends = me.expires_at.as_ref().and_then(timestamp);
    let ends = ends.map(|at| format!(", ends {}", ago(at, session.now()))).unwrap_or_default();
    let mut table = Table::new(&["FACT", "VALUE"]);
    table.row(["subject".into(), me.subject.clone().into()]);
    table.row(["agent".into(), me.agent_id.clone().into()]);
    table.row(["roles".into(), roles]);
    table.row(["services".into(), or(&me.services, "all").into()]);
    table.row(["permissions".into(), or(&me.permissions, "none").into()]);
    table.row(["credential".into(), format!("{credential}{ends}").into()]);
    table
}

async fn roles(session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = AccessServiceClient::new(session.connect().await?);
            Ok(client.list_roles(ListRolesRequest {}).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("role_list", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["ROLE", "CERTIFICATE-ONLY", "PERMISSIONS"]);
    for role in &answer.roles {
        let only = if role.certificate_only { "yes" } else { "no" };
        table.row([role.name.clone().into(), only.into(), role.permissions.join(", ").into()]);
    }
    output.table(&table)?;
    Ok(Exit::Done)
}

async fn create(args: CreateArgs, session: &Session) -> Result<Exit> {
    let request = CreateTokenRequest {
        ttl_ms: u64::try_from(args.ttl.as_millis()).unwrap_or(u64::MAX),
        for_subject: args.subject.unwrap_or_default(),
        permissions: args.permissions,
        bind: args.bind,
        options: Some(session.change_options()),
    };
    let mut client = AccessServiceClient::new(session.connect().await?);
    let answer = client.create_token(request).await?.into_inner();
    let output = &session.output;
    if output.is_document() {
        output.document("token", &answer)?;
        return Ok(Exit::Done);
    }
    let ends = answer.expires_at.as_ref().and_then(timestamp).map(|at| ago(at, session.now()));
    output.note(&visible(&format!(
        "{}token for {}, id {}, ends {}",
        session.target_prefix(),
        answer.subject,
        answer.token_id,
        ends.unwrap_or_default(),
    )));
    output.line(&visible(&answer.token))?;
    Ok(Exit::Done)
}
