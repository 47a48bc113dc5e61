//! Services on a real supervisord: proof, downtime, causes, protection, order, and what a fault leaves behind.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ops_tests::patience::eventually;
use ops_tests::sandbox::{Options, Sandbox};
use serde_json::Value;

fn up() -> Sandbox {
    let options = Options { seeded: false, ..Options::default() };
    let sandbox = Sandbox::up(options).unwrap_or_else(|error| panic!("{error}"));
    sandbox.wait_until_healthy().unwrap();
    sandbox
}

/// The document of a command that must end with `code`.
fn document(sandbox: &Sandbox, identity: &str, arguments: &[&str], code: i32) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    let said = sandbox.opsctl(identity, &arguments).unwrap();
    assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

fn operator(sandbox: &Sandbox, arguments: &[&str], code: i32) -> Value {
    document(sandbox, "operator", arguments, code)
}

/// The reason of a failed operation, or of a refused call.
fn reason(document: &Value) -> &str {
    document["problem"]["reason"].as_str().or(document["error"]["reason"].as_str()).unwrap_or_default()
}

fn number(document: &Value, target: &str, name: &str) -> Option<i64> {
    let row = document["results"].as_array()?.iter().find(|row| row["target"] == target)?;
    row["fields"].as_array()?.iter().find(|field| field["name"] == name)?["number"].as_i64()
}

fn results(document: &Value) -> Vec<(&str, &str)> {
    let rows = document["results"].as_array().unwrap();
    rows.iter().map(|row| (row["target"].as_str().unwrap(), row["result"].as_str().unwrap())).collect()
}

fn pid(sandbox: &Sandbox, program: &str) -> i32 {
    sandbox.process(program).unwrap().pid
}

fn text(document: &Value) -> String {
    document.to_string()
}

#[test]
fn a_restart_is_a_new_ready_process_with_a_measured_downtime() {
    let sandbox = up();
    let before = pid(&sandbox, "backend");
    let done = operator(&sandbox, &["service", "restart", "backend", "--reason", "a test"], 0);
    assert_eq!((done["kind"].as_str(), done["state"].as_str()), (Some("operation"), Some("succeeded")));
    assert_eq!(results(&done), [("backend", "restarted")]);
    assert_eq!(number(&done, "backend", "old_pid"), Some(before.into()));
    assert_eq!(number(&done, "backend", "new_pid"), Some(pid(&sandbox, "backend").into()));
    assert_ne!(pid(&sandbox, "backend"), before);
    let down = number(&done, "backend", "down_ms").unwrap();
    assert!((1..5_000).contains(&down), "{down}");
    let phases: Vec<&str> =
        done["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["stop", "start", "ready"]);

    // Who did it stands beside the service.
    let listed = document(&sandbox, "viewer", &["service", "get", "backend"], 0);
    let change = listed["service"]["last_change"].as_str().unwrap();
    assert!(change.starts_with("restarted by user/operator, op-"), "{change}");
    assert_eq!(listed["service"]["restarts_24h"], 1);

    // What runs already is left alone.
    let before = pid(&sandbox, "backend");
    let done = operator(&sandbox, &["service", "start", "backend"], 0);
    assert_eq!((results(&done), pid(&sandbox, "backend")), (vec![("backend", "unchanged")], before));
    sandbox.down().unwrap();
}

#[test]
fn failures_name_their_condition_and_their_cause() {
    let sandbox = up();
    let crash = operator(&sandbox, &["service", "start", "crash"], 1);
    assert_eq!(reason(&crash), "START_FATAL");
    let message = crash["problem"]["message"].as_str().unwrap();
    assert!(message.starts_with("crash did not start: exit code 3, 4 tries in "), "{message}");
    assert!(text(&crash).contains("KeyError: 'JWT_SECRET_KEY'"), "{crash}");

    let flap = operator(&sandbox, &["service", "start", "flap"], 1);
    assert_eq!(reason(&flap), "FLAPPING", "{flap}");
    sandbox.supervisorctl(&["stop", "flap"]).unwrap();

    let slow = operator(&sandbox, &["service", "start", "slow"], 0);
    assert!(number(&slow, "slow", "ready_in_ms").unwrap() >= 3_000, "{slow}");
    let late = operator(&sandbox, &["service", "restart", "slow", "--timeout", "2s"], 1);
    assert_eq!(reason(&late), "NOT_READY_TIMEOUT", "{late}");

    operator(&sandbox, &["service", "start", "stubborn"], 0);
    let stuck = operator(&sandbox, &["service", "stop", "stubborn", "--yes", "--timeout", "1s"], 1);
    assert_eq!(reason(&stuck), "STOP_TIMEOUT", "{stuck}");
    operator(&sandbox, &["service", "start", "stubborn"], 0);
    let killed = operator(&sandbox, &["service", "stop", "stubborn", "--force", "--yes"], 0);
    assert_eq!(results(&killed), [("stubborn", "stopped")]);
    assert!(text(&killed["notes"]).contains("ignored its stop signal"), "{killed}");
    sandbox.down().unwrap();
}

#[test]
fn protection_confirmation_and_names_are_checked_before_anything_is_done() {
    let sandbox = up();
    let before = pid(&sandbox, "mongodb");
    let refused = operator(&sandbox, &["service", "stop", "mongodb", "--yes"], 4);
    assert_eq!(reason(&refused), "PROTECTED_SERVICE");
    let refused = document(&sandbox, "admin", &["service", "stop", "mongodb", "--yes"], 2);
    assert_eq!(reason(&refused), "CONFIRMATION_MISSING");
    let refused = document(&sandbox, "admin", &["service", "stop", "mongodb", "--confirm", "backend"], 2);
    assert_eq!(reason(&refused), "CONFIRMATION_MISSING");
    let refused = document(&sandbox, "viewer", &["service", "restart", "backend"], 4);
    assert!(text(&refused).contains("role deployer"), "{refused}");
    let refused = operator(&sandbox, &["service", "restart", "bakend"], 5);
    assert!(text(&refused).contains("did you mean backend?"), "{refused}");
    for name in ["../../etc", "a b", "backend\n", "x\u{1b}[2J", &"x".repeat(100_000), "backend:*", ""] {
        let refused = operator(&sandbox, &["service", "restart", name], 2);
        assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        assert!(text(&refused).len() < 2_000);
    }
    assert_eq!(pid(&sandbox, "mongodb"), before);
    let done = document(&sandbox, "admin", &["service", "stop", "mongodb", "--confirm", "mongodb"], 0);
    assert_eq!(results(&done), [("mongodb", "stopped")]);
    sandbox.down().unwrap();
}

#[test]
fn all_go_in_order_and_stop_at_the_first_that_fails() {
    let sandbox = up();
    let done = operator(&sandbox, &["service", "restart", "--all", "--yes"], 0);
    let restarted = [("mongodb", "restarted"), ("backend", "restarted"), ("frontend", "restarted")];
    assert_eq!(results(&done), restarted);
    sandbox.wait_until_healthy().unwrap();

    sandbox.fault("never-ready").unwrap();
    let frontend = pid(&sandbox, "frontend");
    let failed = operator(&sandbox, &["service", "restart", "--all", "--yes", "--timeout", "15s"], 1);
    assert_eq!(reason(&failed), "RESTART_PARTIAL", "{failed}");
    assert_eq!(
        results(&failed),
        [("mongodb", "restarted"), ("backend", "FAILED"), ("frontend", "untouched")]
    );
    assert_eq!(pid(&sandbox, "frontend"), frontend);
    sandbox.down().unwrap();
}

#[test]
fn two_restarts_of_one_service_are_one() {
    let sandbox = up();
    let spawn = || {
        let mut command = sandbox.opsctl_command("operator");
        command.args(["service", "restart", "backend", "-o", "json"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let both = [spawn(), spawn()].map(|child| child.wait_with_output().unwrap());
    let mut codes = both.each_ref().map(|output| output.status.code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(6)], "{both:?}");
    let refused = both.iter().find(|output| output.status.code() == Some(6)).unwrap();
    assert!(String::from_utf8_lossy(&refused.stdout).contains("LOCKED"), "{refused:?}");
    sandbox.down().unwrap();
}

#[test]
fn a_supervisord_that_does_not_answer_is_told_within_five_seconds() {
    let mut sandbox = up();
    let asked = |sandbox: &Sandbox| {
        let began = Instant::now();
        let refused = document(sandbox, "operator", &["service", "restart", "backend"], 1);
        assert_eq!(reason(&refused), "SUPERVISOR_UNREACHABLE", "{refused}");
        assert!(text(&refused).contains("supervisor"), "{refused}");
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        // The rest of the agent goes on.
        document(sandbox, "viewer", &["agent", "info"], 0);
    };
    let supervisord = sandbox.supervisord();
    supervisord.signal(Signal::SIGSTOP).unwrap();
    asked(&sandbox);
    supervisord.signal(Signal::SIGCONT).unwrap();
    document(&sandbox, "viewer", &["service", "get", "backend"], 0);
    sandbox.kill_supervisord().unwrap();
    asked(&sandbox);
    sandbox.start_supervisord().unwrap();
    eventually(Duration::from_secs(30), "services after supervisord's return", || {
        let said = sandbox.opsctl("viewer", &["service", "get", "backend", "-o", "json"]).unwrap();
        if said.code == Some(0) { Ok(()) } else { Err(format!("{said:?}")) }
    })
    .unwrap();
    sandbox.down().unwrap();
}

#[test]
fn a_restart_outlives_its_client_and_its_agent() {
    let mut sandbox = up();
    let before = pid(&sandbox, "backend");
    let detached = sandbox.opsctl("operator", &["service", "restart", "backend", "--detach"]).unwrap();
    assert_eq!(detached.code, Some(0), "{detached:?}");
    let id = detached.stdout.trim().to_owned();
    // Past its stop, before it is ready.
    eventually(Duration::from_secs(10), "the stop", || match sandbox.process("backend") {
        Some(process) if process.pid == before && process.is_alive() => Err("it still runs"),
        _ => Ok(()),
    })
    .unwrap();
    sandbox.kill_agent().unwrap();
    sandbox.start_agent().unwrap();
    let ended = operator(&sandbox, &["operation", "wait", &id], 0);
    assert_eq!(results(&ended), [("backend", "restarted")]);
    assert_ne!(pid(&sandbox, "backend"), before);
    document(&sandbox, "viewer", &["service", "get", "backend"], 0);
    sandbox.down().unwrap();
}
