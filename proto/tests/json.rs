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
