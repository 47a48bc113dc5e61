//! The audit trail through its doors: before any effect, verifiable, and nothing changes without it.

use std::fs;
use std::time::Instant;

use http::Method;
use ops_proto::v1;
use ops_trust::audit::{Line, Stage, Verifier};
use prost::Message as _;

use crate::in_process::{Agent, Answer, PATIENCE, ROOMY};

const RELOAD: &str = "/v1/agent/reload";

/// The bytes that `ReadAudit` streams.
fn lines(answer: &Answer) -> Vec<u8> {
    let mut bytes = answer.body.clone();
    let mut lines = Vec::new();
    while bytes.len() > 5 {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        lines.extend(v1::ReadAuditResponse::decode(&bytes[5..5 + length]).unwrap().lines);
        bytes = bytes.split_off(5 + length);
    }
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_and_denials_are_in_a_trail_that_verifies() {
    let agent = Agent::start(&[("user/viewer", "viewer", &[])], ROOMY).await;
    let admin = agent.as_user("user/admin");
    assert_eq!(agent.as_user("user/viewer").rest(Method::POST, RELOAD, "").await.http, 403);
    let done = admin.rest(Method::POST, RELOAD, r#"{"reason": "new hire\u001b[31m"}"#).await;
    assert_eq!(done.http, 200);
    let id = done.headers["x-request-id"].to_str().unwrap().to_owned();
    let began = Instant::now();
    let bytes = loop {
        let read = lines(&admin.grpc("/ops.v1.AuditService/ReadAudit", &[], &[]).await);
        if read.windows(12).any(|window| window == b"\"checkpoint\"") {
            break read;
        }
        assert!(began.elapsed() < PATIENCE, "no checkpoint came");
    };
    let root = agent.app.agent.info().await.unwrap().audit_root.parse().unwrap();
    let mut verifier = Verifier::new(Some(root));
    verifier.read(bytes.as_slice()).unwrap().unwrap();
    assert!(verifier.finish().unwrap().checkpoints >= 1);
    assert!(!bytes.contains(&0x1b), "escape sequences are made harmless");
    let records: Vec<Line> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| Line::parse(line).unwrap())
        .collect();
    let of = |stage| records.iter().filter(move |line| line.record.stage == stage);
    let denied = of(Stage::Denied).next().unwrap();
    assert_eq!(denied.record.sub.as_deref(), Some("user/viewer"));
    assert_eq!(denied.record.rule.as_deref(), Some("agent.reload"));
    let intent = of(Stage::Intent).find(|line| line.record.req_id.as_deref() == Some(&id)).unwrap();
    let result = of(Stage::Result).find(|line| line.record.req_id.as_deref() == Some(&id)).unwrap();
    assert!(intent.seq < result.seq);
    assert_eq!(result.record.code.as_deref(), Some("OK"));
    assert!(intent.record.peer_addr.as_deref().unwrap().starts_with("127.0.0.1:"));
    let listed = admin.rest(Method::GET, "/v1/audit?limit=3", "").await.json();
    assert_eq!(listed["records"].as_array().unwrap().len(), 3);
    assert_eq!(admin.rest(Method::GET, "/v1/audit?limit=10001", "").await.http, 400);
    assert_eq!(admin.rest(Method::GET, "/v1/audit?nonsense=1", "").await.http, 400);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_denials_is_one_line_and_a_count() {
    let agent = Agent::start(&[("user/viewer", "viewer", &[])], ROOMY).await;
    let viewer = agent.as_user("user/viewer");
    for _ in 0..20 {
        assert_eq!(viewer.rest(Method::POST, RELOAD, "").await.http, 403);
    }
    let began = Instant::now();
    let count = || fs::read_to_string(agent.trail()).unwrap().matches("\"denied\"").count();
    while count() == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    // One line says `denied` twice: as its stage and as its decision.
    assert!(count() <= 4, "{} in the trail", count());
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_it_cannot_be_written_nothing_is_changed_and_reads_go_on() {
    let agent = Agent::start(&[], ROOMY).await;
    let admin = agent.as_user("user/admin");
    let policy = agent.etc().join("policy.toml");
    crate::in_process::bind(&policy, "user/alice", "viewer", &[]);
    let away = agent.trail().with_extension("away");
    fs::rename(agent.trail(), &away).unwrap();
    fs::create_dir(agent.trail()).unwrap();
    let refused = admin.rest(Method::POST, RELOAD, "").await;
    assert_eq!((refused.http, refused.reason.as_str()), (503, "AUDIT_UNAVAILABLE"));
    assert_eq!(refused.json()["effect"], "nothing was done");
    assert_eq!(agent.app.policy.current().generation, 1, "the policy was applied all the same");
    let token = admin.grpc("/ops.v1.AccessService/CreateToken", &[], &[]).await;
    assert_eq!((token.grpc, token.reason.as_str()), (14, "AUDIT_UNAVAILABLE"));
    // Reading the trail is written down too, or not done; other reads go on.
    assert_eq!(admin.rest(Method::GET, "/v1/audit", "").await.http, 503);
    let info = admin.rest(Method::GET, "/v1/agent", "").await.json();
    assert_eq!(info["audit_writable"], false);
    fs::remove_dir(agent.trail()).unwrap();
    fs::rename(&away, agent.trail()).unwrap();
    assert_eq!(admin.rest(Method::POST, RELOAD, "").await.http, 200);
    assert_eq!(agent.app.policy.current().generation, 2);
    agent.stop().await;
}
