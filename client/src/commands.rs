//! One file a noun; the same word as the rpc's file and the agent's modules.

use crate::cli::Command;
use crate::error::Result;
use crate::exit::Exit;
use crate::session::Session;

pub mod access;
pub mod agent;
pub mod version;

/// Runs a parsed command.
///
/// # Errors
/// What the command could not do.
pub async fn run(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Access(args) => access::run(args, session).await,
        Command::Agent(args) => agent::run(args, session).await,
        Command::Version(args) => version::run(&args, session).await,
    }
}
