//! `DatabaseService`.

use std::sync::Arc;

use ops_domain::access::{Permission, Scope, authorize};
use ops_proto::v1::database_service_server::DatabaseService;
use ops_proto::v1::{
    CountDocumentsRequest, CountDocumentsResponse, GetDatabaseStatsRequest, GetDatabaseStatsResponse,
    PingDatabaseRequest, PingDatabaseResponse,
};
use tonic::{Request, Response, Status};

use crate::api::convert::database as convert;
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Database {
    app: Arc<App>,
}

impl Database {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl DatabaseService for Database {
    async fn ping_database(
        &self,
        request: Request<PingDatabaseRequest>,
    ) -> Result<Response<PingDatabaseResponse>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::DatabaseRead, Scope::None).map_err(error::status)?;
        let service = &self.app.databases;
        let ping = service.ping(&authorized).await.map_err(error::status)?;
        let (name, uri) = service.configured().unwrap_or_default();
        Ok(Response::new(convert::ping(name, uri, &ping)))
    }

    async fn count_documents(
        &self,
        request: Request<CountDocumentsRequest>,
    ) -> Result<Response<CountDocumentsResponse>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::DatabaseRead, Scope::None).map_err(error::status)?;
        let asked = request.into_inner();
        let names = convert::collections(asked.collections).map_err(error::status)?;
        let service = &self.app.databases;
        let counts = service.count(&authorized, &names, asked.estimated).await.map_err(error::status)?;
        let (name, _) = service.configured().unwrap_or_default();
        Ok(Response::new(convert::counts(name, &counts)))
    }

    async fn get_database_stats(
        &self,
        request: Request<GetDatabaseStatsRequest>,
    ) -> Result<Response<GetDatabaseStatsResponse>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::DatabaseRead, Scope::None).map_err(error::status)?;
        let service = &self.app.databases;
        let stats = service.stats(&authorized).await.map_err(error::status)?;
        let (name, _) = service.configured().unwrap_or_default();
        Ok(Response::new(convert::stats(name, stats)))
    }
}
