//! Why a service did not come up, with everything that helps to see why.

use std::time::Duration;

use crate::error::{Error, Reason};
use crate::operation::{FieldValue, ResultRow, State};
use crate::ports::service_history::{Change, Exit};
use crate::ports::service_manager::{Program, ProgramState};
use crate::service::STDERR_LINES;
use crate::service::definition::Definition;
use crate::service::task::number;
use crate::service::worker::{Identity, Worker};

/// The history comes from a file that is written a moment later than the manager answers.
const HISTORY: Duration = Duration::from_millis(500);

/// A step that failed: what to say, and the service's row.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) state: State,
    pub(super) row: ResultRow,
}

impl Failed {
    pub(super) fn cancelled_before(service: &Definition) -> Self {
        let error = Error::new(Reason::Cancelled, format!("cancelled before {}", service.name))
            .about(&service.name)
            .effect(format!("{} untouched", service.name));
        let row = ResultRow {
            target: service.name.to_string(),
            result: "untouched".to_owned(),
            fields: Vec::new(),
        };
        Self { error, state: State::Cancelled, row }
    }

    /// What the phase says: the message without the service's name before it.
    pub(super) fn phase_text(&self) -> String {
        match self.error.message.split_once(": ") {
            Some((_, text)) => text.to_owned(),
            None => self.error.message.clone(),
        }
    }
}

/// What became of the tries to start.
pub(super) struct Attempts {
    /// How many.
    tries: u32,
    /// How each ended; the last is the newest.
    exits: Vec<Exit>,
    took: Duration,
}

impl Attempts {
    /// `4 tries, each ended at once with exit code 3`.
    pub(super) fn phase(&self, state: ProgramState) -> String {
        let times = if self.tries == 1 { "1 try".to_owned() } else { format!("{} tries", self.tries) };
        match self.exits.last() {
            None => format!("{}: supervisord gave no exit code", state.name()),
            Some(last) if self.exits.iter().all(|exit| exit == last) && self.tries > 1 => {
                format!("{times}, each ended at once with {}", last.text())
            }
            Some(last) => format!("{times}, the last ended with {}", last.text()),
        }
    }
}

impl Worker<'_> {
    /// With the row of failure.
    pub(super) fn fail(&self, error: Error) -> Box<Failed> {
        let mut fields = Vec::new();
        if let Some(old) = &self.old {
            fields.push(("old_pid".to_owned(), number(old.pid.into())));
        }
        if let Some(new) = &self.new {
            fields.push(("new_pid".to_owned(), number(new.pid.into())));
        }
        let answers = self.observer.as_ref().is_some_and(|observer| observer.now().streak().is_some());
        if let (Some(stop), false) = (self.stop_at.or(self.spawned_at), answers) {
            let ago = self.run.monotonic().saturating_sub(stop);
            let since =
                jiff::SignedDuration::try_from(ago).ok().and_then(|ago| self.run.now().checked_sub(ago).ok());
            if let Some(since) = since {
                fields.push(("down_since".to_owned(), FieldValue::At(since)));
            }
        }
        let row = ResultRow { target: self.service.name.to_string(), result: "FAILED".to_owned(), fields };
        Box::new(Failed { error, state: State::Failed, row })
    }

    /// Evidence that every failure after a start has: what it was, the last answer, the last lines.
    async fn told(&self, reason: Reason, message: String, answer: Option<String>) -> Error {
        let name = self.service.name.as_str();
        let mut error = Error::new(reason, message).about(name);
        if !self.was.is_empty() {
            error = error.fact("was", self.was.clone());
        }
        let seen = self.observer.as_ref().map(super::observer::Observer::now).unwrap_or_default();
        let answer = answer.or_else(|| seen.failure.or(seen.answer).map(|answer| answer.text));
        if let Some(answer) = answer {
            error = error.fact("probe", answer);
        }
        error = self.stderr(error).await;
        error.next_with(&["opsctl", "service", "start", name], "after the fix").next(&[
            "opsctl",
            "explain",
            reason.name(),
        ])
    }

    async fn stderr(&self, error: Error) -> Error {
        let Some((path, mark)) = self.marks.paths.first() else { return error };
        let file = path.rsplit('/').next().unwrap_or(path);
        match self.inner.ports.excerpts.since(path, mark.as_ref(), STDERR_LINES).await {
            Ok(excerpt) if excerpt.lines.is_empty() => {
                error.fact("stderr", format!("{file}: nothing since the start"))
            }
            Ok(excerpt) => {
                let shown = excerpt.lines.len();
                let of = excerpt.total.map_or(String::new(), |total| format!(" of {total}"));
                error.lines("stderr", format!("{file}, {shown}{of} lines since the start"), excerpt.lines)
            }
            Err(why) => error.fact("stderr", format!("{file}: {why}")),
        }
    }

    /// Reads the history, once it has caught up with what the manager says.
    pub(super) async fn attempts(&self) -> Attempts {
        let ports = &self.inner.ports;
        let until = self.run.monotonic() + HISTORY;
        let ended = |change: &Change| matches!(change, Change::Fatal | Change::Exited { .. });
        while ports.history.missing().is_none()
            && !self.transitions().last().is_some_and(ended)
            && self.run.monotonic() < until
        {
            ports.clock.sleep(super::worker::POLL).await;
        }
        let mut tries = 0;
        let mut exits = Vec::new();
        for change in self.transitions() {
            match change {
                Change::Spawned { .. } => tries += 1,
                Change::Exited { exit, .. } => exits.push(exit),
                _ => {}
            }
        }
        let spawned = self.spawned_at.unwrap_or(self.began);
        Attempts { tries, exits, took: self.run.monotonic().saturating_sub(spawned) }
    }

    pub(super) async fn start_fatal(
        &self,
        state: ProgramState,
        program: &Program,
        attempts: &Attempts,
    ) -> Box<Failed> {
        let name = &self.service.name;
        let seconds = attempts.took.as_secs_f64();
        let given_up = if state == ProgramState::Fatal { ", supervisord gave up (FATAL)" } else { "" };
        let message = match attempts.exits.last() {
            Some(exit) if attempts.tries == 1 => {
                format!("{name} did not start: {} after {seconds:.1} s{given_up}", exit.text())
            }
            Some(exit) => format!(
                "{name} did not start: {}, {} tries in {seconds:.1} s{given_up}",
                exit.text(),
                attempts.tries
            ),
            None => {
                let why = if program.spawn_error.is_empty() {
                    "no exit code is known"
                } else {
                    &program.spawn_error
                };
                format!("{name} did not start: {why}{given_up}")
            }
        };
        let mut error = self.told(Reason::StartFatal, message, None).await;
        if let Some(exit) = attempts.exits.last() {
            error.evidence.insert(0, fact("exit", exit.text()));
        } else if let Some(why) = self.inner.ports.history.missing() {
            error.evidence.insert(0, fact("exit", format!("not known: {why}")));
        }
        self.fail(error.effect(format!("nothing to undo: {name} stays down")))
    }

    pub(super) async fn command_failed(&self, why: &str) -> Box<Failed> {
        let name = &self.service.name;
        let message = format!("{name} did not start: its command cannot be run: {why}");
        let error = self.told(Reason::StartFatal, message, None).await;
        self.fail(error.effect(format!("nothing to undo: {name} stays down")))
    }

    pub(super) async fn not_running(&self, waited: Duration) -> Box<Failed> {
        let name = &self.service.name;
        let message = format!(
            "{name} is not ready: not RUNNING after {:.1} s, supervisord still tries",
            waited.as_secs_f64()
        );
        let error = self.told(Reason::NotReadyTimeout, message, None).await;
        self.fail(error.effect(format!("{name} is left as supervisord has it")))
    }

    pub(super) fn same_process(&self, program: &Program) -> Box<Failed> {
        let name = &self.service.name;
        let pid = program.pid.unwrap_or_default();
        let error = Error::new(
            Reason::StopTimeout,
            format!("{name} was not restarted: pid {pid} is the process of before"),
        )
        .about(name)
        .effect(format!("{name} runs as before"))
        .next(&["opsctl", "service", "get", name.as_str()]);
        self.fail(error)
    }

    pub(super) async fn not_ready(&self, waited: Duration, got: u32, answer: Option<String>) -> Box<Failed> {
        let name = &self.service.name;
        let passes = self.service.readiness.passes;
        let last = answer.clone().map_or(String::new(), |answer| format!("; {answer}"));
        let message =
            format!("{name} is not ready: {got} of {passes} passes in {:.1} s{last}", waited.as_secs_f64());
        let error = self.told(Reason::NotReadyTimeout, message, answer).await;
        let pid = self.new.as_ref().map_or(String::new(), |new| format!(" as pid {}", new.pid));
        self.fail(error.effect(format!("{name} is left running{pid}")))
    }

    pub(super) async fn flapping(&self, new: &Identity, program: &Program, after: Duration) -> Box<Failed> {
        let name = &self.service.name;
        let attempts = self.attempts().await;
        let how = attempts.exits.last().map_or_else(|| program.state.name().to_owned(), Exit::text);
        let message = format!(
            "{name} is flapping: pid {} was RUNNING and was gone again {:.1} s later ({how})",
            new.pid,
            after.as_secs_f64()
        );
        let mut error = self.told(Reason::Flapping, message, None).await;
        if let Some(exit) = attempts.exits.last() {
            error.evidence.insert(0, fact("exit", exit.text()));
        }
        self.fail(
            error.effect(format!("{name} is {} now, under supervisord's own rules", program.state.name())),
        )
    }
}

fn fact(name: &str, text: String) -> crate::error::Evidence {
    crate::error::Evidence { name: name.to_owned(), text, lines: Vec::new() }
}
