//! A socket that is not supervisord, or a sick one: typed errors, in time, in bounds.

use std::path::Path;
use std::time::{Duration, Instant};

use ops_domain::error::{Error, Reason};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::*;

/// Each connection's request is read, then `serve` has it.
fn fake<F>(socket: &Path, serve: impl Fn(UnixStream) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = Vec::new();
            while !seen.ends_with(b"</methodCall>") {
                let mut piece = [0; 1024];
                let Ok(length @ 1..) = stream.read(&mut piece).await else { break };
                seen.extend_from_slice(&piece[..length]);
            }
            let text = String::from_utf8_lossy(&seen).to_lowercase();
            assert!(text.contains("content-length: ") && !text.contains("transfer-encoding"), "{text}");
            tokio::spawn(serve(stream));
        }
    });
}

async fn answered(status: &'static str, body: Vec<u8>) -> ManagerError {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    fake(&socket, move |mut stream| {
        let body = body.clone();
        async move {
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    });
    let began = Instant::now();
    let error = Supervisord::new(socket, None).programs().await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(5));
    error
}

fn result(value: &str) -> Vec<u8> {
    format!(
        "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>{value}</value>\n</param>\n</params>\n</methodResponse>\n"
    )
    .into_bytes()
}

#[tokio::test]
async fn what_is_not_an_answer_is_a_bad_reply() {
    let info = |state: &str| {
        result(&format!(
            "<array><data><value><struct><member><name>state</name><value>{state}</value></member></struct></value></data></array>"
        ))
    };
    for body in [
        b"garbage".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        Vec::new(),
        result("<string>a program</string>"),
        result("<int>7</int>"),
        result("<array><data><value><int>1</int></value></data></array>"),
        info("<int>20</int>"),
        info("<string>RUNNING</string>"),
        info("<int>77</int>"),
        result(&format!("<string>{}</string>", "x".repeat(3 << 20))),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        let error = answered("200 OK", body).await;
        assert!(matches!(error, ManagerError::BadReply { .. }), "{shown}: {error:?}");
        assert_eq!(Error::from(error).reason, Reason::SupervisorBadReply);
    }
    for status in ["500 Oh", "404 No", "302 Elsewhere"] {
        assert!(matches!(answered(status, Vec::new()).await, ManagerError::BadReply { .. }));
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    fake(&socket, |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n").await;
        while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
    });
    let error = Supervisord::new(socket, None).programs().await.unwrap_err();
    assert!(matches!(error, ManagerError::BadReply { ref why, .. } if why.contains("2 MiB")), "{error:?}");
}

#[tokio::test]
async fn faults_are_typed() {
    let fault = |code: i32, text: &str| {
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>{code}</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>{text}</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>\n"
        )
        .into_bytes()
    };
    assert!(matches!(
        answered("200 OK", fault(6, "SHUTDOWN_STATE")).await,
        ManagerError::ShuttingDown { .. }
    ));
    let unknown = answered("200 OK", fault(4711, "WHAT")).await;
    assert_eq!(unknown, ManagerError::Refused("WHAT (fault 4711)".into()));

    let name = ProgramName::parse("backend").unwrap();
    let supervisord = Supervisord::new("/nonexistent".into(), None);
    let meaning = |code| supervisord.meaning(Failed::Fault { code, text: "T".into() }, &name);
    assert_eq!(meaning(10), ManagerError::NoSuchProgram(name.clone()));
    assert_eq!(meaning(20), ManagerError::Command("T".into()));
    assert_eq!(meaning(50), ManagerError::Spawn("T".into()));
    assert_eq!(meaning(60), ManagerError::AlreadyStarted);
    assert_eq!(meaning(70), ManagerError::NotRunning);
}

#[tokio::test]
async fn absent_refused_and_forbidden_say_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let ask = async || Error::from(Supervisord::new(socket.clone(), None).programs().await.unwrap_err());
    let error = ask().await;
    assert_eq!(error.reason, Reason::SupervisorUnreachable);
    assert!(error.message.contains(socket.to_str().unwrap()) && error.message.contains("no such socket"));
    assert!(error.retryable && error.evidence.iter().any(|fact| fact.name == "hint"));

    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(ask().await.message.contains("connection refused"));

    let error = answered("401 Unauthorized", Vec::new()).await;
    assert!(error.to_string().contains("401"), "{error}");
}

#[tokio::test]
async fn silence_is_told_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    fake(&socket, |stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    });
    let began = Instant::now();
    let error = Error::from(Supervisord::new(socket, None).programs().await.unwrap_err());
    assert_eq!(error.reason, Reason::SupervisorUnreachable);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(error.message.contains("no answer in 4.5 s"), "{}", error.message);
}

#[tokio::test]
async fn the_password_is_sent_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut piece = vec![0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        String::from_utf8_lossy(&piece[..length]).into_owned()
    });
    let login = Login { user: "opsd".into(), password: "hunter2".to_owned().into() };
    let error = Supervisord::new(socket, Some(login)).programs().await.unwrap_err();
    assert!(!format!("{error:?}").contains("hunter2"));
    assert!(seen.await.unwrap().contains("Basic b3BzZDpodW50ZXIy"));
}
