//! Ends a sandbox whose owner died: even of SIGKILL, an owner's pipe is closed.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The sandbox's folder.
    #[arg(long)]
    dir: PathBuf,
    /// The folder of its sockets, removed too.
    #[arg(long)]
    sockets: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    // Whatever ends the wait, an error too, the owner is not there any more.
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    ops_tests::belongings::kill_all(&arguments.dir)?;
    match std::fs::remove_dir_all(&arguments.sockets) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}
