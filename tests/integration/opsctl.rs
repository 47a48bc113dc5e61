//! opsctl against a real agent: who is asking, the audit trail checked by the client, the agent itself.

use std::path::PathBuf;
use std::time::Duration;

use ops_tests::patience::eventually;
use ops_tests::sandbox::{Options, Sandbox};
use serde_json::Value;

fn up() -> Sandbox {
    Sandbox::up(Options { seeded: false, ..Options::default() }).unwrap_or_else(|error| panic!("{error}"))
}

/// The document of a command that must end with `code`.
fn document(sandbox: &Sandbox, identity: &str, arguments: &[&str], code: i32) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
    let said = sandbox.opsctl(identity, &arguments).unwrap();
    assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn who_is_asking_and_with_what() {
    let sandbox = up();
    for role in ["viewer", "operator", "deployer", "backup", "auditor", "admin"] {
        let me = document(&sandbox, role, &["access", "whoami"], 0);
        assert_eq!(
            (me["kind"].as_str(), me["subject"].as_str()),
            (Some("whoami"), Some(&*format!("user/{role}")))
        );
        assert_eq!(me["roles"], serde_json::json!([role]));
        assert_eq!(me["credential"], "certificate");
    }

    // A token for oneself is nothing but a line, and speaks for the same subject.
    let token = sandbox.opsctl("operator", &["access", "token", "create", "--ttl", "2m", "-q"]).unwrap();
    assert_eq!(
        (token.code, token.stderr.as_str(), token.stdout.lines().count()),
        (Some(0), "", 1),
        "{token:?}"
    );
    let mut command = sandbox.opsctl_command("operator");
    command.env("OPSCTL_TOKEN", token.stdout.trim()).args(["access", "whoami", "-o", "json"]);
    let me: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    assert_eq!((me["subject"].as_str(), me["credential"].as_str()), (Some("user/operator"), Some("token")));

    // A token never mints another one.
    let mut command = sandbox.opsctl_command("operator");
    command.env("OPSCTL_TOKEN", token.stdout.trim()).args(["access", "token", "create"]);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(4));
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("CERTIFICATE_REQUIRED"), "{words}");
    assert!(!words.contains(token.stdout.trim()), "{words}");

    // A forged one is refused as what it is.
    let mut command = sandbox.opsctl_command("operator");
    command.env("OPSCTL_TOKEN", "eyJhbGciOiJub25lIn0.e30.x").args(["access", "whoami"]);
    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");

    let said = sandbox.opsctl("viewer", &["agent", "reload"]).unwrap();
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(said.stderr.contains("PERMISSION_DENIED"), "{said:?}");
    let agent = document(&sandbox, "viewer", &["agent", "info"], 0);
    assert_eq!(agent["audit_writable"], true);
    let reloaded = document(&sandbox, "admin", &["agent", "reload", "--reason", "a test"], 0);
    assert_eq!(reloaded["kind"], "agent_reload");
    sandbox.down().unwrap();
}

fn trail(sandbox: &Sandbox) -> PathBuf {
    sandbox.description().agent.as_ref().unwrap().audit_log.clone()
}

#[test]
fn the_trail_is_checked_here_and_remembered() {
    let mut sandbox = up();
    let denied = sandbox.opsctl("viewer", &["audit", "list"]).unwrap();
    assert_eq!(denied.code, Some(4), "{denied:?}");
    document(&sandbox, "operator", &["access", "token", "create"], 0);
    let records = document(&sandbox, "auditor", &["audit", "list", "--subject", "user/operator"], 0);
    let records = records["records"].as_array().unwrap();
    assert!(records.iter().any(|record| record["stage"] == "intent"), "{records:?}");

    let exported = sandbox.opsctl("auditor", &["audit", "export"]).unwrap();
    assert!(exported.stdout.lines().count() > 1 && exported.code == Some(0), "{exported:?}");
    let first = document(&sandbox, "auditor", &["audit", "verify"], 0);
    assert_eq!(
        (first["outcome"].as_str(), first["root"].as_str()),
        (Some("intact"), Some("given")),
        "{first}"
    );

    // Another change is signed at once, so a later look has seen more.
    document(&sandbox, "operator", &["access", "token", "create"], 0);
    sandbox.stop_agent().unwrap();
    let path = trail(&sandbox);
    let whole = std::fs::read(&path).unwrap();
    sandbox.start_agent().unwrap();
    document(&sandbox, "auditor", &["audit", "verify"], 0);

    // A copy whose line was changed, and one that is cut in a line: both are found without an agent.
    let copy = sandbox.dir().join("copy.jsonl");
    let copied = copy.to_str().unwrap();
    let mut changed = whole.clone();
    let at = changed.windows(13).position(|bytes| bytes == b"user/operator").unwrap();
    changed[at + 5] = b'O';
    for (bytes, word) in [(&changed[..], "changed"), (&whole[..whole.len() - 7], "newline")] {
        std::fs::write(&copy, bytes).unwrap();
        let broken = document(&sandbox, "auditor", &["audit", "verify", "--from", copied], 1);
        assert_eq!(broken["outcome"], "broken");
        assert!(broken["break"].as_str().unwrap().contains(word), "{broken}");
    }
    std::fs::write(&copy, &whole).unwrap();
    let intact = document(&sandbox, "auditor", &["audit", "verify", "--from", copied], 0);
    assert_eq!(intact["outcome"], "intact");
    sandbox.down().unwrap();
}

#[test]
fn status_is_the_truth_with_its_cause_and_exit_code() {
    let sandbox = up();
    let healthy = sandbox.opsctl("viewer", &["status"]).unwrap();
    // Services and database are the sandbox's; the disk is that of the machine that tests run on, and may be full.
    let full = healthy.stdout.lines().any(|line| line.starts_with("disk") && line.contains(" FAIL "));
    assert_eq!(healthy.code, Some(i32::from(full)), "{healthy:?}");
    for service in ["mongodb", "backend", "frontend"] {
        let row = healthy.stdout.lines().find(|line| line.starts_with(service)).unwrap_or_default();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words.get(1..3), Some(&["running", "yes"][..]), "{healthy:?}");
    }
    assert!(healthy.stderr.contains("viewer (viewer)"), "{healthy:?}");

    sandbox.fault("health-status?code=503").unwrap();
    let failing = eventually(Duration::from_secs(20), "a status that is no longer shared", || {
        let said = sandbox.opsctl("viewer", &["status"]).map_err(|error| error.to_string())?;
        let row = said.stdout.lines().find(|line| line.starts_with("backend")).unwrap_or_default();
        if row.split_whitespace().nth(2) == Some("no") { Ok(said) } else { Err(format!("{said:?}")) }
    })
    .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((failing.code, failing.stdout.starts_with("FAILING  ")), (Some(1), true), "{failing:?}");
    let first =
        failing.stdout.lines().skip_while(|line| !line.starts_with("SERVICE")).nth(1).unwrap_or_default();
    assert!(first.starts_with("backend ") && first.contains("503"), "{failing:?}");
    assert!(failing.stderr.contains("next: opsctl log tail backend --stream err -n 50\n"), "{failing:?}");
    assert_eq!(document(&sandbox, "viewer", &["status"], 1)["verdict"], "fail");

    let unknown = sandbox.opsctl("viewer", &["status", "backent"]).unwrap();
    assert_eq!(unknown.code, Some(5), "{unknown:?}");
    assert!(unknown.stderr.contains("backend"), "{unknown:?}");
    sandbox.down().unwrap();
}
