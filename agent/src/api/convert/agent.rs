//! The agent about itself.

use ops_domain::Evidence;
use ops_proto::v1;

use crate::app::agent::{AgentInfo, Reloaded};

/// What it is and how it is.
#[must_use]
pub fn info(info: &AgentInfo) -> v1::GetAgentResponse {
    let path = |(name, path): &(&str, String)| {
        super::evidence(&Evidence { name: (*name).to_owned(), text: path.clone(), lines: Vec::new() })
    };
    v1::GetAgentResponse {
        id: info.id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "ops.v1".to_owned(),
        uptime_ms: super::in_milliseconds(info.uptime),
        memory_bytes: info.memory_bytes,
        pid: std::process::id(),
        audit_writable: info.audit_writable,
        running_operations: info.running_operations,
        policy_generation: info.policy_generation,
        server_certificate_expires_at: Some(super::timestamp(info.certificate_expires_at)),
        time: Some(super::timestamp(info.now)),
        audit_root: info.audit_root.clone(),
        paths: info.paths.iter().map(path).collect(),
    }
}

/// What a reload changed.
#[must_use]
pub fn reloaded(reloaded: &Reloaded) -> v1::ReloadAgentResponse {
    v1::ReloadAgentResponse {
        policy_generation: reloaded.policy_generation,
        server_certificate_expires_at: Some(super::timestamp(reloaded.certificate_expires_at)),
        changes: reloaded.changes.clone(),
    }
}
