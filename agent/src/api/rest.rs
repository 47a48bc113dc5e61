//! REST: one file a noun. A route is registered for the rpc that it stands for, and has that rpc's rights.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::handler::Handler;
use axum::http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use ops_domain::access::Principal;
use ops_domain::{Error, Reason};
use ops_proto::Rpc;
use serde::de::DeserializeOwned;

use super::auth::{self, RouteTable};
use super::error::Problem;
use crate::app::App;

mod access;
mod agent;
mod audit;
mod backup;
mod database;
mod health;
mod log;
mod operation;
mod probe;
mod service;
mod status;

/// Every route.
#[must_use]
pub fn routes() -> Routes {
    let routes = Routes { router: health::routes(), table: HashMap::new() };
    let routes = access::routes(routes);
    let routes = agent::routes(routes);
    let routes = audit::routes(routes);
    let routes = operation::routes(routes);
    let routes = service::routes(routes);
    let routes = probe::routes(routes);
    let routes = log::routes(routes);
    let routes = database::routes(routes);
    let routes = backup::routes(routes);
    status::routes(routes)
}

/// Routes, and the rpc that each stands for.
pub struct Routes {
    router: Router<Arc<App>>,
    table: RouteTable,
}

impl Routes {
    /// `GET path` stands for `rpc`.
    pub fn get<H: Handler<T, Arc<App>>, T: 'static>(self, rpc: Rpc, path: &'static str, handler: H) -> Self {
        self.add(rpc, Method::GET, path, routing::get(handler))
    }

    /// `POST path` stands for `rpc`.
    pub fn post<H: Handler<T, Arc<App>>, T: 'static>(self, rpc: Rpc, path: &'static str, handler: H) -> Self {
        self.add(rpc, Method::POST, path, routing::post(handler))
    }

    /// The router for handlers and the table for the layer.
    pub fn into_parts(self) -> (Router<Arc<App>>, RouteTable) {
        (self.router, self.table)
    }

    fn add(mut self, rpc: Rpc, method: Method, path: &'static str, handler: MethodRouter<Arc<App>>) -> Self {
        self.router = self.router.route(path, handler);
        self.table.insert((method, path), rpc);
        self
    }
}

/// Who is calling; the layer put it there.
pub struct Caller(pub Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Principal>().cloned().map(Self).ok_or_else(|| auth::unauthenticated().into())
    }
}

/// A JSON body, or the default when there is none. The type says `deny_unknown_fields`; serde refuses keys given twice.
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let invalid =
            |message: String| Error::new(Reason::InvalidArgument, message).effect("nothing was done");
        // The layer has read the body within its limits already.
        let bytes = axum::body::to_bytes(request.into_body(), usize::MAX)
            .await
            .map_err(|error| invalid(error.to_string()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| invalid(format!("the body: {error}")))?;
        Ok(Self(value))
    }
}

/// The query of a request. The type says `deny_unknown_fields`.
pub struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        axum::extract::Query::<T>::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|error| {
            Error::new(Reason::InvalidArgument, format!("the query: {}", error.body_text()))
                .effect("nothing was done")
                .into()
        })
    }
}

/// An answer: a document of [`ops_proto::json`].
pub struct Document {
    status: StatusCode,
    value: serde_json::Value,
    location: Option<String>,
}

impl Document {
    /// `kind` is one lower-case word for what it is.
    pub fn new<M: prost::Message + prost::Name>(kind: &str, message: &M) -> Self {
        Self { status: StatusCode::OK, value: ops_proto::json::document(kind, message), location: None }
    }

    /// A document that was put together already.
    #[must_use]
    pub fn of(value: serde_json::Value) -> Self {
        Self { status: StatusCode::OK, value, location: None }
    }

    /// Another status than 200.
    #[must_use]
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// It runs on: 202, where to look, and when.
    #[must_use]
    pub fn accepted(mut self, location: String) -> Self {
        self.status = StatusCode::ACCEPTED;
        self.location = Some(location);
        self
    }
}

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let mut text = self.value.to_string();
        text.push('\n');
        let mut response = Response::new(axum::body::Body::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(location) = self.location.and_then(|location| HeaderValue::from_str(&location).ok()) {
            headers.insert(LOCATION, location);
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
