//! The project's chores: demo, test, sandbox, ci.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the chores talk to the person who runs them")]

mod build;
mod ci;
mod demo;
mod sandbox;
mod test;

use std::process::ExitCode;

use ops_tests::parts;

const USAGE: &str = "\
usage: cargo xtask <chore>

  demo [--exit]               a real platform, operated through opsctl only
  test [ARG…]                 fetch the parts, run all tests; ARG goes to cargo test
  ci [--no-tests]             format, clippy, docs, dependencies, all tests
  parts                       fetch and build the parts only
  sandbox up --dir DIR [--json] [--without-agent] [--build DIR]
  sandbox down --dir DIR      the real platform for hands, tests and tools: docs/sandbox.md

OPS_PARTS_DIR is where the parts lie (.parts), OPS_TEST_MONGODB_URI a MongoDB server to use.";

/// Why a chore ends; shown to a person.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", rest @ ..] => test::run(rest),
        ["ci", rest @ ..] => ci::run(rest),
        ["demo", rest @ ..] => demo::run(rest),
        ["parts"] => parts::ensure_all(&parts::to_stderr).map(drop).map_err(Failure::from),
        ["sandbox", "up", rest @ ..] => sandbox::up(rest),
        ["sandbox", "down", rest @ ..] => sandbox::down(rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
