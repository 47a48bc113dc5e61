//! `/v1/services`.

use std::sync::Arc;

use axum::extract::{Path, State};
use ops_domain::access::{Permission, Principal, Scope, authorize};
use ops_domain::service::{Change as ServiceChange, Verb, WaitFor};
use ops_proto::{Rpc, v1};
use serde::Deserialize;

use super::operation::{Change, started};
use super::{Caller, Document, Json, Routes};
use crate::api::auth::policy::route;
use crate::api::convert::service as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Rpc::ListServices, "/v1/services", list)
        .get(Rpc::GetService, "/v1/services/{name}", get)
        .post(Rpc::StartServices, "/v1/services/{name}/start", start)
        .post(Rpc::StopServices, "/v1/services/{name}/stop", stop)
        .post(Rpc::RestartServices, "/v1/services/{name}/restart", restart)
        .post(Rpc::StartServices, "/v1/services/start", start_several)
        .post(Rpc::StopServices, "/v1/services/stop", stop_several)
        .post(Rpc::RestartServices, "/v1/services/restart", restart_several)
}

async fn list(State(app): State<Arc<App>>, Caller(principal): Caller) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::ServiceRead, Scope::None)?;
    let listing = app.services.list(&authorized).await?;
    Ok(Document::new("service_list", &convert::listing(&listing)))
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(name): Path<String>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::ServiceRead, Scope::None)?;
    let service = app.services.find(&authorized, &name).await?;
    let service = Some(convert::service(&service));
    Ok(Document::new("service", &v1::GetServiceResponse { service }))
}

/// The body: all of it may be left out.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct One {
    /// ready, running, none.
    wait_for: WaitFor,
    /// For stop.
    force: bool,
}

/// The body of what is about several.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Several {
    names: Vec<String>,
    all: bool,
    wait_for: WaitFor,
    force: bool,
}

impl One {
    fn of(self, verb: Verb, name: String) -> ServiceChange {
        let Self { wait_for, force } = self;
        ServiceChange { verb, names: vec![name], all: false, wait: wait_for, force }
    }
}

impl Several {
    fn of(self, verb: Verb) -> ServiceChange {
        let Self { names, all, wait_for, force } = self;
        ServiceChange { verb, names, all, wait: wait_for, force }
    }
}

macro_rules! route_of {
    ($one:ident, $several:ident, $verb:expr, $rpc:expr) => {
        async fn $one(
            State(app): State<Arc<App>>,
            Caller(principal): Caller,
            Path(name): Path<String>,
            change: Change,
            Json(asked): Json<One>,
        ) -> Result<Document, Problem> {
            act(&app, &principal, $rpc, change, asked.of($verb, name)).await
        }

        async fn $several(
            State(app): State<Arc<App>>,
            Caller(principal): Caller,
            change: Change,
            Json(asked): Json<Several>,
        ) -> Result<Document, Problem> {
            act(&app, &principal, $rpc, change, asked.of($verb)).await
        }
    };
}

route_of!(start, start_several, Verb::Start, Rpc::StartServices);
route_of!(stop, stop_several, Verb::Stop, Rpc::StopServices);
route_of!(restart, restart_several, Verb::Restart, Rpc::RestartServices);

async fn act(
    app: &App,
    principal: &Principal,
    rpc: Rpc,
    change: Change,
    asked: ServiceChange,
) -> Result<Document, Problem> {
    let (authorized, task) = app.services.change(principal, &asked).await?;
    let begun = app.operations.start(&authorized, route(rpc), change.options, task).await?;
    started(app, principal, change.wait, begun).await
}
