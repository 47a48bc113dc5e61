//! Whether a service serves, for `grpc.health.v1`.

use async_trait::async_trait;

use crate::error::Result;
use crate::ids::ServiceName;

/// What a load balancer wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// It runs and is ready.
    Yes,
    /// It does not run, or is not ready.
    No,
    /// It could not be found out.
    Unknown,
}

/// The health of the configured services.
#[async_trait]
pub trait HealthSource: Send + Sync {
    /// The configured services, in their order.
    fn services(&self) -> Vec<ServiceName>;

    /// How it is now.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`.
    async fn serving(&self, service: &ServiceName) -> Result<Serving>;

    /// Returns when it differs from `known`, with what it is then.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND`.
    async fn changed(&self, service: &ServiceName, known: Serving) -> Result<Serving>;
}
