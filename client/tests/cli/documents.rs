//! `-o json` is there on every command, with `kind` and `version` first.

use crate::stand_in::{Said, World, opsctl};

#[test]
fn documents_begin_with_what_they_are() {
    let agent = World::default().start();
    for (arguments, kind) in [
        (&["status"][..], "status"),
        (&["agent", "info"], "agent"),
        (&["agent", "reload"], "agent_reload"),
        (&["version"], "version"),
        (&["explain"], "reason_list"),
        (&["completion", "bash"], "completion"),
        (&["man"], "man"),
        // The stand-in has no such service: a failure is a document too.
        (&["access", "whoami"], "error"),
        (&["audit", "list"], "error"),
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-o", "json"]).collect();
        let said = agent.run(&arguments);
        assert_eq!(said.document()["kind"], kind, "{arguments:?}");
        let first = said.stdout.lines().nth(1).unwrap();
        assert_eq!(first, format!("  \"kind\": \"{kind}\","), "{arguments:?}");
    }
}

#[test]
fn an_agent_that_is_away_is_told_by_version_and_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let said = Said::of(opsctl(&["version", "-o", "json"]).env("HOME", home.path()).output().unwrap());
    assert_eq!(said.code, 0);
    assert_eq!(said.document()["agent_error"]["reason"], "CONTEXT_MISSING");
}
