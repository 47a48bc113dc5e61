//! `/v1/status`, and `/api/health` in the playbook's own shape.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use ops_domain::access::{Permission, Scope, authorize};
use ops_domain::health::Verdict;
use ops_proto::Rpc;

use super::{Caller, Document, Routes};
use crate::api::convert::status as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::GetStatus, "/v1/status", status).get(Rpc::GetStatus, "/api/health", health)
}

async fn status(State(app): State<Arc<App>>, Caller(principal): Caller) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::Status, Scope::None)?;
    let status = app.health.status(&authorized, &[]).await?;
    Ok(Document::new("status", &convert::status(&status, &principal)))
}

/// 200 while nothing fails, 503 else: what asks looks at the code alone.
async fn health(State(app): State<Arc<App>>, Caller(principal): Caller) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::Status, Scope::None)?;
    let status = app.health.status(&authorized, &[]).await?;
    let code = match status.verdict {
        Verdict::Ok | Verdict::Warn => StatusCode::OK,
        Verdict::Unknown | Verdict::Fail => StatusCode::SERVICE_UNAVAILABLE,
    };
    Ok(Document::of(convert::playbook(&status)).status(code))
}
