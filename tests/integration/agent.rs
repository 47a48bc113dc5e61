//! The agent's own life: what it refuses to start with, reload, and how it ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use http::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_tests::sandbox::Binaries;
use ops_trust::tls::Alpn;
use prost::Message as _;
use tokio::io::AsyncWriteExt as _;

use crate::in_process::{self, Agent, PATIENCE, ROOMY};

fn opsd(root: &Path, command: &str) -> Command {
    let mut opsd = Command::new(Binaries::current().unwrap().opsd);
    opsd.arg(command)
        .arg("--root")
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    opsd
}

/// Something done to the agent's folder before its start.
type Change = Box<dyn Fn(&Path)>;

/// A child that does not outlive its test, and what it says.
struct Running(Child, Receiver<String>);

impl Running {
    fn start(root: &Path) -> (Self, std::net::SocketAddr) {
        let mut child = opsd(root, "run").spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, lines) = channel();
        std::thread::spawn(move || said.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let running = Self(child, lines);
        let line = running.says("address=");
        let address = line.split_once("address=").unwrap().1.trim().parse().unwrap();
        (running, address)
    }

    /// The next line with these words.
    fn says(&self, words: &str) -> String {
        loop {
            let line = self.1.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{words}: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// It has ended, whoever still holds a connection.
    fn falls_silent(&self) {
        loop {
            match self.1.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => panic!("it did not end"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn what_is_unsafe_or_wrong_does_not_start() {
    let mode = |name: &'static str, mode: u32| {
        move |etc: &Path| fs::set_permissions(etc.join(name), fs::Permissions::from_mode(mode)).unwrap()
    };
    let edit = |etc: &Path, from: &str, to: &str| {
        let text = fs::read_to_string(etc.join("opsd.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(etc.join("opsd.toml"), text.replace(from, to)).unwrap();
    };
    let cases: Vec<(&str, Change, &str)> = vec![
        ("a key that others may read", Box::new(mode("agent.key", 0o644)), "chmod 0600"),
        ("a token key that others may read", Box::new(mode("token.key", 0o640)), "chmod 0600"),
        ("a CA that others may write", Box::new(mode("ca.pem", 0o666)), "chmod go-w"),
        ("a policy that others may write", Box::new(mode("policy.toml", 0o666)), "chmod go-w"),
        ("no key", Box::new(|etc| fs::remove_file(etc.join("agent.key")).unwrap()), "is missing"),
        (
            "no policy",
            Box::new(|etc| fs::remove_file(etc.join("policy.toml")).unwrap()),
            "there is no policy",
        ),
        (
            "an empty policy",
            Box::new(|etc| fs::write(etc.join("policy.toml"), "").unwrap()),
            "the policy is empty",
        ),
        (
            "a policy with a role that is none",
            Box::new(|etc| {
                fs::write(etc.join("policy.toml"), "[subject.\"user/a\"]\nroles = [\"root\"]\n").unwrap();
            }),
            "policy.toml:2: unknown variant `root`",
        ),
        (
            "an unknown key",
            Box::new(move |etc| edit(etc, "[listen]", "[listen]\ntls = false")),
            "unknown field `tls`",
        ),
        ("no TLS at all", Box::new(move |etc| edit(etc, "[tls]", "[tlz]")), "unknown field `tlz`"),
        (
            "another's certificate",
            Box::new(move |etc| edit(etc, "id = \"test\"", "id = \"other\"")),
            "is of agent/test",
        ),
        ("garbage", Box::new(|etc| fs::write(etc.join("opsd.toml"), [0xff, 0xfe]).unwrap()), "not UTF-8"),
        (
            "a certificate that is none",
            Box::new(|etc| fs::write(etc.join("agent.pem"), "x").unwrap()),
            "not exactly one certificate",
        ),
        (
            "a key of another",
            Box::new(|etc| {
                fs::copy(etc.join("ca/ca.key"), etc.join("agent.key")).unwrap();
            }),
            "the key does not belong to the certificate",
        ),
    ];
    for (name, change, says) in cases {
        let root = in_process::folder(&[], |config| config);
        change(&root.path().join("etc/opsd"));
        for command in ["run", "check-config"] {
            let output = opsd(root.path(), command).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{name}: {said}");
            assert!(said.contains(says), "{name}: {said}");
            assert_eq!(said.trim_end().lines().count(), 1, "{name}: {said}");
            assert!(said.contains("/etc/opsd/"), "{name} names no file: {said}");
        }
    }
}

#[test]
fn a_good_configuration_is_said_to_be_good_and_shown_whole() {
    let root = in_process::folder(&[], |config| config);
    let output = opsd(root.path(), "check-config").output().unwrap();
    assert!(output.status.success() && output.stdout.ends_with(b": good\n"));
    let shown = opsd(root.path(), "show-config").output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("concurrent_streams = 100") && !shown.contains("PRIVATE"), "{shown}");
    let missing = opsd(&root.path().join("nowhere"), "run").output().unwrap();
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("opsd init"));
}

#[test]
fn a_second_agent_on_the_same_state_is_told_who_has_it() {
    let root = in_process::folder(&[], |config| config);
    let (first, _) = Running::start(root.path());
    let began = Instant::now();
    let second = opsd(root.path(), "run").output().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("(pid {})", first.0.id())), "{said}");
    // However the first ends, its lock ends with it.
    first.signal(Signal::SIGKILL);
    drop(first);
    let (_third, _) = Running::start(root.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_streams_with_a_reason_and_the_process_with_0() {
    let root = in_process::folder(&[], |config| config);
    let (mut opsd, address) = Running::start(root.path());
    let admin = in_process::caller_of(root.path(), address, "user/admin");
    let (opened, watching) = admin.watch("/grpc.health.v1.Health/Watch");
    opened.await.unwrap();
    assert_eq!(admin.rest(Method::GET, "/readyz", "").await.http, 200);
    let began = Instant::now();
    opsd.signal(Signal::SIGTERM);
    let answer = watching.await.unwrap();
    assert_eq!((answer.grpc, answer.reason.as_str()), (14, "SHUTTING_DOWN"), "{answer:?}");
    let status = tokio::task::spawn_blocking(move || opsd.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(15));
}

/// A request whose body never comes: something that the agent waits for when it drains.
async fn stuck(caller: &in_process::Caller) -> impl Sized + use<> {
    let mut stream = caller.tls(Alpn::Http11).await.unwrap();
    let head = "POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The head is with the agent once another call has been answered after it, so often that both have had their turn.
    for _ in 0..20 {
        assert_eq!(caller.rest(Method::GET, "/healthz", "").await.http, 200);
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_it_at_once_and_the_drain_has_an_end() {
    let root = in_process::folder(&[], |config| config);
    let (mut opsd, address) = Running::start(root.path());
    let _stuck = stuck(&in_process::caller_of(root.path(), address, "user/admin")).await;
    opsd.signal(Signal::SIGTERM);
    opsd.says("shutting down");
    assert!(opsd.0.try_wait().unwrap().is_none(), "it did not wait for what runs");
    let began = Instant::now();
    opsd.signal(Signal::SIGTERM);
    opsd.says("ended at once");
    assert_eq!(opsd.0.wait().unwrap().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));

    let root = in_process::folder(&[], |config| config + "[limits]\ndrain = \"300ms\"\n");
    let (mut opsd, address) = Running::start(root.path());
    let _stuck = stuck(&in_process::caller_of(root.path(), address, "user/admin")).await;
    opsd.signal(Signal::SIGTERM);
    opsd.falls_silent();
    assert_eq!(opsd.0.wait().unwrap().code(), Some(0));
}

#[test]
fn sighup_reloads_and_keeps_the_old_of_what_is_bad() {
    let root = in_process::folder(&[], |config| config);
    let (opsd, _) = Running::start(root.path());
    let policy = root.path().join("etc/opsd/policy.toml");
    in_process::bind(&policy, "user/alice", "viewer", &[]);
    opsd.signal(Signal::SIGHUP);
    assert!(opsd.says("reloaded").contains("user/alice: added, viewer"));
    fs::write(&policy, "[subject.x]\n").unwrap();
    opsd.signal(Signal::SIGHUP);
    assert!(opsd.says("not reloaded").contains("policy.toml:1"));
    let trail = fs::read_to_string(root.path().join("var/lib/opsd/audit/trail.jsonl")).unwrap();
    assert_eq!(trail.matches("\"reason\":\"SIGHUP\"").count(), 4, "{trail}");
    assert!(trail.contains("\"sub\":\"agent/test\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_applies_what_is_good_and_keeps_the_old_of_what_is_bad() {
    let agent = Agent::start(&[("user/alice", "viewer", &[])], ROOMY).await;
    let (admin, alice) = (agent.as_user("user/admin"), agent.as_user("user/alice"));
    let policy = agent.etc().join("policy.toml");
    let good = fs::read_to_string(&policy).unwrap();
    let roles = |answer: &in_process::Answer| answer.json()["roles"].to_string();
    assert_eq!(roles(&alice.rest(Method::GET, "/v1/whoami", "").await), "[\"viewer\"]");
    fs::write(&policy, good.replace("viewer\"]", "operator\"]")).unwrap();
    let reloaded = admin.rest(Method::POST, "/v1/agent/reload", "").await;
    assert_eq!(reloaded.json()["changes"][0], "user/alice: viewer → operator", "{reloaded:?}");
    assert_eq!(roles(&alice.rest(Method::GET, "/v1/whoami", "").await), "[\"operator\"]");

    fs::write(&policy, format!("{good}\n[subject.bob]\nroles = [\"viewer\"]\n")).unwrap();
    let refused = admin.rest(Method::POST, "/v1/agent/reload", "").await;
    assert_eq!((refused.http, refused.reason.as_str()), (412, "CONFIG_INVALID"));
    assert!(refused.json()["message"].as_str().unwrap().contains("policy.toml:"), "{refused:?}");
    assert_eq!(roles(&alice.rest(Method::GET, "/v1/whoami", "").await), "[\"operator\"]");

    let certificate = agent.etc().join("agent.pem");
    fs::write(&certificate, "garbage").unwrap();
    fs::write(&policy, &good).unwrap();
    let refused = admin.rest(Method::POST, "/v1/agent/reload", "").await;
    assert_eq!(refused.reason, "CONFIG_INVALID");
    // New connections still see the old certificate, and the policy beside it was good.
    assert_eq!(roles(&alice.rest(Method::GET, "/v1/whoami", "").await), "[\"viewer\"]");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_from_the_policy_loses_open_streams() {
    let agent = Agent::start(&[("user/alice", "auditor", &[])], ROOMY).await;
    let (opened, watching) = agent.as_user("user/alice").watch("/grpc.health.v1.Health/Watch");
    opened.await.unwrap();
    let policy = agent.etc().join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("[subject.\"user/alice\"]", "[subject.\"user/carol\"]")).unwrap();
    let admin = agent.as_user("user/admin");
    assert_eq!(admin.rest(Method::POST, "/v1/agent/reload", "").await.http, 200);
    let answer = watching.await.unwrap();
    assert_eq!((answer.grpc, answer.reason.as_str()), (7, "PERMISSION_DENIED"), "{answer:?}");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_answers_who_is_known() {
    use tonic_health::pb::HealthCheckRequest;
    let agent = Agent::start(&[], ROOMY).await;
    let admin = agent.as_user("user/admin");
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        // list_services, field 7, a string: the same bytes in both versions.
        let answer = admin.grpc(&path, &[0x3a, 1, b'*'], &[]).await;
        assert_eq!(answer.grpc, 0, "{answer:?}");
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.contains("ops.v1.AgentService") && said.contains("grpc.health.v1.Health"), "{said}");
    }
    let unknown = HealthCheckRequest { service: "../etc".to_owned() }.encode_to_vec();
    assert_eq!(admin.grpc("/grpc.health.v1.Health/Check", &unknown, &[]).await.grpc, 5);
    agent.stop().await;
}
