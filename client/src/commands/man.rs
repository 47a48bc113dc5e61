//! `opsctl man`: manual pages, made from the same tree of commands as the help.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::count;
use crate::session::Session;

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  opsctl man | man -l -\n  opsctl man --dir ~/.local/share/man/man1")]
pub struct Args {
    /// Write one page a command into this folder; else opsctl(1) goes to stdout
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints or writes the pages.
///
/// # Errors
/// The folder or stdout cannot be written.
pub fn run(args: &Args, session: &Session) -> Result<Exit> {
    let output = &session.output;
    match &args.dir {
        Some(folder) => {
            let pages = write(folder)?;
            if output.is_document() {
                output.value(&serde_json::json!({
                    "kind": "man",
                    "version": ops_proto::json::VERSION,
                    "dir": folder,
                    "pages": pages,
                }))?;
            } else {
                output.note(&format!("{} in {}", count(pages, "page", "pages"), folder.display()));
            }
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command())
                .render(&mut page)
                .map_err(|error| Error::file(Path::new("opsctl.1"), &error))?;
            if output.is_document() {
                output.value(&serde_json::json!({
                    "kind": "man",
                    "version": ops_proto::json::VERSION,
                    "page": String::from_utf8_lossy(&page),
                }))?;
            } else {
                output.bytes(&page)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn write(folder: &Path) -> Result<usize> {
    let failed = |error| Error::file(folder, &error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
    let pages = std::fs::read_dir(folder).map_err(failed)?;
    let ours = |name: std::ffi::OsString| name.to_string_lossy().starts_with("opsctl");
    Ok(pages.filter_map(|page| page.ok()).filter(|page| ours(page.file_name())).count())
}
