//! A service as a load balancer sees it.

use std::time::Duration;

use async_trait::async_trait;

use crate::access::Principal;
use crate::error::Result;
use crate::health::{Verdict, verdict};
use crate::ids::{ServiceName, Subject};
use crate::ports::{HealthSource, Serving};
use crate::service::Services;

/// How often readiness is asked while someone watches; a probe tells nobody when its answer changes.
const WATCHED: Duration = Duration::from_secs(2);

/// `grpc.health.v1` of each service.
pub struct ServiceHealth {
    services: Services,
    agent: Subject,
}

impl ServiceHealth {
    /// `agent` asks, for callers that the door has let in.
    #[must_use]
    pub fn new(services: Services, agent: Subject) -> Self {
        Self { services, agent }
    }
}

#[async_trait]
impl HealthSource for ServiceHealth {
    fn services(&self) -> Vec<ServiceName> {
        self.services.definitions().iter().map(|service| service.name.clone()).collect()
    }

    async fn serving(&self, service: &ServiceName) -> Result<Serving> {
        let principal = Principal::agent(&self.agent, String::new());
        match self.services.one(&principal, service.as_str()).await {
            Ok(service) => Ok(match verdict(&service) {
                // What may be down is not serving while it is.
                Verdict::Ok | Verdict::Warn if service.pid.is_some() => Serving::Yes,
                Verdict::Unknown => Serving::Unknown,
                _ => Serving::No,
            }),
            Err(error) if error.reason == crate::Reason::ServiceNotFound => Err(error),
            Err(_) => Ok(Serving::Unknown),
        }
    }

    async fn changed(&self, service: &ServiceName, known: Serving) -> Result<Serving> {
        loop {
            let now = self.serving(service).await?;
            if now != known {
                return Ok(now);
            }
            self.services.pause(WATCHED).await;
        }
    }
}
