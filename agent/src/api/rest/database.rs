//! `/v1/database/ping`, `/v1/database/count`, `/v1/database/stats`.

use std::sync::Arc;

use axum::extract::State;
use ops_domain::access::{Permission, Scope, authorize};
use ops_proto::Rpc;
use serde::Deserialize;

use super::{Caller, Document, Query, Routes};
use crate::api::convert::database as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Rpc::PingDatabase, "/v1/database/ping", ping)
        .get(Rpc::CountDocuments, "/v1/database/count", count)
        .get(Rpc::GetDatabaseStats, "/v1/database/stats", stats)
}

async fn ping(State(app): State<Arc<App>>, Caller(principal): Caller) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::DatabaseRead, Scope::None)?;
    let ping = app.databases.ping(&authorized).await?;
    let (name, uri) = app.databases.configured().unwrap_or_default();
    Ok(Document::new("database_ping", &convert::ping(name, uri, &ping)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Count {
    /// One, or several with commas between them; a name with a comma in it is for gRPC.
    collections: String,
    estimated: bool,
}

async fn count(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Query(asked): Query<Count>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::DatabaseRead, Scope::None)?;
    let names = match asked.collections.as_str() {
        "" => Vec::new(),
        names => names.split(',').map(str::to_owned).collect(),
    };
    let names = convert::collections(names)?;
    let counts = app.databases.count(&authorized, &names, asked.estimated).await?;
    let (name, _) = app.databases.configured().unwrap_or_default();
    Ok(Document::new("document_counts", &convert::counts(name, &counts)))
}

async fn stats(State(app): State<Arc<App>>, Caller(principal): Caller) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::DatabaseRead, Scope::None)?;
    let stats = app.databases.stats(&authorized).await?;
    let (name, _) = app.databases.configured().unwrap_or_default();
    Ok(Document::new("database_stats", &convert::stats(name, stats)))
}
