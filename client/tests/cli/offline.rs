//! What needs no agent.

use std::process::Stdio;

use crate::stand_in::{Said, opsctl};

fn run(arguments: &[&str]) -> Said {
    Said::of(opsctl(arguments).output().unwrap())
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    for arguments in [&["--help"][..], &["explain"], &["man"], &["completion", "bash"]] {
        let mut child = opsctl(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let said = Said::of(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_mistake_is_told_with_the_near_word() {
    let said = run(&["staus"]);
    assert!(
        said.stderr.contains("similar subcommand") && said.stderr.contains("'status'"),
        "{}",
        said.stderr
    );
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    let said = run(&["status", "--timeout", "5", "-o", "json"]);
    assert_eq!(said.document()["error"]["reason"], "INVALID_ARGUMENT");
    assert_eq!(said.code, 2);
}

#[test]
fn explain_knows_every_reason_and_near_ones() {
    let said = run(&["explain", "no_spac"]);
    assert!(said.stderr.contains("next: opsctl explain NO_SPACE\n"), "{}", said.stderr);
    assert_eq!(said.code, 2);
    let said = run(&["explain", "-o", "json"]);
    let reasons = said.document()["reasons"].as_array().unwrap().clone();
    assert!(reasons.iter().any(|reason| reason["reason"] == "START_FATAL" && reason["exit_code"] == 1));
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let said = run(&["--help"]);
    assert!(said.stdout.contains("Exit codes:\n   0  done"), "{}", said.stdout);
    assert!(said.stdout.contains("Examples:\n"), "{}", said.stdout);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
}

#[test]
fn completion_scripts_call_opsctl() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = run(&["completion", shell]);
        assert!(said.stdout.contains("OPSCTL_COMPLETE"), "{shell}: {}", said.stdout);
    }
    let mut command = opsctl(&["--", "opsctl", "agent", "in"]);
    let said =
        Said::of(command.env("OPSCTL_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").output().unwrap());
    assert_eq!(said.stdout, "info");
}
