//! Operations on real parts: they outlive their client and their agent, and never run twice or beside each other.

use std::time::Duration;

use ops_tests::patience::eventually;
use ops_tests::sandbox::{Options, Sandbox};
use serde_json::Value;

use crate::running::Running;

const SOON: Duration = Duration::from_secs(30);

fn up() -> Sandbox {
    let options = Options { seeded: false, ..Options::default() };
    Sandbox::up(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs opsctl, asserts its exit code, and gives what it said on both streams.
fn opsctl(sandbox: &Sandbox, identity: &str, arguments: &[&str], code: i32) -> (String, String) {
    let said = sandbox.opsctl(identity, arguments).unwrap();
    assert_eq!(said.code, Some(code), "{arguments:?}\n{}\n{}", said.stdout, said.stderr);
    (said.stdout, said.stderr)
}

fn document(sandbox: &Sandbox, identity: &str, arguments: &[&str], code: i32) -> Value {
    let (stdout, _) = opsctl(sandbox, identity, &[arguments, &["-o", "json"]].concat(), code);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
}

fn newest(sandbox: &Sandbox) -> Value {
    document(sandbox, "viewer", &["operation", "list", "-n", "1"], 0)["operations"][0].clone()
}

fn pid(sandbox: &Sandbox, program: &str) -> Option<i32> {
    let answer = sandbox.supervisorctl(&["pid", program]).unwrap();
    String::from_utf8_lossy(&answer.stdout).trim().parse().ok().filter(|pid| *pid > 0)
}

#[test]
fn it_outlives_its_client_and_never_runs_beside_another() {
    let sandbox = up();
    // Restarted, it gets ready only once it is healed: so what runs, runs until then.
    sandbox.fault("never-ready").unwrap();

    // Its client is killed in the middle.
    let before = pid(&sandbox, "backend").unwrap();
    let mut first =
        Running::start(&sandbox, "operator", &["service", "restart", "backend", "--reason", "test"]);
    let id = first.id();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let listed = document(&sandbox, "viewer", &["operation", "list", "--running"], 0);
    assert_eq!(listed["operations"][0]["id"], id.as_str(), "{listed}");

    // Two at once: the second is told who holds the lock, or waits for it.
    let refused = document(&sandbox, "deployer", &["service", "restart", "backend"], 6);
    assert_eq!(refused["error"]["reason"], "LOCKED", "{refused}");
    let holder = refused["error"]["evidence"][0]["text"].as_str().unwrap();
    assert!(holder.starts_with(&id) && holder.contains("service.restart by user/"), "{holder}");
    let patient =
        Running::start(&sandbox, "operator", &["service", "restart", "backend", "--lock-timeout", "1m"]);

    // Waiting ends before it does, and later sees its end.
    let (_, stderr) = opsctl(&sandbox, "viewer", &["operation", "wait", &id, "--timeout", "1s"], 9);
    assert!(stderr.contains("it goes on"), "{stderr}");
    sandbox.heal().unwrap();
    let waited = document(&sandbox, "viewer", &["operation", "wait", &id], 0);
    assert_eq!((waited["state"].as_str(), waited["reason"].as_str()), (Some("succeeded"), Some("test")));
    assert_eq!(waited["results"][0]["result"], "restarted", "{waited}");
    assert_ne!(pid(&sandbox, "backend").unwrap(), before);
    let (code, stdout, stderr) = patient.end();
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.starts_with("SERVICE  RESULT"), "{stdout}");

    // A part of an id is enough, and near ids are named.
    let part = &id[3..9];
    assert_eq!(document(&sandbox, "viewer", &["operation", "get", part], 0)["id"], id.as_str());
    let wrong = format!("{}{}", &id[..12], if id.ends_with('0') { '1' } else { '0' });
    let missing = document(&sandbox, "viewer", &["operation", "get", &wrong], 5);
    assert_eq!(missing["error"]["reason"], "OPERATION_NOT_FOUND");
    assert!(missing["error"]["evidence"][0]["text"].as_str().unwrap().contains(&id), "{missing}");
    for hostile in ["", "../../etc/passwd", "%", "op-\u{1b}[2J", &"x".repeat(4000)] {
        opsctl(&sandbox, "viewer", &["operation", "get", hostile], 2);
    }
    sandbox.down().unwrap();
}

#[test]
fn one_key_is_one_operation_and_a_cancel_stops_it() {
    let sandbox = up();
    opsctl(&sandbox, "operator", &["service", "start", "slow"], 0);
    let restart = ["service", "restart", "slow", "--idempotency-key", "build-7", "--detach"];
    let calls: Vec<_> = (0..5).map(|_| Running::start(&sandbox, "operator", &restart)).collect();
    let ids: Vec<_> = calls.into_iter().map(Running::end).collect();
    assert!(ids.iter().all(|(code, stdout, _)| *code == Some(0) && *stdout == ids[0].1), "{ids:?}");
    let id = ids[0].1.trim();
    let other = ["service", "restart", "backend", "--idempotency-key", "build-7"];
    let conflict = document(&sandbox, "operator", &other, 6);
    assert_eq!(conflict["error"]["reason"], "IDEMPOTENCY_CONFLICT");
    assert_eq!(conflict["error"]["target"], id);
    opsctl(&sandbox, "viewer", &["operation", "wait", id], 0);
    let again =
        document(&sandbox, "operator", &["service", "restart", "slow", "--idempotency-key", "build-7"], 0);
    assert_eq!((again["id"].as_str(), again["state"].as_str()), (Some(id), Some("succeeded")));

    // A plan changes nothing, and its digest runs exactly that.
    let before = (newest(&sandbox), pid(&sandbox, "backend"));
    let plan = document(&sandbox, "operator", &["service", "restart", "backend", "--plan"], 0);
    assert_eq!((plan["kind"].as_str(), plan["operation"].as_str()), (Some("plan"), Some("service.restart")));
    assert_eq!(before, (newest(&sandbox), pid(&sandbox, "backend")));
    let digest = plan["digest"].as_str().unwrap();
    let other = ["service", "restart", "slow", "--plan-digest", digest];
    assert_eq!(document(&sandbox, "operator", &other, 6)["error"]["reason"], "PLAN_STALE");
    sandbox.fault("never-ready").unwrap();
    let mut planned =
        Running::start(&sandbox, "operator", &["service", "restart", "backend", "--plan-digest", digest]);
    let id = planned.id();

    // Cancelled by another only with the right to, and with a yes.
    let cancel = ["operation", "cancel", &id];
    opsctl(&sandbox, "viewer", &[&cancel[..], &["--yes"]].concat(), 4);
    opsctl(&sandbox, "deployer", &[&cancel[..], &["--yes"]].concat(), 4);
    let (_, stderr) = opsctl(&sandbox, "admin", &cancel, 2);
    assert!(stderr.contains("--yes"), "{stderr}");
    let (_, stderr) =
        opsctl(&sandbox, "admin", &[&cancel[..], &["--yes", "--reason", "not now"]].concat(), 0);
    assert!(stderr.contains(&format!("cancelled {id}")), "{stderr}");
    let (code, _, stderr) = planned.end();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("CANCELLED"), "{stderr}");
    opsctl(&sandbox, "admin", &[&cancel[..], &["--yes"]].concat(), 6);
    sandbox.down().unwrap();
}

#[test]
fn an_agent_killed_between_stop_and_start_starts_it_again_and_says_so() {
    let mut sandbox = up();
    opsctl(&sandbox, "operator", &["service", "start", "stubborn"], 0);
    let before = pid(&sandbox, "stubborn").unwrap();
    // It ignores SIGTERM, so its stop lasts until supervisord's SIGKILL.
    let mut restart = Running::start(&sandbox, "operator", &["service", "restart", "stubborn", "--utc"]);
    let id = restart.id();
    eventually(SOON, "its stop", || {
        let phases = document(&sandbox, "viewer", &["operation", "get", &id], 0)["phases"].clone();
        if phases[0]["name"] == "stop" { Ok(()) } else { Err(phases.to_string()) }
    })
    .unwrap();
    sandbox.kill_agent().unwrap();
    eventually(SOON, "its end", || match pid(&sandbox, "stubborn") {
        None => Ok(()),
        Some(pid) => Err(pid.to_string()),
    })
    .unwrap();
    restart.until("trying again");
    sandbox.start_agent().unwrap();
    let (code, stdout, stderr) = restart.end();
    assert_eq!(code, Some(0), "{stdout}{stderr}\n{}", sandbox.agent_said().unwrap());
    assert!(stderr.contains(&format!("{id} goes on")), "{stderr}");
    assert!(stderr.contains("note: the agent ended while this ran, after \"stopping\""), "{stderr}");
    assert!(stdout.contains("restarted"), "{stdout}");
    assert_ne!(pid(&sandbox, "stubborn").unwrap(), before);

    let (trail, _) = opsctl(&sandbox, "auditor", &["audit", "list", "-o", "json"], 0);
    let trail: Value = serde_json::from_str(&trail).unwrap();
    let stages: Vec<_> = trail["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["operation_id"] == id.as_str())
        .map(|record| {
            (
                record["stage"].as_str().unwrap(),
                record["subject"].as_str().unwrap().split('/').next().unwrap(),
            )
        })
        .collect();
    let count = |stage, subject| stages.iter().filter(|told| **told == (stage, subject)).count();
    assert_eq!(stages.len(), 4, "{stages:?}");
    for subject in ["user", "agent"] {
        assert_eq!((count("intent", subject), count("result", subject)), (1, 1), "{stages:?}");
    }
    opsctl(&sandbox, "auditor", &["audit", "verify"], 0);
    sandbox.down().unwrap();
}

#[test]
fn whenever_the_agent_is_killed_the_service_runs_again_and_every_operation_ends() {
    let mut sandbox = up();
    let mut ids = Vec::new();
    for delay in [0_u64, 5, 20, 60, 150, 400, 900] {
        let mut restart = Running::start(&sandbox, "operator", &["service", "restart", "backend"]);
        let id = restart.id();
        // Counted from the moment that it is known to run; where that falls is chance, and meant to be.
        let _ = eventually(Duration::from_millis(delay), "the moment", || Err::<(), _>("not yet"));
        sandbox.kill_agent().unwrap();
        sandbox.start_agent().unwrap();
        let (code, stdout, stderr) = restart.end();
        assert!(matches!(code, Some(0 | 1)), "killed after {delay} ms: {code:?}\n{stdout}{stderr}");
        ids.push(id);
    }
    sandbox.wait_until_healthy().unwrap();
    let listed = document(&sandbox, "viewer", &["operation", "list"], 0);
    for id in &ids {
        let operation = listed["operations"].as_array().unwrap().iter().find(|one| one["id"] == id.as_str());
        let state = operation.unwrap()["state"].as_str().unwrap();
        assert!(["succeeded", "failed", "partial"].contains(&state), "{id} is {state}: {listed}");
    }
    opsctl(&sandbox, "auditor", &["audit", "verify"], 0);
    sandbox.down().unwrap();
}
