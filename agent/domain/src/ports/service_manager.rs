//! What keeps the programs alive: supervisord, later systemd.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason};

/// A program's name as its manager knows it, always whole: `group:process`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProgramName(String);

impl ProgramName {
    /// `group:process`; a bare `name` is `name:name`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: a part is empty, is `*` (which would mean a whole group), or holds anything but printable
    /// ASCII without spaces, colons and slashes.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (group, process) = text.split_once(':').unwrap_or((text, text));
        let good = |part: &str| {
            !part.is_empty()
                && part.len() <= 128
                && part.bytes().all(|byte| byte.is_ascii_graphic() && !b":*/\\<>&\"'".contains(&byte))
        };
        if good(group) && good(process) {
            return Ok(Self(format!("{group}:{process}")));
        }
        let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        Err(Error::new(
            Reason::InvalidArgument,
            format!("\"{shown}\" is not a program of supervisord: write group:process, or one name for both"),
        ))
    }

    /// `group:process`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part behind the colon.
    #[must_use]
    pub fn process(&self) -> &str {
        self.0.split_once(':').map_or(self.0.as_str(), |(_, process)| process)
    }

    /// As people write it: one name where group and process have the same.
    #[must_use]
    pub fn short(&self) -> &str {
        match self.0.split_once(':') {
            Some((group, process)) if group == process => process,
            _ => &self.0,
        }
    }
}

impl fmt::Display for ProgramName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ProgramName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::parse(&text)
    }
}

impl From<ProgramName> for String {
    fn from(name: ProgramName) -> String {
        name.0
    }
}

/// Where a program is, in the manager's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProgramState {
    /// Stopped on request, or never started.
    Stopped,
    /// Started, and not yet up for its startsecs.
    Starting,
    /// Up.
    Running,
    /// Died too early; the manager waits before it tries again.
    Backoff,
    /// Told to stop, and not gone.
    Stopping,
    /// Ended by itself.
    Exited,
    /// Given up.
    Fatal,
    /// The manager does not know.
    Unknown,
}

impl ProgramState {
    /// There is no process, and none will come by itself.
    #[must_use]
    pub const fn is_down(self) -> bool {
        matches!(self, Self::Stopped | Self::Exited | Self::Fatal | Self::Unknown)
    }

    /// `RUNNING`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A program, as the manager describes it at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: ProgramName,
    /// Where it is.
    pub state: ProgramState,
    /// Its process.
    pub pid: Option<u32>,
    /// When it was last started, whole seconds; `None`: never.
    pub started_at: Option<Timestamp>,
    /// When it last ended, whole seconds.
    pub stopped_at: Option<Timestamp>,
    /// The last exit code; meaningful in `Exited` and `Stopped` only, and -1 for a signal.
    pub exit_status: i32,
    /// Why the last spawn failed; empty: it did not.
    pub spawn_error: String,
    /// The file of its stdout.
    pub stdout_log: Option<String>,
    /// The file of its stderr; `None` also when stderr goes to stdout.
    pub stderr_log: Option<String>,
}

/// How patient the manager is with a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long it must stay up to count as running.
    pub start: Duration,
    /// How often it is tried again.
    pub retries: u32,
    /// How long it may take to stop before it is killed.
    pub stop: Duration,
}

/// What the manager refused, or why it did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagerError {
    /// No answer.
    #[error("supervisord at {place}: {why}")]
    Unreachable {
        /// Its socket.
        place: String,
        /// What was tried and what came of it.
        why: String,
        /// What helps.
        hint: String,
    },
    /// An answer that is none.
    #[error("supervisord at {place} gave an answer that is none: {why}")]
    BadReply {
        /// Its socket.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is on its way down, or restarting.
    #[error("supervisord at {place} is shutting down or restarting")]
    ShuttingDown {
        /// Its socket.
        place: String,
    },
    /// It has no such program.
    #[error("supervisord has no program {0}")]
    NoSuchProgram(ProgramName),
    /// There was nothing to stop or to signal.
    #[error("it is not running")]
    NotRunning,
    /// There was nothing to start.
    #[error("it is already started")]
    AlreadyStarted,
    /// The first try to start it failed; the manager may go on trying.
    #[error("it could not be spawned: {0}")]
    Spawn(String),
    /// The command does not exist, or cannot be executed.
    #[error("its command cannot be run: {0}")]
    Command(String),
    /// Anything else that it refused.
    #[error("supervisord refused: {0}")]
    Refused(String),
}

impl From<ManagerError> for Error {
    fn from(error: ManagerError) -> Self {
        let text = error.to_string();
        match error {
            ManagerError::Unreachable { place, hint, .. } => {
                Error::new(Reason::SupervisorUnreachable, text).fact("socket", place).fact("hint", hint).retryable()
            }
            ManagerError::ShuttingDown { place } => Error::new(Reason::SupervisorUnreachable, text)
                .fact("socket", place)
                .fact("hint", "wait until it is up again: supervisord answers nothing else meanwhile")
                .retryable(),
            ManagerError::BadReply { place, .. } => Error::new(Reason::SupervisorBadReply, text)
                .fact("socket", place)
                .fact("hint", "see that it is supervisord 4 that listens there"),
            ManagerError::NoSuchProgram(program) => Error::new(Reason::ServiceNotFound, text).fact(
                "hint",
                format!("{program} is in the agent's configuration, not in supervisord's: add it there, or fix `program`"),
            ),
            ManagerError::Spawn(_) | ManagerError::Command(_) => Error::new(Reason::StartFatal, text),
            ManagerError::NotRunning | ManagerError::AlreadyStarted | ManagerError::Refused(_) => {
                Error::new(Reason::SupervisorBadReply, text)
            }
        }
    }
}

/// Few verbs, each about one program: there is no way to say "all", and none that reaches the manager itself.
///
/// Every call ends within 5 s.
#[async_trait]
pub trait ServiceManager: Send + Sync {
    /// `4.3.0`.
    async fn version(&self) -> Result<String, ManagerError>;

    /// Every program, in the manager's order.
    async fn programs(&self) -> Result<Vec<Program>, ManagerError>;

    /// One.
    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError>;

    /// How patient it is, by program.
    async fn patience(&self) -> Result<BTreeMap<ProgramName, Patience>, ManagerError>;

    /// Asks for a start and returns at once; whether it came up is seen by [`ServiceManager::program`]. While the
    /// program is `Stopping` the request is lost without an error.
    async fn start(&self, name: &ProgramName) -> Result<(), ManagerError>;

    /// Asks for a stop and returns at once.
    async fn stop(&self, name: &ProgramName) -> Result<(), ManagerError>;

    /// Sends SIGKILL.
    async fn kill(&self, name: &ProgramName) -> Result<(), ManagerError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_names_are_whole_and_mean_one_program() {
        assert_eq!(ProgramName::parse("backend").unwrap().as_str(), "backend:backend");
        let grouped = ProgramName::parse("web:web_00").unwrap();
        assert_eq!((grouped.process(), grouped.short()), ("web_00", "web:web_00"));
        assert_eq!(ProgramName::parse("a").unwrap().short(), "a");
        for bad in ["", ":", "a:", ":a", "a:*", "*", "a:b:c", "a b", "a\n", "a<b", "../a", &"x".repeat(200)] {
            assert!(ProgramName::parse(bad).is_err(), "{bad}");
        }
    }
}
