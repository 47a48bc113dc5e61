//! How an operation ended: its table on stdout, what is to be read after it on stderr, the exit code.

use ops_proto::v1::result_field::Value;
use ops_proto::v1::{ErrorReason, Operation, OperationPhase, OperationState, PhaseState, ResultField};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Output, Table, Tone, milliseconds, size, timestamp, visible};
use crate::session::Session;

/// Prints the result and answers how opsctl ends.
pub(crate) fn print(session: &Session, operation: &Operation) -> Result<Exit> {
    let output = &session.output;
    if output.is_document() {
        output.document("operation", operation)?;
    } else if !operation.results.is_empty() {
        output.table(&results(operation, output))?;
    }
    for note in &operation.notes {
        output.note(&visible(&format!("note: {note}")));
    }
    match failure(operation) {
        Some(error) if output.is_document() => Err(error.reported()),
        Some(error) => Err(error),
        None => Ok(Exit::Done),
    }
}

/// Why it did not succeed, with the exit code of its state; none when it did.
pub(crate) fn failure(operation: &Operation) -> Option<Error> {
    let state = operation.state();
    if state == OperationState::Succeeded {
        return None;
    }
    let reason = operation.problem.as_ref().map_or(ErrorReason::Unspecified, |problem| problem.reason());
    let exit = match Exit::of_operation(state, reason) {
        // Several services of one host are one target: some of them failed is failed.
        Exit::Partial if operation.operation.starts_with("service.") => Exit::Failed,
        exit => exit,
    };
    let error = match &operation.problem {
        Some(problem) => Error::from(problem.clone()),
        None => {
            let message = format!("{} ended as {}", operation.operation, state_word(state).0);
            Error::new(ErrorReason::Internal, message).next(&["opsctl", "operation", "get", &operation.id])
        }
    };
    Some(error.exit_with(exit))
}

/// One row a target; columns in the order of their first appearance.
pub(crate) fn results(operation: &Operation, output: &Output) -> Table {
    let mut columns: Vec<String> = Vec::new();
    for field in operation.results.iter().flat_map(|row| &row.fields) {
        let column = heading(&field.name);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    // Each row of a service names its operation by itself once it has ended.
    let of_service =
        operation.operation.starts_with("service.") && !columns.iter().any(|column| column == "OPERATION");
    let mut names = vec![noun(&operation.operation).to_owned()];
    let has_result = operation.results.iter().any(|row| !row.result.is_empty());
    names.extend(has_result.then(|| "RESULT".to_owned()));
    names.extend(columns.iter().cloned());
    names.extend(of_service.then(|| "OPERATION".to_owned()));
    let mut table = Table::of(names);
    for row in &operation.results {
        let bad = row.result.chars().all(|letter| letter.is_ascii_uppercase() || letter == '-');
        let mut cells: Vec<Cell> = vec![row.target.clone().into()];
        if has_result {
            let tone = if bad && !row.result.is_empty() { Tone::Bad } else { Tone::Normal };
            cells.push(Cell::new(row.result.clone(), tone));
        }
        for column in &columns {
            let field = row.fields.iter().find(|field| heading(&field.name) == *column);
            cells.push(field.map_or_else(Cell::none, |field| cell(field, output)));
        }
        cells.extend(of_service.then(|| operation.id.clone().into()));
        table.cells(cells);
    }
    table
}

/// What a row is about.
fn noun(kind: &str) -> &'static str {
    match kind {
        "backup.restore" => "COLLECTION",
        "backup.create" => "ID",
        kind if kind.starts_with("backup.") => "BACKUP",
        kind if kind.starts_with("service.") => "SERVICE",
        _ => "TARGET",
    }
}

/// `down_ms` is DOWN, and so is `down_since`; `stored_bytes` is STORED.
fn heading(name: &str) -> String {
    let plain = ["_ms", "_bytes", "_since", "_at"].iter().find_map(|unit| name.strip_suffix(unit));
    plain.unwrap_or(name).replace('_', "-").to_ascii_uppercase()
}

fn cell(field: &ResultField, output: &Output) -> Cell {
    let unsigned = |number: i64| u64::try_from(number).ok();
    match &field.value {
        Some(Value::Text(text)) => text.clone().into(),
        // A length in ms as a float loses nothing below 285,000 years.
        #[allow(clippy::cast_precision_loss)]
        Some(Value::Number(ms)) if field.name.ends_with("_ms") => milliseconds(*ms as f64).into(),
        Some(Value::Number(bytes)) if field.name.ends_with("_bytes") => {
            unsigned(*bytes).map_or_else(Cell::none, |bytes| size(bytes).into())
        }
        Some(Value::Number(number)) => number.to_string().into(),
        Some(Value::At(at)) => timestamp(at).map_or_else(Cell::none, |at| {
            let since = if field.name.ends_with("_since") { "since " } else { "" };
            format!("{since}{}", output.clock(at)).into()
        }),
        None => Cell::none(),
    }
}

/// `ready 61%`: the phase that runs.
pub(crate) fn running_phase(operation: &Operation) -> Option<String> {
    let runs = |phase: &&OperationPhase| phase.state() == PhaseState::Running;
    let phase = operation.phases.iter().rev().find(runs)?;
    let share = u128::from(phase.done) * 100 / u128::from(phase.total.max(1));
    Some(if phase.total == 0 { phase.name.clone() } else { format!("{} {share}%", phase.name) })
}

/// How a state is written: what needs eyes in capitals.
pub(crate) fn state_word(state: OperationState) -> (&'static str, Tone) {
    match state {
        OperationState::Unspecified => ("unknown", Tone::Warn),
        OperationState::Pending => ("pending", Tone::Normal),
        OperationState::Running => ("running", Tone::Normal),
        OperationState::Succeeded => ("succeeded", Tone::Good),
        OperationState::Failed => ("FAILED", Tone::Bad),
        OperationState::Undone => ("UNDONE", Tone::Bad),
        OperationState::NeedsHuman => ("NEEDS-HUMAN", Tone::Bad),
        OperationState::Cancelled => ("cancelled", Tone::Warn),
        OperationState::Partial => ("PARTIAL", Tone::Bad),
    }
}

#[cfg(test)]
mod tests {
    use ops_proto::v1::{OperationResult, Problem};

    use super::*;
    use crate::output::{Color, Format, Paint};

    fn field(name: &str, value: Value) -> ResultField {
        ResultField { name: name.into(), value: Some(value) }
    }

    fn operation(state: OperationState) -> Operation {
        Operation {
            id: "op-7k2m9q".into(),
            operation: "service.restart".into(),
            state: state.into(),
            ..Operation::default()
        }
    }

    #[test]
    fn the_table_is_as_people_know_it() {
        let mut restarted = operation(OperationState::Partial);
        let since = prost_types::Timestamp { seconds: 1_795_489_442, nanos: 0 };
        restarted.results = vec![
            OperationResult {
                target: "backend".into(),
                result: "restarted".into(),
                fields: vec![
                    field("old_pid", Value::Number(41207)),
                    field("new_pid", Value::Number(52290)),
                    field("down_ms", Value::Number(1620)),
                    field("ready_in_ms", Value::Number(2310)),
                ],
            },
            OperationResult {
                target: "frontend".into(),
                result: "FAILED".into(),
                fields: vec![field("old_pid", Value::Number(7)), field("down_since", Value::At(since))],
            },
        ];
        let output = Output::new(Format::Table, false, true, Color::Never);
        let text = results(&restarted, &output).render(false, None, Paint::Plain);
        let expected = "\
SERVICE   RESULT     OLD-PID  NEW-PID  DOWN             READY-IN  OPERATION
backend   restarted  41207    52290    1.62s            2.31s     op-7k2m9q
frontend  FAILED     7        -        since_03:04:02Z  -         op-7k2m9q
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_exit_code_is_that_of_the_end() {
        let exit = |state, reason: ErrorReason, kind: &str| {
            let mut operation = operation(state);
            operation.operation = kind.into();
            operation.problem = Some(Problem { reason: reason.into(), ..Problem::default() });
            failure(&operation).map_or(0, |error| error.exit().code())
        };
        use ErrorReason as R;
        use OperationState as S;
        assert_eq!(exit(S::Succeeded, R::Unspecified, "service.restart"), 0);
        assert_eq!(exit(S::Failed, R::StartFatal, "service.restart"), 1);
        assert_eq!(exit(S::Partial, R::RestartPartial, "service.restart"), 1);
        assert_eq!(exit(S::Failed, R::NoSpace, "backup.create"), 6);
        assert_eq!(exit(S::Undone, R::NotReadyTimeout, "backup.restore"), 7);
        assert_eq!(exit(S::NeedsHuman, R::Interrupted, "backup.restore"), 8);
        assert_eq!(exit(S::Partial, R::RestoreFailed, "backup.restore"), 10);
        assert_eq!(exit(S::Cancelled, R::Cancelled, "service.restart"), 1);
    }
}
