//! A small auction platform with fault switches: what the tests and the demo operate.
//!
//! | command | stands for |
//! | --- | --- |
//! | `backend` | the platform's API, with fault switches on an admin port |
//! | `frontend` | its pages |
//! | `seed` | the data of `test_database` |
//! | `damage` | the mistake that a restore is for |
//! | `faulty slow\|crash\|flap\|stubborn` | programs that misbehave in one way each |
//! | `relay` | the way to a database that lies elsewhere |
//! | `health-probe` | a load balancer that asks for health |
//! | `keeper` | ends a sandbox whose owner died |
//!
//! `docs/sandbox.md` tells how they are put together.

mod backend;
mod faulty;
mod frontend;
mod health_probe;
mod keeper;
mod relay;
mod seed;
mod signals;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A small auction platform with fault switches.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The platform's API.
    Backend(backend::Arguments),
    /// The platform's pages.
    Frontend(frontend::Arguments),
    /// Makes the database exactly what the seed says.
    Seed(seed::Arguments),
    /// Deletes and alters documents: what a restore is for.
    Damage(seed::Target),
    /// A program that misbehaves in one way.
    #[command(subcommand)]
    Faulty(faulty::Kind),
    /// Passes TCP connections on.
    Relay(relay::Arguments),
    /// Asks grpc.health.v1 over TLS.
    HealthProbe(health_probe::Arguments),
    /// Waits for the end of stdin, then kills what belongs to a sandbox.
    Keeper(keeper::Arguments),
}

/// Why a program of the platform ends.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("sample-platform: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    // One thread: a platform of this size needs no more, and a sandbox runs nine of these.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Backend(arguments) => runtime.block_on(backend::run(arguments)),
        Command::Frontend(arguments) => runtime.block_on(frontend::run(arguments)),
        Command::Seed(arguments) => runtime.block_on(seed::run(arguments)),
        Command::Damage(target) => runtime.block_on(seed::damage(target)),
        Command::Faulty(kind) => runtime.block_on(faulty::run(kind)),
        Command::Relay(arguments) => runtime.block_on(relay::run(arguments)),
        Command::HealthProbe(arguments) => runtime.block_on(health_probe::run(arguments)),
        Command::Keeper(arguments) => keeper::run(&arguments),
    }
}

/// One line (or several) on stdout. Nobody reads it any more: then it is lost, as with any server.
fn say(lines: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{lines}");
}

/// One line (or several) on stderr.
fn complain(lines: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{lines}");
}
