//! An agent that answers what a test tells it to, and the opsctl that asks.

use std::io::Write as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;
use ops_proto::v1::agent_service_server::{AgentService, AgentServiceServer};
use ops_proto::v1::health_service_server::{HealthService, HealthServiceServer};
use ops_proto::v1::operation_service_server::{OperationService, OperationServiceServer};
use ops_proto::v1::{
    CancelOperationRequest, CancelOperationResponse, GetAgentRequest, GetAgentResponse, GetOperationRequest,
    GetOperationResponse, GetStatusRequest, GetStatusResponse, ListOperationsRequest, ListOperationsResponse,
    Operation, Problem, ReloadAgentRequest, ReloadAgentResponse, WatchOperationRequest,
    WatchOperationResponse,
};
use ops_trust::bundle::{AgentInfo, Bundle, BundleIdentity};
use ops_trust::ca::Authority;
use ops_trust::key::SigningKey;
use ops_trust::leaf::Leaf;
use ops_trust::tls::{Identity, ServerIdentity, SystemClock, server_config};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};

/// What the agent says to `GetStatus`.
type Answer = Arc<dyn Fn() -> Result<GetStatusResponse, Status> + Send + Sync>;

/// What the agent says to the n-th `WatchOperation`, from 0, that asks for what comes after this event; and whether it
/// closes the stream then.
type Watch = Arc<dyn Fn(usize, u64) -> (Vec<WatchOperationResponse>, bool) + Send + Sync>;

/// A running agent, its CA and the caller's bundle.
pub(crate) struct StandIn {
    pub(crate) address: String,
    pub(crate) folder: tempfile::TempDir,
    /// The `authorization` headers that came in.
    pub(crate) authorizations: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

/// How the world differs from a healthy one.
pub(crate) struct World {
    pub(crate) answer: Answer,
    /// The caller's certificate is by another CA.
    pub(crate) foreign_caller: bool,
    /// The caller trusts another CA than the agent's.
    pub(crate) foreign_agent: bool,
    /// How old the caller's certificate is.
    pub(crate) age_days: i64,
    /// The name that the caller expects of the agent.
    pub(crate) server_name: String,
    /// The agent has no `HealthService`.
    pub(crate) without_health: bool,
    /// The one operation that it has.
    pub(crate) operation: Operation,
    pub(crate) watch: Watch,
}

impl Default for World {
    fn default() -> Self {
        Self {
            answer: Arc::new(|| Ok(GetStatusResponse::default())),
            foreign_caller: false,
            foreign_agent: false,
            age_days: 0,
            server_name: "127.0.0.1".into(),
            without_health: false,
            operation: Operation::default(),
            watch: Arc::new(|_, _| (Vec::new(), false)),
        }
    }
}

impl World {
    pub(crate) fn answering(
        answer: impl Fn() -> Result<GetStatusResponse, Status> + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(answer), ..Self::default() }
    }

    /// Starts the agent on a free port of the loopback.
    pub(crate) fn start(self) -> StandIn {
        let now = Timestamp::now();
        let (ours, other) = (Authority::generate(now).unwrap(), Authority::generate(now).unwrap());
        let hosts = vec!["127.0.0.1".parse().unwrap()];
        let (issued, key) =
            ours.issue(&Leaf::new("agent/a".parse().unwrap(), hosts, None).unwrap(), now).unwrap();
        let identity = Identity::from_pem(&issued.certificate_pem, &key).unwrap();
        let server = ServerIdentity::new(&identity, ours.certificate(), now).unwrap();
        let config = server_config(ours.certificate(), server, Arc::new(SystemClock)).unwrap();

        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let authorizations = Arc::new(Mutex::new(Vec::new()));
        let service = Scripted {
            answer: Arc::clone(&self.answer),
            authorizations: Arc::clone(&authorizations),
            operation: self.operation.clone(),
            watch: Arc::clone(&self.watch),
            watched: Arc::default(),
        };
        runtime.spawn(serve(listener, TlsAcceptor::from(Arc::new(config)), service, self.without_health));

        let folder = tempfile::tempdir().unwrap();
        let caller_ca = if self.foreign_caller { &other } else { &ours };
        let then = now - jiff::SignedDuration::from_hours(24 * self.age_days);
        let leaf = Leaf::new("user/ana".parse().unwrap(), vec![], None).unwrap();
        let (certificate, key) = caller_ca.issue(&leaf, then).unwrap();
        let trusted = if self.foreign_agent || self.foreign_caller { &other } else { &ours };
        std::fs::write(folder.path().join("agents-ca.pem"), ours.certificate().pem()).unwrap();
        let agent = AgentInfo {
            id: "agent/a".parse().unwrap(),
            addresses: vec![address.clone()],
            server_name: self.server_name,
            ca: trusted.certificate().pem().to_owned(),
            audit_root: SigningKey::generate().unwrap().public(),
        };
        let identity = BundleIdentity {
            subject: "user/ana".parse().unwrap(),
            cert: certificate.certificate_pem,
            key: Some(key),
        };
        let identity = if self.foreign_agent { None } else { Some(identity) };
        let bundle = Bundle::new(agent, identity).to_toml().unwrap();
        let mut file = std::fs::File::create(folder.path().join("bundle.toml")).unwrap();
        file.write_all(bundle.as_bytes()).unwrap();
        StandIn { address, folder, authorizations, _runtime: runtime }
    }
}

impl StandIn {
    /// opsctl with this agent's bundle.
    pub(crate) fn opsctl(&self, arguments: &[&str]) -> Command {
        let mut command = opsctl(arguments);
        command.env("OPSCTL_BUNDLE", self.bundle());
        command
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.folder.path().join("bundle.toml")
    }

    /// Runs it; what it said has `[agent]` in place of the address.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.opsctl(arguments).output().unwrap()).without(&self.address)
    }
}

/// opsctl in an empty environment.
pub(crate) fn opsctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opsctl"));
    command.env_clear().stdin(Stdio::null()).args(arguments);
    command
}

/// What came out of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn without(mut self, address: &str) -> Self {
        self.stdout = self.stdout.replace(address, "[agent]");
        self.stderr = self.stderr.replace(address, "[agent]");
        self
    }

    pub(crate) fn document(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// A status as the agent sends it: code, message and the problem as a detail.
pub(crate) fn refusal(code: tonic::Code, problem: &Problem) -> Status {
    let any = prost_types::Any {
        type_url: "type.googleapis.com/ops.v1.Problem".into(),
        value: problem.encode_to_vec(),
    };
    let details =
        tonic_types::pb::Status { code: code as i32, message: problem.message.clone(), details: vec![any] };
    Status::with_details(code, problem.message.clone(), details.encode_to_vec().into())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, service: Scripted, without_health: bool) {
    let (sender, accepted) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(socket).await {
                    let _ = sender.send(Ok::<_, std::io::Error>(Tls(stream))).await;
                }
            });
        }
    });
    let mut server = Server::builder()
        .add_service(AgentServiceServer::new(service.clone()))
        .add_service(OperationServiceServer::new(service.clone()));
    if !without_health {
        server = server.add_service(HealthServiceServer::new(service));
    }
    server.serve_with_incoming(ReceiverStream::new(accepted)).await.unwrap();
}

#[derive(Clone)]
struct Scripted {
    answer: Answer,
    authorizations: Arc<Mutex<Vec<String>>>,
    operation: Operation,
    watch: Watch,
    watched: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl OperationService for Scripted {
    type WatchOperationStream = BoxStream<'static, Result<WatchOperationResponse, Status>>;

    async fn list_operations(
        &self,
        _: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        Ok(Response::new(ListOperationsResponse { operations: vec![self.operation.clone()] }))
    }

    async fn get_operation(
        &self,
        _: Request<GetOperationRequest>,
    ) -> Result<Response<GetOperationResponse>, Status> {
        Ok(Response::new(GetOperationResponse { operation: Some(self.operation.clone()) }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let call = self.watched.fetch_add(1, Ordering::SeqCst);
        let (told, closes) = (self.watch)(call, request.get_ref().after_seq);
        let told = futures_util::stream::iter(told).map(Ok);
        Ok(Response::new(if closes {
            told.boxed()
        } else {
            told.chain(futures_util::stream::pending()).boxed()
        }))
    }

    async fn cancel_operation(
        &self,
        _: Request<CancelOperationRequest>,
    ) -> Result<Response<CancelOperationResponse>, Status> {
        Ok(Response::new(CancelOperationResponse { operation: Some(self.operation.clone()) }))
    }
}

#[tonic::async_trait]
impl HealthService for Scripted {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        if let Some(value) = request.metadata().get("authorization") {
            self.authorizations.lock().unwrap().push(value.to_str().unwrap().to_owned());
        }
        (self.answer)().map(Response::new)
    }
}

#[tonic::async_trait]
impl AgentService for Scripted {
    async fn get_agent(&self, _: Request<GetAgentRequest>) -> Result<Response<GetAgentResponse>, Status> {
        Ok(Response::new(GetAgentResponse {
            id: "agent/a".into(),
            version: "0.1.0".into(),
            api: "ops.v1".into(),
            audit_writable: true,
            ..GetAgentResponse::default()
        }))
    }

    async fn reload_agent(
        &self,
        request: Request<ReloadAgentRequest>,
    ) -> Result<Response<ReloadAgentResponse>, Status> {
        let options = request.into_inner().options.unwrap_or_default();
        let changes = vec![format!("{options:?}")];
        Ok(Response::new(ReloadAgentResponse { policy_generation: 7, changes, ..Default::default() }))
    }
}

/// tonic wants to know about a connection what the stream alone does not say.
struct Tls(TlsStream<TcpStream>);

impl Connected for Tls {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Tls {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, to)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
