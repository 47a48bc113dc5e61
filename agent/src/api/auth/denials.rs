//! What was refused, written down: the first of its kind at once, the storm behind it as a count.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use ops_domain::access::Principal;
use ops_domain::ports::{AuditEntry, AuditLog};
use ops_domain::{Error, Reason, audit};
use prost::Message as _;
use serde_json::json;

use super::policy::Audit;
use crate::api::listener::Connection;

/// Further ones within this time are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds that are counted apart; the rest shares one line.
const KINDS: usize = 1_024;

pub(super) struct Denials {
    log: Arc<dyn AuditLog>,
    counted: Mutex<HashMap<String, u64>>,
}

impl Denials {
    pub(super) fn new(log: Arc<dyn AuditLog>) -> Arc<Self> {
        Arc::new(Self { log, counted: Mutex::default() })
    }

    /// An authenticated caller may not. Changes and raw reads go into the trail, other reads into the ring.
    pub(super) fn denied(self: &Arc<Self>, principal: &Principal, route: &str, error: &Error, kind: Audit) {
        let entry = AuditEntry {
            stage: "denied".to_owned(),
            route: route.to_owned(),
            rule: fact(error, "permission"),
            decision: "denied".to_owned(),
            target: error.target.clone(),
            outcome: error.reason.name().to_owned(),
            ..audit::entry(principal)
        };
        let key = format!("{} {route}", principal.subject);
        self.write(key, entry, matches!(kind, Audit::Mutation | Audit::Raw));
    }

    /// A caller whose credential was refused. Two identities that do not agree are more than a mistake.
    pub(super) fn unauthenticated(
        self: &Arc<Self>,
        connection: &Connection,
        request_id: &str,
        error: &Error,
    ) {
        let certificate = connection.certificate.as_deref();
        let entry = AuditEntry {
            stage: "denied".to_owned(),
            subject: certificate.map(|peer| peer.subject.to_string()).unwrap_or_default(),
            route: "authentication".to_owned(),
            decision: "denied".to_owned(),
            params: json!({ "why": error.message, "token": fact(error, "token") }),
            outcome: error.reason.name().to_owned(),
            request_id: request_id.to_owned(),
            peer: connection.peer.to_string(),
            certificate_sha256: certificate.map(|peer| peer.cert_sha256_hex()).unwrap_or_default(),
            ..AuditEntry::default()
        };
        tracing::info!(peer = %connection.peer, reason = %error.reason, why = %error.message, "refused a credential");
        let key = format!("{} {}", connection.peer.ip(), error.reason);
        self.write(key, entry, error.reason == Reason::BindingMismatch);
    }

    fn write(self: &Arc<Self>, mut key: String, entry: AuditEntry, in_trail: bool) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.len() >= KINDS && !counted.contains_key(&key) {
            "others".clone_into(&mut key);
        }
        if let Some(count) = counted.get_mut(&key) {
            *count += 1;
            return;
        }
        counted.insert(key.clone(), 0);
        drop(counted);
        let denials = Arc::clone(self);
        tokio::spawn(async move {
            if in_trail {
                if let Err(error) = denials.log.append(entry.clone()).await {
                    tracing::error!(%error, "a denial could not be written down");
                }
            } else {
                denials.log.note(entry.clone());
            }
            tokio::time::sleep(WINDOW).await;
            let more =
                denials.counted.lock().unwrap_or_else(PoisonError::into_inner).remove(&key).unwrap_or(0);
            if more > 0 {
                denials.log.note(AuditEntry { params: json!({ "more_within_10s": more }), ..entry });
            }
        });
    }
}

/// What a handler refused, read from its answer: the check of the target comes after this layer's own.
pub(super) fn denial(response: &Response) -> Option<Error> {
    let grpc = response.headers().get("grpc-status").is_some_and(|value| value == "7");
    if !grpc && response.status() != StatusCode::FORBIDDEN {
        return None;
    }
    let status = tonic::Status::from_header_map(response.headers());
    let problem = status.and_then(|status| {
        let status = tonic_types::Status::decode(status.details()).ok()?;
        let any = status.details.into_iter().find(|any| any.type_url.ends_with("ops.v1.Problem"))?;
        ops_proto::v1::Problem::decode(any.value.as_slice()).ok()
    });
    let mut error = Error::new(Reason::PermissionDenied, "denied");
    if let Some(problem) = problem {
        error.target = problem.target;
        if let Some(fact) = problem.evidence.into_iter().find(|fact| fact.name == "permission") {
            error = error.fact("permission", fact.text);
        }
    }
    Some(error)
}

/// A word for how it went.
pub(super) fn outcome(response: &Response) -> String {
    match response.headers().get("grpc-status").and_then(|value| value.to_str().ok()) {
        Some("0") => "OK".to_owned(),
        Some(code) => format!("grpc {code}"),
        None if response.status().is_success() => "OK".to_owned(),
        None => format!("http {}", response.status().as_u16()),
    }
}

fn fact(error: &Error, name: &str) -> String {
    error.evidence.iter().find(|fact| fact.name == name).map(|fact| fact.text.clone()).unwrap_or_default()
}
