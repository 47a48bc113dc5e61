//! Telling of changes as they happen: woken by the manager's history, never by a clock while all is well.

use std::time::Duration;

use tokio::sync::watch;

use crate::access::Authorized;
use crate::error::Result;
use crate::ports::service_manager::ProgramState;
use crate::service::{Listing, Ready, Service, Services};

/// While something is on its way up or down, and while there is no history to wake us.
const SETTLING: Duration = Duration::from_secs(1);
const BLIND: Duration = Duration::from_secs(2);

/// Someone who watches.
pub struct ServiceWatch {
    services: Services,
    authorized: Authorized,
    names: Vec<String>,
    changes: watch::Receiver<u64>,
    last: Vec<Service>,
    begun: bool,
}

impl Services {
    /// All when `names` is empty.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`, and as [`Services::list`].
    pub async fn watch(&self, authorized: &Authorized, names: Vec<String>) -> Result<ServiceWatch> {
        for name in &names {
            self.find(authorized, name).await?;
        }
        let changes = self.inner.ports.history.changes();
        let (services, authorized) = (self.clone(), authorized.clone());
        Ok(ServiceWatch { services, authorized, names, changes, last: Vec::new(), begun: false })
    }
}

impl ServiceWatch {
    /// Everything the first time, then what has changed, as soon as it has.
    ///
    /// # Errors
    /// As [`Services::list`].
    pub async fn next(&mut self) -> Result<Listing> {
        loop {
            if self.begun {
                self.wait().await;
            }
            self.changes.mark_unchanged();
            let mut listing = self.services.list(&self.authorized).await?;
            listing.services.retain(|service| self.names.is_empty() || self.names.contains(&service.name));
            let before = std::mem::replace(&mut self.last, listing.services.clone());
            if !self.begun {
                self.begun = true;
                return Ok(listing);
            }
            listing.services.retain(|service| {
                before.iter().find(|old| old.name == service.name).is_none_or(|old| differs(old, service))
            });
            if !listing.services.is_empty() {
                return Ok(listing);
            }
        }
    }

    async fn wait(&mut self) {
        let ports = &self.services.inner.ports;
        let pause = if ports.history.missing().is_some() {
            Some(BLIND)
        } else {
            self.last.iter().any(unsettled).then_some(SETTLING)
        };
        match pause {
            None => drop(self.changes.changed().await),
            Some(pause) => {
                tokio::select! {
                    changed = self.changes.changed() => if changed.is_err() { ports.clock.sleep(pause).await },
                    () = ports.clock.sleep(pause) => {}
                }
            }
        }
    }
}

fn unsettled(service: &Service) -> bool {
    let moving =
        matches!(service.state, ProgramState::Starting | ProgramState::Stopping | ProgramState::Backoff);
    moving
        || (service.managed
            && service.state == ProgramState::Running
            && service.readiness.verdict == Ready::No)
}

fn differs(old: &Service, new: &Service) -> bool {
    (old.state, old.pid, old.readiness.verdict) != (new.state, new.pid, new.readiness.verdict)
        || old.last_change != new.last_change
}
