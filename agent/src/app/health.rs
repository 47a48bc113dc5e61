//! The health of services while none are configured.

use async_trait::async_trait;
use ops_domain::ids::ServiceName;
use ops_domain::ports::{HealthSource, Serving};
use ops_domain::{Error, Reason, Result};

/// Knows no service.
pub(super) struct NoServices;

#[async_trait]
impl HealthSource for NoServices {
    fn services(&self) -> Vec<ServiceName> {
        Vec::new()
    }

    async fn serving(&self, service: &ServiceName) -> Result<Serving> {
        Err(Error::new(Reason::ServiceNotFound, format!("there is no service {service}")).about(service))
    }

    async fn changed(&self, service: &ServiceName, _known: Serving) -> Result<Serving> {
        self.serving(service).await
    }
}
