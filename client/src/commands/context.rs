//! `opsctl context`: the agents you may talk to, and as whom. Files only; no agent is asked.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use ops_proto::v1::ErrorReason;
use ops_trust::bundle::{self, Bundle};
use ops_trust::key::PrivateKeyPem;
use ops_trust::peer::PeerError;
use serde_json::{Value, json};

use crate::context::{self, Choice, Environment, Origin, Store, Target};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, date_time, quote};
use crate::session::{Session, short};

const MAX_KEY_BYTES: u64 = 16 * 1024;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Take in a bundle; the same agent and user again renews the credentials
    #[command(after_help = "Examples:\n  opsctl context import admin.bundle.toml\n  \
        ssh auction-1 sudo opsctl pki issue ana --role operator | opsctl context import - --name prod")]
    Import(ImportArgs),
    /// All contexts; the current one is marked
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  opsctl context list\n  opsctl context list -o json"
    )]
    List,
    /// Make a context the current one
    #[command(after_help = "Examples:\n  opsctl context use prod")]
    Use(NameArgs),
    /// One context, or what is in force now: agent, identity, files, and how curl uses them
    #[command(after_help = "Examples:\n  opsctl context show\n  opsctl context show prod -o json")]
    Show(ShowArgs),
    /// Forget a context and delete its key
    #[command(after_help = "Examples:\n  opsctl context remove prod")]
    Remove(NameArgs),
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The bundle's file, or - for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The context's name [default: the agent's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The key, when the bundle was made from your own signing request
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Make it the current context
    #[arg(long = "use")]
    make_current: bool,
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// The context
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The context; without it, what is in force now
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Runs a verb.
///
/// # Errors
/// `CONTEXT_MISSING`, `CONTEXT_INVALID`, `CREDENTIAL_EXPIRED`, `INVALID_ARGUMENT`, `FILE_FAILED`.
pub fn run(args: &Args, session: &Session) -> Result<Exit> {
    let store = || Store::open(&session.choice(), &Environment::capture());
    match &args.verb {
        Verb::Import(args) => import(args, store()?, session),
        Verb::List => list(&store()?, session),
        Verb::Use(args) => {
            let mut store = store()?;
            store.select(&args.name)?;
            done(session, "context_use", &args.name, &format!("{} is the current context", args.name))
        }
        Verb::Show(args) => show(args.name.as_deref(), session),
        Verb::Remove(args) => {
            let mut store = store()?;
            store.remove(&args.name)?;
            if store.current().is_none() && !store.contexts().is_empty() {
                session.output.note("note: no context is current now; choose one: opsctl context use NAME");
            }
            done(session, "context_remove", &args.name, &format!("{} removed, its key deleted", args.name))
        }
    }
}

fn done(session: &Session, kind: &str, name: &str, words: &str) -> Result<Exit> {
    if session.output.is_document() {
        session.output.value(&json!({"kind": kind, "version": ops_proto::json::VERSION, "context": name}))?;
    } else {
        session.output.line(words)?;
    }
    Ok(Exit::Done)
}

fn import(args: &ImportArgs, mut store: Store, session: &Session) -> Result<Exit> {
    let (text, origin) = read_bundle(&args.file)?;
    let refused = |source: bundle::Error| {
        Error::new(ErrorReason::ContextInvalid, format!("{origin}: {source}")).effect("nothing was changed")
    };
    let bundle = Bundle::parse(&text).map_err(refused)?;
    match bundle.check_time(session.now()) {
        Ok(()) => {}
        Err(bundle::Error::Certificate(PeerError::Expired { not_after })) => {
            return Err(Error::new(
                ErrorReason::CredentialExpired,
                format!("{origin}: its certificate ended {}", ago(not_after, session.now())),
            )
            .effect("nothing was changed"));
        }
        Err(error) => return Err(refused(error)),
    }
    let key = match &args.key {
        None => None,
        Some(path) => {
            let bytes = ops_trust::private_file::read_private(path, MAX_KEY_BYTES)
                .map_err(|error| Error::from(context::Error::from(error)))?;
            Some(PrivateKeyPem::new(String::from_utf8_lossy(&bytes).into_owned()))
        }
    };
    let imported = store.import(&bundle, key, args.name.as_deref(), args.make_current)?;
    if session.output.is_document() {
        session.output.value(&json!({
            "kind": "context_import",
            "version": ops_proto::json::VERSION,
            "context": imported.name,
            "renewed": imported.renewed,
            "current": imported.current,
            "folder": imported.folder.display().to_string(),
        }))?;
        return Ok(Exit::Done);
    }
    let who = bundle.identity.as_ref().map_or_else(
        || "nobody yet: bring a token in OPSCTL_TOKEN".to_owned(),
        |identity| short(&identity.subject.to_string()),
    );
    let verb = if imported.renewed { "renewed" } else { "imported" };
    let current = if imported.current { ", the current context" } else { "" };
    session.output.line(&format!("{} {verb}: {who} at {}{current}", imported.name, bundle.agent.id))?;
    if !imported.current {
        session.output.note(&format!("next: opsctl --context {} status", quote(&imported.name)));
    }
    Ok(Exit::Done)
}

/// The text, bounded, and what to call it.
fn read_bundle(file: &Path) -> Result<(String, String)> {
    let limit = bundle::MAX_BYTES as u64;
    let (bytes, origin) = if file == Path::new("-") {
        let mut bytes = Vec::new();
        let stdin = std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes);
        stdin.map_err(|error| Error::file(Path::new("stdin"), &error))?;
        (bytes, "stdin".to_owned())
    } else {
        let bytes = ops_trust::private_file::read(file, limit)
            .map_err(|error| Error::from(context::Error::from(error)))?;
        (bytes, file.display().to_string())
    };
    if bytes.is_empty() {
        // What `ssh … | opsctl context import -` gives when the command before the pipe failed.
        return Err(Error::usage(format!("{origin}: it is empty, so no bundle was printed"))
            .effect("nothing was changed"));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::usage(format!("{origin}: it is not UTF-8")))?;
    Ok((text, origin))
}

fn list(store: &Store, session: &Session) -> Result<Exit> {
    if session.output.is_document() {
        let all: Vec<Value> = store
            .contexts()
            .iter()
            .map(|(name, context)| {
                json!({
                    "name": name,
                    "current": store.current() == Some(name),
                    "agent": context.agent,
                    "subject": context.subject,
                    "addresses": context.addresses,
                    "server_name": context.server_name,
                })
            })
            .collect();
        session.output.value(&json!({
            "kind": "contexts",
            "version": ops_proto::json::VERSION,
            "config": store.path().display().to_string(),
            "contexts": all,
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["CONTEXT", "CURRENT", "USER", "AGENT", "ENDS", "ADDRESS"]);
    for (name, context) in store.contexts() {
        let subject = context.subject.as_ref().map_or_else(Cell::none, |s| short(&s.to_string()).into());
        let current = if store.current() == Some(name) { "yes".into() } else { Cell::none() };
        let choice =
            Choice { config: Some(store.path().to_owned()), context: Some(name.clone()), host: None };
        // One context that cannot be used does not hide the others.
        let ends = match context::resolve(&choice, &Environment::default()) {
            Ok(target) => lifetime(&target, session),
            Err(_) => Cell::new("unusable", Tone::Bad),
        };
        let address = context.addresses.join(" ");
        table.row([name.clone().into(), current, subject, context.agent.name().into(), ends, address.into()]);
    }
    if table.is_empty() {
        session.output.note("no contexts yet; next: opsctl context import FILE");
    }
    session.output.table(&table)?;
    Ok(Exit::Done)
}

fn lifetime(target: &Target, session: &Session) -> Cell {
    use crate::context::Lifetime;
    let Some(peer) = &target.peer else { return Cell::none() };
    let words = ago(peer.not_after, session.now());
    match target.lifetime(session.now()) {
        Lifetime::Good => words.into(),
        Lifetime::Ending { .. } => Cell::new(words, Tone::Warn),
        Lifetime::Ended { .. } => Cell::new(format!("ended {words}"), Tone::Bad),
    }
}

fn show(name: Option<&str>, session: &Session) -> Result<Exit> {
    let environment = Environment::capture();
    let mut choice = session.choice();
    if let Some(name) = name {
        choice = Choice { context: Some(name.to_owned()), host: None, ..choice };
    }
    let target = context::resolve(&choice, &environment)?;
    let store = Store::open(&choice, &environment).ok();
    let folder = store.as_ref().zip(target.context.as_deref()).map(|(store, name)| store.folder(name));
    let origin = match &target.origin {
        Origin::Flag => "command line",
        Origin::Environment(variable) => variable,
        Origin::Current => "current context",
    };
    let file = |name: &str| folder.as_ref().map(|folder| folder.join(name).display().to_string());
    let files = [("ca", file("ca.pem")), ("cert", file("cert.pem")), ("key", file("key.pem"))];
    let has_identity = target.identity.is_some();
    if session.output.is_document() {
        session.output.value(&json!({
            "kind": "context",
            "version": ops_proto::json::VERSION,
            "name": target.context,
            "from": origin,
            "agent": target.agent,
            "addresses": target.addresses,
            "server_name": target.server_name,
            "trust_domain": target.ca.domain().as_str(),
            "subject": target.peer.as_ref().map(|peer| &peer.subject),
            "certificate_ends_at": target.peer.as_ref().map(|peer| peer.not_after),
            "token": target.token.is_some(),
            "audit_root": target.audit_root,
            "ca": files[0].1,
            "cert": files[1].1.as_ref().filter(|_| has_identity),
            "key": files[2].1.as_ref().filter(|_| has_identity),
        }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["FACT", "VALUE"]);
    let mut fact = |name: &str, value: String| table.row([name.into(), value.into()]);
    fact("context", format!("{} ({origin})", target.context.as_deref().unwrap_or("-")));
    fact("agent", target.agent.as_ref().map_or_else(|| "-".into(), ToString::to_string));
    fact("address", target.addresses.join(" "));
    fact("server-name", target.server_name.clone());
    fact(
        "trust-domain",
        format!("{}, ends {}", target.ca.domain(), ago(target.ca.not_after(), session.now())),
    );
    if let Some(peer) = &target.peer {
        let end = date_time(peer.not_after, session.output.zone());
        fact("user", short(&peer.subject.to_string()));
        fact(
            "certificate",
            format!("ends {} ({end}), serial {}", ago(peer.not_after, session.now()), peer.serial),
        );
    }
    if target.token.is_some() {
        fact("token", "yes, from the environment".into());
    }
    if let Some(root) = target.audit_root {
        fact("audit-root", root.to_string());
    }
    if let (true, [(_, Some(ca)), (_, Some(cert)), (_, Some(key))]) = (has_identity, &files) {
        fact("files", folder.as_ref().map(|f| f.display().to_string()).unwrap_or_default());
        let port = target.addresses.first().and_then(|a| a.rsplit_once(':')).map_or("7443", |(_, port)| port);
        fact(
            "curl",
            format!(
                "curl --cacert {} --cert {} --key {} https://{}:{port}/v1/services",
                quote(ca),
                quote(cert),
                quote(key),
                target.server_name
            ),
        );
    }
    session.output.table(&table)?;
    Ok(Exit::Done)
}
