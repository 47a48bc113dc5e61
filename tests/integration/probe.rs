//! Probes on the real platform, asked from both sides.

use ops_tests::sandbox::{Options, Sandbox};
use serde_json::Value;

fn run(sandbox: &Sandbox, arguments: &[&str], code: i32) -> Value {
    let arguments: Vec<&str> = ["probe"].iter().chain(arguments).copied().chain(["-o", "json"]).collect();
    let said = sandbox.opsctl("viewer", &arguments).unwrap();
    assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

#[test]
fn the_same_question_from_both_sides() {
    let options = Options { seeded: false, ..Options::default() };
    let sandbox = Sandbox::up(options).unwrap_or_else(|error| panic!("{error}"));
    sandbox.wait_until_healthy().unwrap();
    let listed = run(&sandbox, &["list"], 0);
    let names: Vec<&str> =
        listed["probes"].as_array().unwrap().iter().map(|probe| probe["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"backend") && names.contains(&"mongodb"), "{names:?}");
    for from in ["agent", "client"] {
        for (name, status) in [("backend", 200), ("frontend", 200), ("mongodb", 0)] {
            let ran = run(&sandbox, &["run", name, "--from", from, "--count", "3"], 0);
            assert_eq!(ran["from"], from);
            let samples = ran["samples"].as_array().unwrap();
            assert_eq!(samples.len(), 3);
            for sample in samples {
                assert_eq!(
                    (sample["verdict"].as_str(), sample["status"].as_u64()),
                    (Some("ok"), Some(status))
                );
                assert!(
                    sample["connect_ms"].as_f64().unwrap() > 0.0 && sample["tls_ms"].is_null(),
                    "{sample}"
                );
            }
        }
        // Nothing listens there while it is stopped.
        let ran = run(&sandbox, &["run", "slow", "--from", from], 1);
        assert_eq!(ran["samples"][0]["failure"], "connect", "{ran}");
    }
    let refused = run(&sandbox, &["run", "bakend"], 5);
    assert_eq!(refused["error"]["reason"], "PROBE_NOT_FOUND");
    for name in ["http://169.254.169.254/", "../x", ""] {
        assert_eq!(run(&sandbox, &["run", name], 2)["error"]["reason"], "INVALID_ARGUMENT");
    }
    sandbox.down().unwrap();
}
