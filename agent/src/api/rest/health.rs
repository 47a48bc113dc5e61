//! `/healthz` and `/readyz`: open, without detail.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::app::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz))
}

/// It lives: it answers.
async fn healthz() -> &'static str {
    "ok\n"
}

/// It serves, and is not about to end.
async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    if app.lifecycle.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
