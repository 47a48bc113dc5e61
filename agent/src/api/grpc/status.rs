//! `HealthService`.

use std::sync::Arc;

use ops_domain::access::{Permission, Scope, authorize};
use ops_proto::v1::health_service_server::HealthService;
use ops_proto::v1::{GetStatusRequest, GetStatusResponse};
use tonic::{Request, Response};

use crate::api::convert::status as convert;
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Status {
    app: Arc<App>,
}

impl Status {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl HealthService for Status {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, tonic::Status> {
        let principal = principal(&request)?;
        let authorized = authorize(&principal, Permission::Status, Scope::None).map_err(error::status)?;
        let status = self.app.health.status(&authorized, &request.get_ref().services).await;
        Ok(Response::new(convert::status(&status.map_err(error::status)?, &principal)))
    }
}
