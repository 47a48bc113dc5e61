//! The sandbox itself: it stands, it breaks as it is told to, and it leaves nothing behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use ops_tests::sandbox::{self, FAULTY, KEPT, LogRotation, Options, ROLES, Sandbox};
use ops_tests::{belongings, http, patience::eventually};

const SOON: Duration = Duration::from_secs(20);

/// Without an agent: what is shown here needs none.
fn options() -> Options {
    Options { with_agent: false, ..Options::default() }
}

fn up() -> Sandbox {
    Sandbox::up(options()).unwrap_or_else(|error| panic!("{error}"))
}

fn supervisorctl(sandbox: &Sandbox, arguments: &[&str]) -> String {
    String::from_utf8(sandbox.supervisorctl(arguments).unwrap().stdout).unwrap()
}

#[test]
fn it_stands_healthy_and_goes_without_leftovers() {
    let sandbox = up();
    let status = supervisorctl(&sandbox, &["status"]);
    for program in KEPT {
        assert!(status.lines().any(|line| line.starts_with(program) && line.contains("RUNNING")), "{status}");
    }
    for program in FAULTY {
        assert!(status.lines().any(|line| line.starts_with(program) && line.contains("STOPPED")), "{status}");
    }
    let health = http::get(sandbox.address("backend").unwrap(), "/api/health").unwrap();
    let health: serde_json::Value = serde_json::from_str(&health.body).unwrap();
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["services"], serde_json::json!({ "database": "healthy", "api": "healthy" }));
    let auctions = http::get(sandbox.address("backend").unwrap(), "/api/auctions").unwrap();
    assert_eq!((auctions.status, auctions.body.matches("\"player\"").count()), (200, 20));
    let log = std::fs::read_to_string(sandbox.stdout_log("backend")).unwrap();
    assert!(log.contains("\"GET /api/health HTTP/1.1\" 200 OK"), "{log}");

    let dir = sandbox.dir().to_path_buf();
    assert!(belongings::all(&dir).unwrap().len() >= 4);
    sandbox.down().unwrap();
    assert_eq!(belongings::all(&dir).unwrap(), []);
    assert!(!dir.exists());
}

#[test]
fn two_stand_side_by_side_and_dropping_one_spares_the_other() {
    let (first, second) = (up(), up());
    let dir = first.dir().to_path_buf();
    drop(first);
    assert_eq!(belongings::all(&dir).unwrap(), []);
    assert!(!dir.exists());
    second.wait_until_healthy().unwrap();
}

#[test]
fn the_database_is_really_asked() {
    let sandbox = up();
    let health = || http::get(sandbox.address("backend").unwrap(), "/api/health").unwrap();
    sandbox.signal("mongodb", Signal::SIGSTOP).unwrap();
    // A signal is sent when this returns, and has not yet stopped every thread.
    let stopped = eventually(SOON, "its refusal", || {
        let answer = health();
        if answer.status == 503 { Ok(answer) } else { Err(answer.body) }
    });
    sandbox.signal("mongodb", Signal::SIGCONT).unwrap();
    let stopped = stopped.unwrap();
    assert!(stopped.body.contains(r#""database":"unhealthy""#), "{}", stopped.body);
    sandbox.wait_until_healthy().unwrap();
}

#[test]
fn faulty_programs_fail_in_their_own_ways() {
    let sandbox = up();
    let start = |program| supervisorctl(&sandbox, &["start", program]);

    assert!(start("crash").contains("ERROR"));
    eventually(SOON, "its last words", || {
        let said = std::fs::read_to_string(sandbox.stderr_log("crash")).unwrap();
        if said.contains("KeyError: 'JWT_SECRET_KEY'") { Ok(()) } else { Err(said) }
    })
    .unwrap();
    let log = std::fs::read_to_string(sandbox.supervisor_log()).unwrap();
    assert!(log.contains("exited: crash (exit status 3; not expected)"), "{log}");

    assert!(start("slow").contains("started"));
    let slow = sandbox.address("slow").unwrap();
    assert!(http::get(slow, "/").is_err(), "slow was ready at once");
    eventually(SOON, "slow", || http::get(slow, "/")).unwrap();

    assert!(start("stubborn").contains("started"));
    let stubborn = sandbox.process("stubborn").unwrap();
    stubborn.signal(Signal::SIGTERM).unwrap();
    eventually(SOON, "its refusal", || {
        let said = std::fs::read_to_string(sandbox.stderr_log("stubborn")).unwrap();
        if said.contains("SIGTERM received") { Ok(()) } else { Err(said) }
    })
    .unwrap();
    assert!(stubborn.is_alive());

    assert!(start("flap").contains("started"));
    eventually(SOON, "its death after it was RUNNING", || {
        let log = std::fs::read_to_string(sandbox.supervisor_log()).unwrap();
        let ran = log.find("success: flap entered RUNNING state");
        let died = log.find("exited: flap (exit status 1; not expected)");
        if ran.is_some() && died > ran { Ok(()) } else { Err("not yet") }
    })
    .unwrap();
}

#[test]
fn fault_switches_work_and_can_be_undone_without_the_backend() {
    let sandbox = up();
    let backend = sandbox.address("backend").unwrap();
    sandbox.fault("health-status?code=418").unwrap();
    assert_eq!(http::get(backend, "/api/health").unwrap().status, 418);
    sandbox.fault("never-ready").unwrap();
    sandbox.fault("reset").unwrap();
    sandbox.fault("log?lines=3&stream=stderr&text=probe").unwrap();
    eventually(SOON, "the lines", || {
        let said = std::fs::read_to_string(sandbox.stderr_log("backend")).unwrap();
        if said.contains("INFO     auction.probe: line 3 of 3\n") { Ok(()) } else { Err(said) }
    })
    .unwrap();
    sandbox.wait_until_healthy().unwrap();

    sandbox.fault("crash-on-start").unwrap();
    sandbox.fault("exit?code=9").unwrap();
    eventually(SOON, "a start that dies", || {
        let log = std::fs::read_to_string(sandbox.supervisor_log()).unwrap();
        if log.contains("exited: backend (exit status 9; not expected)")
            && log.contains("exited: backend (exit status 3; not expected)")
        {
            Ok(())
        } else {
            Err(log)
        }
    })
    .unwrap();
    sandbox.heal().unwrap();
    supervisorctl(&sandbox, &["start", "backend"]);
    sandbox.wait_until_healthy().unwrap();
}

#[test]
fn supervisord_can_be_killed_and_started_again() {
    let mut sandbox = up();
    let backend = sandbox.process("backend").unwrap();
    sandbox.kill_supervisord().unwrap();
    assert!(!sandbox.supervisord().is_alive());
    assert!(backend.is_alive(), "a program ended with its supervisor");
    sandbox.start_supervisord().unwrap();
    sandbox.wait_until_healthy().unwrap();
    assert!(!backend.is_alive());
}

#[test]
fn logs_rotate_as_configured() {
    let logs = LogRotation { max_bytes: 20_000, backups: 2 };
    let sandbox = Sandbox::up(Options { logs, seeded: false, ..options() }).unwrap();
    let rotated = |n: u32| sandbox.stdout_log("backend").with_extension(format!("log.{n}"));
    // What supervisord reads at once goes into one file, however big it is.
    eventually(SOON, "the second rotation", || {
        sandbox.fault("log?lines=500").unwrap();
        if rotated(2).exists() { Ok(()) } else { Err("not yet") }
    })
    .unwrap();
    assert!(!rotated(3).exists());
}

/// The owner is killed, so that nothing of it runs at its end: this test, run once more as a program.
#[test]
fn the_keeper_ends_the_sandbox_of_a_killed_owner() {
    const DIR: &str = "OPS_TEST_OWNED_DIR";
    if let Some(dir) = std::env::var_os(DIR) {
        let options = Options { dir: Some(dir.into()), seeded: false, ..options() };
        let _sandbox = Sandbox::up(options).unwrap();
        loop {
            std::thread::park();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap());
    owner.args(["--exact", "sandbox::the_keeper_ends_the_sandbox_of_a_killed_owner"]).env(DIR, dir.path());
    let mut owner = owner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let stands = |dir: &Path| {
        if sandbox::Description::read(dir).unwrap().is_some() { Ok(()) } else { Err("not yet") }
    };
    eventually(Duration::from_secs(90), "its sandbox", || stands(dir.path())).unwrap();
    assert!(belongings::all(dir.path()).unwrap().len() >= 4);

    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually(SOON, "the end of its processes", || {
        let left = belongings::all(dir.path()).unwrap();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .unwrap();
}

#[test]
fn a_detached_one_outlives_its_owner_and_is_ended_by_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { dir: Some(dir.path().to_path_buf()), detached: true, seeded: false, ..options() };
    let sandbox = Sandbox::up(options.clone()).unwrap();
    let again = Sandbox::up(options).unwrap_err().to_string();
    assert!(again.contains("a sandbox runs here"), "{again}");
    let supervisord = sandbox.supervisord();
    drop(sandbox);
    assert!(supervisord.is_alive());

    let told = sandbox::Description::read(dir.path()).unwrap().unwrap();
    assert_eq!(told.supervisor.pid, supervisord.pid);
    sandbox::down(dir.path()).unwrap();
    assert_eq!(belongings::all(dir.path()).unwrap(), []);
    sandbox::down(dir.path()).unwrap();
}

#[test]
fn each_role_has_a_caller_and_the_agent_can_be_killed_and_started_again() {
    let mut sandbox = Sandbox::up(Options { seeded: false, ..Options::default() }).unwrap();
    for role in ROLES {
        let answer = sandbox.opsctl(role, &["access", "whoami", "-o", "json"]).unwrap();
        assert_eq!(answer.code, Some(0), "{}", answer.stderr);
        let me: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(me["subject"], format!("user/{role}"));
        assert_eq!(me["roles"], serde_json::json!([role]));
    }
    let told = sandbox.description();
    for identity in told.identities.values() {
        assert!(identity.cert.is_file() && identity.key.is_file(), "{identity:?}");
    }
    let agent = told.agent.clone().unwrap();
    assert!(agent.audit_log.is_file() && agent.config.is_file() && agent.state_dir.is_dir(), "{agent:?}");

    sandbox.kill_agent().unwrap();
    assert_eq!(sandbox.agent(), None);
    assert_eq!(sandbox.opsctl("viewer", &["access", "whoami"]).unwrap().code, Some(3));
    sandbox.start_agent().unwrap();
    assert_eq!(sandbox.opsctl("viewer", &["access", "whoami"]).unwrap().code, Some(0));
    assert!(sandbox.stop_agent().unwrap().unwrap().success(), "{}", sandbox.agent_said().unwrap());
}
