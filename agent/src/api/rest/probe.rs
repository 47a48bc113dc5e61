//! `/v1/probes`.

use std::sync::Arc;

use axum::extract::{Path, State};
use ops_domain::ids::ProbeName;
use ops_proto::Rpc;
use serde::Deserialize;

use super::{Document, Json, Routes};
use crate::api::convert::probe as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::ListProbes, "/v1/probes", list).post(Rpc::RunProbe, "/v1/probes/{name}/run", run)
}

async fn list(State(app): State<Arc<App>>) -> Document {
    Document::new("probe_list", &convert::list(app.probes.list()))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Run {
    count: u32,
}

async fn run(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Json(asked): Json<Run>,
) -> Result<Document, Problem> {
    let (probe, samples) = app.probes.run(&ProbeName::parse(&name)?, asked.count).await?;
    Ok(Document::new("probe_run", &convert::ran(probe, &samples)))
}
