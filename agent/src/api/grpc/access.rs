//! `AccessService`.

use std::sync::Arc;

use ops_proto::v1::access_service_server::AccessService;
use ops_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, ListRolesRequest, ListRolesResponse, WhoAmIRequest,
    WhoAmIResponse,
};
use tonic::{Request, Response, Status};

use crate::api::convert::access as convert;
use crate::api::{auth::policy, error, principal};
use crate::app::App;

pub(super) struct Access {
    app: Arc<App>,
}

impl Access {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl AccessService for Access {
    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let principal = principal(&request)?;
        Ok(Response::new(convert::who_am_i(&principal, self.app.agent.id(), self.app.clock.now())))
    }

    async fn list_roles(
        &self,
        request: Request<ListRolesRequest>,
    ) -> Result<Response<ListRolesResponse>, Status> {
        principal(&request)?;
        Ok(Response::new(convert::roles()))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let principal = principal(&request)?;
        let asked = convert::create_token(request.into_inner()).map_err(error::status)?;
        let route = policy::route(ops_proto::Rpc::CreateToken);
        let (token, subject) =
            self.app.tokens.create(&principal, route, asked).await.map_err(error::status)?;
        Ok(Response::new(convert::token(token, &subject)))
    }
}
