//! The status as it goes over the wire, and in the playbook's own shape.

use ops_domain::access::Principal;
use ops_domain::health::{Status, Verdict, verdict};
use ops_domain::service::Expected;
use ops_proto::v1;
use serde_json::{Map, Value, json};

use super::{service, timestamp};

/// Whole.
#[must_use]
pub fn status(status: &Status, principal: &Principal) -> v1::GetStatusResponse {
    v1::GetStatusResponse {
        verdict: of(status.verdict) as i32,
        summary: status.summary.clone(),
        services: status.services.iter().map(service::listed).collect(),
        checks: status
            .checks
            .iter()
            .map(|check| v1::Check {
                name: check.name.to_owned(),
                verdict: of(check.verdict) as i32,
                text: check.text.clone(),
            })
            .collect(),
        subject: principal.subject.to_string(),
        roles: principal.binding.roles.iter().map(|role| role.name().to_owned()).collect(),
        at: Some(timestamp(status.at)),
    }
}

/// `{"status": "healthy", "timestamp": …, "services": {"api": "healthy", "database": "healthy", …}}`: `api` is that
/// this agent answers, `database` its check, the others are the services by name.
#[must_use]
pub fn playbook(status: &Status) -> Value {
    let mut services = Map::new();
    services.insert("api".to_owned(), "healthy".into());
    // What may be down says nothing about the platform.
    for listed in status.services.iter().filter(|listed| listed.expected != Expected::Any) {
        services.insert(listed.name.clone(), word(verdict(listed)).into());
    }
    if let Some(database) = status.checks.iter().find(|check| check.name == "database") {
        services.insert("database".to_owned(), word(database.verdict).into());
    }
    json!({
        "status": word(status.verdict),
        "timestamp": status.at.to_string(),
        "services": services,
    })
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok | Verdict::Warn => "healthy",
        Verdict::Unknown => "unknown",
        Verdict::Fail => "unhealthy",
    }
}

const fn of(verdict: Verdict) -> v1::Verdict {
    match verdict {
        Verdict::Ok => v1::Verdict::Ok,
        Verdict::Warn => v1::Verdict::Warn,
        Verdict::Unknown => v1::Verdict::Unknown,
        Verdict::Fail => v1::Verdict::Fail,
    }
}
