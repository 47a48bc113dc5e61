//! One file a noun; the same word as the rpc's file and the agent's modules.

use crate::cli::Command;
use crate::error::Result;
use crate::exit::Exit;
use crate::session::Session;

pub mod access;
pub mod agent;
pub mod audit;
pub mod backup;
pub mod completion;
pub mod context;
pub mod db;
pub mod explain;
pub mod log;
pub mod man;
pub mod operation;
pub mod pki;
pub mod probe;
pub mod service;
pub mod status;
pub mod version;

/// Runs a parsed command.
///
/// # Errors
/// What the command could not do.
pub async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Access(args) => access::run(args, session).await,
        Command::Agent(args) => agent::run(args, session).await,
        Command::Context(args) => context::run(&args, session),
        Command::Pki(args) => pki::run(args, session),
        Command::Audit(args) => audit::run(args, session).await,
        Command::Backup(args) => backup::run(args, session).await,
        Command::Db(args) => db::run(args, session).await,
        Command::Completion(args) => completion::run(&args, session),
        Command::Log(args) => log::run(args, session).await,
        Command::Logs(args) => log::tail(args, session).await,
        Command::Explain(args) => explain::run(&args, session),
        Command::Man(args) => man::run(&args, session),
        Command::Operation(args) => operation::run(args, session).await,
        Command::Probe(args) => probe::run(args, session).await,
        Command::Service(args) => service::run(args, session).await,
        Command::Start(args) => service::start(args, session).await,
        Command::Stop(args) => service::stop(args, session).await,
        Command::Restart(args) => service::restart(args, session).await,
        Command::Status(args) => status::run(args, session).await,
        Command::Version(args) => version::run(&args, session).await,
    }
}
