//! Logs of a real platform, through opsctl: last lines, following through supervisord's own rotation and cut
//! connections, what is refused, what is masked, who may.

use std::io::{BufRead as _, BufReader, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ops_tests::sandbox::{LogRotation, Options, Sandbox};

const CANARY: &str = "S3CR3T-xyz";
const DEADLINE: Duration = Duration::from_secs(60);

fn up() -> Sandbox {
    let logs = LogRotation { max_bytes: 64 * 1024, backups: 60 };
    Sandbox::up(Options { logs, seeded: false, ..Options::default() })
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A way to the agent that can be cut.
struct Road {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Road {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let streams = Arc::clone(&open);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far.try_clone().unwrap(), near.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                streams.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// The numbers of the fault switch's lines: `INFO     auction.run: line 7 of 20000`.
fn number(text: &str, run: &str) -> Option<u32> {
    let rest = text.split_once(&format!("auction.{run}: line "))?.1;
    rest.split(' ').next()?.parse().ok()
}

#[test]
fn a_follower_sees_each_line_once_over_rotations_and_cuts() {
    const LINES: u32 = 20_000;
    let sandbox = up();
    let agent = sandbox.description().agent.as_ref().unwrap().address.parse().unwrap();
    let road = Road::to(agent);
    let mut opsctl = sandbox.opsctl_command("viewer");
    opsctl.args(["--host", &road.address.to_string(), "log", "tail", "backend", "--stream", "out", "-f"]);
    opsctl.args(["-n", "0", "-o", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = opsctl.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let begun = Instant::now();
    let mut numbers = Vec::new();
    let mut rotations = 0;
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while numbers.last() != Some(&LINES) {
        assert!(begun.elapsed() < DEADLINE, "{} lines, the last {:?}", numbers.len(), numbers.last());
        let line = lines.next().expect("it goes on").unwrap();
        let document: serde_json::Value = serde_json::from_str(&line).unwrap();
        match document["kind"].as_str().unwrap() {
            "start" => sandbox.fault(&format!("log?lines={LINES}&text=run")).unwrap(),
            "log_line" => {
                numbers.extend(number(document["text"].as_str().unwrap(), "run"));
                if matches!(numbers.len(), 1_000 | 9_000) {
                    road.cut();
                }
            }
            "rotated" => rotations += 1,
            other => panic!("{other}: {line}"),
        }
    }
    assert!(numbers.iter().copied().eq(1..=LINES), "{} lines", numbers.len());
    assert!(rotations > 5, "{rotations} rotations");
    kill(pid, Signal::SIGINT).unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("connection lost") && said.contains("nothing lost, nothing twice"), "{said}");
    assert!(said.contains("go on: opsctl log tail backend --stream out -f --cursor "), "{said}");

    // The last lines reach over several rotated files, and a cursor begins where an answer ended.
    let tail =
        sandbox.opsctl("viewer", &["log", "tail", "backend", "--stream", "out", "-n", "5000"]).unwrap();
    let last: Vec<u32> = tail.stdout.lines().filter_map(|line| number(line, "run")).collect();
    assert_eq!(tail.code, Some(0), "{}", tail.stderr);
    assert_eq!(tail.stdout.lines().count(), 5000);
    assert!(last.len() > 4000 && last.is_sorted_by(|left, right| right - left == 1));
}

#[test]
fn what_may_not_be_read_is_refused_and_secrets_are_masked() {
    let sandbox = up();
    let tail =
        |who: &str, arguments: &[&str]| sandbox.opsctl(who, &[&["log", "tail"], arguments].concat()).unwrap();

    // Masks, raw, roles.
    sandbox.fault(&format!("log?lines=3&text=password%3D{CANARY}")).unwrap();
    let shown = tail("viewer", &["backend", "--stream", "out", "-n", "20"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.contains("password=***"), "{}", shown.stdout);
    assert!(!shown.stdout.contains(CANARY));
    let refused = tail("viewer", &["backend", "--raw"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("log.raw needs role admin"), "{}", refused.stderr);
    let raw = tail("admin", &["backend", "--stream", "out", "--raw"]);
    assert!(raw.stdout.contains(CANARY), "{}", raw.stderr);
    let trail = sandbox.opsctl("admin", &["audit", "list", "-o", "json"]).unwrap();
    assert!(trail.stdout.contains("LogService/TailLog"), "{}", trail.stdout);
    assert!(!trail.stdout.contains(CANARY) && !sandbox.agent_said().unwrap().contains(CANARY));
    let backup = tail("backup", &["backend"]);
    assert_eq!(backup.code, Some(4), "{}", backup.stderr);

    // What is no regular file beneath the allowed folder.
    let log = sandbox.stdout_log("slow");
    let _ = std::fs::remove_file(&log);
    let missing = tail("viewer", &["slow", "--stream", "out"]);
    assert_eq!(missing.code, Some(5), "{}", missing.stderr);
    assert!(missing.stderr.contains("LOG_NOT_FOUND"), "{}", missing.stderr);
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let fifo = tail("viewer", &["slow", "--stream", "out", "-f"]);
    assert!(fifo.code == Some(1) && fifo.stderr.contains("LOG_REFUSED"), "{}", fifo.stderr);
    std::fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &log).unwrap();
    let link = tail("viewer", &["slow", "--stream", "out"]);
    assert!(link.code == Some(1) && link.stderr.contains("LOG_REFUSED"), "{}", link.stderr);
    assert!(!link.stdout.contains("root:"));
    let partial = tail("viewer", &["backend", "slow", "--stream", "out", "-n", "1"]);
    assert_eq!(partial.code, Some(10), "{}", partial.stderr);
    let unknown = tail("viewer", &["bakend"]);
    assert!(unknown.code == Some(5) && unknown.stderr.contains("backend"), "{}", unknown.stderr);
    let cursor = tail("viewer", &["--cursor", "nonsense"]);
    assert!(cursor.code == Some(2) && cursor.stderr.contains("CURSOR_INVALID"), "{}", cursor.stderr);

    let sources = sandbox.opsctl("viewer", &["log", "sources"]).unwrap();
    assert_eq!(sources.code, Some(10), "{}", sources.stderr);
    assert!(sources.stdout.contains("backend") && sources.stdout.contains("NO"), "{}", sources.stdout);
}
