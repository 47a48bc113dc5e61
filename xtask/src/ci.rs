//! `cargo xtask ci`: what must hold before a change is taken.

use std::path::PathBuf;
use std::process::Command;

use ops_tests::parts;

use crate::build::{cargo, step};
use crate::{Failure, test};

pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let with_tests = match arguments {
        [] => true,
        ["--no-tests"] => false,
        other => return Err(format!("ci takes --no-tests, not {}", other.join(" ")).into()),
    };
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    if with_tests {
        test::run(&[])?;
    }
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    step("clippy", cargo().args(clippy))?;
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"];
    step("docs", cargo().args(doc).env("RUSTDOCFLAGS", "-D warnings"))?;
    dependencies()
}

/// Licences, bans and sources of the dependencies. The advisory database is not asked: it is no package.
fn dependencies() -> Result<(), Failure> {
    let Some(deny) = cargo_deny() else {
        return Ok(());
    };
    step(
        "dependencies",
        Command::new(deny).current_dir(parts::workspace()).args([
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]),
    )
}

fn cargo_deny() -> Option<PathBuf> {
    match parts::cargo_deny(&parts::to_stderr) {
        Ok(program) => Some(program),
        Err(error) => {
            eprintln!("dependencies: skipped, {error}");
            None
        }
    }
}
