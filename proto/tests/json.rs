//! Documents are what the schema promises.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use ops_proto::{json, v1};

#[test]
fn a_document_has_kind_version_names_and_times() {
    let operation = v1::Operation {
        id: "op-1".into(),
        operation: "service.restart".into(),
        state: v1::OperationState::NeedsHuman.into(),
        created_at: Some(prost_types::Timestamp { seconds: 1_795_000_000, nanos: 5_000_000 }),
        problem: Some(v1::Problem { reason: v1::ErrorReason::StartFatal.into(), ..Default::default() }),
        ..Default::default()
    };
    let document = json::document("operation", &operation);
    assert_eq!(document["kind"], "operation");
    assert_eq!(document["version"], "v1");
    assert_eq!(document["state"], "needs_human");
    assert_eq!(document["created_at"], "2026-11-18T11:06:40.005Z");
    assert_eq!(document["problem"]["reason"], "START_FATAL");
    assert_eq!(document["targets"], serde_json::json!([]));
    assert!(document.get("finished_at").is_none());
}

#[test]
fn a_log_is_json_lines_with_control_frames() {
    let line = |text: &[u8]| v1::LogLine {
        service: "backend".into(),
        stream: v1::LogStream::Err.into(),
        text: text.to_vec(),
        offset: 7,
        ..Default::default()
    };
    let message = v1::TailLogResponse {
        lines: vec![line(b"\x1b[31mred"), line(b"\xff")],
        notice: Some(v1::LogNotice { kind: v1::LogNoticeKind::Gap.into(), bytes: 9, ..Default::default() }),
        cursor: "abc".into(),
    };
    let documents = ops_proto::log::documents(&message);
    assert_eq!(documents.len(), 3);
    assert_eq!((&documents[0]["kind"], &documents[0]["stream"]), (&"log_line".into(), &"err".into()));
    assert_eq!(documents[0]["text"], "\u{1b}[31mred");
    assert!(documents[0].get("cursor").is_none() && documents[0].get("text_base64").is_none());
    assert_eq!(documents[1]["text_base64"], "/w==");
    assert_eq!((&documents[2]["kind"], &documents[2]["bytes"]), (&"gap".into(), &9.into()));
    assert_eq!(documents[2]["cursor"], "abc");
}
