//! What the port does with clients that are silent, slow, too many or too large.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use ops_proto::v1;
use ops_trust::tls::Alpn;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::in_process::{Agent, PATIENCE, ROOMY};

const WHO: &str = "/ops.v1.AccessService/WhoAmI";

/// Until the agent closes; what it still said.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset is an end too.
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    assert!(read.is_ok(), "the agent never closed");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_clients_are_closed() {
    let limits =
        format!("{ROOMY}handshake = \"200ms\"\nfirst_request = \"400ms\"\nheader_read = \"300ms\"\n");
    let agent = Agent::start(&[], &limits).await;
    let admin = agent.as_user("user/admin");
    // No handshake at all, and half of one.
    closed(TcpStream::connect(agent.address).await.unwrap()).await;
    let mut half = TcpStream::connect(agent.address).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    closed(half).await;
    // A handshake, and then nothing; or only the preface of HTTP/2; or half of a head.
    for alpn in [Alpn::H2, Alpn::Http11] {
        closed(admin.tls(alpn).await.unwrap()).await;
    }
    let mut preface = admin.tls(Alpn::H2).await.unwrap();
    preface.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    closed(preface).await;
    let mut head = admin.tls(Alpn::Http11).await.unwrap();
    head.write_all(b"GET /healthz HTTP/1.1\r\nHost: loc").await.unwrap();
    closed(head).await;
    assert_eq!(admin.grpc(WHO, &[], &[]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_tls_1_3_with_a_known_protocol_is_refused() {
    let agent = Agent::start(&[], ROOMY).await;
    for said in [
        &b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0; 64],
    ] {
        let mut stream = TcpStream::connect(agent.address).await.unwrap();
        stream.write_all(said).await.unwrap();
        let answer = closed(stream).await;
        assert!(!answer.windows(4).any(|window| window == b"HTTP"), "{answer:?}");
    }
    let admin = agent.as_user("user/admin");
    assert_eq!(admin.grpc(WHO, &[], &[]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_end_and_busy_ones_do_not() {
    let agent = Agent::start(&[], &format!("{ROOMY}idle = \"300ms\"\n")).await;
    let admin = agent.as_user("user/admin");
    let mut connection = admin.tls(Alpn::Http11).await.unwrap();
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let said = closed(connection).await;
    assert!(said.starts_with(b"HTTP/1.1 200"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_have_limits_and_give_their_places_back() {
    let limits = "[limits]\nconnections_per_address = 3\n";
    let agent = Agent::start(&[], limits).await;
    let admin = agent.as_user("user/admin");
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(admin.tls(Alpn::H2).await.unwrap());
    }
    assert!(admin.tls(Alpn::H2).await.is_err(), "a fourth connection was let in");
    held.clear();
    let began = Instant::now();
    while admin.tls(Alpn::H2).await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_messages_have_a_size() {
    let limits = format!("{ROOMY}body_read = \"300ms\"\n");
    let agent = Agent::start(&[], &limits).await;
    let admin = agent.as_user("user/admin");
    let json = [("content-type", "application/json")];
    let large = Bytes::from(vec![b' '; 1024 * 1024 + 1]);
    let answer = admin.http1(Method::POST, "/v1/tokens", &json, large).await;
    // The agent answers before it has read all, so a client that still writes may see the connection end instead.
    assert!(answer.is_err() || answer.unwrap().http == 413);
    let mut slow = admin.tls(Alpn::Http11).await.unwrap();
    let head = "POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; 12];
    tokio::time::timeout(PATIENCE, slow.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, b"HTTP/1.1 408");
    let message = v1::CreateTokenRequest { for_subject: "x".repeat(1024 * 1024 + 1), ..Default::default() };
    let answer = admin.grpc("/ops.v1.AccessService/CreateToken", &message.encode_to_vec(), &[]).await;
    assert!([8, 11].contains(&answer.grpc), "{answer:?}");
    // A length that is not there costs nothing and is refused.
    for length in [u32::MAX, 64 * 1024 * 1024] {
        let mut framed = vec![0];
        framed.extend(length.to_be_bytes());
        framed.extend([0; 5]);
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let answer = admin
            .http2(Method::POST, "/ops.v1.AccessService/CreateToken", &headers, framed.into())
            .await
            .unwrap();
        assert!([8, 11].contains(&answer.grpc), "{answer:?}");
    }
    for broken in [&[0xff_u8][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x12, 2, 0xc3, 0x28]] {
        let answer = admin.grpc("/ops.v1.AccessService/CreateToken", broken, &[]).await;
        assert!([3, 13].contains(&answer.grpc), "{answer:?}");
    }
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("x-{n}"), "y".repeat(300))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = admin.http1(Method::GET, "/v1/whoami", &many, Bytes::new()).await;
    assert!(answer.is_err() || answer.unwrap().http == 431);
    assert_eq!(admin.grpc(WHO, &[], &[]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_call_and_not_what_it_began() {
    let agent = Agent::start(&[], ROOMY).await;
    let admin = agent.as_user("user/admin");
    for bad in ["S", "1", "-1S", "123456789S", "soon"] {
        assert_eq!(admin.grpc(WHO, &[], &[("grpc-timeout", bad)]).await.grpc, 3, "{bad}");
    }
    let answer = admin.grpc("/ops.v1.AccessService/CreateToken", &[], &[("grpc-timeout", "1n")]).await;
    assert_eq!((answer.grpc, answer.reason.as_str()), (4, "DEADLINE_EXCEEDED"));
    let began = Instant::now();
    // The time may have been over before anything had begun; what was begun is ended.
    let finished = || {
        let trail = std::fs::read_to_string(agent.trail()).unwrap();
        let lines = |stage: &str| trail.matches(&format!("\"stage\":\"{stage}\"")).count();
        lines("intent") == lines("result")
    };
    while !finished() {
        assert!(began.elapsed() < PATIENCE, "the change was written down as begun and never as ended");
        tokio::task::yield_now().await;
    }
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_ours_is_not_answered() {
    let agent =
        Agent::start_with(&[], |config| config.replace("[listen]\n", "[listen]\nhosts = [\"localhost\"]\n"))
            .await;
    let admin = agent.as_user("user/admin");
    assert_eq!(admin.rest(Method::GET, "/v1/whoami", "").await.http, 200);
    let mut stream = admin.tls(Alpn::Http11).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(closed(stream).await.starts_with(b"HTTP/1.1 421"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_an_age_and_its_streams_end_well() {
    let limits = format!("{ROOMY}connection_age = \"200ms\"\nconnection_grace = \"200ms\"\n");
    let agent = Agent::start(&[], &limits).await;
    let answer = agent.as_user("user/admin").grpc("/grpc.health.v1.Health/Watch", &[], &[]).await;
    assert_eq!((answer.grpc, answer.reason.as_str()), (14, "SHUTTING_DOWN"), "{answer:?}");
    agent.stop().await;
}
