//! From a request to a task: names, rights, protection; nothing is changed here.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::{Authorized, Permission, Principal, Scope, authorize};
use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::operation::Task;
use crate::service::definition::{Definition, Expected, Verb};
use crate::service::task::ServiceTask;
use crate::service::{Services, not_found};

/// What is waited for after a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WaitFor {
    /// Readiness.
    #[default]
    Ready,
    /// RUNNING.
    Running,
    /// Nothing.
    None,
}

/// A request to start, stop or restart.
#[derive(Clone, Debug)]
pub struct Change {
    /// What.
    pub verb: Verb,
    /// Which; empty with `all`.
    pub names: Vec<String>,
    /// All that are expected to run.
    pub all: bool,
    /// For what to wait.
    pub wait: WaitFor,
    /// SIGKILL for what does not stop.
    pub force: bool,
}

impl Services {
    /// The task for it, and the caller's right to it.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, `PERMISSION_DENIED`, `PROTECTED_SERVICE`, `CERTIFICATE_REQUIRED`, `SERVICE_NOT_FOUND`,
    /// `SERVICE_UNMANAGED`.
    pub async fn change(
        &self,
        principal: &Principal,
        change: &Change,
    ) -> Result<(Authorized, Arc<dyn Task>)> {
        let permission = match change.verb {
            Verb::Start => Permission::ServiceStart,
            Verb::Stop => Permission::ServiceStop,
            Verb::Restart => Permission::ServiceRestart,
        };
        let names = self.named(change)?;
        // Before anything is said about which services there are: outside its scope all names are alike.
        let authorized = authorize(principal, permission, Scope::Services(&names))?;
        let mut services = Vec::new();
        for name in &names {
            match self.definitions().iter().find(|service| service.name == *name) {
                Some(service) => services.push(service.clone()),
                None => return Err(self.unknown(name).await),
            }
        }
        let order =
            |service: &Definition| self.definitions().iter().position(|other| other.name == service.name);
        services.sort_by_key(order);
        services.dedup_by(|one, other| one.name == other.name);
        if change.verb == Verb::Stop {
            services.reverse();
        }
        let protected: Vec<ServiceName> = services
            .iter()
            .filter(|service| service.protected.contains(&change.verb))
            .map(|service| service.name.clone())
            .collect();
        let authorized = if protected.is_empty() {
            authorized
        } else {
            authorize(principal, Permission::ServiceProtected, Scope::Services(&names))
                .map_err(|denied| is_protected(denied, change.verb, &protected[0]))?
        };
        let task = ServiceTask {
            services: self.clone(),
            verb: change.verb,
            chosen: services,
            protected,
            all: change.all,
            wait: change.wait,
            force: change.force,
        };
        Ok((authorized, Arc::new(task)))
    }

    fn named(&self, change: &Change) -> Result<Vec<ServiceName>> {
        let invalid = |text: &str| Err(Error::new(Reason::InvalidArgument, text).effect("nothing was done"));
        if change.all {
            if !change.names.is_empty() {
                return invalid("name services or say all, not both");
            }
            let expected = |service: &&Definition| service.expected == Expected::Running;
            return Ok(self
                .definitions()
                .iter()
                .filter(expected)
                .map(|service| service.name.clone())
                .collect());
        }
        if change.names.is_empty() {
            return invalid("no service is named; all of them must be said");
        }
        if change.names.len() > 100 {
            return invalid("more than 100 services are named at once");
        }
        change.names.iter().map(|name| ServiceName::parse(name)).collect()
    }

    /// Not configured; perhaps supervisord knows it.
    async fn unknown(&self, name: &ServiceName) -> Error {
        let known: Vec<&str> = self.definitions().iter().map(|service| service.name.as_str()).collect();
        let programs = self.inner.ports.manager.programs().await.unwrap_or_default();
        let there = self.inner.unmanaged(&programs).any(|program| program.name.short() == name.as_str());
        if there {
            return Error::new(
                Reason::ServiceUnmanaged,
                format!("{name} is a program of supervisord that is not managed here: it is read-only"),
            )
            .about(name)
            .fact("setting", format!("a section [service.{name}] in opsd.toml makes it a service"))
            .effect("nothing was done")
            .next(&["opsctl", "service", "get", name.as_str()]);
        }
        not_found(name.as_str(), &known)
    }
}

fn is_protected(denied: Error, verb: Verb, service: &ServiceName) -> Error {
    if denied.reason != Reason::PermissionDenied {
        return denied.about(service);
    }
    Error::new(
        Reason::ProtectedService,
        format!("{service} is protected: to {} it needs role admin and a certificate", verb.name()),
    )
    .about(service)
    .fact("permission", Permission::ServiceProtected.name())
    .fact("role", "admin")
    .fact("setting", format!("protected of [service.{service}] in opsd.toml names {}", verb.name()))
    .effect("nothing was done")
}

impl ServiceTask {
    /// The whole time of it: every part has its own limit below.
    pub(super) fn allowance(&self) -> Duration {
        let each = |service: &Definition| Duration::from_secs(60) + service.readiness.timeout;
        self.chosen.iter().map(each).sum::<Duration>().max(Duration::from_secs(60))
    }
}
