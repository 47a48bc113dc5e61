//! The layer in front of handlers that misbehave.

use std::net::SocketAddr;

use axum::Router;
use axum::http::request::Builder;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::*;
use crate::init::{self, InitArgs};

fn app(root: &std::path::Path) -> Arc<App> {
    let args = InitArgs {
        root: Some(root.to_owned()),
        listen: SocketAddr::from(([127, 0, 0, 1], 7443)),
        server_names: Vec::new(),
        id: Some("test".to_owned()),
        admin: "admin".to_owned(),
        csr: false,
        detect: false,
        supervisor_config: None,
    };
    init::run(&args, "localhost", Timestamp::now()).unwrap();
    App::build(crate::config::Config::read(&root.join("etc/opsd/opsd.toml")).unwrap()).unwrap()
}

fn token(root: &std::path::Path) -> String {
    use ops_trust::token::{Claims, Signer};
    let key = ops_trust::key::SigningKey::from_pem(&std::fs::read(root.join("etc/opsd/token.key")).unwrap())
        .unwrap();
    let (agent, admin) = ("agent/test".parse().unwrap(), "user/admin".parse().unwrap());
    let claims = Claims::new(&agent, admin, SignedDuration::from_mins(5), Timestamp::now()).unwrap();
    Signer::new(key).sign(&claims).unwrap()
}

fn request(app: &App, token: &str, method: &str, path: &str) -> Builder {
    let connection = Connection {
        peer: SocketAddr::from(([127, 0, 0, 1], 1)),
        certificate: None,
        ca: app.tls.current().ca_sha256,
        closing: CancellationToken::new(),
    };
    let request = Request::builder().method(method).uri(path).extension(connection);
    request.header("authorization", format!("Bearer {token}"))
}

#[allow(clippy::panic)]
async fn panics() -> &'static str {
    panic!("a fault of ours")
}

/// A stream of one frame, and then a panic.
fn broken_stream() -> Response {
    let frames = futures_util::stream::iter([1, 2]).map(|number| {
        assert!(number == 1, "a fault of ours");
        Ok::<_, std::io::Error>(axum::body::Bytes::from_static(b"frame"))
    });
    Response::new(Body::from_stream(frames))
}

#[tokio::test]
async fn a_panic_is_an_answer_with_the_requests_id_and_the_agent_lives_on() {
    let root = tempfile::tempdir().unwrap();
    let app = app(root.path());
    let token = token(root.path());
    let table =
        HashMap::from([((Method::GET, "/panic"), Rpc::GetAgent), ((Method::GET, "/good"), Rpc::GetAgent)]);
    let gate = Arc::new(Gate::new(&app, table));
    let router = Router::new()
        .route("/panic", get(panics))
        .route("/good", get(|| async { "good" }))
        .route(Rpc::WatchServices.path(), post(|| async { broken_stream() }))
        .layer(from_fn_with_state(gate, enter));
    let call = |request: Request| router.clone().oneshot(request);

    let response = call(request(&app, &token, "GET", "/panic").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["reason"], "INTERNAL");
    assert!(problem["message"].as_str().unwrap().contains(&id), "{problem}");

    let stream = request(&app, &token, "POST", Rpc::WatchServices.path())
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc");
    let response = call(stream.body(Body::empty()).unwrap()).await.unwrap();
    let ended = response.into_body().collect().await.unwrap();
    assert_eq!(ended.trailers().unwrap()["grpc-status"], "13");

    let response = call(request(&app, &token, "GET", "/good").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_answers_is_answered_for() {
    let root = tempfile::tempdir().unwrap();
    let app = app(root.path());
    let token = token(root.path());
    let table = HashMap::from([((Method::GET, "/slow"), Rpc::GetAgent)]);
    let gate = Arc::new(Gate::new(&app, table));
    let router = Router::new()
        .route("/slow", get(std::future::pending::<&'static str>))
        .layer(from_fn_with_state(gate, enter));
    let slow = request(&app, &token, "GET", "/slow").body(Body::empty()).unwrap();
    let response = router.oneshot(slow).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[test]
fn timeouts_of_grpc() {
    let parse = |text| grpc_timeout(&HeaderValue::from_static(text));
    assert_eq!(parse("30S"), Some(Duration::from_secs(30)));
    assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
    for bad in ["", "S", "1", "-1S", "1.5S", "123456789S", "1s", "1 S", "xS"] {
        assert_eq!(parse(bad), None, "{bad}");
    }
}
