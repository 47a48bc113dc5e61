//! Real files, real inotify, a writer that does not wait for anyone.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use ops_domain::access::{Binding, Credential, Principal, Role};
use ops_domain::fakes::FakeAuditLog;
use ops_domain::ids::{ServiceName, Subject};
use ops_domain::log::{Begin, CursorKey, Logged, Logs, NoticeKind, Places, Ports, Stream, Tail, TailRequest};
use ops_domain::ports::ServiceManager;
use ops_domain::ports::service_manager::{ManagerError, Patience, Program, ProgramName};

use super::*;
use crate::adapters::clock::SystemClock;

const DEADLINE: Duration = Duration::from_secs(60);

/// Never asked: the test's services name their own files.
struct NoManager;

#[async_trait]
impl ServiceManager for NoManager {
    async fn version(&self) -> Result<String, ManagerError> {
        Ok("4".into())
    }

    async fn programs(&self) -> Result<Vec<Program>, ManagerError> {
        Ok(Vec::new())
    }

    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }

    async fn patience(&self) -> Result<std::collections::BTreeMap<ProgramName, Patience>, ManagerError> {
        Ok(std::collections::BTreeMap::new())
    }

    async fn start(&self, _: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NotRunning)
    }

    async fn stop(&self, _: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NotRunning)
    }

    async fn kill(&self, _: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NotRunning)
    }
}

fn viewer() -> Principal {
    Principal {
        subject: Subject::parse("user/vic").unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: BTreeSet::from([Role::Viewer]), services: BTreeSet::new() },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    }
}

/// A folder with one service's logs in it, and an agent's eye on them.
struct Scene {
    dir: tempfile::TempDir,
    files: Arc<LogFiles>,
    logs: Logs,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(LogFiles::new(vec![dir.path().to_owned()]));
        let logged = Logged {
            service: ServiceName::parse("backend").unwrap(),
            program: ProgramName::parse("backend").unwrap(),
            out: Some(dir.path().join("x.log")),
            err: Some(dir.path().join("y.log")),
        };
        let ports = Ports {
            files: Arc::clone(&files) as _,
            audit: Arc::new(FakeAuditLog::default()),
            clock: Arc::new(SystemClock::new()),
        };
        let logs = Logs::new(ports, Places::new(vec![logged], Arc::new(NoManager)), CursorKey::new([1; 32]));
        Self { dir, files, logs }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("x.log")
    }

    async fn tail(&self, from: Begin, follow: bool) -> ops_domain::Result<Tail> {
        let request = TailRequest {
            services: vec![ServiceName::parse("backend").unwrap()],
            stream: Some(Stream::Out),
            from,
            follow,
            until: None,
            skip_on_lag: false,
            raw: false,
        };
        self.logs.tail(&viewer(), request).await
    }
}

/// Numbers of lines, in the order in which they came, and what was said about missing ones.
#[derive(Default)]
struct Seen {
    numbers: Vec<u32>,
    bytes: u64,
    gap_bytes: u64,
    unsure: bool,
    gaps: usize,
    rotations: usize,
    cursor: String,
}

impl Seen {
    async fn take(&mut self, tail: &mut Tail) {
        let batch = tokio::time::timeout(DEADLINE, tail.next()).await.expect("something comes in time");
        let batch = batch.expect("a stream never just ends").expect("it does not break");
        for line in &batch.lines {
            let text = std::str::from_utf8(&line.text).unwrap();
            let number = text.strip_prefix("line ").and_then(|text| text.get(..6));
            self.numbers.push(number.unwrap_or_else(|| panic!("a torn line: {text:?}")).parse().unwrap());
            self.bytes += line.text.len() as u64 + 1;
        }
        match batch.notice.as_ref().map(|notice| (&notice.kind, notice.bytes)) {
            Some((NoticeKind::Gap { at_least }, bytes)) => {
                self.gaps += 1;
                self.gap_bytes += bytes;
                self.unsure |= at_least;
            }
            Some((NoticeKind::Truncated | NoticeKind::Rotated, _)) => self.rotations += 1,
            _ => {}
        }
        self.cursor = batch.cursor;
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Rename,
    Copytruncate,
    Recreate,
}

/// Small, fast, the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Between two rotations: a hundred times faster than any that size or time brings about. Closer together than the
/// folder can be looked at, what came when is not to be known; docs/logs.md says so.
const PACE: Duration = Duration::from_millis(10);

struct Writer {
    log: PathBuf,
    keep: u32,
    file: File,
    bytes: u64,
    rotated: std::time::Instant,
}

impl Writer {
    fn new(log: PathBuf, keep: u32) -> Self {
        let file = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        Self { log, keep, file, bytes: 0, rotated: std::time::Instant::now() }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).unwrap();
        self.bytes += bytes.len() as u64;
    }

    fn rotate(&mut self, kind: Kind) {
        while self.rotated.elapsed() < PACE {
            std::thread::yield_now();
        }
        self.rotated = std::time::Instant::now();
        if !matches!(kind, Kind::Recreate) {
            for index in (1..self.keep).rev() {
                let _ = fs::rename(member(&self.log, index), member(&self.log, index + 1));
            }
        }
        match kind {
            Kind::Rename => {
                fs::rename(&self.log, member(&self.log, 1)).unwrap();
                self.file = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
            }
            Kind::Copytruncate => {
                fs::copy(&self.log, member(&self.log, 1)).unwrap();
                self.file.set_len(0).unwrap();
            }
            Kind::Recreate => {
                fs::remove_file(&self.log).unwrap();
                self.file = OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
            }
        }
    }

    /// Writes numbered lines, some of them in two halves with a rotation between, and rotates now and then.
    fn run(mut self, lines: u32, kinds: &[Kind], mut dice: Dice) -> u64 {
        for number in 0..lines {
            let line = format!("line {number:06} {}\n", "x".repeat(dice.below(80) as usize));
            let cut = dice.below(line.len() as u64) as usize;
            let rotate = dice.below(400) == 0;
            self.write(&line.as_bytes()[..cut]);
            let kind = kinds[dice.below(kinds.len() as u64) as usize];
            if rotate && !matches!(kind, Kind::Recreate) {
                self.rotate(kind);
            }
            self.write(&line.as_bytes()[cut..]);
            if rotate && matches!(kind, Kind::Recreate) {
                self.rotate(kind);
            }
        }
        self.bytes
    }
}

const LINES: u32 = 100_000;

/// Follows a writer, dropping the stream and going on by cursor now and then, until `last` was seen.
async fn follow(scene: &Scene, mut tail: Tail, reconnect: bool, mut dice: Dice, last: u32) -> Seen {
    let mut seen = Seen::default();
    while seen.numbers.last() != Some(&last) {
        seen.take(&mut tail).await;
        if reconnect && dice.below(20) == 0 {
            drop(tail);
            tail = scene.tail(Begin::Cursor(seen.cursor.clone()), true).await.unwrap();
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_once_over_renames_and_copies() {
    for (seed, reconnect) in [(11, false), (12, true)] {
        let scene = Scene::new();
        let writer = Writer::new(scene.log(), 2000);
        // Before the first rotation: the beginning of the current file is then the first line.
        let tail = scene.tail(Begin::Start, true).await.unwrap();
        let thread = std::thread::spawn(move || {
            writer.run(LINES, &[Kind::Rename, Kind::Rename, Kind::Copytruncate], Dice(seed))
        });
        let seen = follow(&scene, tail, reconnect, Dice(seed * 7), LINES - 1).await;
        let written = thread.join().unwrap();
        let odd: Vec<_> = seen.numbers.windows(2).filter(|pair| pair[0] + 1 != pair[1]).take(5).collect();
        assert!(odd.is_empty(), "seed {seed}: {odd:?}, {} gaps", seen.gaps);
        assert_eq!(seen.gaps, 0, "seed {seed}");
        assert_eq!(seen.numbers.len(), LINES as usize, "seed {seed}");
        assert_eq!(seen.bytes, written);
        assert!(seen.rotations > 50, "{} rotations", seen.rotations);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_declared_when_files_go_too_soon() {
    // A log is rotated in one way, whichever it is.
    for (seed, kind) in [(21, Kind::Rename), (22, Kind::Copytruncate), (23, Kind::Recreate)] {
        let scene = Scene::new();
        let writer = Writer::new(scene.log(), 2);
        let kinds = [kind];
        let mut tail = scene.tail(Begin::Start, true).await.unwrap();
        let thread = std::thread::spawn(move || writer.run(LINES, &kinds, Dice(seed)));
        let mut seen = Seen::default();
        // The last line may be among the missing: then the stream is quiet, and all that was written is told of.
        let mut written = None;
        let mut thread = Some(thread);
        loop {
            if thread.as_ref().is_some_and(std::thread::JoinHandle::is_finished) {
                written = thread.take().map(|thread| thread.join().unwrap());
            }
            let next = tokio::time::timeout(Duration::from_secs(2), seen.take_or_wait(&mut tail)).await;
            if next.is_err() && written.is_some() {
                break;
            }
        }
        let missing = written.unwrap() - seen.bytes;
        let back: Vec<_> = seen.numbers.windows(2).filter(|pair| pair[0] >= pair[1]).take(5).collect();
        assert!(back.is_empty(), "seed {seed}: twice, or out of order: {back:?}");
        assert!(missing == 0 || seen.gaps > 0, "seed {seed}: {missing} bytes are missing silently");
        if seen.unsure {
            assert!(missing >= seen.gap_bytes, "missing {missing}, declared {}", seen.gap_bytes);
        } else {
            assert_eq!(missing, seen.gap_bytes, "seed {seed}, {} gaps", seen.gaps);
        }
    }
}

impl Seen {
    async fn take_or_wait(&mut self, tail: &mut Tail) {
        let Some(batch) = tail.next().await else { return std::future::pending().await };
        let batch = batch.expect("it does not break");
        for line in &batch.lines {
            let text = String::from_utf8_lossy(&line.text);
            self.bytes += line.text.len() as u64 + u64::from(!line.continues);
            // Where bytes are missing, a line may be torn.
            let number = text.strip_prefix("line ").and_then(|text| text.get(..6));
            if let Some(number) = number.and_then(|text| text.parse().ok()) {
                self.numbers.push(number);
            }
        }
        if let Some(notice) = &batch.notice
            && let NoticeKind::Gap { at_least } = notice.kind
        {
            self.gaps += 1;
            self.gap_bytes += notice.bytes;
            self.unsure |= at_least;
        }
    }
}

#[tokio::test]
async fn what_is_no_regular_file_beneath_is_refused_at_once() {
    let scene = Scene::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "S3CR3T\n").unwrap();
    type Make<'a> = Box<dyn Fn(&Path) + 'a>;
    let make: [(&str, Make<'_>); 3] = [
        ("fifo", Box::new(|path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap())),
        (
            "symlink",
            Box::new(|path| std::os::unix::fs::symlink(outside.path().join("secret"), path).unwrap()),
        ),
        ("folder", Box::new(|path| fs::create_dir(path).unwrap())),
    ];
    for (what, make) in make {
        make(&scene.log());
        let opened = tokio::time::timeout(Duration::from_secs(5), scene.tail(Begin::Last(10), true));
        let error = opened.await.expect("it does not wait").expect_err(what);
        assert_eq!(error.reason, ops_domain::Reason::LogRefused, "{what}: {error}");
        if what == "folder" {
            fs::remove_dir(scene.log()).unwrap()
        } else {
            fs::remove_file(scene.log()).unwrap()
        }
    }
    let error = scene.tail(Begin::Last(10), true).await.unwrap_err();
    assert_eq!(error.reason, ops_domain::Reason::LogNotFound);
}

#[tokio::test]
async fn the_end_of_a_huge_file_is_found_from_its_end() {
    let scene = Scene::new();
    let mut file = File::create(scene.log()).unwrap();
    file.set_len(1 << 40).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(b"\nline 000001 end\n").unwrap();
    let begun = SystemClock::new();
    let mut tail = scene.tail(Begin::Last(1), false).await.unwrap();
    let mut seen = Seen::default();
    while seen.numbers.is_empty() {
        seen.take(&mut tail).await;
    }
    let took = ops_domain::ports::Clock::monotonic(&begun);
    assert!(took < Duration::from_millis(100), "{took:?}");
    // A stretch without a line feed counts as lines of 64 KiB.
    let begun = SystemClock::new();
    let mut tail = scene.tail(Begin::Last(20), false).await.unwrap();
    let mut bytes = 0;
    while let Some(batch) = tail.next().await {
        bytes += batch.unwrap().lines.iter().map(|line| line.text.len()).sum::<usize>();
    }
    assert!((18 * 65_536..=20 * 65_536).contains(&bytes), "{bytes}");
    assert!(ops_domain::ports::Clock::monotonic(&begun) < Duration::from_secs(2));
}

#[tokio::test]
async fn a_log_that_is_removed_ends_the_stream_with_an_error() {
    let scene = Scene::new();
    fs::write(scene.log(), "line 000001\n").unwrap();
    let mut tail = scene.tail(Begin::Last(10), true).await.unwrap();
    let mut seen = Seen::default();
    while seen.numbers.is_empty() {
        seen.take(&mut tail).await;
    }
    fs::remove_file(scene.log()).unwrap();
    let error = tokio::time::timeout(DEADLINE, tail.next()).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.reason, ops_domain::Reason::LogUnreadable);
    assert!(tail.next().await.is_none());
}

#[tokio::test]
async fn followers_share_a_watch_and_the_last_takes_it_away() {
    let scene = Scene::new();
    fs::write(scene.log(), "").unwrap();
    assert_eq!(scene.files.watches.counts(), (0, 0));
    let mut tails = Vec::new();
    for _ in 0..5 {
        tails.push(scene.tail(Begin::Last(10), true).await.unwrap());
    }
    assert_eq!(scene.files.watches.counts(), (1, 1));
    drop(tails);
    let (sender, receiver) = mpsc::channel();
    let files = Arc::clone(&scene.files);
    std::thread::spawn(move || {
        while files.watches.counts() != (0, 0) {
            std::thread::yield_now();
        }
        sender.send(()).unwrap();
    });
    tokio::task::spawn_blocking(move || receiver.recv_timeout(DEADLINE)).await.unwrap().unwrap();
}

#[test]
fn a_file_is_told_from_the_next_one_with_its_inode() {
    let scene = Scene::new();
    let mut ids = BTreeSet::new();
    for round in 0..20 {
        fs::write(scene.log(), format!("{round}")).unwrap();
        let chain = scene.files.chain(&scene.log()).unwrap();
        ids.insert(chain[0].facts.id);
        assert_eq!(chain.len(), 1);
        fs::remove_file(scene.log()).unwrap();
    }
    assert!(ids.len() > 1, "{ids:?}");
}
