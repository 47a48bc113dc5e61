//! What happened to programs before anyone asked.

use jiff::Timestamp;
use tokio::sync::watch;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal: `SIGKILL`.
    Signal(String),
}

impl Exit {
    /// `exit code 3`, `killed by SIGKILL`.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Exit::Code(code) => format!("exit code {code}"),
            Exit::Signal(name) => format!("killed by {name}"),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A process was begun.
    Spawned {
        /// Its pid.
        pid: u32,
    },
    /// It was up for its startsecs.
    Running,
    /// It ended by itself.
    Exited {
        /// How.
        exit: Exit,
        /// As the manager was told to expect.
        expected: bool,
    },
    /// It ended on request.
    Stopped {
        /// How.
        exit: Exit,
    },
    /// It was given up.
    Fatal,
    /// It is being waited for to stop.
    Stopping,
    /// It did not stop in its time and is killed.
    Killing {
        /// Its pid.
        pid: u32,
    },
}

impl Change {
    /// One word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Change::Spawned { .. } => "spawned",
            Change::Running => "running",
            Change::Exited { .. } => "exited",
            Change::Stopped { .. } => "stopped",
            Change::Fatal => "fatal",
            Change::Stopping => "stopping",
            Change::Killing { .. } => "killing",
        }
    }

    /// One line: "exit code 3, not expected"; empty when the word says it all.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Change::Spawned { pid } => format!("pid {pid}"),
            Change::Exited { exit, expected: true } => format!("{}, expected", exit.text()),
            Change::Exited { exit, expected: false } => format!("{}, not expected", exit.text()),
            Change::Stopped { exit } => exit.text(),
            Change::Fatal => "given up".to_owned(),
            Change::Killing { pid } => format!("SIGKILL to pid {pid}"),
            Change::Running | Change::Stopping => String::new(),
        }
    }
}

/// A change, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// When, to the millisecond.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// The last 24 h and a little more, from the manager's own log.
pub trait ServiceHistory: Send + Sync {
    /// A process's transitions, oldest first, by the name behind the colon: the log knows no groups. Bounded.
    fn transitions(&self, process: &str) -> Vec<Transition>;

    /// Why there is no history; `None`: there is.
    fn missing(&self) -> Option<String>;

    /// Changes whenever something happened, or the history began or ceased to be.
    fn changes(&self) -> watch::Receiver<u64>;
}
