//! `ServiceService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use ops_domain::access::{Permission, Scope, authorize};
use ops_domain::operation::{ChangeOptions, Started};
use ops_domain::service::Verb;
use ops_proto::Rpc;
use ops_proto::v1::service_service_server::ServiceService;
use ops_proto::v1::{
    GetServiceRequest, GetServiceResponse, ListServicesRequest, ListServicesResponse, RestartServicesRequest,
    RestartServicesResponse, StartServicesRequest, StartServicesResponse, StopServicesRequest,
    StopServicesResponse, WatchServicesRequest, WatchServicesResponse, restart_services_response,
    start_services_response, stop_services_response,
};
use tonic::{Request, Response, Status};

use crate::api::auth::policy::route;
use crate::api::convert::operation::{operation, plan};
use crate::api::convert::{NAMES, change_options, service as convert};
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Service {
    app: Arc<App>,
}

impl Service {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

macro_rules! outcome {
    ($of:ident, $response:ident, $started:expr, $principal:expr) => {
        Response::new($response {
            outcome: Some(match $started {
                Started::Plan(planned) => $of::Outcome::Plan(plan(&planned)),
                Started::Operation(begun) => $of::Outcome::Operation(operation(&begun.shown_to($principal))),
            }),
        })
    };
}

#[tonic::async_trait]
impl ServiceService for Service {
    type WatchServicesStream = BoxStream<'static, Result<WatchServicesResponse, Status>>;

    async fn list_services(
        &self,
        request: Request<ListServicesRequest>,
    ) -> Result<Response<ListServicesResponse>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::ServiceRead, Scope::None).map_err(error::status)?;
        let listing = self.app.services.list(&authorized).await.map_err(error::status)?;
        Ok(Response::new(convert::listing(&listing)))
    }

    async fn get_service(
        &self,
        request: Request<GetServiceRequest>,
    ) -> Result<Response<GetServiceResponse>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::ServiceRead, Scope::None).map_err(error::status)?;
        let found = self.app.services.find(&authorized, &request.get_ref().name).await;
        let service = Some(convert::service(&found.map_err(error::status)?));
        Ok(Response::new(GetServiceResponse { service }))
    }

    async fn watch_services(
        &self,
        request: Request<WatchServicesRequest>,
    ) -> Result<Response<Self::WatchServicesStream>, Status> {
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::ServiceRead, Scope::None).map_err(error::status)?;
        let mut names = request.into_inner().names;
        names.truncate(NAMES);
        let watch = self.app.services.watch(&authorized, names).await.map_err(error::status)?;
        // The first failure ends the stream: what was watched can no longer be seen.
        let answers = unfold(Some(watch), async |watch| {
            let mut watch = watch?;
            Some(match watch.next().await {
                Ok(listing) => (Ok(convert::watched(&listing)), Some(watch)),
                Err(failed) => (Err(error::status(failed)), None),
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn start_services(
        &self,
        request: Request<StartServicesRequest>,
    ) -> Result<Response<StartServicesResponse>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let change = convert::change(Verb::Start, asked.names, asked.all, asked.wait, false);
        let started = self.start(&principal, Rpc::StartServices, options, &change).await?;
        Ok(outcome!(start_services_response, StartServicesResponse, started, &principal))
    }

    async fn stop_services(
        &self,
        request: Request<StopServicesRequest>,
    ) -> Result<Response<StopServicesResponse>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let change = convert::change(Verb::Stop, asked.names, asked.all, 0, asked.force);
        let started = self.start(&principal, Rpc::StopServices, options, &change).await?;
        Ok(outcome!(stop_services_response, StopServicesResponse, started, &principal))
    }

    async fn restart_services(
        &self,
        request: Request<RestartServicesRequest>,
    ) -> Result<Response<RestartServicesResponse>, Status> {
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let change = convert::change(Verb::Restart, asked.names, asked.all, asked.wait, false);
        let started = self.start(&principal, Rpc::RestartServices, options, &change).await?;
        Ok(outcome!(restart_services_response, RestartServicesResponse, started, &principal))
    }
}

impl Service {
    async fn start(
        &self,
        principal: &ops_domain::access::Principal,
        rpc: Rpc,
        options: ChangeOptions,
        change: &ops_domain::service::Change,
    ) -> Result<Started, Status> {
        let (authorized, task) = self.app.services.change(principal, change).await.map_err(error::status)?;
        self.app.operations.start(&authorized, route(rpc), options, task).await.map_err(error::status)
    }
}
