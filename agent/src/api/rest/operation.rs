//! `/v1/operations`, and what every route that changes something has in common.
//!
//! A POST that changes something takes its options from the query (`wait`, `plan`, `plan_id`, `plan_digest`,
//! `confirm`, `confirmed`, `reason`, `timeout`, `lock_timeout`) and from `Idempotency-Key`: [`Change`]. It answers by
//! [`started`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use ops_domain::access::Principal;
use ops_domain::operation::{ChangeOptions, Operation, Started, State as OperationState};
use ops_domain::{Error, Reason, Result as DomainResult};
use ops_proto::{Rpc, v1};
use serde::Deserialize;

use super::{Caller, Document, Query, Routes};
use crate::api::auth::policy::route;
use crate::api::convert;
use crate::api::error::Problem;
use crate::app::App;
use crate::config::duration;

/// The longest that a call waits; proxies and clients give up on longer ones.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get(Rpc::ListOperations, "/v1/operations", list)
        .get(Rpc::GetOperation, "/v1/operations/{id}", get)
        .post(Rpc::CancelOperation, "/v1/operations/{id}/cancel", cancel)
}

/// How a change is to be made, and for how long the answer may wait for its end.
pub(super) struct Change {
    /// For the engine.
    pub(super) options: ChangeOptions,
    /// `None`: answer while it runs.
    pub(super) wait: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    wait: Option<String>,
    plan: bool,
    plan_id: String,
    plan_digest: String,
    confirm: String,
    confirmed: bool,
    reason: String,
    timeout: Option<String>,
    lock_timeout: Option<String>,
}

impl FromRequestParts<Arc<App>> for Change {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, app).await?;
        let key = match parts.headers.get("idempotency-key").map(|key| key.to_str()) {
            None => String::new(),
            Some(Ok(key)) => key.to_owned(),
            Some(Err(_)) => return Err(invalid("Idempotency-Key must be ASCII".to_owned()).into()),
        };
        let in_ms = |length: Option<Duration>| length.map_or(0, convert::in_milliseconds);
        let options = convert::change_options(Some(v1::ChangeOptions {
            plan: asked.plan,
            plan_id: asked.plan_id,
            plan_digest: asked.plan_digest,
            confirm: asked.confirm,
            confirmed: asked.confirmed,
            reason: asked.reason,
            idempotency_key: key,
            timeout_ms: in_ms(length("timeout", asked.timeout.as_deref())?),
            lock_timeout_ms: in_ms(length("lock_timeout", asked.lock_timeout.as_deref())?),
        }))?;
        Ok(Self { options, wait: wait(asked.wait.as_deref())? })
    }
}

/// The answer to a change: a plan (200), an operation that succeeded (200) or runs (202, with where to look), or
/// problem+json with 424 for one that ran and failed, which `curl --retry` never repeats.
pub(super) async fn started(
    app: &App,
    principal: &Principal,
    wait: Option<Duration>,
    started: Started,
) -> Result<Document, Problem> {
    let operation = match started {
        Started::Plan(planned) => return Ok(Document::new("plan", &convert::operation::plan(&planned))),
        Started::Operation(operation) => operation,
    };
    let operation = match wait {
        Some(time) if !operation.state.ended() => app.operations.wait(operation.id.as_str(), time).await?,
        _ => operation,
    };
    answer(operation.shown_to(principal))
}

fn answer(operation: Operation) -> Result<Document, Problem> {
    let path = format!("/v1/operations/{}", operation.id);
    let document = Document::new("operation", &convert::operation::operation(&operation));
    match operation.state {
        OperationState::Succeeded => Ok(document),
        OperationState::Pending | OperationState::Running => Ok(document.accepted(path)),
        _ => {
            let unsaid = || Error::new(Reason::Internal, format!("{} did not succeed", operation.kind));
            let error = operation.problem.unwrap_or_else(unsaid);
            Err(Problem::from(error).with_status(StatusCode::FAILED_DEPENDENCY).with_operation(path))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct List {
    limit: u32,
    running: bool,
}

async fn list(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Query(asked): Query<List>,
) -> Result<Document, Problem> {
    let operations = app.operations.list_for(&principal, asked.limit, asked.running).await?;
    Ok(Document::new("operation_list", &convert::operation::operations(&operations)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Get {
    wait: Option<String>,
}

async fn get(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    Query(asked): Query<Get>,
) -> Result<Document, Problem> {
    let mut operation = app.operations.get_for(&principal, &id).await?;
    if let Some(time) = wait(asked.wait.as_deref())?.filter(|_| !operation.state.ended()) {
        operation = app.operations.wait(operation.id.as_str(), time).await?.shown_to(&principal);
    }
    Ok(Document::new("operation", &convert::operation::operation(&operation)))
}

async fn cancel(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(id): Path<String>,
    change: Change,
) -> Result<Document, Problem> {
    let route = route(Rpc::CancelOperation);
    let mut operation = app.operations.cancel(&principal, route, &change.options, &id).await?;
    if let Some(time) = change.wait.filter(|_| !operation.state.ended() && !change.options.plan) {
        operation = app.operations.wait(operation.id.as_str(), time).await?;
    }
    let operation = operation.shown_to(&principal);
    let document = Document::new("operation", &convert::operation::operation(&operation));
    let runs = !operation.state.ended() && !change.options.plan;
    Ok(if runs { document.accepted(format!("/v1/operations/{}", operation.id)) } else { document })
}

fn wait(text: Option<&str>) -> DomainResult<Option<Duration>> {
    Ok(length("wait", text)?.map(|time| time.min(LONGEST_WAIT)))
}

fn length(field: &str, text: Option<&str>) -> DomainResult<Option<Duration>> {
    let parse = |text: &str| duration::parse(text).map_err(|why| invalid(format!("{field}: {why}")));
    text.map(parse).transpose()
}

fn invalid(message: String) -> Error {
    Error::new(Reason::InvalidArgument, message).effect("nothing was done")
}
