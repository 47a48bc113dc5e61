//! `/v1/agent`.

use std::sync::Arc;

use axum::extract::State;
use ops_proto::{Rpc, v1};
use serde::Deserialize;

use super::{Caller, Document, Json, Routes};
use crate::api::convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::GetAgent, "/v1/agent", info).post(Rpc::ReloadAgent, "/v1/agent/reload", reload)
}

async fn info(State(app): State<Arc<App>>, _: Caller) -> Result<Document, Problem> {
    Ok(Document::new("agent", &convert::agent::info(&app.agent.info().await?)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reload {
    reason: String,
}

async fn reload(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Json(asked): Json<Reload>,
) -> Result<Document, Problem> {
    let options = v1::ChangeOptions { reason: asked.reason, ..Default::default() };
    let options = convert::change_options(Some(options))?;
    let reloaded = app.agent.reload_for(&principal, options.reason).await?;
    Ok(Document::new("agent_reload", &convert::agent::reloaded(&reloaded)))
}
