//! Start, stop and restart as operations: one service after the other, in order, and no further than the first that
//! fails.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::operation::{Confirm, FieldValue, Outcome, Plan, PlanStep, ResultRow, Run, State, Task};
use crate::ports::service_manager::{Program, ProgramState};
use crate::service::change::WaitFor;
use crate::service::definition::{Definition, Verb};
use crate::service::failure::Failed;
use crate::service::worker::Worker;
use crate::service::{Inner, Services};

/// One request.
pub(super) struct ServiceTask {
    pub(super) services: Services,
    pub(super) verb: Verb,
    pub(super) chosen: Vec<Definition>,
    pub(super) protected: Vec<ServiceName>,
    pub(super) all: bool,
    pub(super) wait: WaitFor,
    pub(super) force: bool,
}

#[async_trait]
impl Task for ServiceTask {
    fn kind(&self) -> &'static str {
        self.verb.kind()
    }

    fn targets(&self) -> Vec<String> {
        self.chosen.iter().map(|service| service.name.to_string()).collect()
    }

    fn locks(&self) -> Vec<String> {
        self.chosen.iter().map(|service| format!("service/{}", service.name)).collect()
    }

    fn parameters(&self) -> Value {
        let names: Vec<&str> = self.chosen.iter().map(|service| service.name.as_str()).collect();
        json!({ "services": names, "all": self.all, "wait": self.wait, "force": self.force })
    }

    fn timeout(&self) -> Duration {
        self.allowance()
    }

    fn command(&self) -> Vec<String> {
        let mut command = vec!["opsctl".to_owned(), "service".to_owned(), self.verb.name().to_owned()];
        if self.all {
            command.push("--all".to_owned());
        } else {
            command.extend(self.targets());
        }
        if self.force {
            command.push("--force".to_owned());
        }
        command
    }

    async fn plan(&self) -> Result<Plan> {
        let inner = &self.services.inner;
        let programs = inner.ports.manager.programs().await;
        let programs = programs.map_err(|error| Error::from(error).effect("nothing was done"))?;
        let mut steps = Vec::new();
        for service in &self.chosen {
            let program = programs.iter().find(|program| program.name == service.program);
            let program = program.ok_or_else(|| unknown_there(service))?;
            not_ourselves(inner, service, program)?;
            steps.extend(self.steps(service, program));
        }
        Ok(Plan {
            confirm: self.confirm(),
            steps,
            facts: Vec::new(),
            if_it_fails: match self.verb {
                Verb::Stop => "nothing is undone; what is stopped stays stopped".to_owned(),
                _ if self.chosen.len() > 1 => {
                    "the first that fails ends it; the later ones stay untouched".to_owned()
                }
                _ => "nothing is undone; the service stays as it then is, and the report says why".to_owned(),
            },
            preconditions: json!({
                "programs": self.chosen.iter().map(|service| service.program.as_str()).collect::<Vec<_>>(),
            }),
        })
    }

    async fn run(&self, run: &Run) -> Outcome {
        run_all(&self.services.inner, run, self).await
    }
}

impl ServiceTask {
    fn confirm(&self) -> Confirm {
        if !self.protected.is_empty() {
            let names: Vec<&str> = self.protected.iter().map(ServiceName::as_str).collect();
            return Confirm::Type(names.join(","));
        }
        if self.verb == Verb::Stop || self.all { Confirm::Ask } else { Confirm::None }
    }

    fn steps(&self, service: &Definition, program: &Program) -> Vec<PlanStep> {
        let name = &service.name;
        let step = |phase: &str, text: String| PlanStep { phase: phase.to_owned(), text, estimate_ms: 0 };
        let running = !program.state.is_down();
        let mut steps = Vec::new();
        if self.verb != Verb::Start && running {
            let pid = program.pid.map_or(String::new(), |pid| format!(", pid {pid}"));
            steps.push(step("stop", format!("{name} ({}{pid})", program.state.name())));
        }
        if self.verb == Verb::Stop && !running
            || self.verb == Verb::Start && program.state == ProgramState::Running
        {
            steps.push(step(
                self.verb.name(),
                format!("{name} is {} already: unchanged", program.state.name()),
            ));
            return steps;
        }
        if self.verb != Verb::Stop {
            steps.push(step("start", format!("{name} as {}", program.name)));
            if self.wait == WaitFor::Ready {
                let rule = &service.readiness;
                let text = format!(
                    "{name}: {} passes {} times in a row within {} s",
                    rule.kind(),
                    rule.passes,
                    rule.timeout.as_secs()
                );
                steps.push(step("ready", text));
            }
        }
        steps
    }
}

pub(super) fn unknown_there(service: &Definition) -> Error {
    Error::from(crate::ports::service_manager::ManagerError::NoSuchProgram(service.program.clone()))
        .about(&service.name)
        .effect("nothing was done")
}

pub(super) fn not_ourselves(inner: &Inner, service: &Definition, program: &Program) -> Result<()> {
    if program.pid == Some(inner.ports.processes.own_pid()) {
        return Err(Error::new(
            Reason::ProtectedService,
            format!("{} is the agent itself, and that it never starts, stops or restarts", service.name),
        )
        .about(&service.name)
        .effect("nothing was done"));
    }
    Ok(())
}

async fn run_all(inner: &Inner, run: &Run, task: &ServiceTask) -> Outcome {
    let patiences = match inner.ports.manager.patience().await {
        Ok(patiences) => patiences,
        Err(error) => {
            let error = Error::from(error).effect("nothing was done");
            return Outcome::failed(State::Failed, error, untouched(&task.chosen));
        }
    };
    let several = task.chosen.len() > 1;
    let mut rows = Vec::new();
    let mut notes = Vec::new();
    for (number, service) in task.chosen.iter().enumerate() {
        let done = number;
        let failed = if run.cancelled().is_cancelled() {
            Failed::cancelled_before(service)
        } else {
            let mut worker = Worker::new(inner, service, run, several, &patiences);
            match worker.act(task.verb, task.wait, task.force).await {
                Ok((row, note)) => {
                    rows.push(row);
                    notes.extend(note);
                    continue;
                }
                Err(failed) => *failed,
            }
        };
        let Failed { error, state, row } = failed;
        rows.push(row);
        let later = &task.chosen[number + 1..];
        rows.extend(untouched(later));
        let error =
            if several { part(task.verb, error, &task.chosen[..done], service, later) } else { error };
        let state = match state {
            State::Failed if done > 0 => State::Partial,
            state => state,
        };
        return Outcome { state, results: rows, problem: Some(error), notes };
    }
    Outcome { state: State::Succeeded, results: rows, problem: None, notes }
}

fn untouched(services: &[Definition]) -> Vec<ResultRow> {
    let row = |service: &Definition| ResultRow {
        target: service.name.to_string(),
        result: "untouched".to_owned(),
        fields: Vec::new(),
    };
    services.iter().map(row).collect()
}

/// Said of several: what went well, what failed, what was left alone.
fn part(verb: Verb, error: Error, done: &[Definition], at: &Definition, later: &[Definition]) -> Error {
    let names = |services: &[Definition]| {
        services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let mut message = String::new();
    if !done.is_empty() {
        message = format!("{} {}; ", names(done), verb.done());
    }
    message.push_str(&error.message);
    let mut effect = error.effect.clone();
    if !later.is_empty() {
        message = format!("{message}; {} untouched", names(later));
        effect = format!("{}{}{} untouched", effect, if effect.is_empty() { "" } else { "; " }, names(later));
    }
    let partial = verb == Verb::Restart && !done.is_empty() && error.reason != Reason::Cancelled;
    let reason = if partial { Reason::RestartPartial } else { error.reason };
    let mut whole = Error { reason, message, effect, ..error.clone() };
    if partial {
        whole.evidence.insert(
            0,
            crate::error::Evidence {
                name: "reason".to_owned(),
                text: format!("{}: {}", at.name, error.reason),
                lines: Vec::new(),
            },
        );
    }
    whole
}

pub(super) fn number(value: u128) -> FieldValue {
    FieldValue::Number(i64::try_from(value).unwrap_or(i64::MAX))
}
