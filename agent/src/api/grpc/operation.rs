//! `OperationService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ops_domain::operation::Watched;
use ops_proto::Rpc;
use ops_proto::v1::operation_service_server::OperationService;
use ops_proto::v1::{
    CancelOperationRequest, CancelOperationResponse, GetOperationRequest, GetOperationResponse,
    ListOperationsRequest, ListOperationsResponse, WatchOperationRequest, WatchOperationResponse,
};
use tonic::{Request, Response, Status};

use crate::api::auth::policy::route;
use crate::api::convert::change_options;
use crate::api::convert::operation as convert;
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Operation {
    app: Arc<App>,
}

impl Operation {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl OperationService for Operation {
    type WatchOperationStream = BoxStream<'static, Result<WatchOperationResponse, Status>>;

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let operations = self.app.operations.list_for(&principal, asked.limit, asked.running).await;
        Ok(Response::new(convert::operations(&operations.map_err(error::status)?)))
    }

    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        let principal = principal(&request)?;
        let found = self.app.operations.get_for(&principal, &request.get_ref().id).await;
        let operation = Some(convert::operation(&found.map_err(error::status)?));
        Ok(Response::new(GetOperationResponse { operation }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let operations = &self.app.operations;
        let operation = operations.get_for(&principal, &asked.id).await.map_err(error::status)?;
        let told = operations.watch(operation.id.as_str(), asked.after_seq).await.map_err(error::status)?;
        let answers = told.map(move |told| match told {
            Ok(Watched::Operation(whole)) => {
                let shown = Watched::Operation(Box::new(whole.shown_to(&principal)));
                Ok(convert::watched(&shown))
            }
            Ok(event) => Ok(convert::watched(&event)),
            Err(error) => Err(error::status(error)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let route = route(Rpc::CancelOperation);
        let operation = self.app.operations.cancel(&principal, route, &options, &asked.id).await;
        let operation = operation.map_err(error::status)?.shown_to(&principal);
        Ok(Response::new(CancelOperationResponse { operation: Some(convert::operation(&operation)) }))
    }
}
