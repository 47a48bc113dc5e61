//! The platform's pages: three files, and a line on stdout for each request.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::{Failure, say, signals};

const PAGE: &str = include_str!("frontend/index.html");
const SCRIPT: &str = include_str!("frontend/app.js");
const STYLE: &str = include_str!("frontend/style.css");

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where a browser finds the API.
    #[arg(long, value_name = "URL")]
    api: String,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let ended = signals::termination()?;
    let page: Arc<str> = PAGE.replace("{{api}}", &arguments.api).into();
    let router = Router::new()
        .route("/", get(|State(page): State<Arc<str>>| async move { file("text/html", &page) }))
        .route("/app.js", get(|| async { file("text/javascript", SCRIPT) }))
        .route("/style.css", get(|| async { file("text/css", STYLE) }))
        .layer(middleware::from_fn(log))
        .with_state(page);
    let listener = TcpListener::bind(arguments.listen).await?;
    say(&format!(" INFO  Accepting connections at http://{}", arguments.listen));
    axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(ended)
        .await?;
    say(" INFO  Gracefully shutting down");
    Ok(ExitCode::SUCCESS)
}

fn file(kind: &str, text: &str) -> Response {
    let kind = format!("{kind}; charset=utf-8");
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache".to_owned())], text.to_owned()).into_response()
}

async fn log(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let took = began.elapsed().as_millis();
    say(&format!(" HTTP  {:.3} {} {method} {path} {status} in {took} ms", Timestamp::now(), peer.ip()));
    response
}
