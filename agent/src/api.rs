//! Both doors, gRPC and REST: decode, call the domain, encode. Nothing is decided here but who is let in.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use ops_domain::access::Principal;
use tonic::{Request, Status};

use crate::app::App;

pub mod auth;
pub mod convert;
pub mod error;
pub mod grpc;
pub mod listener;
pub mod rest;

/// Who is calling. The auth layer put it there; a handler that could be reached without it answers nobody.
///
/// # Errors
/// `UNAUTHENTICATED`.
#[allow(clippy::result_large_err)]
pub fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    request.extensions().get::<Principal>().cloned().ok_or_else(|| error::status(auth::unauthenticated()))
}

/// One router for both doors, behind the one layer that lets callers in.
pub fn router(app: &Arc<App>) -> Router {
    let (rest, table) = rest::routes().into_parts();
    let grpc = grpc::routes(app).prepare().into_axum_router().reset_fallback();
    let gate = Arc::new(auth::Gate::new(app, table));
    rest.with_state(Arc::clone(app))
        .merge(grpc)
        .fallback(auth::unreachable)
        .layer(from_fn_with_state(gate, auth::enter))
}
