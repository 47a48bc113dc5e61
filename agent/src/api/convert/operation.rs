//! Operations and plans as they go over the wire.

use ops_domain::operation::{
    Confirm, Event, FieldValue, Happening, Operation, Phase, PhaseState, Planned, ResultRow, State, Watched,
};
use ops_proto::v1;
use ops_proto::v1::operation_event::Event as Happened;
use ops_proto::v1::result_field::Value;
use ops_proto::v1::watch_operation_response::Item;

use super::timestamp;

/// An operation, whole.
#[must_use]
pub fn operation(operation: &Operation) -> v1::Operation {
    v1::Operation {
        id: operation.id.to_string(),
        operation: operation.kind.clone(),
        targets: operation.targets.clone(),
        subject: operation.subject.to_string(),
        reason: operation.reason.clone(),
        state: state(operation.state) as i32,
        created_at: Some(timestamp(operation.created_at)),
        finished_at: operation.finished_at.map(timestamp),
        phases: operation.phases.iter().map(phase).collect(),
        results: operation.results.iter().map(result).collect(),
        problem: operation.problem.as_ref().map(super::problem),
        notes: operation.notes.clone(),
        last_seq: operation.last_seq,
    }
}

/// Operations, in their order.
#[must_use]
pub fn operations(operations: &[Operation]) -> v1::ListOperationsResponse {
    v1::ListOperationsResponse { operations: operations.iter().map(operation).collect() }
}

/// What would be done.
#[must_use]
pub fn plan(planned: &Planned) -> v1::Plan {
    let plan = &planned.plan;
    let (confirm, confirm_text) = match &plan.confirm {
        Confirm::None => (v1::ConfirmLevel::None, String::new()),
        Confirm::Ask => (v1::ConfirmLevel::Ask, String::new()),
        Confirm::Type(text) => (v1::ConfirmLevel::Type, text.clone()),
    };
    let steps = plan.steps.iter().map(|step| v1::PlanStep {
        phase: step.phase.clone(),
        text: step.text.clone(),
        estimate_ms: step.estimate_ms,
    });
    v1::Plan {
        plan_id: planned.plan_id.clone(),
        digest: planned.digest.clone(),
        confirm_text,
        confirm: confirm as i32,
        expires_at: Some(timestamp(planned.expires_at)),
        operation: planned.kind.clone(),
        targets: planned.targets.clone(),
        steps: steps.collect(),
        facts: plan.facts.iter().map(super::evidence).collect(),
        if_it_fails: plan.if_it_fails.clone(),
    }
}

/// What a watcher is told.
#[must_use]
pub fn watched(watched: &Watched) -> v1::WatchOperationResponse {
    let item = match watched {
        Watched::Event(told) => Item::Event(event(told)),
        Watched::Operation(whole) => Item::Operation(operation(whole)),
    };
    v1::WatchOperationResponse { item: Some(item) }
}

fn event(event: &Event) -> v1::OperationEvent {
    let what = match &event.what {
        Happening::Phase(told) => Happened::Phase(phase(told)),
        Happening::Note(note) => Happened::Note(note.clone()),
        Happening::Ended(ended) => Happened::Ended(state(*ended) as i32),
    };
    v1::OperationEvent { seq: event.seq, at: Some(timestamp(event.at)), event: Some(what) }
}

fn phase(phase: &Phase) -> v1::OperationPhase {
    let state = match phase.state {
        PhaseState::Running => v1::PhaseState::Running,
        PhaseState::Done => v1::PhaseState::Done,
        PhaseState::Failed => v1::PhaseState::Failed,
    };
    v1::OperationPhase {
        name: phase.name.clone(),
        state: state as i32,
        started_at: Some(timestamp(phase.started_at)),
        elapsed_ms: phase.elapsed_ms,
        text: phase.text.clone(),
        target: phase.target.clone(),
        done: phase.done,
        total: phase.total,
        unit: phase.unit.clone(),
    }
}

fn result(row: &ResultRow) -> v1::OperationResult {
    let fields = row.fields.iter().map(|(name, value)| {
        let value = match value {
            FieldValue::Text(text) => Value::Text(text.clone()),
            FieldValue::Number(number) => Value::Number(*number),
            FieldValue::At(at) => Value::At(timestamp(*at)),
        };
        v1::ResultField { name: name.clone(), value: Some(value) }
    });
    v1::OperationResult { target: row.target.clone(), result: row.result.clone(), fields: fields.collect() }
}

const fn state(state: State) -> v1::OperationState {
    match state {
        State::Pending => v1::OperationState::Pending,
        State::Running => v1::OperationState::Running,
        State::Succeeded => v1::OperationState::Succeeded,
        State::Failed => v1::OperationState::Failed,
        State::Undone => v1::OperationState::Undone,
        State::NeedsHuman => v1::OperationState::NeedsHuman,
        State::Cancelled => v1::OperationState::Cancelled,
        State::Partial => v1::OperationState::Partial,
    }
}
