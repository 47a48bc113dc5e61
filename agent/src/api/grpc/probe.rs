//! `ProbeService`.

use std::sync::Arc;

use ops_domain::ids::ProbeName;
use ops_proto::v1::probe_service_server::ProbeService;
use ops_proto::v1::{ListProbesRequest, ListProbesResponse, RunProbeRequest, RunProbeResponse};
use tonic::{Request, Response, Status};

use crate::api::convert::probe as convert;
use crate::api::error;
use crate::app::App;

pub(super) struct Probe {
    app: Arc<App>,
}

impl Probe {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl ProbeService for Probe {
    async fn list_probes(
        &self,
        _request: Request<ListProbesRequest>,
    ) -> Result<Response<ListProbesResponse>, Status> {
        Ok(Response::new(convert::list(self.app.probes.list())))
    }

    async fn run_probe(
        &self,
        request: Request<RunProbeRequest>,
    ) -> Result<Response<RunProbeResponse>, Status> {
        let asked = request.into_inner();
        let name = ProbeName::parse(&asked.name).map_err(error::status)?;
        let (probe, samples) = self.app.probes.run(&name, asked.count).await.map_err(error::status)?;
        Ok(Response::new(convert::ran(probe, &samples)))
    }
}
