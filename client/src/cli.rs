//! The command line: global flags and the tree of nouns.
//!
//! # Adding a noun
//! 1. Write `commands/<noun>.rs` with `#[derive(clap::Args)] pub struct Args { #[command(subcommand)] verb: Verb }`,
//!    an `enum Verb` that derives `clap::Subcommand`, and
//!    `pub async fn run(args: Args, session: &Session) -> Result<Exit>`.
//! 2. Name it in three places: `pub mod <noun>;` and one arm in [`crate::commands`], one variant of [`Command`] here
//!    (with its plural as `#[command(visible_alias = …)]`). A short form (`restart`) is a variant of its own below
//!    "Short forms" and reuses the verb's `Args`.
//! 3. Inside: `session.connect().await?` is what generated clients take; `session.output` writes (tables, documents,
//!    notes); `session.change_options()` has `--plan`, `--yes`, `--reason`…; [`crate::confirm`] asks; a `tonic::Status`
//!    turns into our error by `?`. Answer [`crate::exit::Exit`]; print a document whenever
//!    `session.output.is_document()`.
//! 4. Give every verb a one-line doc comment and, with `after_help`, examples. Run `OPS_REGENERATE=1 cargo test -p
//!    ops-client`: `docs/cli.md` and the golden help pages are written anew.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    access, agent, audit, backup, completion, context, db, explain, log, man, operation, pki, probe, service,
    status, version,
};
use crate::output::{Color, Format, parse_duration};

const EXAMPLES: &str = "\
Examples:
  opsctl status                            what is up, what is not, and why
  opsctl service restart backend           a new process, ready, with its downtime
  opsctl agent info                        the agent itself

Get started: on the agent's host, `sudo opsctl pki issue NAME --role ROLE` prints a bundle;
here, `opsctl context import FILE` takes it in. Reasons: `opsctl explain REASON`.";

/// Operate a platform through its agent, opsd.
#[derive(Debug, Parser)]
#[command(
    name = "opsctl",
    version,
    after_help = concat_help(),
    max_term_width = 100,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn concat_help() -> String {
    format!("{EXAMPLES}\n\n{}", crate::exit::TABLE)
}

/// Flags that every command takes, before or after it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The context to use [env: OPSCTL_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Another agent of the same CA [env: OPSCTL_HOST]
    #[arg(long, global = true, value_name = "HOST[:PORT]")]
    pub host: Option<String>,
    /// How the answer is printed: table, wide, json, jsonl, yaml
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub output: Format,
    /// Only data and errors: no notes, no progress
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Times in UTC instead of this machine's zone
    #[arg(long, global = true)]
    pub utc: bool,
    /// When to colour: auto, always, never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub color: Color,
    /// A change: how long the operation may take; else how long to wait for the answer (90s, 2m)
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Show what would be done, change nothing
    #[arg(long, global = true, help_heading = "Options of changes")]
    pub plan: bool,
    /// Run only if a plan made afresh has this digest
    #[arg(long, global = true, value_name = "DIGEST", help_heading = "Options of changes")]
    pub plan_digest: Option<String>,
    /// Answer yes
    #[arg(short, long, global = true, help_heading = "Options of changes")]
    pub yes: bool,
    /// Answer a question that wants the target's name typed; implies --yes
    #[arg(long, global = true, value_name = "TARGET", help_heading = "Options of changes")]
    pub confirm: Option<String>,
    /// Why, for the audit trail
    #[arg(long, global = true, value_name = "TEXT", help_heading = "Options of changes")]
    pub reason: Option<String>,
    /// How long to wait for another operation's lock; not at all by default
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_duration, help_heading = "Options of changes")]
    pub lock_timeout: Option<Duration>,
    /// The same key within 24 h names the same operation
    #[arg(long, global = true, value_name = "KEY", help_heading = "Options of changes")]
    pub idempotency_key: Option<String>,
    /// Print the operation's id and do not wait for its end
    #[arg(long, global = true, help_heading = "Options of changes")]
    pub detach: bool,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Services and checks in one answer, worst first
    Status(status::Args),
    /// What runs: list, start, stop, restart, watch
    #[command(visible_alias = "services")]
    Service(service::Args),
    /// One measured question, asked by the agent or from here
    #[command(visible_alias = "probes")]
    Probe(probe::Args),
    /// Who you are to the agent, roles, access tokens
    Access(access::Args),
    /// Logs of services: last lines, follow
    Log(log::Args),
    /// The audit trail: list, verify, export
    Audit(audit::Args),
    /// The agent itself
    Agent(agent::Args),
    /// The agents you may talk to, and as whom
    #[command(visible_alias = "contexts")]
    Context(context::Args),
    /// Certificates, where the CA's folder is; asks no agent
    Pki(pki::Args),
    /// The database: ping, counts, sizes
    Db(db::Args),
    /// Backups: make, list, verify, restore
    #[command(visible_alias = "backups")]
    Backup(backup::Args),
    /// Everything that changes something: list, follow, cancel
    #[command(visible_alias = "operations")]
    Operation(operation::Args),
    /// What a reason means, what to check, what to run
    Explain(explain::Args),
    /// A script that completes commands and names in the shell
    Completion(completion::Args),
    /// Manual pages
    Man(man::Args),
    /// Versions of opsctl and of the agent
    Version(version::Args),
    // Short forms.
    /// Short for `log tail`
    Logs(log::TailArgs),
    /// Short for `service start`
    #[command(after_help = "Examples:\n  opsctl start backend")]
    Start(service::StartArgs),
    /// Short for `service stop`
    #[command(after_help = "Examples:\n  opsctl stop backend --yes")]
    Stop(service::StopArgs),
    /// Short for `service restart`
    #[command(after_help = "Examples:\n  opsctl restart backend --reason 'sockets stuck'")]
    Restart(service::StartArgs),
}

/// The format that a command line asks for, when it could not be parsed.
pub(crate) fn wanted_format(argv: &[OsString]) -> Format {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    let value = words.iter().enumerate().find_map(|(index, word)| {
        if word == "-o" || word == "--output" {
            return words.get(index + 1).map(|next| next.to_string());
        }
        word.strip_prefix("--output=")
            .or_else(|| word.strip_prefix("-o"))
            .map(|v| v.trim_start_matches('=').to_owned())
    });
    value.and_then(|value| <Format as clap::ValueEnum>::from_str(&value, false).ok()).unwrap_or_default()
}
