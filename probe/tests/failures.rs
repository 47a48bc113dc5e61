//! Every way to fail is told apart, within the limit, whatever the other side does.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on should stop")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ops_probe::{Expectation, Failure, HttpTarget, Probe, Roots, Sample, SocketTarget, Target};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_millis(700);

/// Accepts connections for as long as the test runs and hands each to `serve`.
async fn server<F, S>(serve: S) -> SocketAddr
where
    F: Future<Output = ()> + Send,
    S: Fn(TcpStream) -> F + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

/// Reads the request's head, then writes `answer` and closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = Arc::new(answer.into());
    server(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

async fn head(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte).await, Ok(1)) {
        seen.push(byte[0]);
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn ask(target: Target, expect: &[&str]) -> Sample {
    let expect = expect.iter().map(|text| Expectation::parse(text).unwrap()).collect();
    let began = Instant::now();
    let sample = ops_probe::run(&Probe { target, timeout: LIMIT, expect }, &Roots::system()).await;
    assert!(began.elapsed() < LIMIT * 3, "{:?}: {sample:?}", began.elapsed());
    assert!(!sample.text.contains('\n') && sample.text.len() < 700, "{sample:?}");
    sample
}

async fn get(address: SocketAddr, expect: &[&str]) -> Sample {
    ask(Target::Http(HttpTarget::parse(&format!("http://{address}/api/health")).unwrap()), expect).await
}

/// A port that was free a moment ago.
async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_healthy_answer_passes_with_its_phases() {
    let body = r#"{"status":"healthy","services":{"database":"healthy"}}"#;
    let address = answering(ok(body)).await;
    let sample = get(address, &["status=healthy", "services.database=healthy"]).await;
    assert!(sample.passed(), "{sample:?}");
    assert_eq!((sample.status, sample.address), (Some(200), Some(address)));
    assert!(sample.text.starts_with("GET /api/health 200 in "), "{}", sample.text);
    assert!(sample.timings.connect.is_some() && sample.timings.first_byte.is_some());
    assert_eq!((sample.timings.dns, sample.timings.tls), (None, None));
    assert!(sample.timings.total >= sample.timings.first_byte.unwrap());
}

#[tokio::test]
async fn refused_is_connect_and_names_the_url() {
    let address = free().await;
    let sample = get(address, &[]).await;
    assert_eq!(sample.failure, Some(Failure::Connect));
    assert_eq!(sample.text, format!("GET http://{address}/api/health: connection refused"));
}

#[tokio::test]
async fn a_name_without_an_address_is_dns() {
    let sample = ask(Target::Tcp(SocketTarget::parse("no-such-host.invalid:80").unwrap()), &[]).await;
    // Without a resolver at hand the lookup may also run into the limit.
    assert!(matches!(sample.failure, Some(Failure::Dns | Failure::Timeout)), "{sample:?}");
    assert!(sample.address.is_none());
}

#[tokio::test]
async fn a_status_is_a_status_and_redirects_are_not_followed() {
    let sample = get(answering("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await, &[]).await;
    assert_eq!((sample.failure, sample.status), (Some(Failure::Status), Some(503)));
    let elsewhere = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let sample = get(answering(elsewhere).await, &[]).await;
    assert_eq!(sample.failure, Some(Failure::Status));
    assert!(sample.text.contains("redirects are not followed"), "{}", sample.text);
}

#[tokio::test]
async fn a_failing_answer_still_says_which_field_differs() {
    let body = r#"{"status":"unhealthy","services":{"database":"unhealthy"}}"#;
    let answer = format!("HTTP/1.1 503 No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let sample = get(answering(answer).await, &["services.database=healthy"]).await;
    assert_eq!(sample.failure, Some(Failure::Status));
    assert!(sample.text.ends_with("services.database: expected healthy, got unhealthy"), "{}", sample.text);
}

#[tokio::test]
async fn a_wrong_body_is_body() {
    for (body, says) in [
        (r#"{"status":"degraded"}"#, "status: expected healthy, got degraded"),
        ("<html>", "body is not JSON"),
        ("{}", "status: expected healthy, there is none"),
        (&"x".repeat(65 * 1024), "longer than 64 KiB"),
    ] {
        let sample = get(answering(ok(body)).await, &["status=healthy"]).await;
        assert_eq!(sample.failure, Some(Failure::Body), "{sample:?}");
        assert!(sample.text.contains(says), "{}", sample.text);
    }
}

#[tokio::test]
async fn garbage_early_close_and_endless_heads_are_protocol() {
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}", "x: y\r\n".repeat(100_000));
    for answer in [
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec(),
        vec![0; 1 << 20],
        many_headers.into_bytes(),
        Vec::new(),
    ] {
        let sample = get(answering(answer).await, &[]).await;
        assert_eq!(sample.failure, Some(Failure::Protocol), "{sample:?}");
    }
}

#[tokio::test]
async fn silence_and_trickle_end_at_the_limit() {
    let silent = server(|mut stream| async move {
        head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let sample = get(silent, &[]).await;
    assert_eq!(sample.failure, Some(Failure::Timeout));
    assert!(sample.text.contains("no answer in 700 ms (waiting for the answer)"), "{}", sample.text);

    let trickling = server(|mut stream| async move {
        head(&mut stream).await;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    let sample = get(trickling, &[]).await;
    assert_eq!((sample.failure, sample.status), (Some(Failure::Timeout), Some(200)), "{sample:?}");
}

#[tokio::test]
async fn open_and_closed_ports_are_told_apart() {
    let open = answering("").await;
    let shut = free().await;
    let socket = |address: SocketAddr| SocketTarget::parse(&address.to_string()).unwrap();
    assert!(ask(Target::Tcp(socket(open)), &[]).await.passed());
    assert!(ask(Target::Closed(socket(shut)), &[]).await.passed());
    assert_eq!(ask(Target::Tcp(socket(shut)), &[]).await.failure, Some(Failure::Connect));
    assert_eq!(ask(Target::Closed(socket(open)), &[]).await.failure, Some(Failure::Connect));
}

#[tokio::test]
async fn link_local_addresses_are_never_probed() {
    let sample = ask(Target::Tcp(SocketTarget::parse("169.254.169.254:80").unwrap()), &[]).await;
    assert_eq!(sample.failure, Some(Failure::Connect));
    assert!(sample.text.contains("link-local"), "{}", sample.text);
}

#[tokio::test]
async fn a_database_that_is_none_is_protocol() {
    for answer in ["HTTP/1.1 400 Bad Request\r\n\r\n", "\u{ff}\u{ff}\u{ff}\u{7f}aaaaaaaaaaaaaaaaaaaaaaaa"] {
        let address = server(move |mut stream| async move {
            let mut request = [0; 16];
            let _ = stream.read_exact(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        })
        .await;
        let target = Target::Mongodb(SocketTarget::parse(&address.to_string()).unwrap());
        assert_eq!(ask(target, &[]).await.failure, Some(Failure::Protocol));
    }
}

#[tokio::test]
async fn tls_trusts_what_it_was_given_and_nothing_else() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
            )
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut session) = acceptor.accept(stream).await {
                let mut request = [0; 1024];
                let _ = session.read(&mut request).await;
                let _ = session.write_all(ok("{}").as_bytes()).await;
                let _ = session.shutdown().await;
            }
        }
    })
    .await;
    let ask = async |host: &str, roots: &Roots| {
        let url = format!("https://{host}:{}/", address.port());
        let target = Target::Http(HttpTarget::parse(&url).unwrap());
        ops_probe::run(&Probe { target, timeout: Duration::from_secs(5), expect: Vec::new() }, roots).await
    };
    let given = Roots::from_pem(key.cert.pem().as_bytes()).unwrap();
    let sample = ask("localhost", &given).await;
    assert!(sample.passed(), "{sample:?}");
    assert!(sample.timings.tls.is_some() && sample.certificate_days.unwrap() > 1000);
    // Another name, and other roots: both are TLS, and both say so.
    assert_eq!(ask("127.0.0.1", &given).await.failure, Some(Failure::Tls));
    assert_eq!(ask("localhost", &Roots::system()).await.failure, Some(Failure::Tls));
    assert!(Roots::from_pem(b"nothing").is_err());
}

#[tokio::test]
async fn plain_text_on_a_tls_port_is_tls() {
    let address = answering("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let pem = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    let target = Target::Http(HttpTarget::parse(&format!("https://{address}/")).unwrap());
    let probe = Probe { target, timeout: LIMIT, expect: Vec::new() };
    let sample = ops_probe::run(&probe, &Roots::from_pem(pem.as_bytes()).unwrap()).await;
    // The head is awaited in TLS's own hello, so the server says nothing: either is true of such a port.
    assert!(matches!(sample.failure, Some(Failure::Tls | Failure::Timeout)), "{sample:?}");
}
