//! A service as people see it.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::ids::ServiceName;
use crate::ports::service_history::{Change, Exit, Transition};
use crate::ports::service_manager::{ProgramName, ProgramState};
use crate::service::definition::{Expected, Verb};

/// A service at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name; the program's own where it is not managed.
    pub name: String,
    /// `group:process`.
    pub program: ProgramName,
    /// Where it is, in the manager's words.
    pub state: ProgramState,
    /// Its process.
    pub pid: Option<u32>,
    /// Since when that runs.
    pub started_at: Option<Timestamp>,
    /// Whether it answers.
    pub readiness: Readiness,
    /// In the last 24 h, starts after the first; `None`: no history.
    pub restarts_24h: Option<u32>,
    /// How its last process ended, where that is known.
    pub exit: Option<Exit>,
    /// The manager's words about a failed spawn.
    pub spawn_error: String,
    /// Of one core, since the last look, or since its start.
    pub cpu_percent: Option<f64>,
    /// Resident.
    pub memory_bytes: Option<u64>,
    /// Newest first.
    pub transitions: Vec<Transition>,
    /// "restarted by user/ana, op-…".
    pub last_change: String,
    /// When.
    pub last_change_at: Option<Timestamp>,
    /// It has a section in the configuration.
    pub managed: bool,
    /// Whether it should run.
    pub expected: Expected,
    /// Verbs that need more.
    pub protected: BTreeSet<Verb>,
    /// What comes up before it.
    pub after: Vec<ServiceName>,
    /// Last lines of its stderr, where it is not as expected and the caller may read them.
    pub stderr: Vec<String>,
}

/// Whether a service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The verdict.
    pub verdict: Ready,
    /// The probe's answer, or why there is none.
    pub text: String,
    /// How old that is.
    pub age: Duration,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// It answers.
    Yes,
    /// It does not.
    No,
    /// It could not be asked.
    Unknown,
    /// It need not.
    NotExpected,
}

/// All services at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// As configured, then the unmanaged.
    pub services: Vec<Service>,
    /// When the manager was asked.
    pub at: Timestamp,
    /// `4.3.0`.
    pub supervisor_version: String,
    /// Why there is no history; empty: there is.
    pub history_missing: String,
}

impl Service {
    /// As expected, and ready if it should be.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        match self.expected {
            Expected::Running => {
                self.state == ProgramState::Running
                    && matches!(self.readiness.verdict, Ready::Yes | Ready::NotExpected)
            }
            Expected::Stopped => self.state.is_down() && self.state != ProgramState::Fatal,
            Expected::Any => true,
        }
    }

    /// For the worst first: 0 fails, 1 is unknown, 2 is well.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match (self.is_ok(), self.readiness.verdict) {
            (true, _) => 2,
            (false, Ready::Unknown) if self.state == ProgramState::Running => 1,
            _ => 0,
        }
    }

    /// "exit code 3, 4 tries in 7.1 s, given up" or what else its end was; empty while it is up.
    #[must_use]
    pub fn end(&self) -> String {
        ending(&self.transitions)
    }
}

/// How often it was started again within 24 h.
pub(super) fn restarts(transitions: &[Transition], now: Timestamp) -> u32 {
    let day = now - SignedDuration::from_hours(24);
    let spawned = |t: &&Transition| matches!(t.change, Change::Spawned { .. });
    let starts = transitions.iter().filter(spawned).filter(|t| t.at >= day).count();
    // The very first start is none again; that it was the first is known when nothing came before it.
    let first =
        transitions.first().is_some_and(|t| t.at >= day && matches!(t.change, Change::Spawned { .. }));
    u32::try_from(starts.saturating_sub(usize::from(first))).unwrap_or(u32::MAX)
}

/// The last known end, when no process has been begun since.
pub(super) fn last_exit(transitions: &[Transition]) -> Option<Exit> {
    transitions.iter().rev().find_map(|t| match &t.change {
        Change::Exited { exit, .. } | Change::Stopped { exit } => Some(exit.clone()),
        _ => None,
    })
}

/// `newest_first`.
fn ending(newest_first: &[Transition]) -> String {
    let exit = newest_first.iter().find_map(|t| match &t.change {
        Change::Exited { exit, .. } => Some(exit.text()),
        _ => None,
    });
    match newest_first.first().map(|t| &t.change) {
        Some(Change::Fatal) => {
            let mut tries = 0_u32;
            let mut began = newest_first[0].at;
            for transition in &newest_first[1..] {
                match transition.change {
                    Change::Spawned { .. } => (tries, began) = (tries + 1, transition.at),
                    Change::Exited { .. } => {}
                    _ => break,
                }
            }
            let took = newest_first[0].at.duration_since(began).as_secs_f64();
            let tries = if tries > 1 { format!(", {tries} tries in {took:.1} s") } else { String::new() };
            format!("{}{tries}, given up", exit.unwrap_or_else(|| "not spawned".to_owned()))
        }
        Some(change @ (Change::Exited { .. } | Change::Stopped { .. })) => change.text(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, change: Change) -> Transition {
        Transition { at: Timestamp::from_second(1_000_000 + seconds).unwrap(), change }
    }

    fn exited(code: i32) -> Change {
        Change::Exited { exit: Exit::Code(code), expected: false }
    }

    #[test]
    fn restarts_are_starts_after_the_first_within_a_day() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let spawned = |seconds| at(seconds, Change::Spawned { pid: 1 });
        assert_eq!(restarts(&[], now), 0);
        assert_eq!(restarts(&[spawned(-10)], now), 0);
        assert_eq!(restarts(&[spawned(-10), at(-9, exited(1)), spawned(-8)], now), 1);
        assert_eq!(restarts(&[spawned(-90_000), spawned(-10)], now), 1);
        assert_eq!(restarts(&[at(-11, exited(1)), spawned(-10)], now), 1);
        assert_eq!(restarts(&[spawned(-90_000)], now), 0);
    }

    #[test]
    fn an_end_says_how_often_it_was_tried() {
        let mut all = vec![at(0, Change::Running)];
        for second in [10, 12, 15, 19] {
            all.push(at(second, Change::Spawned { pid: 1 }));
            all.push(at(second, exited(3)));
        }
        all.push(at(20, Change::Fatal));
        all.reverse();
        assert_eq!(ending(&all), "exit code 3, 4 tries in 10.0 s, given up");
        assert_eq!(ending(&all[1..]), "exit code 3, not expected");
        assert_eq!(ending(&[at(1, Change::Running)]), "");
    }
}
