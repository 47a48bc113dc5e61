//! One service through stop, start and readiness, watched all the while.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::error::Error;
use crate::operation::{ResultRow, Run};
use crate::ports::log_excerpt::LogMark;
use crate::ports::process_table::ProcessStart;
use crate::ports::service_history::Change;
use crate::ports::service_manager::{ManagerError, Patience, Program, ProgramState};
use crate::probe::Target;
use crate::service::change::WaitFor;
use crate::service::definition::{Check, Definition, Verb};
use crate::service::failure::Failed;
use crate::service::observer::{Observer, RESOLUTION};
use crate::service::task::{not_ourselves, number};
use crate::service::{Inner, Patiences};

mod ready;
mod start;
mod stop;

/// Between two looks while nothing wakes us.
pub(super) const POLL: Duration = Duration::from_millis(50);

pub(super) type Step<T> = Result<T, Box<Failed>>;

/// Works on one service.
pub(super) struct Worker<'a> {
    pub(super) inner: &'a Inner,
    pub(super) service: &'a Definition,
    pub(super) run: &'a Run,
    /// The phases' target: empty when there is only one.
    pub(super) label: String,
    pub(super) patience: Patience,
    pub(super) observer: Option<Observer>,
    /// The process before.
    pub(super) old: Option<Identity>,
    /// The process now.
    pub(super) new: Option<Identity>,
    /// What it was like before, for the report.
    pub(super) was: String,
    /// Wall clock, for what the history says since.
    pub(super) since: Timestamp,
    pub(super) began: Duration,
    pub(super) stop_at: Option<Duration>,
    pub(super) gone_at: Option<Duration>,
    pub(super) spawned_at: Option<Duration>,
    /// Ends of its logs before the start: stderr, stdout.
    pub(super) marks: Marks,
}

/// A process that is not mistaken for another of the same pid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: u32,
    pub(super) start: Option<ProcessStart>,
}

#[derive(Default)]
pub(super) struct Marks {
    pub(super) paths: Vec<(String, Option<LogMark>)>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        inner: &'a Inner,
        service: &'a Definition,
        run: &'a Run,
        several: bool,
        patiences: &Patiences,
    ) -> Self {
        // What supervisord's own defaults are.
        let default = Patience { start: Duration::from_secs(1), retries: 3, stop: Duration::from_secs(10) };
        Self {
            inner,
            service,
            run,
            label: if several { service.name.to_string() } else { String::new() },
            patience: patiences.get(&service.program).copied().unwrap_or(default),
            observer: None,
            old: None,
            new: None,
            was: String::new(),
            since: run.now(),
            began: run.monotonic(),
            stop_at: None,
            gone_at: None,
            spawned_at: None,
            marks: Marks::default(),
        }
    }

    /// The whole of it. Gives the row, and notes to read after it.
    pub(super) async fn act(
        &mut self,
        verb: Verb,
        wait: WaitFor,
        force: bool,
    ) -> Step<(ResultRow, Vec<String>)> {
        let program = self.program().await?;
        not_ourselves(self.inner, self.service, &program).map_err(|error| self.fail(error))?;
        self.old = self.identity(&program);
        let down = program.state.is_down();
        match verb {
            Verb::Stop if down => return Ok((self.row("unchanged"), Vec::new())),
            Verb::Start if program.state == ProgramState::Running => {
                self.new = self.old.take();
                return Ok((self.row("unchanged"), Vec::new()));
            }
            _ => {}
        }
        if verb != Verb::Stop && wait == WaitFor::Ready {
            self.observe(&program).await;
        }
        let mut notes = Vec::new();
        if verb != Verb::Start && !down || program.state == ProgramState::Stopping {
            notes.extend(self.stop(force && verb == Verb::Stop).await?);
        }
        if verb == Verb::Stop {
            return Ok((self.row(verb.done()), notes));
        }
        if verb == Verb::Start {
            // Whatever tries to come up already is as good as what we would start.
            self.old = None;
        }
        self.start(&program, wait).await?;
        if wait == WaitFor::Ready {
            notes.extend(self.ready().await?);
        }
        self.checkpoint("done").await?;
        let result = if verb == Verb::Restart && self.old.is_some() { verb } else { Verb::Start };
        Ok((self.row(result.done()), notes))
    }

    /// Begins to watch, and notes what it was like.
    async fn observe(&mut self, program: &Program) {
        let ready = if let Check::Probe(target) = &self.service.readiness.check {
            let ports = &self.inner.ports;
            let mut observer = Observer::begin(target.clone(), ports.prober.clone(), ports.clock.clone());
            let first = observer.first().await;
            self.observer = Some(observer);
            if first.streak().is_some() { " and ready" } else { ", not ready" }
        } else {
            ""
        };
        self.was = match program.state {
            ProgramState::Running => format!("running{ready}{}", self.uptime(program)),
            state => state.name().to_owned(),
        };
    }

    fn uptime(&self, program: &Program) -> String {
        let Some(started) = program.started_at else { return String::new() };
        let seconds = self.run.now().duration_since(started).as_secs().max(0);
        match seconds {
            0..120 => format!(" for {seconds} s"),
            120..7200 => format!(" for {} min", seconds / 60),
            7200..172_800 => format!(" for {} h", seconds / 3600),
            _ => format!(" for {} d", seconds / 86_400),
        }
    }

    pub(super) async fn program(&self) -> Step<Program> {
        self.inner
            .ports
            .manager
            .program(&self.service.program)
            .await
            .map_err(|error| self.fail(self.manager_error(error)))
    }

    pub(super) fn manager_error(&self, error: ManagerError) -> Error {
        let error = Error::from(error).about(&self.service.name);
        let name = self.service.name.as_str();
        let effect = match (self.stop_at, self.spawned_at) {
            (None, None) => "nothing was done".to_owned(),
            _ => format!("what became of {name} is not known: supervisord did not say"),
        };
        error.effect(effect).next(&["opsctl", "service", "get", name])
    }

    pub(super) fn identity(&self, program: &Program) -> Option<Identity> {
        let pid = program.pid?;
        let start = self.inner.ports.processes.process(pid).map(|process| process.start);
        Some(Identity { pid, start })
    }

    /// Another process than before: another pid, or the same one begun later.
    pub(super) fn is_new(&self, now: &Identity) -> bool {
        match &self.old {
            None => true,
            Some(old) if old.pid != now.pid => true,
            Some(old) => matches!((&old.start, &now.start), (Some(old), Some(now))
                if old.boot_id != now.boot_id || now.ticks > old.ticks),
        }
    }

    /// Looks at the program until `enough` says so; `None`: the limit or the operation's time passed.
    pub(super) async fn until<T>(
        &self,
        limit: Duration,
        mut enough: impl FnMut(&Program) -> Option<T>,
    ) -> Step<Option<T>> {
        let ports = &self.inner.ports;
        let mut changes = ports.history.changes();
        let end = self.run.monotonic() + limit;
        loop {
            changes.mark_unchanged();
            let program = self.program().await?;
            if let Some(found) = enough(&program) {
                return Ok(Some(found));
            }
            if self.run.monotonic() >= end || self.run.remaining().is_zero() {
                return Ok(None);
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { ports.clock.sleep(POLL).await },
                () = ports.clock.sleep(POLL) => {}
            }
        }
    }

    pub(super) async fn checkpoint(&self, name: &str) -> Step<()> {
        let data = json!({
            "service": self.service.name,
            "old_pid": self.old.as_ref().map(|old| old.pid),
        });
        self.run.checkpoint(name, data).await.map_err(|error| {
            let error = error.about(&self.service.name);
            self.fail(if self.stop_at.is_none() { error.effect("nothing was done") } else { error })
        })
    }

    /// What happened to it since this began, oldest first.
    pub(super) fn transitions(&self) -> Vec<Change> {
        let all = self.inner.ports.history.transitions(self.service.program.process());
        all.into_iter()
            .filter(|transition| transition.at >= self.since)
            .map(|transition| transition.change)
            .collect()
    }

    /// `8001`, of the readiness probe's address.
    pub(super) fn socket(&self) -> Option<String> {
        match &self.service.readiness.check {
            Check::Probe(target) => target.socket(),
            _ => None,
        }
    }

    pub(super) async fn is_closed(&self, address: &str) -> bool {
        let target = Target::Closed { address: address.to_owned() };
        self.inner.ports.prober.ask(&target, Duration::from_millis(500)).await.passed()
    }

    /// The row of success.
    fn row(&self, result: &str) -> ResultRow {
        let mut fields = Vec::new();
        if let Some(old) = &self.old {
            fields.push(("old_pid".to_owned(), number(old.pid.into())));
        }
        if let Some(new) = &self.new {
            fields.push(("new_pid".to_owned(), number(new.pid.into())));
        }
        if let (Some(down), true) = (self.down(), self.spawned_at.is_some()) {
            fields.push(("down_ms".to_owned(), number(down.as_millis())));
        }
        if self.spawned_at.is_some() && self.observer.is_some() {
            let took = self.run.monotonic().saturating_sub(self.began);
            fields.push(("ready_in_ms".to_owned(), number(took.as_millis())));
        }
        ResultRow { target: self.service.name.to_string(), result: result.to_owned(), fields }
    }

    /// Measured by the observer, else the time without a process.
    pub(super) fn down(&self) -> Option<Duration> {
        let stop = self.stop_at?;
        match &self.observer {
            Some(observer) => observer.now().down(stop),
            None => Some(self.spawned_at?.saturating_sub(self.gone_at?)),
        }
    }

    /// How the downtime was measured.
    pub(super) fn measured(&self) -> Option<String> {
        let name = &self.service.name;
        self.stop_at?;
        Some(match (&self.observer, self.down()) {
            (Some(_), Some(_)) => format!(
                "{name}: downtime is from the last pass to the first of the final ones, asked every {} ms",
                RESOLUTION.as_millis()
            ),
            (Some(_), None) => format!("{name}: it was not ready before, so no downtime is measured"),
            (None, _) => {
                format!(
                    "{name}: downtime is the time without a process, looked at every {} ms",
                    POLL.as_millis()
                )
            }
        })
    }
}
