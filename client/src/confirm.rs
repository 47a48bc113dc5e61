//! Questions to the person, and what to do when there is nobody to ask.
//!
//! The agent decides what has to be confirmed (`ConfirmLevel` of a plan). opsctl only carries the answer; it never fills
//! in the target's name by itself.

use std::io::{self, BufRead as _, IsTerminal as _};

use ops_proto::v1::{ChangeOptions, ConfirmLevel, ErrorReason};

use crate::error::{Error, Result};
use crate::session::Session;

/// Gets the answer for `level` into `options`, from `--yes`, `--confirm`, or the person at the terminal.
///
/// `what` says what will be done: "stop backend". `target` is what has to be typed at level `type`. `argv` is the command to
/// show when nobody can be asked; the typed one by default, another where it named something that moves (`latest`).
///
/// # Errors
/// `CONFIRMATION_MISSING` with the exact line to run; nothing was done.
pub fn confirm(
    session: &Session,
    options: &mut ChangeOptions,
    level: ConfirmLevel,
    what: &str,
    target: &str,
    argv: Option<&[String]>,
) -> Result<()> {
    let argv = argv.unwrap_or_else(|| session.argv());
    match level {
        ConfirmLevel::None | ConfirmLevel::Unspecified => Ok(()),
        ConfirmLevel::Ask => {
            if session.global.yes || session.global.confirm.is_some() {
                options.confirmed = true;
                return Ok(());
            }
            if !can_ask() {
                return Err(missing(format!("this would {what}; it needs --yes"), argv, &["--yes"]));
            }
            let answer = ask(session, &format!("{what}? [y/N] "))?;
            if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
                options.confirmed = true;
                return Ok(());
            }
            Err(declined(what))
        }
        ConfirmLevel::Type => {
            let yes_is_not_enough = if session.global.yes { "; --yes is not enough" } else { "" };
            let answer = match &session.global.confirm {
                Some(typed) if typed == target => typed.clone(),
                Some(typed) => {
                    return Err(missing(
                        format!("to {what}, its name {target} has to be confirmed, not {typed}"),
                        argv,
                        &["--confirm", target],
                    ));
                }
                None if !can_ask() => {
                    let message = format!("to {what} needs its name{yes_is_not_enough}");
                    return Err(missing(message, argv, &["--confirm", target]));
                }
                None => ask(session, &format!("Type {target} to {what}: "))?.trim().to_owned(),
            };
            if answer != target {
                return Err(declined(what));
            }
            answer.clone_into(&mut options.confirm);
            options.confirmed = true;
            Ok(())
        }
    }
}

/// Whether there is a person to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn ask(session: &Session, question: &str) -> Result<String> {
    session.output.always(&crate::output::visible(question));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::file(std::path::Path::new("stdin"), &error))?;
    if !answer.ends_with('\n') {
        session.output.always("\n");
    }
    Ok(answer)
}

fn missing(message: String, argv: &[String], answer: &[&str]) -> Error {
    let flags = ["--yes", "-y"];
    let kept =
        argv.iter().map(String::as_str).filter(|word| answer.contains(&"--yes") || !flags.contains(word));
    let line: Vec<&str> = kept.chain(answer.iter().copied()).collect();
    Error::new(ErrorReason::ConfirmationMissing, message).effect("nothing was done").next(&line)
}

fn declined(what: &str) -> Error {
    Error::new(ErrorReason::ConfirmationMissing, format!("you did not confirm to {what}"))
        .effect("nothing was done")
}
