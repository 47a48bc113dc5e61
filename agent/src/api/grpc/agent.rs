//! `AgentService`.

use std::sync::Arc;

use ops_proto::v1::agent_service_server::AgentService;
use ops_proto::v1::{GetAgentRequest, GetAgentResponse, ReloadAgentRequest, ReloadAgentResponse};
use tonic::{Request, Response, Status};

use crate::api::{convert, error, principal};
use crate::app::App;

pub(super) struct Agent {
    app: Arc<App>,
}

impl Agent {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl AgentService for Agent {
    async fn get_agent(
        &self,
        request: Request<GetAgentRequest>,
    ) -> Result<Response<GetAgentResponse>, Status> {
        principal(&request)?;
        let info = self.app.agent.info().await.map_err(error::status)?;
        Ok(Response::new(convert::agent::info(&info)))
    }

    async fn reload_agent(
        &self,
        request: Request<ReloadAgentRequest>,
    ) -> Result<Response<ReloadAgentResponse>, Status> {
        let principal = principal(&request)?;
        let options = convert::change_options(request.into_inner().options).map_err(error::status)?;
        let reloaded = self.app.agent.reload_for(&principal, options.reason).await.map_err(error::status)?;
        Ok(Response::new(convert::agent::reloaded(&reloaded)))
    }
}
