//! opsctl: the client on the operator's laptop and in CI.
//!
//! | to find | look in |
//! | --- | --- |
//! | flags, the tree of commands, how to add one | [`cli`] |
//! | what a command is given | [`session`] |
//! | which agent, which credential | [`context`] |
//! | TCP, TLS, HTTP/2 | [`connection`] |
//! | tables, documents, times, colours | [`output`] |
//! | failures and their words | [`error`], [`exit`] |
//! | questions to the person | [`confirm`] |
//! | a change: options, plan, question, operation | [`change`] |
//! | an operation followed to its end | [`attach`] |
//! | a noun's verbs | [`commands`] |

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use ops_proto::v1::ErrorReason;

pub mod attach;
pub mod change;
pub mod cli;
pub mod commands;
pub mod completion;
pub mod confirm;
pub mod connection;
pub mod context;
pub mod error;
pub mod exit;
pub mod output;
pub mod session;

use crate::cli::Cli;
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Color, Format, Output};
use crate::session::Session;

/// opsctl's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The whole program: parse, run, print, exit code.
pub fn main(argv: impl Iterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.collect();
    if completion::answer(&argv) {
        return Exit::Done.into();
    }
    let (cli, session) = match parse(&argv) {
        Ok(parsed) => parsed,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = Error::new(ErrorReason::Internal, format!("no runtime: {error}"));
            return report(&error, &session).into();
        }
    };
    let exit = runtime.block_on(run(cli, &session));
    // A name that is still being resolved must not hold opsctl back.
    runtime.shutdown_background();
    exit.into()
}

fn parse(argv: &[OsString]) -> Result<(Cli, Session), Exit> {
    let parsed = Cli::command().try_get_matches_from(argv).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        let named = matches.value_source("context") == Some(clap::parser::ValueSource::CommandLine);
        Ok((cli, named))
    });
    match parsed {
        Ok((cli, named)) => {
            let words = std::iter::once("opsctl".to_owned())
                .chain(argv.iter().skip(1).map(|word| word.to_string_lossy().into_owned()))
                .collect();
            let session = Session::new(cli.global.clone(), words, named);
            Ok((cli, session))
        }
        Err(error) => Err(usage(&error, argv)),
    }
}

/// Help and version are data; a mistake goes to stderr, and to stdout too where a program reads it.
fn usage(error: &clap::Error, argv: &[OsString]) -> Exit {
    use clap::error::ErrorKind;
    let output = Output::new(cli::wanted_format(argv), false, true, Color::Auto);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = if output.stdout() == output::Paint::Colored {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            match output.bytes(text.as_bytes()) {
                Err(failed) if !failed.is_output_closed() => Exit::Failed,
                _ => Exit::Done,
            }
        }
        _ => {
            let text = error.render();
            if output.is_document() {
                let first = text.to_string().lines().next().unwrap_or_default().to_owned();
                let message = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
                let _ = output.value(&Error::usage(message).document());
            }
            let text = if output.stderr() == output::Paint::Colored {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            output.always(&text);
            Exit::Usage
        }
    }
}

async fn run(cli: Cli, session: &Session) -> Exit {
    let command = commands::run(cli.command, session);
    tokio::pin!(command);
    let mut presses = 0;
    let ended = loop {
        tokio::select! {
            ended = &mut command => break ended,
            Ok(()) = tokio::signal::ctrl_c() => {
                presses += 1;
                if presses > 1 || !session.handles_interrupt() {
                    return Exit::Interrupted;
                }
            }
        }
    };
    match ended {
        Ok(exit) => exit,
        Err(error) if error.is_output_closed() => Exit::Done,
        Err(error) => report(&session.complete(error), session),
    }
}

/// Shows a failure: words on stderr, and its document on stdout where a program reads it.
fn report(error: &Error, session: &Session) -> Exit {
    let output = &session.output;
    if output.is_document() && !error.is_reported() {
        let shown = if output.format() == Format::Jsonl {
            output.item(&error.document())
        } else {
            output.value(&error.document())
        };
        // The words below still say it.
        drop(shown);
    }
    output.always(&error::render(error, session.shown_context(), output.stderr()));
    error.exit()
}
