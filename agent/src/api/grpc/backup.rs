//! `BackupService`.

use std::sync::Arc;

use ops_domain::access::{Permission, Scope, authorize};
use ops_domain::operation::Started;
use ops_proto::Rpc;
use ops_proto::v1::backup_service_server::BackupService;
use ops_proto::v1::{
    CreateBackupRequest, CreateBackupResponse, GetBackupRequest, GetBackupResponse, ListBackupsRequest,
    ListBackupsResponse, RestoreBackupRequest, RestoreBackupResponse, VerifyBackupRequest,
    VerifyBackupResponse, create_backup_response, restore_backup_response, verify_backup_response,
};
use tonic::{Request, Response, Status};

use crate::api::auth::policy::route;
use crate::api::convert::{backup as convert, change_options, operation};
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Backup {
    app: Arc<App>,
}

impl Backup {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl BackupService for Backup {
    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Result<Response<ListBackupsResponse>, Status> {
        let principal = principal(&request)?;
        let authorized = authorize(&principal, Permission::BackupList, Scope::None).map_err(error::status)?;
        let limit = convert::limit(request.get_ref().limit).map_err(error::status)?;
        let listing = self.app.backups.list(&authorized, limit).await.map_err(error::status)?;
        Ok(Response::new(convert::listing(&listing)))
    }

    async fn get_backup(
        &self,
        request: Request<GetBackupRequest>,
    ) -> Result<Response<GetBackupResponse>, Status> {
        let principal = principal(&request)?;
        let authorized = authorize(&principal, Permission::BackupList, Scope::None).map_err(error::status)?;
        let found = self.app.backups.get(&authorized, &request.get_ref().id).await.map_err(error::status)?;
        Ok(Response::new(GetBackupResponse { backup: Some(convert::backup(&found)) }))
    }

    async fn create_backup(
        &self,
        request: Request<CreateBackupRequest>,
    ) -> Result<Response<CreateBackupResponse>, Status> {
        use create_backup_response::Outcome;
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::BackupCreate, Scope::None).map_err(error::status)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let task = self.app.backups.create(&asked.tag).map_err(error::status)?;
        let started = self.app.operations.start(&authorized, route(Rpc::CreateBackup), options, task).await;
        let outcome = match started.map_err(error::status)? {
            Started::Plan(planned) => Outcome::Plan(operation::plan(&planned)),
            Started::Operation(begun) => Outcome::Operation(operation::operation(&begun)),
        };
        Ok(Response::new(CreateBackupResponse { outcome: Some(outcome) }))
    }

    async fn verify_backup(
        &self,
        request: Request<VerifyBackupRequest>,
    ) -> Result<Response<VerifyBackupResponse>, Status> {
        use verify_backup_response::Outcome;
        let principal = principal(&request)?;
        let authorized =
            authorize(&principal, Permission::BackupCreate, Scope::None).map_err(error::status)?;
        let asked = request.into_inner();
        let options = change_options(asked.options).map_err(error::status)?;
        let level = convert::level(asked.level).map_err(error::status)?;
        let task = self.app.backups.verify(&asked.id, level).await.map_err(error::status)?;
        let started = self.app.operations.start(&authorized, route(Rpc::VerifyBackup), options, task).await;
        let outcome = match started.map_err(error::status)? {
            Started::Plan(planned) => Outcome::Plan(operation::plan(&planned)),
            Started::Operation(begun) => Outcome::Operation(operation::operation(&begun)),
        };
        Ok(Response::new(VerifyBackupResponse { outcome: Some(outcome) }))
    }

    async fn restore_backup(
        &self,
        request: Request<RestoreBackupRequest>,
    ) -> Result<Response<RestoreBackupResponse>, Status> {
        use restore_backup_response::Outcome;
        let principal = principal(&request)?;
        let asked = request.into_inner();
        let permission = Permission::to_restore(&asked.to_database);
        let authorized = authorize(&principal, permission, Scope::None).map_err(error::status)?;
        let options = change_options(asked.options).map_err(error::status)?;
        let task = self.app.backups.restore(&asked.id, &asked.to_database).await.map_err(error::status)?;
        let started = self.app.operations.start(&authorized, route(Rpc::RestoreBackup), options, task).await;
        let outcome = match started.map_err(error::status)? {
            Started::Plan(planned) => Outcome::Plan(operation::plan(&planned)),
            Started::Operation(begun) => Outcome::Operation(operation::operation(&begun)),
        };
        Ok(Response::new(RestoreBackupResponse { outcome: Some(outcome) }))
    }
}
