use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::*;
use crate::access::{Binding, Credential, Role};
use crate::fakes::{FakeAuditLog, FakeClock, FakeLog};
use crate::ids::Subject;
use crate::ports::service_manager::{ManagerError, Patience, Program, ProgramName, ProgramState};
use crate::ports::{LogExcerpt as _, ServiceManager};

const CANARY: &str = "S3CR3T-xyz";

/// Programs with the logs that supervisord names.
struct Manager;

#[async_trait]
impl ServiceManager for Manager {
    async fn version(&self) -> Result<String, ManagerError> {
        Ok("4.3.0".into())
    }

    async fn programs(&self) -> Result<Vec<Program>, ManagerError> {
        let program = |name: &str, stderr: Option<&str>| Program {
            name: ProgramName::parse(name).unwrap(),
            state: ProgramState::Running,
            pid: None,
            started_at: None,
            stopped_at: None,
            exit_status: 0,
            spawn_error: String::new(),
            stdout_log: Some(format!("/var/log/{name}.out.log")),
            stderr_log: stderr.map(str::to_owned),
        };
        Ok(vec![program("backend", Some("/var/log/backend.err.log")), program("frontend", None)])
    }

    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }

    async fn patience(&self) -> Result<BTreeMap<ProgramName, Patience>, ManagerError> {
        Ok(BTreeMap::new())
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

struct Scene {
    log: Arc<FakeLog>,
    audit: Arc<FakeAuditLog>,
    logs: Logs,
}

fn name(text: &str) -> ServiceName {
    ServiceName::parse(text).unwrap()
}

fn scene() -> Scene {
    scene_in(FakeClock::new())
}

fn scene_in(clock: Arc<FakeClock>) -> Scene {
    let (log, audit) = (FakeLog::new(), Arc::new(FakeAuditLog::default()));
    let logged = |text: &str| Logged {
        service: name(text),
        program: ProgramName::parse(text).unwrap(),
        out: None,
        err: None,
    };
    let ports = Ports { files: log.clone(), audit: audit.clone(), clock };
    let places = Places::new(vec![logged("backend"), logged("frontend")], Arc::new(Manager));
    Scene { logs: Logs::new(ports, places, CursorKey::new([5; 32])), log, audit }
}

fn principal(role: Role, services: &[&str]) -> Principal {
    Principal {
        subject: Subject::parse("user/ana").unwrap(),
        credential: Credential::Certificate,
        binding: Binding {
            roles: BTreeSet::from([role]),
            services: services.iter().map(|text| name(text)).collect(),
        },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: "r-1".into(),
    }
}

fn request(services: &[&str]) -> TailRequest {
    TailRequest {
        services: services.iter().map(|text| name(text)).collect(),
        stream: Some(Stream::Out),
        from: Begin::Last(50),
        follow: false,
        until: None,
        skip_on_lag: false,
        raw: false,
    }
}

/// Everything until the end: the text, the notices, the last cursor, and the failure if it broke.
async fn all(mut tail: Tail) -> (String, Vec<Notice>, String, Option<Error>) {
    let (mut text, mut notices, mut cursor) = (String::new(), Vec::new(), String::new());
    while let Some(batch) = tail.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return (text, notices, cursor, Some(error)),
        };
        for line in batch.lines {
            text.push_str(&String::from_utf8_lossy(&line.text));
            if !line.continues {
                text.push('\n');
            }
        }
        notices.extend(batch.notice);
        cursor = batch.cursor;
    }
    (text, notices, cursor, None)
}

#[tokio::test]
async fn a_viewer_reads_masked_and_a_stream_has_a_start_and_an_end() {
    let scene = scene();
    scene.log.append(format!("login password={CANARY} ok\nplain\n").as_bytes());
    let tail = scene.logs.tail(&principal(Role::Viewer, &[]), request(&["backend"])).await.unwrap();
    let (text, notices, _, failure) = all(tail).await;
    assert_eq!(text, "login password=*** ok\nplain\n");
    assert!(
        matches!(notices.first().map(|notice| &notice.kind), Some(NoticeKind::Start(files)) if files.len() == 1)
    );
    assert_eq!(notices[0].lines, Some(2));
    assert_eq!(notices.last().map(|notice| &notice.kind), Some(&NoticeKind::End));
    assert_eq!(failure, None);
    assert!(scene.audit.entries().is_empty());
}

#[tokio::test]
async fn raw_is_for_admins_and_written_down_before_and_after() {
    let scene = scene();
    scene.log.append(format!("password={CANARY}\n").as_bytes());
    let raw = TailRequest { raw: true, ..request(&["backend"]) };
    for role in [Role::Viewer, Role::Operator, Role::Deployer] {
        let error = scene.logs.tail(&principal(role, &[]), raw.clone()).await.unwrap_err();
        assert_eq!(error.reason, Reason::PermissionDenied);
    }
    let admin = principal(Role::Admin, &[]);
    let (text, ..) = all(scene.logs.tail(&admin, raw.clone()).await.unwrap()).await;
    assert_eq!(text, format!("password={CANARY}\n"));
    let entries = scene.audit.entries();
    let stages: Vec<_> = entries.iter().map(|entry| (entry.stage.as_str(), entry.outcome.as_str())).collect();
    assert_eq!(stages, [("intent", ""), ("result", "OK")]);
    assert_eq!(entries[1].params["bytes"], text.len());
    assert!(!format!("{entries:?}").contains(CANARY));
    scene.audit.break_down(true);
    let error = scene.logs.tail(&admin, raw).await.unwrap_err();
    assert_eq!(error.reason, Reason::AuditUnavailable);
}

#[tokio::test]
async fn scopes_and_roles_are_kept_without_an_oracle() {
    let scene = scene();
    let scoped = principal(Role::Viewer, &["frontend"]);
    let there = scene.logs.tail(&scoped, request(&["backend"])).await.unwrap_err();
    let nowhere = scene.logs.tail(&scoped, request(&["nothing"])).await.unwrap_err();
    assert_eq!((there.reason, nowhere.reason), (Reason::PermissionDenied, Reason::PermissionDenied));
    let sources = scene.logs.sources(&scoped, &[]).await.unwrap();
    assert!(sources.iter().all(|file| file.id.service == name("frontend")));
    for role in [Role::Backup, Role::Auditor] {
        let error = scene.logs.tail(&principal(role, &[]), request(&["backend"])).await.unwrap_err();
        assert_eq!(error.reason, Reason::PermissionDenied);
    }
    // A cursor is no way around a scope.
    let viewer = principal(Role::Viewer, &[]);
    let (_, _, cursor, _) = all(scene.logs.tail(&viewer, request(&["backend"])).await.unwrap()).await;
    let go_on = TailRequest { from: Begin::Cursor(cursor), ..request(&[]) };
    let error = scene.logs.tail(&scoped, go_on).await.unwrap_err();
    assert_eq!(error.reason, Reason::PermissionDenied);
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let scene = scene();
    let viewer = principal(Role::Viewer, &[]);
    let error = scene.logs.tail(&viewer, request(&["backen"])).await.unwrap_err();
    assert_eq!(error.reason, Reason::ServiceNotFound);
    assert!(error.message.contains("backend"), "{error}");
    let stderr = TailRequest { stream: Some(Stream::Err), ..request(&["frontend"]) };
    let error = scene.logs.tail(&viewer, stderr).await.unwrap_err();
    assert_eq!(error.reason, Reason::LogNotFound);
    assert!(error.message.contains("redirect_stderr=true, both go to frontend.out.log"), "{error}");
    assert_eq!(error.next[0].argv[3..], ["frontend", "--stream", "out"]);
    let too_many = TailRequest { from: Begin::Last(MAX_LINES + 1), ..request(&["backend"]) };
    assert_eq!(scene.logs.tail(&viewer, too_many).await.unwrap_err().reason, Reason::InvalidArgument);
    scene.log.fail(LogFault::Denied);
    let error = scene.logs.tail(&viewer, request(&["backend"])).await.unwrap_err();
    assert_eq!(error.reason, Reason::LogUnreadable);
}

#[tokio::test]
async fn a_cursor_goes_on_once_and_ends_at_another() {
    let scene = scene();
    let viewer = principal(Role::Viewer, &[]);
    scene.log.append(b"one\n");
    let (_, _, first, _) = all(scene.logs.tail(&viewer, request(&["backend"])).await.unwrap()).await;
    scene.log.append(b"two\n");
    scene.log.rotate(3);
    scene.log.append(b"three\n");
    let go_on = TailRequest { from: Begin::Cursor(first.clone()), ..request(&[]) };
    let (text, notices, second, _) = all(scene.logs.tail(&viewer, go_on.clone()).await.unwrap()).await;
    assert_eq!(text, "two\nthree\n");
    assert!(notices.iter().any(|notice| notice.kind == NoticeKind::Rotated));
    scene.log.append(b"four\n");
    let between = TailRequest { until: Some(second), ..go_on };
    let (text, ..) = all(scene.logs.tail(&viewer, between).await.unwrap()).await;
    assert_eq!(text, "two\nthree\n");
    let forged = TailRequest { from: Begin::Cursor("AQAA".into()), ..request(&[]) };
    assert_eq!(scene.logs.tail(&viewer, forged).await.unwrap_err().reason, Reason::CursorInvalid);
}

#[tokio::test]
async fn a_reader_that_stands_still_is_let_go_with_its_place() {
    // Whenever everyone waits, the next wait is over at once.
    let scene = scene_in(FakeClock::hasty());
    let viewer = principal(Role::Viewer, &[]);
    for number in 0..200_000 {
        scene.log.append(format!("line {number:06}\n").as_bytes());
    }
    let from_start = TailRequest { from: Begin::Start, ..request(&["backend"]) };
    let tail = scene.logs.tail(&viewer, from_start).await.unwrap();
    while tail.failure.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let (mut text, _, mut cursor, mut failure) = all(tail).await;
    let reason = failure.take().map(|error| error.reason);
    assert_eq!(reason, Some(Reason::SlowConsumer));
    while text.len() < 200_000 * 12 {
        let go_on = TailRequest { from: Begin::Cursor(cursor), ..request(&[]) };
        let (more, _, next, _) = all(scene.logs.tail(&viewer, go_on).await.unwrap()).await;
        text.push_str(&more);
        cursor = next;
    }
    assert!(text.lines().enumerate().all(|(number, line)| line == format!("line {number:06}")));
}

#[tokio::test]
async fn open_streams_end_with_a_reason_when_the_agent_does() {
    let scene = scene();
    let following = TailRequest { follow: true, ..request(&["backend"]) };
    let mut tail = scene.logs.tail(&principal(Role::Viewer, &[]), following).await.unwrap();
    assert!(matches!(tail.next().await, Some(Ok(_))));
    scene.logs.close();
    let failure = tail.next().await.unwrap().unwrap_err();
    assert_eq!(failure.reason, Reason::ShuttingDown);
}

#[tokio::test]
async fn one_subject_has_a_limited_number_of_streams() {
    let scene = scene();
    let viewer = principal(Role::Viewer, &[]);
    let following = TailRequest { follow: true, ..request(&["backend"]) };
    let mut open = Vec::new();
    for _ in 0..MAX_STREAMS {
        open.push(scene.logs.tail(&viewer, following.clone()).await.unwrap());
    }
    let error = scene.logs.tail(&viewer, following).await.unwrap_err();
    assert_eq!(error.reason, Reason::LimitExceeded);
}

#[tokio::test]
async fn excerpts_are_masked_and_begin_at_their_mark() {
    let scene = scene();
    let excerpts = excerpt::Excerpts::new(scene.log.clone());
    scene.log.append(b"before\n");
    let mark = excerpts.mark("/var/log/x").await.unwrap();
    scene.log.append(format!("a\nsecret_token={CANARY}\n").as_bytes());
    scene.log.rotate(3);
    scene.log.append(b"last, not ended");
    let excerpt = excerpts.since("/var/log/x", Some(&mark), 2).await.unwrap();
    assert_eq!(
        (excerpt.lines, excerpt.total),
        (vec!["secret_token=***".into(), "last, not ended".into()], Some(3))
    );
    assert!(excerpts.contains("/var/log/x", Some(&mark), "^last").await.unwrap());
    assert!(!excerpts.contains("/var/log/x", Some(&mark), "before").await.unwrap());
    let whole = excerpts.since("/var/log/x", None, 10).await.unwrap();
    assert_eq!((whole.lines.len(), whole.total), (4, None));
}
