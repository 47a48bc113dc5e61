//! The whole platform in one answer: services and checks, worst first.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::access::Authorized;
use crate::error::Result;
use crate::ports::service_manager::ProgramState;
use crate::service::{Expected, Ready, Service, Services};

mod checks;
mod serving;

pub use checks::{BackupCheck, DatabaseCheck, DiskCheck, Newest, NewestBackup};
pub use serving::ServiceHealth;

/// A judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Well.
    Ok,
    /// Still well, and not for long.
    Warn,
    /// It could not be found out: never ok.
    Unknown,
    /// Not well.
    Fail,
}

/// A named judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// One word: database, disk, backup.
    pub name: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// The facts, one line.
    pub text: String,
}

/// Something that is judged.
#[async_trait]
pub trait CheckSource: Send + Sync {
    /// Looks now.
    async fn check(&self, authorized: &Authorized) -> Check;
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The worst of all.
    pub verdict: Verdict,
    /// One line: "backend is down".
    pub summary: String,
    /// Worst first.
    pub services: Vec<Service>,
    /// Worst first.
    pub checks: Vec<Check>,
    /// When the services were asked.
    pub at: Timestamp,
}

/// Services and checks.
pub struct Health {
    services: Services,
    checks: Vec<Arc<dyn CheckSource>>,
}

impl Health {
    /// These checks, in this order where they are equally bad.
    #[must_use]
    pub fn new(services: Services, checks: Vec<Arc<dyn CheckSource>>) -> Self {
        Self { services, checks }
    }

    /// All, or these services and no checks.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`, `SUPERVISOR_UNREACHABLE`, `SUPERVISOR_BAD_REPLY`.
    pub async fn status(&self, authorized: &Authorized, names: &[String]) -> Result<Status> {
        for name in names {
            self.services.find(authorized, name).await?;
        }
        let asked: &[Arc<dyn CheckSource>] = if names.is_empty() { &self.checks } else { &[] };
        let checks = join_all(asked.iter().map(|source| source.check(authorized)));
        let (listing, mut checks) = tokio::join!(self.services.list(authorized), checks);
        let listing = listing?;
        let mut services = listing.services;
        services.retain(
            |service| if names.is_empty() { is_shown(service) } else { names.contains(&service.name) },
        );
        services.sort_by_key(Service::rank);
        checks.sort_by_key(|check| std::cmp::Reverse(check.verdict));
        let worst_service = services.iter().map(verdict).max().unwrap_or(Verdict::Ok);
        let worst_check = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
        Ok(Status {
            verdict: worst_service.max(worst_check),
            summary: summary(&services, &checks),
            services,
            checks,
            at: listing.at,
        })
    }
}

/// What neither runs nor needs to is not part of the answer, unless it was asked for.
fn is_shown(service: &Service) -> bool {
    service.managed
        && !(service.expected == Expected::Any
            && service.state.is_down()
            && service.state != ProgramState::Fatal)
}

/// How a service counts.
#[must_use]
pub fn verdict(service: &Service) -> Verdict {
    match service.rank() {
        0 => Verdict::Fail,
        1 => Verdict::Unknown,
        _ => Verdict::Ok,
    }
}

fn summary(services: &[Service], checks: &[Check]) -> String {
    let mut wrong = Vec::new();
    for service in services.iter().filter(|service| !service.is_ok()) {
        wrong.push(match (service.state, service.readiness.verdict) {
            (ProgramState::Running, _) if service.expected == Expected::Stopped => {
                format!("{} runs and should not", service.name)
            }
            (ProgramState::Running, Ready::Unknown) => format!("{} could not be asked", service.name),
            (ProgramState::Running, _) => format!("{} is not ready", service.name),
            (state, _) => {
                let end = service.end();
                let end = if end.is_empty() { String::new() } else { format!(": {end}") };
                format!("{} is down ({}){end}", service.name, state.name())
            }
        });
    }
    for check in checks.iter().filter(|check| check.verdict >= Verdict::Unknown) {
        let word = if check.verdict == Verdict::Fail { "fails" } else { "is unknown" };
        wrong.push(format!("check {} {word}", check.name));
    }
    if !wrong.is_empty() {
        return wrong.join(", ");
    }
    let needed: Vec<&Service> =
        services.iter().filter(|service| service.expected == Expected::Running).collect();
    let ready = needed.iter().filter(|service| service.is_ok()).count();
    let well = checks.iter().filter(|check| check.verdict == Verdict::Ok).count();
    let mut text = format!("{ready} of {} services ready", needed.len());
    if !checks.is_empty() {
        text = format!("{text}, {well} of {} checks ok", checks.len());
    }
    text
}

#[cfg(test)]
mod tests;
