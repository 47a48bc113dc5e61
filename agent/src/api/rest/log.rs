//! `/v1/logs/sources`, and `/v1/services/{name}/logs` as JSON lines.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use ops_domain::Error;
use ops_proto::{Rpc, v1};
use serde::Deserialize;
use serde_json::json;

use super::{Caller, Document, Query, Routes};
use crate::api::convert::{self, log};
use crate::api::error::Problem;
use crate::app::App;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(Rpc::ListSources, "/v1/logs/sources", sources).get(
        Rpc::TailLog,
        "/v1/services/{name}/logs",
        tail,
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sources {
    service: Option<String>,
}

async fn sources(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Query(asked): Query<Sources>,
) -> Result<Document, Problem> {
    let names: Vec<String> = asked.service.into_iter().collect();
    let files = app.logs.sources(&principal, &convert::services(&names)?).await?;
    Ok(Document::new("log_source_list", &log::sources(&files)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    lines: Option<u32>,
    stream: Option<Stream>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    cursor: String,
    #[serde(default)]
    until_cursor: String,
    on_lag: Option<OnLag>,
    #[serde(default)]
    raw: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stream {
    Out,
    Err,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnLag {
    Skip,
}

async fn tail(
    State(app): State<Arc<App>>,
    Caller(principal): Caller,
    Path(name): Path<String>,
    Query(asked): Query<Tail>,
) -> Result<Response, Problem> {
    let stream = match asked.stream {
        None => v1::LogStream::Unspecified,
        Some(Stream::Out) => v1::LogStream::Out,
        Some(Stream::Err) => v1::LogStream::Err,
    };
    let request = log::request(v1::TailLogRequest {
        services: vec![name],
        stream: stream.into(),
        lines: asked.lines,
        follow: asked.follow,
        cursor: asked.cursor,
        until_cursor: asked.until_cursor,
        skip_on_lag: matches!(asked.on_lag, Some(OnLag::Skip)),
        raw: asked.raw,
    })?;
    let tail = app.logs.tail(&principal, request).await?;
    let lines = unfold(tail, |mut tail| async move {
        let text = match tail.next().await? {
            Ok(batch) => text(&log::batch(batch)),
            Err(error) => broken(&error),
        };
        Some((Ok::<_, Infallible>(text), tail))
    });
    let mut response = Response::new(Body::from_stream(lines.boxed()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

fn text(message: &v1::TailLogResponse) -> String {
    ops_proto::log::documents(message).iter().fold(String::new(), |mut text, document| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{document}");
        text
    })
}

/// The headers are gone, so a failure is the last line.
fn broken(error: &Error) -> String {
    let problem = ops_proto::json::value(&convert::problem(error));
    format!("{}\n", json!({ "kind": "error", "version": ops_proto::json::VERSION, "error": problem }))
}
