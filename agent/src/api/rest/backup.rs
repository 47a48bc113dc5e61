//! `/v1/backups`.

use std::sync::Arc;

use axum::extract::{Path, State};
use ops_domain::access::{Permission, Scope, authorize};
use ops_proto::Rpc;
use serde::Deserialize;

use super::operation::{Change, started};
use super::{Caller, Document, Json, Query, Routes};
use crate::api::auth::policy::route;
use crate::api::convert::backup as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Rpc::ListBackups, "/v1/backups", list)
        .get(Rpc::GetBackup, "/v1/backups/{id}", get)
        .post(Rpc::CreateBackup, "/v1/backups", create)
        .post(Rpc::VerifyBackup, "/v1/backups/{id}/verify", verify)
        .post(Rpc::RestoreBackup, "/v1/backups/{id}/restore", restore)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct List {
    limit: u32,
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Query(asked): Query<List>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::BackupList, Scope::None)?;
    let listing = app.backups.list(&authorized, convert::limit(asked.limit)?).await?;
    Ok(Document::new("backup_list", &convert::listing(&listing)))
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(id): Path<String>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::BackupList, Scope::None)?;
    let backup = app.backups.get(&authorized, &id).await?;
    Ok(Document::new("backup", &convert::backup(&backup)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Create {
    tag: String,
}

async fn create(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    change: Change,
    Json(asked): Json<Create>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::BackupCreate, Scope::None)?;
    let task = app.backups.create(&asked.tag)?;
    let begun = app.operations.start(&authorized, route(Rpc::CreateBackup), change.options, task).await?;
    started(&app, &principal, change.wait, begun).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Verify {
    level: String,
}

async fn verify(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    change: Change,
    Json(asked): Json<Verify>,
) -> Result<Document, Problem> {
    let authorized = authorize(&principal, Permission::BackupCreate, Scope::None)?;
    let task = app.backups.verify(&id, convert::level_named(&asked.level)?).await?;
    let begun = app.operations.start(&authorized, route(Rpc::VerifyBackup), change.options, task).await?;
    started(&app, &principal, change.wait, begun).await
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Restore {
    to_database: String,
}

async fn restore(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    change: Change,
    Json(asked): Json<Restore>,
) -> Result<Document, Problem> {
    let permission = Permission::to_restore(&asked.to_database);
    let authorized = authorize(&principal, permission, Scope::None)?;
    let task = app.backups.restore(&id, &asked.to_database).await?;
    let begun = app.operations.start(&authorized, route(Rpc::RestoreBackup), change.options, task).await?;
    started(&app, &principal, change.wait, begun).await
}
