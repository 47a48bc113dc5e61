//! What a new agent does about a change that the old one left behind: what was to be up is started again, what was to
//! be down is stopped, and what had not begun is left alone.

use async_trait::async_trait;

use crate::error::{Error, Reason};
use crate::operation::{Outcome, Recovery, ResultRow, Run, State};
use crate::ports::journal::Recorded;
use crate::service::Services;
use crate::service::change::WaitFor;
use crate::service::definition::{Definition, Verb};
use crate::service::failure::Failed;
use crate::service::worker::Worker;

/// Recovers `service.start`, `service.stop`, `service.restart`.
pub struct ServiceRecovery {
    services: Services,
}

impl ServiceRecovery {
    /// On these services.
    #[must_use]
    pub fn new(services: Services) -> Self {
        Self { services }
    }
}

#[async_trait]
impl Recovery for ServiceRecovery {
    fn kinds(&self) -> &'static [&'static str] {
        &["service.start", "service.stop", "service.restart"]
    }

    async fn recover(&self, interrupted: &Recorded, run: &Run) -> Outcome {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let of = |point: &crate::operation::Checkpoint| text(&point.data["service"]);
        let names: Vec<String> =
            interrupted.parameters["services"].as_array().into_iter().flatten().map(text).collect();
        let last = interrupted.checkpoints.iter().rev().find(|point| !of(point).is_empty());
        let begun = |name: &str| interrupted.checkpoints.iter().any(|point| of(point) == name);
        let done = [Verb::Start, Verb::Stop, Verb::Restart]
            .into_iter()
            .find(|verb| verb.kind() == interrupted.operation.kind)
            .map_or("done", Verb::done);
        let mut rows: Vec<ResultRow> = names
            .iter()
            .map(|name| ResultRow {
                target: name.clone(),
                result: if begun(name) { done } else { "untouched" }.to_owned(),
                fields: Vec::new(),
            })
            .collect();
        let Some(last) = last else {
            let error = Error::new(Reason::Interrupted, "the agent ended before the first step")
                .effect("nothing was done");
            return Outcome::failed(State::Failed, error, rows);
        };
        let name = of(last);
        let Some(service) = self.services.definitions().iter().find(|service| service.name.as_str() == name)
        else {
            let error = Error::new(
                Reason::Interrupted,
                format!("the agent ended while it worked on {name}, which is no longer configured"),
            )
            .about(&name)
            .effect(format!("what became of {name} is not known"))
            .next(&["opsctl", "status"]);
            return Outcome::failed(State::NeedsHuman, error, rows);
        };
        if last.name != "done" {
            let verb = if interrupted.operation.kind == Verb::Stop.kind() { Verb::Stop } else { Verb::Start };
            match self.settle(service, verb, run).await {
                Ok(mut row) => {
                    if verb == Verb::Start && interrupted.operation.kind == Verb::Restart.kind() {
                        if let Some(pid) = last.data["old_pid"].as_i64() {
                            row.fields.retain(|(field, _)| field != "old_pid");
                            row.fields
                                .insert(0, ("old_pid".to_owned(), crate::operation::FieldValue::Number(pid)));
                        }
                        let new = row.fields.iter().find(|(field, _)| field == "new_pid").map(|(_, pid)| pid);
                        let old = row.fields.iter().find(|(field, _)| field == "old_pid").map(|(_, pid)| pid);
                        // Killed before its stop took effect: then the process of before still runs.
                        row.result = if new == old { "unchanged" } else { Verb::Restart.done() }.to_owned();
                    }
                    replace(&mut rows, row);
                }
                Err(failed) => {
                    let Failed { error, state, row } = *failed;
                    replace(&mut rows, row);
                    return Outcome::failed(state, error, rows);
                }
            }
        }
        let left: Vec<&str> =
            rows.iter().filter(|row| row.result == "untouched").map(|row| row.target.as_str()).collect();
        let unchanged: Vec<&str> = rows
            .iter()
            .filter(|row| row.result == "unchanged" && interrupted.operation.kind == Verb::Restart.kind())
            .map(|row| row.target.as_str())
            .collect();
        if left.is_empty() && unchanged.is_empty() {
            return Outcome::succeeded(rows);
        }
        let (what, names) = if left.is_empty() { ("not restarted", unchanged) } else { ("untouched", left) };
        let names = names.join(", ");
        let error = Error::new(Reason::Interrupted, format!("the agent ended in the middle; {names} {what}"))
            .effect(format!("{names} {what}; the others are as asked"))
            .next(&["opsctl", "status"]);
        Outcome::failed(State::Partial, error, rows)
    }
}

impl ServiceRecovery {
    async fn settle(&self, service: &Definition, verb: Verb, run: &Run) -> Result<ResultRow, Box<Failed>> {
        let inner = &self.services.inner;
        let patiences = inner.ports.manager.patience().await.unwrap_or_default();
        let mut worker = Worker::new(inner, service, run, false, &patiences);
        worker.act(verb, WaitFor::Ready, false).await.map(|(row, _)| row)
    }
}

fn replace(rows: &mut [ResultRow], row: ResultRow) {
    if let Some(old) = rows.iter_mut().find(|old| old.target == row.target) {
        *old = row;
    }
}
