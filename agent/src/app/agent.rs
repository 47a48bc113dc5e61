//! The agent about itself: what it is, and reading policy and certificates anew.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ops_domain::access::{Permission, Principal, Scope, authorize};
use ops_domain::audit::{self, Change};
use ops_domain::ids::Subject;
use ops_domain::operation::Operations;
use ops_domain::ports::{AuditLog, Clock, PolicySource as _};
use ops_domain::{Error, Reason, Result};
use serde_json::Value;

use super::tls::TlsState;
use crate::adapters::policy_file::PolicyFile;
use crate::adapters::process;
use crate::config::Config;

/// More running operations than these are not counted.
const OPERATIONS: u32 = 1_000;

/// The agent.
pub struct Agent {
    pub(super) config: Arc<Config>,
    pub(super) id: Subject,
    pub(super) policy: Arc<PolicyFile>,
    pub(super) tls: Arc<TlsState>,
    pub(super) audit_log: Arc<dyn AuditLog>,
    pub(super) audit_root: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started: Duration,
    pub(super) operations: Operations,
}

/// What it is and how it is.
#[derive(Clone, Debug)]
pub struct AgentInfo {
    /// Its name, without `agent/`.
    pub id: String,
    /// Since its start.
    pub uptime: Duration,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Whether a change would be written down.
    pub audit_writable: bool,
    /// Operations that run.
    pub running_operations: u32,
    /// Which policy holds.
    pub policy_generation: u64,
    /// The server certificate's last second.
    pub certificate_expires_at: Timestamp,
    /// Now.
    pub now: Timestamp,
    /// Public half of the audit trail's first key.
    pub audit_root: String,
    /// Paths that matter.
    pub paths: Vec<(&'static str, String)>,
}

/// What a reload changed.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// Which policy holds now.
    pub policy_generation: u64,
    /// The server certificate's last second.
    pub certificate_expires_at: Timestamp,
    /// A line each.
    pub changes: Vec<String>,
}

impl Agent {
    /// Its subject.
    #[must_use]
    pub fn id(&self) -> &Subject {
        &self.id
    }

    /// What it is and how it is.
    ///
    /// # Errors
    /// `STATE_UNAVAILABLE`: the journal cannot be read.
    pub async fn info(&self) -> Result<AgentInfo> {
        let running = self.operations.list(OPERATIONS, true).await?.len();
        let path = |name, path: &std::path::Path| (name, path.display().to_string());
        Ok(AgentInfo {
            id: self.id.as_str().trim_start_matches("agent/").to_owned(),
            uptime: self.clock.monotonic().saturating_sub(self.started),
            memory_bytes: process::resident_bytes(),
            audit_writable: self.audit_log.writable(),
            running_operations: u32::try_from(running).unwrap_or(u32::MAX),
            policy_generation: self.policy.current().generation,
            certificate_expires_at: self.tls.current().not_after,
            now: self.clock.now(),
            audit_root: self.audit_root.clone(),
            paths: vec![
                path("config", &self.config.source.path),
                path("policy", &self.config.agent.policy),
                path("state", &self.config.state.dir),
                path("audit", &self.config.audit.dir),
            ],
        })
    }

    /// As [`Agent::reload`], for SIGHUP: the agent's own act, written down like anyone's.
    ///
    /// # Errors
    /// `AUDIT_UNAVAILABLE`, `CONFIG_INVALID`.
    pub async fn reload_on_signal(self: &Arc<Self>) -> Result<Reloaded> {
        let own = Principal::agent(&self.id, String::new());
        self.reload_for(&own, "SIGHUP".to_owned()).await
    }

    /// As [`Agent::reload`], for a caller: written down before and after.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `AUDIT_UNAVAILABLE`, `CONFIG_INVALID`.
    pub async fn reload_for(self: &Arc<Self>, principal: &Principal, reason: String) -> Result<Reloaded> {
        let authorized = authorize(principal, Permission::AgentReload, Scope::None)?;
        let change = Change {
            route: "ops.v1.AgentService/ReloadAgent".to_owned(),
            target: "policy, certificates".to_owned(),
            params: Value::Null,
            reason,
        };
        let agent = Arc::clone(self);
        let reload = async move {
            // Files are read: not on the threads that answer callers.
            let reload = tokio::task::spawn_blocking(move || agent.reload()).await;
            reload.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the reload ended without an answer")))
        };
        audit::change(&self.audit_log, &authorized, change, reload).await
    }

    /// Reads policy and certificates anew. What is bad stays out, and the old one stays in force.
    ///
    /// # Errors
    /// `CONFIG_INVALID`, with file and line.
    pub fn reload(&self) -> Result<Reloaded> {
        let certificates = self.tls.reload(&self.config, self.clock.now());
        let policy = self.policy.reload();
        let mut changes = Vec::new();
        let mut wrong = Vec::new();
        match certificates {
            Ok(true) => changes.push("certificates: new connections see the new ones".to_owned()),
            Ok(false) => {}
            Err(error) => wrong.push(error.to_string()),
        }
        match policy {
            Ok(lines) => changes.extend(lines),
            Err(error) => wrong.push(error.to_string()),
        }
        if !wrong.is_empty() {
            let effect = if changes.is_empty() {
                "nothing was changed, the old ones hold".to_owned()
            } else {
                format!("applied all the same: {}", changes.join("; "))
            };
            return Err(Error::new(Reason::ConfigInvalid, wrong.join("; ")).effect(effect));
        }
        Ok(Reloaded {
            policy_generation: self.policy.current().generation,
            certificate_expires_at: self.tls.current().not_after,
            changes,
        })
    }
}
