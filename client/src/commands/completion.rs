//! `opsctl completion`: a script for the shell. Names of services, backups and operations come from the agent while
//! one types; see [`crate::completion`].

use std::path::Path;

use clap_complete::env::Shells;

use crate::completion::VARIABLE;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::session::Session;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    source <(opsctl completion bash)                                  in ~/.bashrc\n  \
    opsctl completion zsh > ~/.zfunc/_opsctl\n  \
    opsctl completion fish > ~/.config/fish/completions/opsctl.fish")]
pub struct Args {
    /// bash, zsh, fish, elvish, powershell
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

/// Prints the script.
///
/// # Errors
/// stdout cannot be written.
pub fn run(args: &Args, session: &Session) -> Result<Exit> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&args.shell)
        .ok_or_else(|| Error::usage(format!("there is no completion for {}", args.shell)))?;
    let mut script = Vec::new();
    shell
        .write_registration(VARIABLE, "opsctl", "opsctl", "opsctl", &mut script)
        .map_err(|error| Error::file(Path::new("completion"), &error))?;
    if session.output.is_document() {
        session.output.value(&serde_json::json!({
            "kind": "completion",
            "version": ops_proto::json::VERSION,
            "shell": args.shell,
            "script": String::from_utf8_lossy(&script),
        }))?;
    } else {
        session.output.bytes(&script)?;
    }
    Ok(Exit::Done)
}
