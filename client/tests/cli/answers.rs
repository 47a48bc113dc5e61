//! What the agent answers, as a person reads it.

use ops_proto::v1::{
    Check, ErrorReason, Evidence, GetStatusResponse, NextCommand, Problem, Readiness, Service, ServiceState,
    Verdict,
};
use tonic::Code;

use crate::stand_in::{World, refusal};

fn healthy() -> GetStatusResponse {
    GetStatusResponse {
        verdict: Verdict::Ok.into(),
        summary: "1 of 1 service ready, 1 of 1 check ok".into(),
        services: vec![Service {
            name: "backend".into(),
            state: ServiceState::Running.into(),
            readiness: Readiness::Ready.into(),
            restarts_24h: Some(0),
            managed: true,
            ok: true,
            ..Service::default()
        }],
        checks: vec![Check {
            name: "database".into(),
            verdict: Verdict::Ok.into(),
            text: "ping 2 ms".into(),
        }],
        subject: "user/ana".into(),
        roles: vec!["operator".into()],
        at: Some(prost_types::Timestamp { seconds: 1_795_000_000, nanos: 0 }),
    }
}

#[test]
fn status_is_data_on_stdout_and_the_rest_on_stderr() {
    let said = World::answering(|| Ok(healthy())).start().run(&["status", "--utc"]);
    assert_eq!(
        said.stdout,
        "\
HEALTHY  1 of 1 service ready, 1 of 1 check ok

SERVICE  STATE    READY  RESTARTS/24H
backend  running  yes    0

CHECK     VERDICT  FACTS
database  ok       ping 2 ms
"
    );
    assert_eq!(said.stderr, "[agent]  ana (operator)  11:06:40 UTC\n");
    assert_eq!(said.code, 0);
}

#[test]
fn the_verdict_is_the_exit_code() {
    let code = |verdict: Verdict, arguments: &[&str]| {
        let answer = move || Ok(GetStatusResponse { verdict: verdict.into(), ..healthy() });
        World::answering(answer).start().run(arguments).code
    };
    assert_eq!(code(Verdict::Fail, &["status"]), 1);
    assert_eq!(code(Verdict::Unknown, &["status"]), 9);
    assert_eq!(code(Verdict::Warn, &["status"]), 0);
    assert_eq!(code(Verdict::Warn, &["status", "--fail-on", "warn"]), 1);
    assert_eq!(code(Verdict::Fail, &["status", "-o", "json"]), 1);
}

fn denied() -> Problem {
    Problem {
        reason: ErrorReason::PermissionDenied.into(),
        message: "bob may not restart backend: this needs role operator or deployer, bob has viewer".into(),
        target: "backend".into(),
        evidence: vec![
            Evidence { name: "audit".into(), text: "88213".into(), lines: vec![] },
            Evidence {
                name: "stderr".into(),
                text: "backend.err.log, 2 of 2 lines".into(),
                lines: vec!["Traceback".into(), "\x1b]0;owned\x07KeyError".into()],
            },
        ],
        next: vec![
            NextCommand {
                argv: ["opsctl", "service", "start", "backend"].map(String::from).to_vec(),
                note: "after the fix".into(),
            },
            NextCommand {
                argv: ["opsctl", "explain", "PERMISSION_DENIED"].map(String::from).to_vec(),
                note: String::new(),
            },
        ],
        retryable: false,
        effect: "nothing was done".into(),
    }
}

#[test]
fn a_problem_of_the_agent_is_told_whole_and_harmless() {
    let said = World::answering(|| Err(refusal(Code::PermissionDenied, &denied()))).start().run(&["status"]);
    assert_eq!(
        said.stderr,
        "\
error: bob may not restart backend: this needs role operator or deployer, bob has viewer
       PERMISSION_DENIED, nothing was done
  audit   88213
  stderr  backend.err.log, 2 of 2 lines
          | Traceback
          | \\x1b]0;owned\\x07KeyError
next: opsctl service start backend        (after the fix)
      opsctl explain PERMISSION_DENIED
"
    );
    assert_eq!((said.stdout.as_str(), said.code), ("", 4));
}

#[test]
fn a_failure_is_one_document_too() {
    let agent = World::answering(|| Err(refusal(Code::PermissionDenied, &denied()))).start();
    let said = agent.run(&["status", "-o", "json"]);
    let document = said.document();
    assert_eq!(document["kind"], "error");
    assert_eq!(document["version"], "v1");
    assert_eq!(document["exit_code"], 4);
    assert_eq!(document["error"]["reason"], "PERMISSION_DENIED");
    assert_eq!(document["error"]["next"][1]["argv"][2], "PERMISSION_DENIED");
    assert!(said.stderr.starts_with("error: bob may not"), "{}", said.stderr);
    assert_eq!(agent.run(&["status", "-o", "jsonl"]).stdout.lines().count(), 1);
    assert!(agent.run(&["status", "-o", "yaml"]).stdout.contains("\n  reason: \"PERMISSION_DENIED\"\n"));
}

#[test]
fn a_status_without_a_problem_is_never_shown_raw() {
    for code in [Code::Internal, Code::DataLoss, Code::Unknown, Code::Unavailable, Code::ResourceExhausted] {
        let said = World::answering(move || Err(tonic::Status::new(code, "boom"))).start().run(&["status"]);
        assert!(said.stderr.starts_with("error: "), "{}", said.stderr);
        assert!(said.stderr.contains("boom"), "{}", said.stderr);
        assert!(!said.stderr.contains("status:"), "{}", said.stderr);
        assert_ne!(said.code, 0);
    }
}

#[test]
fn options_of_a_change_reach_the_agent() {
    let said = World::default().start().run(&[
        "agent",
        "reload",
        "--reason",
        "new policy",
        "--yes",
        "--idempotency-key",
        "k1",
        "--timeout",
        "90s",
        "--lock-timeout",
        "5s",
    ]);
    for part in [
        "reason: \"new policy\"",
        "confirmed: true",
        "idempotency_key: \"k1\"",
        "timeout_ms: 90000",
        "lock_timeout_ms: 5000",
    ] {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
    assert_eq!(said.code, 0);
}
