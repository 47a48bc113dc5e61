//! Questions to the person, and what to do when there is nobody to ask.
//!
//! The agent decides what has to be confirmed (`ConfirmLevel` of a plan). opsctl only carries the answer; it never fills
//! in the target's name by itself.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc;

use ops_proto::v1::{ChangeOptions, ConfirmLevel, ErrorReason};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::visible;
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

enum Heard {
    Line(io::Result<String>),
    Interrupt,
}

/// Waits for a line or for Ctrl-C. The terminal is read by a thread of its own, as reading it cannot be given up, and
/// the signal by another one, as the runtime stands still meanwhile.
fn ask(session: &Session, question: &str) -> Result<String> {
    session.output.always(&visible(question));
    let (heard, answer) = mpsc::channel();
    let interrupt = heard.clone();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        let _ = heard.send(Heard::Line(read.map(|_| line)));
    });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if runtime.is_ok_and(|runtime| runtime.block_on(tokio::signal::ctrl_c()).is_ok()) {
            let _ = interrupt.send(Heard::Interrupt);
        }
    });
    match answer.recv() {
        Ok(Heard::Line(Ok(line))) => {
            if !line.ends_with('\n') {
                session.output.always("\n");
            }
            Ok(line)
        }
        Ok(Heard::Line(Err(error))) => Err(Error::file(Path::new("stdin"), &error)),
        Ok(Heard::Interrupt) | Err(_) => {
            session.output.always("\n");
            Err(Error::new(ErrorReason::ConfirmationMissing, "interrupted before the answer")
                .effect("nothing was done")
                .exit_with(Exit::Interrupted))
        }
    }
}

/// The refusal, with the line to run: as it was typed, but with the answer that is wanted and no other.
fn missing(message: String, argv: &[String], answer: &[&str]) -> Error {
    let mut line: Vec<&str> = Vec::new();
    let mut words = argv.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--yes" | "-y" => {}
            "--confirm" => {
                words.next();
            }
            word if word.starts_with("--confirm=") => {}
            word => line.push(word),
        }
    }
    line.extend(answer);
    Error::new(ErrorReason::ConfirmationMissing, message).effect("nothing was done").next(&line)
}

fn declined(what: &str) -> Error {
    Error::new(ErrorReason::ConfirmationMissing, format!("you did not confirm to {what}"))
        .effect("nothing was done")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Global;

    fn session(global: Global) -> Session {
        let argv = ["opsctl", "backup", "restore", "latest", "--yes"].map(str::to_owned).to_vec();
        Session::new(global, argv, false)
    }

    #[test]
    fn yes_answers_ask_and_a_name_answers_type() {
        let mut options = ChangeOptions::default();
        let yes = session(Global { yes: true, ..Global::default() });
        confirm(&yes, &mut options, ConfirmLevel::Ask, "stop backend", "", None).unwrap();
        assert!(options.confirmed && options.confirm.is_empty());

        let named = session(Global { confirm: Some("test_database".into()), ..Global::default() });
        let mut options = ChangeOptions::default();
        confirm(&named, &mut options, ConfirmLevel::Type, "replace it", "test_database", None).unwrap();
        assert_eq!((options.confirmed, options.confirm.as_str()), (true, "test_database"));
    }

    #[test]
    fn another_name_is_refused_with_the_line_to_run() {
        let wrong = session(Global { confirm: Some("prod".into()), ..Global::default() });
        let mut options = ChangeOptions::default();
        let line = ["opsctl", "backup", "restore", "k7"].map(str::to_owned);
        let level = ConfirmLevel::Type;
        let error =
            confirm(&wrong, &mut options, level, "replace it", "test_database", Some(&line)).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage);
        assert_eq!(
            error.problem().next[0].argv.join(" "),
            "opsctl backup restore k7 --confirm test_database"
        );
        assert_eq!((options.confirmed, options.confirm.as_str()), (false, ""));
    }

    #[test]
    fn the_line_to_run_does_not_repeat_an_answer_that_is_not_enough() {
        let argv = ["opsctl", "backup", "restore", "latest", "-y", "--confirm", "x"].map(str::to_owned);
        let error = missing(String::new(), &argv, &["--confirm", "test_database"]);
        assert_eq!(error.problem().next[0].argv[4..], ["--confirm", "test_database"]);
    }
}
