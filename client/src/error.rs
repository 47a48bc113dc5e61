//! What a person is told when something fails: one sentence, facts, and the command that helps.
//!
//! The agent's problems come through unchanged; opsctl's own are made here, with the same shape. Nothing below this
//! module prints: `lib.rs` renders whatever a command returns.

use ops_proto::v1::{ErrorReason, Evidence, NextCommand, Problem};
use serde_json::{Value, json};

use crate::exit::Exit;

mod render;
mod status;

pub use render::{command_line, next_lines, render};

/// A result with the client's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, ready to be shown.
#[derive(Clone, Debug)]
pub struct Error {
    problem: Problem,
    exit: Exit,
    kind: Kind,
}

/// What is still to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: it is complete.
    Complete,
    /// The connection failed; which agent is added where the settings are known.
    Connection,
    /// Its document stands on stdout already.
    Reported,
    /// Whoever read our output has gone, which is no failure.
    OutputClosed,
}

impl Error {
    /// A failure with its sentence and nothing else yet: lower case at its beginning, no full stop, never a secret.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self::from(Problem { reason: reason.into(), message: message.into(), ..Problem::default() })
    }

    /// Input that cannot be used.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorReason::InvalidArgument, message)
    }

    /// A file that cannot be read or written.
    pub fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(ErrorReason::FileFailed, format!("{}: {}", path.display(), crate::output::io_words(error)))
    }

    /// The reader of our output has gone: `opsctl … | head`.
    pub(crate) fn output_closed() -> Self {
        let mut error = Self::new(ErrorReason::Unspecified, "output closed");
        error.kind = Kind::OutputClosed;
        error.exit = Exit::Done;
        error
    }

    /// A failure of the connection; [`Error::at`] says later which one.
    pub(crate) fn connection(reason: ErrorReason, message: impl Into<String>) -> Self {
        let mut error = Self::new(reason, message);
        error.kind = Kind::Connection;
        error
    }

    /// Adds a fact of one line.
    #[must_use]
    pub fn fact(mut self, name: &str, text: impl Into<String>) -> Self {
        let (name, text) = (name.to_owned(), text.into());
        self.problem.evidence.push(Evidence { name, text, lines: Vec::new() });
        self
    }

    /// Adds a command: `["opsctl", "service", "get", name]`.
    #[must_use]
    pub fn next(self, argv: &[&str]) -> Self {
        self.next_with(argv, "")
    }

    /// Adds a command with a note: "after the fix".
    #[must_use]
    pub fn next_with(mut self, argv: &[&str], note: &str) -> Self {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        self.problem.next.push(NextCommand { argv, note: note.to_owned() });
        self
    }

    /// One command instead of those there are.
    #[must_use]
    pub(crate) fn with_next(mut self, argv: &[&str]) -> Self {
        self.problem.next.clear();
        self.next(argv)
    }

    /// What became of the target: "nothing was done".
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.problem.effect = effect.into();
        self
    }

    /// What it is about: a service, a backup.
    #[must_use]
    pub fn about(mut self, target: impl Into<String>) -> Self {
        self.problem.target = target.into();
        self
    }

    /// Another exit code than the reason's: an operation's state says more.
    #[must_use]
    pub fn exit_with(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Says that a document on stdout tells it already, so that `-o json` prints no second one.
    #[must_use]
    pub fn reported(mut self) -> Self {
        self.kind = Kind::Reported;
        self
    }

    /// Completes a failure of the connection with the agent's address and the context.
    #[must_use]
    pub(crate) fn at(mut self, address: &str, context: &str) -> Self {
        if self.kind == Kind::Connection {
            self.problem.message = self.problem.message.replace("{agent}", address);
            if self.problem.effect.is_empty() && !context.is_empty() {
                self.problem.effect = format!("context {context}");
            }
            self.kind = Kind::Complete;
        }
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> ErrorReason {
        self.problem.reason()
    }

    /// The whole of it.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// How opsctl ends with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The reader of our output has gone.
    #[must_use]
    pub fn is_output_closed(&self) -> bool {
        self.kind == Kind::OutputClosed
    }

    /// The connection failed, so a following command may connect again.
    #[must_use]
    pub fn is_connection(&self) -> bool {
        self.kind == Kind::Connection
    }

    /// A document on stdout tells it already.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.kind == Kind::Reported
    }

    /// `{"kind": "error", …}`: what `-o json` prints.
    #[must_use]
    pub fn document(&self) -> Value {
        json!({
            "kind": "error",
            "version": ops_proto::json::VERSION,
            "exit_code": self.exit.code(),
            "error": ops_proto::json::value(&self.problem),
        })
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let exit = Exit::of_reason(problem.reason());
        Self { problem, exit, kind: Kind::Complete }
    }
}

/// `START_FATAL`: the reason as people see it.
#[must_use]
pub fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.problem.message, reason_name(self.reason()))
    }
}

impl std::error::Error for Error {}

impl From<crate::context::Error> for Error {
    fn from(error: crate::context::Error) -> Self {
        if error.is_missing() {
            return Self::new(ErrorReason::ContextMissing, error.to_string()).next_with(
                &["opsctl", "context", "import", "FILE"],
                "a bundle, made on the agent's host by: sudo opsctl pki issue NAME --role ROLE",
            );
        }
        Self::new(ErrorReason::ContextInvalid, error.to_string()).next(&["opsctl", "context", "list"])
    }
}
