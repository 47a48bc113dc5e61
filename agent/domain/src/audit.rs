//! Writing down what is done: intent on disk before any effect, result after it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde_json::Value;

use crate::access::{Authorized, Permission, Principal, Scope, authorize};
use crate::error::{Error, Reason, Result};
use crate::ports::{AuditEntry, AuditLine, AuditLog, AuditQuery, AuditTrail};

/// A change that is not an operation: it is done within its call.
#[derive(Clone, Debug)]
pub struct Change {
    /// `ops.v1.AgentService/ReloadAgent`.
    pub route: String,
    /// What it is about.
    pub target: String,
    /// Parameters, without secrets.
    pub params: Value,
    /// Why, as the caller said.
    pub reason: String,
}

/// Intent → effect → result. The effect begins only once the intent is on disk, and goes on to its result even when the
/// caller has gone.
///
/// # Errors
/// `AUDIT_UNAVAILABLE`, and then nothing was done; else what the effect answers.
pub async fn change<T, E>(
    log: &Arc<dyn AuditLog>,
    authorized: &Authorized,
    change: Change,
    effect: E,
) -> Result<T>
where
    T: Send + 'static,
    E: Future<Output = Result<T>> + Send + 'static,
{
    let log = Arc::clone(log);
    let mut entry = entry(authorized.principal());
    entry.rule = authorized.permission().name().to_owned();
    entry.decision = "allowed".to_owned();
    (entry.route, entry.target, entry.params, entry.reason) =
        (change.route, change.target, change.params, change.reason);
    let run = tokio::spawn(async move {
        log.append(AuditEntry { stage: "intent".to_owned(), ..entry.clone() }).await?;
        let outcome = effect.await;
        let word = match &outcome {
            Ok(_) => "OK",
            Err(error) => error.reason.name(),
        };
        let result = AuditEntry { stage: "result".to_owned(), outcome: word.to_owned(), ..entry };
        if let Err(error) = log.append(result).await {
            // The change stands; the log freezes every later one until this line is written.
            tracing::error!(%error, "a change was made and its result could not be written down");
        }
        outcome
    });
    run.await.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the change ended without an answer")))
}

/// An entry with everything that is known of the caller.
#[must_use]
pub fn entry(principal: &Principal) -> AuditEntry {
    AuditEntry {
        subject: principal.subject.to_string(),
        roles: principal.binding.roles.iter().map(|role| role.name().to_owned()).collect(),
        request_id: principal.request_id.clone(),
        peer: principal.peer.clone(),
        certificate_sha256: principal.certificate_sha256.clone(),
        ..AuditEntry::default()
    }
}

/// The most lines of one listing.
pub const LIST_MAX: usize = 10_000;

/// Reading the trail. Each reading is itself written down, and refused when it cannot be.
pub struct Audit {
    log: Arc<dyn AuditLog>,
    trail: Arc<dyn AuditTrail>,
}

impl Audit {
    /// With what it needs.
    #[must_use]
    pub fn new(log: Arc<dyn AuditLog>, trail: Arc<dyn AuditTrail>) -> Self {
        Self { log, trail }
    }

    /// Newest first.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `CERTIFICATE_REQUIRED`, `AUDIT_UNAVAILABLE`, `STATE_UNAVAILABLE`; `INVALID_ARGUMENT` above
    /// [`LIST_MAX`].
    pub async fn list(
        &self,
        principal: &Principal,
        route: &str,
        query: AuditQuery,
    ) -> Result<Vec<AuditLine>> {
        if query.limit > LIST_MAX {
            return Err(Error::new(Reason::InvalidArgument, format!("limit is 1 to {LIST_MAX}")));
        }
        self.allow(principal, route).await?;
        self.trail.list(query).await
    }

    /// The exact bytes.
    ///
    /// # Errors
    /// As [`Audit::list`].
    pub async fn read(
        &self,
        principal: &Principal,
        route: &str,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        self.allow(principal, route).await?;
        self.trail.read().await
    }

    async fn allow(&self, principal: &Principal, route: &str) -> Result<()> {
        let authorized = authorize(principal, Permission::AuditRead, Scope::None)?;
        read(&self.log, &authorized, route, "audit trail").await
    }
}

/// Writes down a read that may only happen when it is written down: raw logs, the audit trail.
///
/// # Errors
/// `AUDIT_UNAVAILABLE`: nothing may be shown.
pub async fn read(log: &Arc<dyn AuditLog>, authorized: &Authorized, route: &str, target: &str) -> Result<()> {
    log.append(AuditEntry {
        stage: "result".to_owned(),
        route: route.to_owned(),
        rule: authorized.permission().name().to_owned(),
        decision: "allowed".to_owned(),
        outcome: "OK".to_owned(),
        target: target.to_owned(),
        ..entry(authorized.principal())
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::access::{Permission, Scope, authorize};
    use crate::fakes::FakeAuditLog;
    use crate::ids::Subject;

    fn reload() -> (Authorized, Change) {
        let admin = Principal::agent(&Subject::parse("agent/a").unwrap(), "r1".to_owned());
        let authorized = authorize(&admin, Permission::AgentReload, Scope::None).unwrap();
        let change = Change {
            route: "ops.v1.AgentService/ReloadAgent".to_owned(),
            target: "policy".to_owned(),
            params: Value::Null,
            reason: String::new(),
        };
        (authorized, change)
    }

    #[tokio::test]
    async fn intent_comes_before_the_effect_and_result_after() {
        let recorder = Arc::new(FakeAuditLog::default());
        let log: Arc<dyn AuditLog> = Arc::clone(&recorder) as _;
        let (authorized, what) = reload();
        let seen = Arc::clone(&recorder);
        let effect = async move { Ok(seen.entries().len()) };
        assert_eq!(change(&log, &authorized, what, effect).await.unwrap(), 1);
        let stages: Vec<_> = recorder.entries().into_iter().map(|e| (e.stage, e.outcome)).collect();
        assert_eq!(stages, [("intent".to_owned(), String::new()), ("result".to_owned(), "OK".to_owned())]);
    }

    #[tokio::test]
    async fn without_an_intent_nothing_happens() {
        let recorder = Arc::new(FakeAuditLog::default());
        recorder.break_down(true);
        let log: Arc<dyn AuditLog> = recorder;
        let (authorized, what) = reload();
        let done = Arc::new(AtomicBool::new(false));
        let mark = Arc::clone(&done);
        let effect = async move {
            mark.store(true, Ordering::Relaxed);
            Ok(())
        };
        let error = change(&log, &authorized, what, effect).await.unwrap_err();
        assert_eq!(error.reason, Reason::AuditUnavailable);
        assert!(!done.load(Ordering::Relaxed));
    }
}
