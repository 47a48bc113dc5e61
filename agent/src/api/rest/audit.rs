//! `/v1/audit`.

use std::sync::Arc;

use axum::extract::State;
use ops_domain::{Error, Reason};
use ops_proto::{Rpc, v1};
use serde::Deserialize;

use super::{Caller, Document, Query, Routes};
use crate::api::auth::policy::route;
use crate::api::convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::ListAudit, "/v1/audit", list)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    subject: String,
    since: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Query(asked): Query<List>,
) -> Result<Document, Problem> {
    let since = asked.since.map(|text| text.parse::<jiff::Timestamp>()).transpose().map_err(|_| {
        Error::new(Reason::InvalidArgument, "since is not a time: write 2026-11-24T02:41:00Z")
    })?;
    let query = convert::audit::query(&v1::ListAuditRequest {
        limit: asked.limit,
        subject: asked.subject,
        since: since.map(convert::timestamp),
    })?;
    let lines = app.audit.list(&principal, route(Rpc::ListAudit), query).await?;
    Ok(Document::new("audit_list", &convert::audit::records(lines)))
}
