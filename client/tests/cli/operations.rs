//! Operations as a person follows them: phases, a cut on the way, the end and its exit code, Ctrl-C.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_proto::v1::operation_event::Event as Happening;
use ops_proto::v1::result_field::Value;
use ops_proto::v1::watch_operation_response::Item;
use ops_proto::v1::{
    ErrorReason, Evidence, Operation, OperationEvent, OperationPhase, OperationResult, OperationState,
    PhaseState, Problem, ResultField, WatchOperationResponse,
};

use crate::stand_in::{Said, World};

const ID: &str = "op-7k2m9q1c0d";

fn at(second: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_795_483_800 + second, nanos: 0 })
}

fn running() -> Operation {
    Operation {
        id: ID.into(),
        operation: "service.restart".into(),
        targets: vec!["backend".into()],
        subject: "user/ana".into(),
        reason: "sockets stuck".into(),
        state: OperationState::Running.into(),
        created_at: at(0),
        ..Operation::default()
    }
}

fn ended(state: OperationState, problem: Option<Problem>) -> Operation {
    let number = |name: &str, number| ResultField { name: name.into(), value: Some(Value::Number(number)) };
    let result = if problem.is_some() { "FAILED" } else { "restarted" };
    Operation {
        state: state.into(),
        finished_at: at(3),
        results: vec![OperationResult {
            target: "backend".into(),
            result: result.into(),
            fields: vec![number("old_pid", 41207), number("down_ms", 1620)],
        }],
        problem,
        notes: vec!["read this".into()],
        ..running()
    }
}

fn phase(seq: u64, name: &str, state: PhaseState, text: &str) -> WatchOperationResponse {
    let phase = OperationPhase {
        name: name.into(),
        state: state.into(),
        elapsed_ms: 400,
        text: text.into(),
        ..OperationPhase::default()
    };
    let second = i64::try_from(seq).unwrap();
    let event = OperationEvent { seq, at: at(second), event: Some(Happening::Phase(phase)) };
    WatchOperationResponse { item: Some(Item::Event(event)) }
}

fn whole(operation: Operation) -> WatchOperationResponse {
    WatchOperationResponse { item: Some(Item::Operation(operation)) }
}

fn told(operation: Operation) -> Vec<WatchOperationResponse> {
    vec![
        phase(1, "stop", PhaseState::Running, ""),
        phase(2, "stop", PhaseState::Done, "pid 41207 gone\u{1b}[2J"),
        whole(operation),
    ]
}

fn world(operation: Operation) -> World {
    World {
        operation: running(),
        watch: Arc::new(move |_, _| (told(operation.clone()), true)),
        ..World::default()
    }
}

#[test]
fn an_end_is_a_table_on_stdout_and_all_else_is_on_stderr() {
    let agent = world(ended(OperationState::Succeeded, None)).start();
    let said = agent.run(&["operation", "wait", ID, "--utc"]);
    assert_eq!(
        said.stdout,
        "SERVICE  RESULT     OLD-PID  DOWN   OPERATION\nbackend  restarted  41207    1.62s  op-7k2m9q1c0d\n"
    );
    assert_eq!(
        said.stderr,
        "[agent]  op-7k2m9q1c0d, service.restart backend\n\
         01:30:02Z stop      0.4s  pid 41207 gone\\x1b[2J\n\
         note: read this\n"
    );
    assert_eq!(said.code, 0);
    let quiet = agent.run(&["-q", "operation", "wait", ID]);
    assert_eq!((quiet.stdout, quiet.stderr.as_str()), (said.stdout, ""));
}

#[test]
fn a_failure_has_its_table_its_cause_and_its_code() {
    let problem = Problem {
        reason: ErrorReason::StartFatal.into(),
        message: "backend did not start: exit code 3".into(),
        effect: "nothing to undo: backend stays down".into(),
        evidence: vec![Evidence {
            name: "stderr".into(),
            text: "1 of 1 lines".into(),
            lines: vec!["KeyError: 'JWT_SECRET_KEY'".into()],
        }],
        ..Problem::default()
    };
    let agent = world(ended(OperationState::Failed, Some(problem))).start();
    let said = agent.run(&["operation", "wait", ID, "-q"]);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("FAILED"), "{}", said.stdout);
    assert!(
        said.stderr
            .starts_with("error: backend did not start: exit code 3\n       START_FATAL, nothing to undo"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("| KeyError: 'JWT_SECRET_KEY'"), "{}", said.stderr);
    let said = agent.run(&["operation", "wait", ID, "-o", "json"]);
    let document = said.document();
    assert_eq!(
        (said.code, document["kind"].as_str()),
        (1, Some("operation")),
        "one document, also on failure"
    );
    assert_eq!(document["problem"]["reason"], "START_FATAL");
    for (state, code) in [(OperationState::Undone, 7), (OperationState::NeedsHuman, 8)] {
        let said = world(ended(state, Some(Problem::default()))).start().run(&["operation", "wait", ID]);
        assert_eq!(said.code, code, "{state:?}");
    }
}

#[test]
fn after_a_cut_it_goes_on_where_it_was_and_says_so() {
    let agent = World {
        operation: running(),
        watch: Arc::new(|call, after_seq| match call {
            0 => (vec![phase(1, "stop", PhaseState::Done, "gone")], true),
            _ => {
                assert_eq!(after_seq, 1, "only what was not seen");
                let started = phase(2, "start", PhaseState::Done, "pid 52290");
                (vec![started, whole(ended(OperationState::Succeeded, None))], true)
            }
        }),
        ..World::default()
    }
    .start();
    let said = agent.run(&["operation", "wait", ID, "--utc"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines: Vec<_> = said.stderr.lines().collect();
    assert!(lines[1].ends_with("stop      0.4s  gone"), "{lines:?}");
    assert!(lines[2].contains("the connection to [agent] was lost") && lines[2].ends_with("; trying again"));
    assert!(
        lines[3].contains("connected after ") && lines[3].ends_with("op-7k2m9q1c0d goes on"),
        "{lines:?}"
    );
    assert!(lines[4].ends_with("start     0.4s  pid 52290"), "{lines:?}");
}

#[test]
fn waiting_ends_before_the_operation_does() {
    let agent = World { operation: running(), ..World::default() }.start();
    let said = agent.run(&["operation", "wait", ID, "--timeout", "200ms", "-o", "json"]);
    assert_eq!(said.code, 9, "{}", said.stderr);
    let document = said.document();
    assert_eq!(document["error"]["reason"], "DEADLINE_EXCEEDED");
    assert_eq!(document["error"]["effect"], "it goes on");
    assert_eq!(document["error"]["next"][0]["argv"][2], "wait");
}

#[test]
fn the_first_ctrl_c_detaches() {
    let watch = |_, _| (vec![phase(1, "stop", PhaseState::Done, "gone")], false);
    let agent = World { operation: running(), watch: Arc::new(watch), ..World::default() }.start();
    let mut opsctl = agent
        .opsctl(&["operation", "wait", ID])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(opsctl.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("gone") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended");
    }
    kill(Pid::from_raw(i32::try_from(opsctl.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(opsctl.wait().unwrap().code(), Some(130));
    assert_eq!(rest, "-- detached; op-7k2m9q1c0d goes on: opsctl operation wait op-7k2m9q1c0d\n");
}

#[test]
fn lists_and_reports() {
    let agent = World { operation: running(), ..World::default() }.start();
    let said = agent.run(&["operation", "list"]);
    assert!(said.stdout.contains("op-7k2m9q1c0d  service.restart  backend  ana  running"), "{}", said.stdout);
    let problem = Problem {
        reason: ErrorReason::Interrupted.into(),
        message: "it was interrupted".into(),
        ..Problem::default()
    };
    let operation = ended(OperationState::NeedsHuman, Some(problem));
    let said = World { operation, ..World::default() }.start().run(&["operation", "get", "7k2m", "--utc"]);
    assert_eq!(said.code, 0, "reading a failure is no failure");
    for text in ["NEEDS-HUMAN", "sockets stuck", "2026-11-24T01:30:00Z", "3.00s"] {
        assert!(said.stdout.contains(text), "{text}: {}", said.stdout);
    }
    assert!(said.stderr.contains("error: it was interrupted"), "{}", said.stderr);
}

#[test]
fn a_cancel_needs_a_yes_and_shows_the_end() {
    let agent = world(ended(OperationState::Cancelled, None)).start();
    let said: Said = agent.run(&["operation", "cancel", ID]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("next: opsctl operation cancel op-7k2m9q1c0d --yes"), "{}", said.stderr);
    let said = agent.run(&["operation", "cancel", ID, "--yes"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.ends_with("cancelled op-7k2m9q1c0d, service.restart backend\n"), "{}", said.stderr);
    let late = world(ended(OperationState::Succeeded, None)).start();
    let said = late.run(&["operation", "cancel", ID, "--yes"]);
    assert_eq!(said.code, 6, "{}", said.stderr);
    assert!(said.stderr.contains("was not cancelled: it ended"), "{}", said.stderr);
}
