//! `LogService`.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use ops_proto::v1::log_service_server::LogService;
use ops_proto::v1::{ListSourcesRequest, ListSourcesResponse, TailLogRequest, TailLogResponse};
use tonic::{Request, Response, Status};

use crate::api::convert::{self, log};
use crate::api::{error, principal};
use crate::app::App;

pub(super) struct Log {
    app: Arc<App>,
}

impl Log {
    pub(super) fn new(app: &Arc<App>) -> Self {
        Self { app: Arc::clone(app) }
    }
}

#[tonic::async_trait]
impl LogService for Log {
    type TailLogStream = BoxStream<'static, Result<TailLogResponse, Status>>;

    async fn list_sources(
        &self,
        request: Request<ListSourcesRequest>,
    ) -> Result<Response<ListSourcesResponse>, Status> {
        let principal = principal(&request)?;
        let services = convert::services(&request.get_ref().services).map_err(error::status)?;
        let files = self.app.logs.sources(&principal, &services).await.map_err(error::status)?;
        Ok(Response::new(log::sources(&files)))
    }

    async fn tail_log(
        &self,
        request: Request<TailLogRequest>,
    ) -> Result<Response<Self::TailLogStream>, Status> {
        let principal = principal(&request)?;
        let asked = log::request(request.into_inner()).map_err(error::status)?;
        let tail = self.app.logs.tail(&principal, asked).await.map_err(error::status)?;
        let answers = unfold(tail, |mut tail| async move {
            let batch = tail.next().await?;
            Some((batch.map(log::batch).map_err(error::status), tail))
        });
        Ok(Response::new(answers.boxed()))
    }
}
