//! opsctl against a real agent: who is asking, the audit trail checked by the client, the agent itself.

use std::path::PathBuf;

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
