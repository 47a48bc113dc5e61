//! `opsctl pki`: the CA's folder. Files only, used where the folder lies; no agent is asked and none ever signs.

use std::path::{Path, PathBuf};

use ops_proto::v1::ErrorReason;
use ops_trust::ca::CaFolder;
use ops_trust::key::PublicKey;
use ops_trust::leaf::Host;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago};
use crate::session::{Session, short};

mod fault;
mod issue;

pub use fault::Fault;
pub use issue::{Binding, Issue, Outcome, Product};

/// Where `opsd init` makes the CA's folder.
pub const DEFAULT_FOLDER: &str = "/etc/opsd/ca";

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The CA's folder
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_FOLDER)]
    ca: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a CA on a machine that runs no agent; on an agent's host, opsd init has made one
    #[command(after_help = "Examples:\n  opsctl pki init --ca ~/opsd-ca")]
    Init,
    /// Sign a certificate and print a bundle: everything that its holder needs
    #[command(after_help = "Examples:\n  \
        ssh auction-1 sudo opsctl pki issue ana --role operator | opsctl context import -\n  \
        sudo opsctl pki issue service/ci-deploy --role deployer --service backend > bundle.toml\n  \
        opsctl pki issue agent/auction-1 --csr agent.csr --address auction-1.example.net:7443 \
        --audit-root=KEY > agent.pem")]
    Issue(IssueArgs),
    /// Sign a new certificate for somebody who had one; roles stay as they are
    #[command(after_help = "Examples:\n  \
        ssh auction-1 sudo opsctl pki renew ana | opsctl context import -\n  \
        sudo opsctl pki renew agent/auction-1      (in place, then: opsctl agent reload)")]
    Renew(RenewArgs),
    /// The CA, its agents, and whom it has signed
    #[command(after_help = "Examples:\n  sudo opsctl pki show\n  sudo opsctl pki show ana -o json")]
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct IssueArgs {
    /// ana (a user), service/NAME, or agent/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// A role in policy.toml; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A service that the roles are scoped to; may be given several times [default: all]
    #[arg(long = "service", value_name = "SERVICE", requires = "roles")]
    services: Vec<String>,
    /// Sign this request instead of making a key
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// How long it lasts, 1 to 398 [default: 90, for an agent 398]
    #[arg(long, value_name = "DAYS")]
    days: Option<u16>,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, clap::Args)]
struct AgentArgs {
    /// The agent that the bundle leads to, where the CA knows several
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// An agent's certificate: where it is reached; may be given several times
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,
    /// An agent's certificate: its names [default: those in the request]
    #[arg(long = "server-name", value_name = "NAME")]
    server_names: Vec<Host>,
    /// An agent's certificate: the first key of its audit trail, as opsd init printed it
    #[arg(long, value_name = "KEY")]
    audit_root: Option<PublicKey>,
}

#[derive(Debug, clap::Args)]
struct RenewArgs {
    /// ana (a user), service/NAME, or agent/NAME
    #[arg(value_name = "NAME")]
    name: String,
    /// Sign this request instead of making a key
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// How long it lasts, 1 to 398 [default: 90, for an agent 398]
    #[arg(long, value_name = "DAYS")]
    days: Option<u16>,
    /// The agent that the bundle leads to, where the CA knows several
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Only this subject
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs a verb.
///
/// # Errors
/// `INVALID_ARGUMENT` for names, roles, days and requests; `FILE_FAILED` for the folder.
pub fn run(args: Args, session: &Session) -> Result<Exit> {
    let folder = args.ca;
    match args.verb {
        Verb::Init => init(&folder, session),
        Verb::Issue(args) => {
            let issue = Issue {
                name: args.name,
                roles: args.roles,
                services: args.services,
                csr: args.csr,
                days: args.days,
                agent: args.agent.agent,
                addresses: args.agent.addresses,
                server_names: args.agent.server_names,
                audit_root: args.agent.audit_root,
            };
            print(&issue::issue(&folder, &issue, session.now()).map_err(|e| shown(e, session))?, session)
        }
        Verb::Renew(args) => {
            let issue = Issue {
                name: args.name,
                csr: args.csr,
                days: args.days,
                agent: args.agent,
                ..Issue::default()
            };
            print(&issue::renew(&folder, &issue, session.now()).map_err(|e| shown(e, session))?, session)
        }
        Verb::Show(args) => show(&folder, args.name.as_deref(), session),
    }
}

/// The words, and `sudo` in front of the same line where rights were missing.
fn shown(fault: Fault, session: &Session) -> Error {
    let (denied, missing) =
        (fault.is(std::io::ErrorKind::PermissionDenied), fault.is(std::io::ErrorKind::NotFound));
    let error = Error::from(fault);
    if missing {
        return error
            .next_with(&["opsctl", "pki", "init", "--ca", "DIR"], "or name the CA's folder with --ca");
    }
    if !denied {
        return error;
    }
    let mut argv = vec!["sudo"];
    argv.extend(session.argv().iter().map(String::as_str));
    error.next(&argv)
}

fn init(folder: &Path, session: &Session) -> Result<Exit> {
    let ca = CaFolder::create(folder, session.now()).map_err(|e| shown(e.into(), session))?;
    let domain = ca.certificate().domain();
    if session.output.is_document() {
        session.output.value(&json!({
            "kind": "pki_init",
            "version": ops_proto::json::VERSION,
            "folder": folder.display().to_string(),
            "trust_domain": domain.as_str(),
            "ends_at": ca.certificate().not_after(),
        }))?;
        return Ok(Exit::Done);
    }
    session.output.line(&format!("{domain} in {}", folder.display()))?;
    session.output.note(&format!(
        "note: whoever reads {}/ca.key can be anyone: keep a copy offline, and nothing else on this machine\n\
         next: on the agent's host: opsd init --csr   (it prints the line to run here)",
        folder.display()
    ));
    Ok(Exit::Done)
}

fn print(outcome: &Outcome, session: &Session) -> Result<Exit> {
    let output = &session.output;
    let issued = &outcome.issued;
    if output.is_document() {
        let (kind, text) = match &outcome.product {
            Product::Bundle(text) => ("bundle", Some(text)),
            Product::Certificate(text) => ("certificate", Some(text)),
            Product::InPlace(_) => ("certificate", None),
        };
        output.value(&json!({
            "kind": format!("pki_{kind}"),
            "version": ops_proto::json::VERSION,
            "subject": issued.subject,
            "serial": issued.serial,
            "ends_at": issued.not_after,
            "written_to": match &outcome.product { Product::InPlace(path) => Some(path.display().to_string()), _ => None },
            kind: text,
        }))?;
    } else {
        match &outcome.product {
            Product::Bundle(text) | Product::Certificate(text) => output.bytes(text.as_bytes())?,
            Product::InPlace(path) => output.line(&path.display().to_string())?,
        }
    }
    output.note(&format!(
        "{}: certificate {} ends {}",
        issued.subject,
        issued.serial,
        ago(issued.not_after, session.now())
    ));
    match &outcome.binding {
        Binding::Written(path) => {
            output.note(&format!("{}: binding added; next: opsctl agent reload", path.display()));
        }
        Binding::Unchanged(_) | Binding::None => {}
        Binding::Missing(path) => output.note(&format!(
            "note: {} has no binding for {}: no rights until it has one",
            path.display(),
            issued.subject
        )),
        Binding::ToAdd(text) => {
            output.note(&format!(
                "add to policy.toml on the agent's host, then: opsctl agent reload\n\n{text}"
            ));
        }
    }
    match &outcome.product {
        Product::Bundle(text)
            if text.contains("PRIVATE KEY") && output.is_terminal() && !output.is_document() =>
        {
            output.note("note: this bundle holds a private key; whoever has it is its holder");
        }
        Product::InPlace(_) => output.note("next: opsctl agent reload"),
        _ => {}
    }
    Ok(Exit::Done)
}

fn show(folder: &Path, name: Option<&str>, session: &Session) -> Result<Exit> {
    let open = || -> std::result::Result<_, Fault> {
        let ca = CaFolder::open(folder)?;
        let only = name.map(ops_trust::subject::Subject::from_argument).transpose()?;
        let mut certificates = ca.issued()?;
        if let Some(only) = &only {
            certificates.retain(|record| record.subject == *only);
            if certificates.is_empty() {
                return Err(Fault::unknown(only, &ca.issued()?));
            }
        }
        // The newest first: that one counts.
        certificates.reverse();
        let agents = ca.agents()?;
        Ok((ca, certificates, agents))
    };
    let (ca, certificates, agents) = open().map_err(|e| shown(e, session))?;
    let now = session.now();
    let certificate = ca.certificate();
    if session.output.is_document() {
        let agents: Vec<Value> = agents
            .iter()
            .map(|a| {
                let (id, root) = (&a.id, &a.audit_root);
                json!({"id": id, "addresses": a.addresses, "server_name": a.server_name, "audit_root": root})
            })
            .collect();
        session.output.value(&json!({
            "kind": "pki",
            "version": ops_proto::json::VERSION,
            "folder": folder.display().to_string(),
            "trust_domain": certificate.domain().as_str(),
            "ends_at": certificate.not_after(),
            "agents": agents,
            "certificates": certificates,
        }))?;
        return Ok(Exit::Done);
    }
    session.output.note(&format!(
        "{} in {}, ends {}",
        certificate.domain(),
        folder.display(),
        ago(certificate.not_after(), now)
    ));
    for agent in &agents {
        session.output.note(&format!("{} at {}", agent.id, agent.addresses.join(" ")));
    }
    let mut table = Table::new(&["SUBJECT", "ISSUED", "ENDS", "SERIAL", "HOSTS"]);
    for record in &certificates {
        let words = ago(record.not_after, now);
        let ends = if now > record.not_after { Cell::new(words, Tone::Bad) } else { words.into() };
        let hosts = if record.hosts.is_empty() { Cell::none() } else { record.hosts.join(" ").into() };
        let subject = short(&record.subject.to_string());
        table.row([
            subject.into(),
            ago(record.issued_at, now).into(),
            ends,
            record.serial.clone().into(),
            hosts,
        ]);
    }
    session.output.table(&table)?;
    Ok(Exit::Done)
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        let error = match fault.kind() {
            fault::Kind::Input => Self::new(ErrorReason::InvalidArgument, fault.to_string()),
            fault::Kind::NotFound => {
                Self::new(ErrorReason::InvalidArgument, fault.to_string()).exit_with(Exit::NotFound)
            }
            fault::Kind::File => Self::new(ErrorReason::FileFailed, fault.to_string()),
        };
        error.effect("nothing was changed")
    }
}

#[cfg(test)]
mod tests;
