//! The access log, as uvicorn writes it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request};
use axum::http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;

use crate::say;

/// `INFO:     127.0.0.1:51544 - "GET /api/auctions HTTP/1.1" 200 OK` on stdout, once the answer is known.
pub(super) async fn write(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let version = if request.version() == Version::HTTP_2 { "2" } else { "1.1" };
    let mut response = next.run(request).await;
    // The pages come from another port.
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    say(&format!("INFO:     {peer} - \"{method} {target} HTTP/{version}\" {} {reason}", status.as_u16()));
    response
}
