//! `grpc.health.v1`: the agent under the empty name, for everyone; each service under its own, for who may see it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use ops_domain::access::{Permission, Principal, Scope, authorize};
use ops_domain::ids::ServiceName;
use ops_domain::ports::{HealthSource, Serving};
use ops_domain::{Error, Reason};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::api::{error, principal};
use crate::app::App;
use crate::app::lifecycle::Lifecycle;

pub(super) struct Health {
    lifecycle: Lifecycle,
    source: Arc<dyn HealthSource>,
}

impl Health {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { lifecycle: app.lifecycle.clone(), source: Arc::clone(&app.health_source) }
    }

    fn own(&self) -> ServingStatus {
        if self.lifecycle.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
    }
}

/// The same answer for a name that is none and for one that the caller may not see.
#[allow(clippy::result_large_err)]
fn service<T>(request: &Request<T>, name: &str) -> Result<(Principal, ServiceName), Status> {
    let principal = principal(request)?;
    let unknown =
        || error::status(Error::new(Reason::ServiceNotFound, "there is no such service").about(name));
    let service = ServiceName::parse(name).map_err(|_| unknown())?;
    authorize(&principal, Permission::ServiceRead, Scope::Services(std::slice::from_ref(&service)))
        .map_err(error::status)?;
    Ok((principal, service))
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

const fn status(serving: Serving) -> ServingStatus {
    match serving {
        Serving::Yes => ServingStatus::Serving,
        Serving::No => ServingStatus::NotServing,
        Serving::Unknown => ServingStatus::Unknown,
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.get_ref().service.is_empty() {
            return Ok(Response::new(answer(self.own())));
        }
        let (_, service) = service(&request, &request.get_ref().service)?;
        let serving = self.source.serving(&service).await.map_err(error::status)?;
        Ok(Response::new(answer(status(serving))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if request.get_ref().service.is_empty() {
            // The layer ends the stream when the agent drains, so this state never changes while it is open.
            principal(&request)?;
            let first = futures_util::stream::once(std::future::ready(Ok(answer(self.own()))));
            return Ok(Response::new(first.chain(futures_util::stream::pending()).boxed()));
        }
        let (_, service) = service(&request, &request.get_ref().service)?;
        let first = self.source.serving(&service).await;
        let first = match first {
            Ok(serving) => serving,
            // The protocol's own rule: a watched name that is unknown may become known.
            Err(error) if error.reason == Reason::ServiceNotFound => {
                let unknown = std::future::ready(Ok(answer(ServingStatus::ServiceUnknown)));
                let stream = futures_util::stream::once(unknown).chain(futures_util::stream::pending());
                return Ok(Response::new(stream.boxed()));
            }
            Err(error) => return Err(error::status(error)),
        };
        let source = Arc::clone(&self.source);
        let changes = unfold(Some((None, first)), move |state| {
            let (source, service) = (Arc::clone(&source), service.clone());
            async move {
                let (told, known) = state?;
                match told {
                    None => Some((Ok(answer(status(known))), Some((Some(()), known)))),
                    Some(()) => match source.changed(&service, known).await {
                        Ok(now) => Some((Ok(answer(status(now))), Some((Some(()), now)))),
                        Err(error) => Some((Err(error::status(error)), None)),
                    },
                }
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
