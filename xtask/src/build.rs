//! Running cargo for a chore.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use ops_tests::parts;

use crate::Failure;

/// `cargo` in the workspace, the one that runs this chore.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(parts::workspace());
    // Ours, as `cargo run` set them, would make build scripts of other packages run again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs one step: a line when it is done, everything that it said when it failed.
pub(crate) fn step(name: &str, command: &mut Command) -> Result<(), Failure> {
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{name}: {}: {error}", command.get_program().to_string_lossy()))?;
    let seconds = began.elapsed().as_secs_f64();
    if output.status.success() {
        eprintln!("{name}: ok in {seconds:.0} s");
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = std::iter::once(command.get_program()).chain(command.get_args()).collect::<Vec<&OsStr>>();
    let line = line.join(OsStr::new(" "));
    Err(format!("{name}: {} after {seconds:.0} s: {}", output.status, line.to_string_lossy()).into())
}

/// Builds every target of the workspace, tests too, and answers the folder of the binaries.
pub(crate) fn everything() -> Result<PathBuf, Failure> {
    workspace("--all-targets")
}

/// Builds the programs of the workspace, and answers their folder.
pub(crate) fn programs() -> Result<PathBuf, Failure> {
    workspace("--bins")
}

/// Always the whole workspace: a part of it would have other features, and dependencies would be built twice.
fn workspace(targets: &str) -> Result<PathBuf, Failure> {
    let began = Instant::now();
    let status = cargo().args(["build", "--workspace", targets]).stdin(Stdio::null()).status()?;
    if !status.success() {
        return Err(format!("cargo build --workspace {targets}: {status}").into());
    }
    if began.elapsed().as_secs() > 2 {
        eprintln!("build: ok in {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(binaries())
}

/// Where cargo puts binaries: beside this one.
pub(crate) fn binaries() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().map(PathBuf::from).unwrap_or_default()
}
