//! `/v1/whoami`, `/v1/roles`, `/v1/tokens`.

use std::sync::Arc;

use axum::extract::State;
use ops_proto::Rpc;
use ops_proto::v1;
use serde::Deserialize;

use super::{Caller, Document, Json, Routes};
use crate::api::auth::policy::route;
use crate::api::convert::access as convert;
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::WhoAmI, "/v1/whoami", who_am_i).get(Rpc::ListRoles, "/v1/roles", roles).post(
        Rpc::CreateToken,
        "/v1/tokens",
        create_token,
    )
}

async fn who_am_i(State(app): State<Arc<App>>, Caller(principal): Caller) -> Document {
    Document::new("identity", &convert::who_am_i(&principal, app.agent.id(), app.clock.now()))
}

async fn roles(_: Caller) -> Document {
    Document::new("role_list", &convert::roles())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CreateToken {
    ttl_ms: u64,
    for_subject: String,
    permissions: Vec<String>,
    bind: bool,
    reason: String,
}

async fn create_token(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Json(asked): Json<CreateToken>,
) -> Result<Document, Problem> {
    let asked = convert::create_token(v1::CreateTokenRequest {
        ttl_ms: asked.ttl_ms,
        for_subject: asked.for_subject,
        permissions: asked.permissions,
        bind: asked.bind,
        options: Some(v1::ChangeOptions { reason: asked.reason, ..Default::default() }),
    })?;
    let (token, subject) = app.tokens.create(&principal, route(Rpc::CreateToken), asked).await?;
    Ok(Document::new("token", &convert::token(token, &subject)))
}
