//! From `opsd init` to a colleague's context, with the programs as they are: the way of one host, and a team's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ops_tests::sandbox::Binaries;
use serde_json::Value;

/// A host and a laptop in one folder.
struct Bench {
    dir: tempfile::TempDir,
    binaries: Binaries,
}

impl Bench {
    fn new() -> Self {
        let binaries = Binaries::current().unwrap_or_else(|error| panic!("{error}"));
        Self { dir: tempfile::tempdir().unwrap(), binaries }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn opsd(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binaries.opsd);
        command.args(arguments).current_dir(self.dir.path()).stdin(Stdio::null()).output().unwrap()
    }

    /// opsctl of the laptop, with this on its stdin.
    fn opsctl_with(&self, input: &[u8], arguments: &[&str]) -> Output {
        use std::io::Write as _;
        let mut command = Command::new(&self.binaries.opsctl);
        command.args(arguments).current_dir(self.dir.path()).env_clear();
        command.env("OPSCTL_CONFIG", self.path("laptop/config.toml"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that refuses at once does not read; that is what the test then sees.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn opsctl(&self, arguments: &[&str]) -> Output {
        self.opsctl_with(b"", arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.opsctl(&[arguments, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// One host: what `opsd init` makes, beneath `host`.
    fn init(&self) {
        let init =
            ["init", "--root", "host", "--listen", "127.0.0.1:7443", "--id", "auction-1", "--admin", "ana"];
        good(&self.opsd(&init));
    }
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What was said on stderr, by a program that ended with `code`.
fn bad(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut found, mut folders) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn one_host_from_init_to_a_colleague() {
    let bench = Bench::new();
    let init =
        ["init", "--root", "host", "--listen", "127.0.0.1:7443", "--id", "auction-1", "--admin", "ana"];
    let said = good(&bench.opsd(&init));
    assert!(said.contains("/host/etc/opsd/admin.bundle.toml && rm "), "{said}");
    good(&bench.opsd(&["check-config", "--root", "host"]));

    let imported = good(&bench.opsctl(&["context", "import", "host/etc/opsd/admin.bundle.toml"]));
    assert_eq!(imported, "auction-1 imported: ana at agent/auction-1, the current context\n");
    let shown = bench.json(&["context", "show"]);
    assert_eq!(shown["subject"], "user/ana");
    assert!(said.contains(shown["audit_root"].as_str().unwrap()), "{said}");

    // `ssh host sudo opsctl pki issue … | opsctl context import -`
    let issue =
        ["pki", "--ca", "host/etc/opsd/ca", "issue", "bob", "--role", "operator", "--service", "backend"];
    let bundle = bench.opsctl(&issue);
    good(&bundle);
    good(&bench.opsctl_with(&bundle.stdout, &["context", "import", "-", "--name", "bob"]));
    let policy = std::fs::read_to_string(bench.path("host/etc/opsd/policy.toml")).unwrap();
    assert!(
        policy.ends_with("[subject.\"user/bob\"]\nroles = [\"operator\"]\nservices = [\"backend\"]\n"),
        "{policy}"
    );
    good(&bench.opsd(&["check-config", "--root", "host"]));

    let renewed = bench.opsctl(&["pki", "renew", "bob", "--ca", "host/etc/opsd/ca"]);
    let said = good(&bench.opsctl_with(&renewed.stdout, &["context", "import", "-"]));
    assert_eq!(said, "bob renewed: bob at agent/auction-1\n");
    good(&bench.opsctl(&["context", "use", "bob"]));
    assert_eq!(bench.json(&["context", "show"])["name"], "bob");
    let list = bench.json(&["context", "list"]);
    assert_eq!(list["contexts"].as_array().unwrap().len(), 2);
    let signed = bench.json(&["pki", "show", "bob", "--ca", "host/etc/opsd/ca"]);
    assert_eq!(signed["certificates"].as_array().unwrap().len(), 2);

    good(&bench.opsctl(&["context", "remove", "bob"]));
    assert!(!bench.path("laptop/contexts/bob").exists());
    let said = bad(&bench.opsctl(&["context", "show"]), 2);
    assert!(said.contains("CONTEXT_MISSING") && said.contains("opsctl context import"), "{said}");
}

#[test]
fn a_second_init_and_bad_flags_change_nothing() {
    let bench = Bench::new();
    bench.init();
    let before = snapshot(&bench.path("host"));
    let said = bad(&bench.opsd(&["init", "--root", "host"]), 1);
    assert!(said.contains("exists already") && said.lines().count() == 1, "{said}");
    assert_eq!(snapshot(&bench.path("host")), before);
    for arguments in [
        ["--listen", "nowhere"],
        ["--listen", "127.0.0.1:0"],
        ["--server-name", "a b"],
        ["--id", "../x"],
        ["--admin", "a b"],
        ["--supervisor-config", "x"],
    ] {
        let refused = bench.opsd(&[["init", "--root", "other"].as_slice(), &arguments].concat());
        assert!(!refused.status.success(), "{arguments:?}: {refused:?}");
        assert!(!bench.path("other").exists(), "{arguments:?}");
    }
}

#[test]
fn bad_requests_to_the_ca_sign_nothing() {
    let bench = Bench::new();
    bench.init();
    let before = snapshot(&bench.path("host"));
    for (arguments, code, says) in [
        (vec!["issue", "../x", "--role", "viewer"], 2, "is not a subject"),
        (vec!["issue", "b b", "--role", "viewer"], 2, "is not a name"),
        (vec!["issue", "bob", "--role", "god"], 2, "no role `god`"),
        (vec!["issue", "bob", "--role", "viewer", "--days", "399"], 2, "1 to 398 days"),
        (vec!["issue", "bob", "--role", "viewer", "--csr", "host/etc/opsd/opsd.toml"], 2, "signing request"),
        (vec!["issue", "ana", "--role", "viewer"], 1, "has admin in the policy already"),
        (vec!["issue", "agent/two"], 2, "opsd init --csr"),
        (vec!["renew", "anna"], 5, "did you mean user/ana?"),
        (vec!["show", "anna"], 5, "did you mean user/ana?"),
        (vec!["init"], 1, "exists already"),
    ] {
        let output = bench.opsctl(&[["pki", "--ca", "host/etc/opsd/ca"].as_slice(), &arguments].concat());
        let said = bad(&output, code);
        assert!(said.contains(says) && said.contains("nothing was changed"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(snapshot(&bench.path("host")), before);
}

#[test]
fn bad_bundles_and_contexts_change_nothing() {
    let bench = Bench::new();
    bench.init();
    let bundle = std::fs::read_to_string(bench.path("host/etc/opsd/admin.bundle.toml")).unwrap();
    for (input, says) in [
        (String::new(), "it is empty"),
        ("garbage".into(), "not a bundle"),
        ("x".repeat(70_000), "at most"),
        (bundle.replace("user/ana", "user/root"), "names user/ana"),
        (bundle.replace("version = 1", "version = 9"), "version 9"),
        (bundle.replace("127.0.0.1:7443", "nowhere"), "host:port"),
        (format!("{bundle}\nmore = true\n"), "unknown field"),
    ] {
        let said = bad(&bench.opsctl_with(input.as_bytes(), &["context", "import", "-"]), 2);
        assert!(said.contains(says), "{says}: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
    let refused = bench.opsctl_with(bundle.as_bytes(), &["context", "import", "-", "--name", "../x"]);
    assert!(bad(&refused, 2).contains("cannot name a context"));
    bad(&bench.opsctl(&["context", "import", "nowhere.toml"]), 2);
    assert!(!bench.path("laptop").exists());
    good(&bench.opsctl_with(bundle.as_bytes(), &["context", "import", "-", "--name", "prod"]));
    let before = snapshot(&bench.path("laptop"));
    for verb in ["use", "show", "remove"] {
        let said = bad(&bench.opsctl(&["context", verb, "prodd"]), 2);
        assert!(said.contains("did you mean `prod`?"), "{said}");
    }
    assert_eq!(snapshot(&bench.path("laptop")), before);
}

#[test]
fn nothing_that_is_shown_holds_a_secret() {
    let bench = Bench::new();
    bench.init();
    good(&bench.opsctl(&["context", "import", "host/etc/opsd/admin.bundle.toml"]));
    let key = std::fs::read_to_string(bench.path("laptop/contexts/auction-1/key.pem")).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for arguments in [
        vec!["context", "show"],
        vec!["context", "show", "-o", "json"],
        vec!["context", "list", "-o", "yaml"],
        vec!["pki", "show", "--ca", "host/etc/opsd/ca", "-o", "json"],
    ] {
        let output = bench.opsctl(&arguments);
        let said = good(&output) + &String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains(secret), "{arguments:?}");
    }
    let config = std::fs::read_to_string(bench.path("laptop/config.toml")).unwrap();
    assert!(!config.contains(secret));
}

#[test]
fn a_team_ca_signs_requests_and_no_key_travels() {
    let bench = Bench::new();
    good(&bench.opsctl(&["pki", "init", "--ca", "ca"]));
    let said =
        good(&bench.opsd(&["init", "--csr", "--root", "host", "--listen", "127.0.0.1:7443", "--id", "one"]));
    // The line that init prints is run as it stands, in the folder of the request.
    let line = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("where the CA is: opsctl pki issue agent/"))
        .unwrap();
    let words: Vec<&str> = line.split_whitespace().take_while(|word| *word != ">").collect();
    let mut arguments = vec!["pki", "--ca", "ca", "issue", "agent/one"];
    arguments.extend(
        words.iter().skip(1).map(|word| if *word == "agent.csr" { "host/etc/opsd/agent.csr" } else { word }),
    );
    let certificate = good(&bench.opsctl(&arguments));
    std::fs::write(bench.path("host/etc/opsd/agent.pem"), certificate).unwrap();
    std::fs::copy(bench.path("ca/ca.pem"), bench.path("host/etc/opsd/ca.pem")).unwrap();
    good(&bench.opsd(&["check-config", "--root", "host"]));

    let issued = bench.opsctl(&["pki", "issue", "admin", "--role", "admin", "--ca", "ca"]);
    let notes = String::from_utf8(issued.stderr.clone()).unwrap();
    assert!(notes.contains("[subject.\"user/admin\"]\nroles = [\"admin\"]"), "{notes}");
    good(&bench.opsctl_with(&issued.stdout, &["context", "import", "-"]));
    assert_eq!(bench.json(&["context", "show"])["agent"], "agent/one");
}
