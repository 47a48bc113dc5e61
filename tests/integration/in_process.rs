//! An agent in this process: real configuration, real TLS, no supervisord. For what is about doors, not about services.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::{SignedDuration, Timestamp};
use ops_agent::app::App;
use ops_agent::config::Config;
use ops_agent::init::{self, InitArgs};
use ops_trust::ca::{CaCertificate, CaFolder};
use ops_trust::key::SigningKey;
use ops_trust::leaf::Leaf;
use ops_trust::policy::{self, Binding};
use ops_trust::subject::Subject;
use ops_trust::tls::{Alpn, Identity, SystemClock, client_config};
use ops_trust::token::{Claims, Signer};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Everything that a test waits for must have come by then.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Limits that do not get into the way of a test about something else.
pub(crate) const ROOMY: &str = "[limits]\nreads_per_second = 10000\nchanges_per_minute = 10000\n\
    auth_failures_per_minute = 10000\nconnections_per_address = 500\nconnections_per_identity = 500\n";

/// A running agent and its folder.
pub(crate) struct Agent {
    pub(crate) app: Arc<App>,
    pub(crate) address: SocketAddr,
    root: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

/// A folder as `opsd init` makes it, on a free port, with these bindings beside the admin's.
pub(crate) fn folder(
    bindings: &[(&str, &str, &[&str])],
    change: impl FnOnce(String) -> String,
) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let args = InitArgs {
        root: Some(root.path().to_owned()),
        listen: "127.0.0.1:7443".parse().unwrap(),
        server_names: Vec::new(),
        id: Some("test".to_owned()),
        admin: "admin".to_owned(),
        csr: false,
        detect: false,
        supervisor_config: None,
    };
    init::run(&args, "localhost", Timestamp::now()).unwrap();
    let etc = root.path().join("etc/opsd");
    let config = std::fs::read_to_string(etc.join("opsd.toml")).unwrap();
    let config = change(config.replace("127.0.0.1:7443", "127.0.0.1:0"));
    std::fs::write(etc.join("opsd.toml"), config).unwrap();
    for (subject, role, services) in bindings {
        bind(&etc.join("policy.toml"), subject, role, services);
    }
    root
}

pub(crate) fn bind(file: &Path, subject: &str, role: &str, services: &[&str]) {
    let services = services.iter().map(|name| (*name).to_owned()).collect();
    let binding = Binding::new(vec![role.to_owned()], services).unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    if let Some(text) = policy::with_binding(&text, &subject.parse().unwrap(), &binding).unwrap() {
        std::fs::write(file, text).unwrap();
    }
}

impl Agent {
    pub(crate) async fn start(bindings: &[(&str, &str, &[&str])], more: &str) -> Self {
        Self::start_with(bindings, |config| config + more).await
    }

    /// With another configuration.
    pub(crate) async fn start_with(
        bindings: &[(&str, &str, &[&str])],
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let root = folder(bindings, change);
        let config = Config::read(&root.path().join("etc/opsd/opsd.toml")).unwrap();
        let app = App::build(config).unwrap();
        let listener = app.bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(Arc::clone(&app).serve(listener));
        Self { app, address, root, serving }
    }

    pub(crate) fn etc(&self) -> PathBuf {
        self.root.path().join("etc/opsd")
    }

    pub(crate) fn trail(&self) -> PathBuf {
        self.root.path().join("var/lib/opsd/audit/trail.jsonl")
    }

    pub(crate) fn ca(&self) -> CaCertificate {
        CaFolder::read_certificate(&self.etc().join("ca")).unwrap()
    }

    /// A certificate of the agent's own CA.
    pub(crate) fn identity(&self, subject: &str) -> Identity {
        self.identity_at(subject, Timestamp::now(), 1)
    }

    /// As if it had been issued at another time.
    pub(crate) fn identity_at(&self, subject: &str, now: Timestamp, days: u16) -> Identity {
        identity(&CaFolder::open(&self.etc().join("ca")).unwrap(), subject, now, days)
    }

    pub(crate) fn signer(&self) -> Signer {
        let pem = std::fs::read(self.etc().join("token.key")).unwrap();
        Signer::new(SigningKey::from_pem(&pem).unwrap())
    }

    pub(crate) fn claims(&self, subject: &str) -> Claims {
        let agent: Subject = "agent/test".parse().unwrap();
        Claims::new(&agent, subject.parse().unwrap(), SignedDuration::from_mins(5), Timestamp::now()).unwrap()
    }

    pub(crate) fn token(&self, subject: &str) -> String {
        self.signer().sign(&self.claims(subject)).unwrap()
    }

    /// A caller with a certificate, a token, both or nothing.
    pub(crate) fn caller(&self, identity: Option<Identity>, token: Option<String>) -> Caller {
        Caller { address: self.address, ca: self.ca(), identity, token }
    }

    pub(crate) fn as_user(&self, subject: &str) -> Caller {
        self.caller(Some(self.identity(subject)), None)
    }

    /// Drains, and waits for the end.
    pub(crate) async fn stop(self) {
        self.app.lifecycle.drain();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap();
    }
}

/// A caller of an agent in another process.
pub(crate) fn caller_of(root: &Path, address: SocketAddr, subject: &str) -> Caller {
    let folder = CaFolder::open(&root.join("etc/opsd/ca")).unwrap();
    let ca = folder.certificate().clone();
    Caller { address, ca, identity: Some(identity(&folder, subject, Timestamp::now(), 1)), token: None }
}

pub(crate) fn identity(ca: &CaFolder, subject: &str, now: Timestamp, days: u16) -> Identity {
    let leaf = Leaf::new(subject.parse().unwrap(), Vec::new(), Some(days)).unwrap();
    let (issued, key) = ca.issue(&leaf, now).unwrap();
    Identity::from_pem(&issued.certificate_pem, &key).unwrap()
}

/// Who calls.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) address: SocketAddr,
    pub(crate) ca: CaCertificate,
    pub(crate) identity: Option<Identity>,
    pub(crate) token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP's status.
    pub(crate) http: u16,
    /// gRPC's, from headers or trailers; -1 at the REST door.
    pub(crate) grpc: i32,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// From the details or from problem+json.
    pub(crate) reason: String,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Caller {
    pub(crate) async fn tls(&self, alpn: Alpn) -> std::io::Result<TlsStream<TcpStream>> {
        let config = client_config(&self.ca, self.identity.as_ref(), &[alpn], Arc::new(SystemClock)).unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// A gRPC call with this message; the whole answer, so not for streams without an end.
    pub(crate) async fn grpc(&self, path: &str, message: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.try_grpc(path, message, headers).await.unwrap()
    }

    pub(crate) async fn try_grpc(
        &self,
        path: &str,
        message: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let mut framed = vec![0];
        framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        framed.extend(message);
        let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        all.extend(headers);
        self.http2(Method::POST, path, &all, framed.into()).await
    }

    pub(crate) async fn http2(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TokioIo::new(self.tls(Alpn::H2).await?);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
        let driver = tokio::spawn(connection);
        let uri = format!("https://localhost{path}");
        let request = self.request(method, &uri, headers, body);
        let answer = read(sender.send_request(request).await?).await;
        driver.abort();
        answer
    }

    /// A stream in the background: when its head is there, and how it ended.
    pub(crate) fn watch(
        &self,
        path: &'static str,
    ) -> (tokio::sync::oneshot::Receiver<()>, tokio::task::JoinHandle<Answer>) {
        let (open, opened) = tokio::sync::oneshot::channel();
        let caller = self.clone();
        let watching = tokio::spawn(async move {
            let stream = TokioIo::new(caller.tls(Alpn::H2).await.unwrap());
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
            tokio::spawn(connection);
            let headers = [("content-type", "application/grpc"), ("te", "trailers")];
            let uri = format!("https://localhost{path}");
            let request = caller.request(Method::POST, &uri, &headers, Bytes::from_static(&[0; 5]));
            let response = sender.send_request(request).await.unwrap();
            open.send(()).unwrap();
            read(response).await.unwrap()
        });
        (opened, watching)
    }

    /// An empty message's answer: whole when it ends at once, its head when it is a stream that goes on.
    pub(crate) async fn grpc_head(&self, path: &str) -> Answer {
        let stream = TokioIo::new(self.tls(Alpn::H2).await.unwrap());
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let uri = format!("https://localhost{path}");
        let headers = [("content-type", "application/grpc"), ("te", "trailers")];
        let request = self.request(Method::POST, &uri, &headers, Bytes::from_static(&[0; 5]));
        let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        let (parts, _) = response.into_parts();
        let status = parts.headers.get("grpc-status").and_then(|value| value.to_str().ok());
        let grpc = status.map_or(0, |text| text.parse().unwrap());
        driver.abort();
        let mut answer = Answer {
            http: parts.status.as_u16(),
            grpc,
            headers: parts.headers,
            body: Bytes::new(),
            reason: String::new(),
        };
        answer.reason = reason(&answer);
        answer
    }

    /// An empty request to a route, its parameters filled with a word.
    pub(crate) async fn rest_head(&self, method: &Method, path: &str) -> Answer {
        let path: Vec<&str> =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        self.rest(method.clone(), &path.join("/"), "").await
    }

    /// A REST call over HTTP/1.1.
    pub(crate) async fn rest(&self, method: Method, path: &str, body: &str) -> Answer {
        let json: &[(&str, &str)] =
            if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        self.http1(method, path, json, Bytes::from(body.to_owned())).await.unwrap()
    }

    pub(crate) async fn http1(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TokioIo::new(self.tls(Alpn::Http11).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let driver = tokio::spawn(connection);
        let mut all = vec![("host", "localhost")];
        all.extend(headers);
        let answer = read(sender.send_request(self.request(method, path, &all, body)).await?).await;
        driver.abort();
        answer
    }

    fn request(
        &self,
        method: Method,
        uri: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::new(body)).unwrap()
    }
}

async fn read(
    response: http::Response<hyper::body::Incoming>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (parts, body) = response.into_parts();
    let collected = tokio::time::timeout(PATIENCE, body.collect()).await??;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    let mut headers = parts.headers;
    headers.extend(trailers);
    let grpc = headers.get("grpc-status").map_or(-1, |value| value.to_str().unwrap().parse().unwrap());
    let body = collected.to_bytes();
    let mut answer = Answer { http: parts.status.as_u16(), grpc, headers, body, reason: String::new() };
    answer.reason = reason(&answer);
    Ok(answer)
}

fn reason(answer: &Answer) -> String {
    let details = tonic::Status::from_header_map(&answer.headers)
        .and_then(|status| tonic_types::Status::decode(status.details()).ok())
        .and_then(|status| tonic_types::pb::ErrorInfo::decode(status.details.first()?.value.as_slice()).ok())
        .map(|info| info.reason);
    details.unwrap_or_else(|| answer.json()["reason"].as_str().unwrap_or_default().to_owned())
}
