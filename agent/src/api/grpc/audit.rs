//! `AuditService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ops_proto::Rpc;
use ops_proto::v1::audit_service_server::AuditService;
use ops_proto::v1::{ListAuditRequest, ListAuditResponse, ReadAuditRequest, ReadAuditResponse};
use tonic::{Request, Response, Status};

use crate::api::auth::policy::route;
use crate::api::{convert, error, principal};
use crate::app::App;

pub(super) struct Audit {
    app: Arc<App>,
}

impl Audit {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl AuditService for Audit {
    type ReadAuditStream = BoxStream<'static, Result<ReadAuditResponse, Status>>;

    async fn list_audit(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let principal = principal(&request)?;
        let query = convert::audit::query(request.get_ref()).map_err(error::status)?;
        let lines =
            self.app.audit.list(&principal, route(Rpc::ListAudit), query).await.map_err(error::status)?;
        Ok(Response::new(convert::audit::records(lines)))
    }

    async fn read_audit(
        &self,
        request: Request<ReadAuditRequest>,
    ) -> Result<Response<Self::ReadAuditStream>, Status> {
        let principal = principal(&request)?;
        let pieces = self.app.audit.read(&principal, route(Rpc::ReadAudit)).await.map_err(error::status)?;
        let answers = pieces.map(|piece| match piece {
            Ok(lines) => Ok(ReadAuditResponse { lines: lines.to_vec() }),
            Err(error) => Err(error::status(error)),
        });
        Ok(Response::new(answers.boxed()))
    }
}
