//! Every way to come with a bad credential, and the answer to it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Method;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use ops_proto::Rpc;
use ops_trust::ca::CaFolder;
use ops_trust::key::SigningKey;
use ops_trust::tls::Alpn;
use ops_trust::token::{Claims, Confirmation, Signer};
use serde_json::json;

use crate::in_process::{self, Agent, Answer, PATIENCE, ROOMY};

const WHO: &str = "/ops.v1.AccessService/WhoAmI";

async fn refused(agent: &Agent, token: &str) -> Answer {
    let answer = agent.caller(None, Some(token.to_owned())).grpc(WHO, &[], &[]).await;
    assert_eq!(answer.grpc, 16, "{token:.80}: {answer:?}");
    let rest = agent.caller(None, Some(token.to_owned())).rest(Method::GET, "/v1/whoami", "").await;
    assert_eq!((rest.http, &rest.reason), (401, &answer.reason));
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_and_foreign_tokens_are_refused() {
    let agent = Agent::start(&[("user/alice", "operator", &[])], ROOMY).await;
    let good = agent.claims("user/alice");
    let sign = |claims: &Claims| agent.signer().sign(claims).unwrap();
    assert_eq!(agent.caller(None, Some(sign(&good))).grpc(WHO, &[], &[]).await.grpc, 0);

    let foreign = Signer::new(SigningKey::generate().unwrap()).sign(&good).unwrap();
    let now = Timestamp::now();
    let at = |seconds: i64| Claims {
        iat: now.as_second() + seconds,
        nbf: now.as_second() + seconds,
        ..good.clone()
    };
    let mut cases = vec![
        ("another key", foreign),
        ("another audience", sign(&Claims { aud: "agent/other".to_owned(), ..good.clone() })),
        ("another issuer", sign(&Claims { iss: "agent/other".to_owned(), ..good.clone() })),
        ("not yet", sign(&Claims { exp: now.as_second() + 400, ..at(100) })),
        ("an agent's subject", sign(&Claims { sub: "agent/test".parse().unwrap(), ..good.clone() })),
        ("cut", sign(&good).chars().take(80).collect()),
        ("long", "x".repeat(9_000)),
        ("nothing", "..".to_owned()),
    ];
    // The right claims under headers that are not ours.
    let token = sign(&good);
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let kid = agent.signer().kid().to_owned();
    for (name, head) in [
        ("alg none", json!({ "alg": "none", "typ": "ops+jwt", "kid": kid })),
        ("alg HS256", json!({ "alg": "HS256", "typ": "ops+jwt", "kid": kid })),
        ("another typ", json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid })),
        ("a jwk of its own", json!({ "alg": "EdDSA", "typ": "ops+jwt", "kid": kid, "jwk": {} })),
        ("a path as kid", json!({ "alg": "EdDSA", "typ": "ops+jwt", "kid": "../../token.key" })),
    ] {
        cases.push((name, format!("{}.{claims}.{signature}", BASE64.encode(head.to_string()))));
    }
    let more = String::from_utf8(BASE64.decode(claims).unwrap()).unwrap().replace("alice", "admin");
    cases.push(("changed claims", format!("{header}.{}.{signature}", BASE64.encode(more))));
    cases.push(("no signature", format!("{header}.{claims}.")));
    for (name, token) in cases {
        assert_eq!(refused(&agent, &token).await.reason, "CREDENTIAL_INVALID", "{name}");
    }
    let expired =
        Claims { exp: now.as_second() - 31, iat: now.as_second() - 90, nbf: now.as_second() - 90, ..good };
    assert_eq!(refused(&agent, &sign(&expired)).await.reason, "CREDENTIAL_EXPIRED");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authorization_header_is_one_bearer_token_or_nothing() {
    let agent = Agent::start(&[("user/alice", "operator", &[])], ROOMY).await;
    let caller = agent.caller(None, None);
    let good = format!("Bearer {}", agent.token("user/alice"));
    for bad in ["", "bearer", "Bearer ", "Basic YTpi", "Bearer a b", good.trim_start_matches("Bearer ")] {
        let answer = caller.grpc(WHO, &[], &[("authorization", bad)]).await;
        assert_eq!((answer.grpc, answer.reason.as_str()), (16, "CREDENTIAL_INVALID"), "{bad:?}");
    }
    // The first good, the last good: neither wins.
    for pair in [[good.as_str(), "Bearer x"], ["Bearer x", good.as_str()], [good.as_str(), good.as_str()]] {
        let headers = pair.map(|value| ("authorization", value));
        let answer = caller.grpc(WHO, &[], &headers).await;
        assert_eq!((answer.grpc, answer.reason.as_str()), (16, "CREDENTIAL_INVALID"));
        assert_eq!(
            caller.http1(Method::GET, "/v1/whoami", &headers, Default::default()).await.unwrap().http,
            401
        );
    }
    assert_eq!(caller.grpc(WHO, &[], &[("authorization", good.as_str())]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_not_ours_do_not_get_through_the_handshake() {
    let agent = Agent::start(&[("user/alice", "operator", &[])], ROOMY).await;
    let other = tempfile::tempdir().unwrap();
    let rogue = CaFolder::create(&other.path().join("ca"), Timestamp::now()).unwrap();
    let day = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    for (name, identity) in [
        ("foreign CA", in_process::identity(&rogue, "user/alice", Timestamp::now(), 1)),
        ("expired", agent.identity_at("user/alice", day(-3), 1)),
        ("not yet valid", agent.identity_at("user/alice", day(2), 1)),
    ] {
        let caller = agent.caller(Some(identity), None);
        assert!(caller.try_grpc(WHO, &[], &[]).await.is_err(), "{name}");
    }
    assert_eq!(agent.as_user("user/alice").grpc(WHO, &[], &[]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_while_connected_ends_calls_and_streams() {
    let agent = Agent::start(&[("user/alice", "viewer", &[])], ROOMY).await;
    // Two seconds are left of its one day.
    let soon = Timestamp::now() - SignedDuration::from_hours(24) + SignedDuration::from_secs(2);
    let caller = agent.caller(Some(agent.identity_at("user/alice", soon, 1)), None);
    let stream = TokioIo::new(caller.tls(Alpn::H2).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| {
        http::Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .body(http_body_util::Full::new(bytes::Bytes::from_static(&[0; 5])))
            .unwrap()
    };
    let watched = sender.send_request(request("/grpc.health.v1.Health/Watch")).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, watched.into_body().collect()).await.unwrap().unwrap();
    let trailers = ended.trailers().cloned().unwrap();
    assert_eq!(trailers["grpc-status"], "16", "{trailers:?}");
    let again = sender.send_request(request(WHO)).await.unwrap();
    assert_eq!(again.headers()["grpc-status"], "16");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_and_token_must_agree() {
    let bindings: [(&str, &str, &[&str]); 2] = [("user/alice", "operator", &[]), ("user/bob", "viewer", &[])];
    let agent = Agent::start(&bindings, ROOMY).await;
    let both = agent.caller(Some(agent.identity("user/alice")), Some(agent.token("user/alice")));
    let answer = both.rest(Method::GET, "/v1/whoami", "").await;
    assert_eq!(answer.json()["credential"], "both");
    let mixed = agent.caller(Some(agent.identity("user/bob")), Some(agent.token("user/alice")));
    let answer = mixed.grpc(WHO, &[], &[]).await;
    assert_eq!((answer.grpc, answer.reason.as_str()), (16, "BINDING_MISMATCH"));
    // A token bound to a certificate is worth nothing without it, and with another of the same subject.
    let mut claims = agent.claims("user/alice");
    claims.cnf = Some(Confirmation { x5t_s256: BASE64.encode([7; 32]) });
    let bound = agent.signer().sign(&claims).unwrap();
    assert_eq!(refused(&agent, &bound).await.reason, "BINDING_MISMATCH");
    let stolen = agent.caller(Some(agent.identity("user/alice")), Some(bound));
    assert_eq!(stolen.grpc(WHO, &[], &[]).await.reason, "BINDING_MISMATCH");
    let written = || std::fs::read_to_string(agent.trail()).unwrap().contains("BINDING_MISMATCH");
    tokio::time::timeout(PATIENCE, async {
        while !written() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_minted_with_a_certificate_for_oneself_and_never_by_a_token() {
    let bindings: [(&str, &str, &[&str]); 2] =
        [("user/alice", "operator", &[]), ("service/ci", "deployer", &["backend"])];
    let agent = Agent::start(&bindings, ROOMY).await;
    let alice = agent.as_user("user/alice");
    let made = alice.rest(Method::POST, "/v1/tokens", r#"{"ttl_ms": 60000}"#).await;
    assert_eq!(made.http, 200, "{made:?}");
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let with_token = agent.caller(None, Some(token.clone()));
    assert_eq!(with_token.rest(Method::GET, "/v1/whoami", "").await.json()["subject"], "user/alice");
    let again = with_token.rest(Method::POST, "/v1/tokens", "").await;
    assert_eq!((again.http, again.reason.as_str()), (403, "CERTIFICATE_REQUIRED"));

    let other = r#"{"for_subject": "service/ci"}"#;
    assert_eq!(alice.rest(Method::POST, "/v1/tokens", other).await.http, 403);
    let admin = agent.as_user("user/admin");
    let for_ci = admin.rest(Method::POST, "/v1/tokens", other).await;
    assert_eq!(for_ci.json()["subject"], "service/ci");
    for (body, says) in [
        (r#"{"ttl_ms": 3600001}"#, "1 to 60 minutes"),
        (r#"{"ttl_ms": 1}"#, "1 to 60 minutes"),
        (r#"{"permissions": ["service.restart", "no.such"]}"#, "there is no permission"),
        (r#"{"for_subject": "user/nobody"}"#, "has no roles in the policy"),
        (r#"{"for_subject": "root"}"#, "has no roles in the policy"),
        (r#"{"for_subject": "x/y"}"#, "a subject is"),
        (r#"{"ttl": 5}"#, "unknown field"),
        (r#"{"ttl_ms": 60000, "ttl_ms": 60001}"#, "duplicate field"),
        (r#"{"ttl_ms": -1}"#, "invalid value"),
        (r#"{"ttl_ms": 60000} x"#, "trailing characters"),
        ("\u{feff}{}", "expected value"),
    ] {
        let answer = admin.rest(Method::POST, "/v1/tokens", body).await;
        assert_eq!((answer.http, answer.reason.as_str()), (400, "INVALID_ARGUMENT"), "{body}: {answer:?}");
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{body}: {message}");
    }
    let more = alice.rest(Method::POST, "/v1/tokens", r#"{"permissions": ["agent.reload"]}"#).await;
    assert!(more.http == 400 && more.json()["message"].as_str().unwrap().contains("has not the permission"));
    let narrow = r#"{"permissions": ["status"]}"#;
    let narrow =
        alice.rest(Method::POST, "/v1/tokens", narrow).await.json()["token"].as_str().unwrap().to_owned();
    let narrowed = agent.caller(None, Some(narrow));
    assert_eq!(narrowed.rest(Method::GET, "/v1/agent", "").await.http, 200);
    assert_eq!(narrowed.rest(Method::GET, "/v1/whoami", "").await.http, 403);
    let trail = std::fs::read_to_string(agent.trail()).unwrap();
    assert!(!trail.contains(&token), "a token is never written down");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_bad_tokens_is_slowed_and_a_certificate_still_gets_in() {
    let agent = Agent::start(&[("user/alice", "operator", &[])], "").await;
    let bad = agent.caller(None, Some("a.b.c".to_owned()));
    let mut answers = Vec::new();
    for _ in 0..14 {
        answers.push(bad.grpc(WHO, &[], &[]).await);
    }
    let codes: Vec<i32> = answers.iter().map(|answer| answer.grpc).collect();
    assert_eq!(codes, [[16].repeat(10), [8].repeat(4)].concat());
    let wait: u64 = answers[13].headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(agent.as_user("user/alice").grpc(WHO, &[], &[]).await.grpc, 0);
    let good = agent.caller(None, Some(agent.token("user/alice")));
    assert_eq!(good.grpc(Rpc::WhoAmI.path(), &[], &[]).await.grpc, 0);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_calls_of_one_identity_are_turned_away_and_others_are_not() {
    let limits = "[limits]\nreads_per_second = 3\nchanges_per_minute = 2\n";
    let agent = Agent::start(&[("user/alice", "operator", &[]), ("user/bob", "operator", &[])], limits).await;
    let alice = agent.as_user("user/alice");
    let began = std::time::Instant::now();
    let mut turned_away = None;
    while turned_away.is_none() && began.elapsed() < Duration::from_secs(20) {
        let calls = (0..8).map(|_| alice.grpc(WHO, &[], &[]));
        turned_away = futures_util::future::join_all(calls).await.into_iter().find(|answer| answer.grpc == 8);
    }
    let answer = turned_away.unwrap();
    assert_eq!(answer.reason, "OVERLOADED");
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(agent.as_user("user/bob").grpc(WHO, &[], &[]).await.grpc, 0);
    let changes = [200, 200, 429];
    for expected in changes {
        assert_eq!(alice.rest(Method::POST, "/v1/tokens", "").await.http, expected);
    }
    agent.stop().await;
}
