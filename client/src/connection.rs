//! From a target to a channel: TCP, TLS 1.3 with the context's CA only, HTTP/2, the token as metadata.
//!
//! The first connection is made before the first call, so that what fails is named by its hop: name, TCP, TLS. After
//! a cut the channel connects again by itself, by the same road.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use ops_proto::v1::ErrorReason;
use ops_trust::tls::{Alpn, SystemClock, client_config};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, service_fn};

use crate::context::Target;
use crate::error::{Error, Result};

mod dial;
mod tap;

use tap::{Faults, Tap};

/// What generated clients are made of: `ServiceServiceClient::new(session.connect().await?)`.
#[derive(Clone, Debug)]
pub struct Connection {
    channel: InterceptedService<Channel, Credential>,
    faults: Faults,
}

type Request = http::Request<tonic::body::Body>;
type Called = Pin<Box<dyn Future<Output = std::result::Result<Answer, tonic::codegen::StdError>> + Send>>;
type Answer = <InterceptedService<Channel, Credential> as Service<Request>>::Response;

impl Service<Request> for Connection {
    type Response = Answer;
    type Error = tonic::codegen::StdError;
    type Future = Called;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        Service::<Request>::poll_ready(&mut self.channel, context).map_err(|error| self.faults.explain(error))
    }

    fn call(&mut self, request: Request) -> Called {
        let faults = self.faults.clone();
        let called = self.channel.call(request);
        Box::pin(async move { called.await.map_err(|error| faults.explain(error)) })
    }
}

/// How long name, TCP and TLS may take together, for one address.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer, or the head of a stream, may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Adds the access token to each call.
#[derive(Clone)]
pub struct Credential {
    authorization: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credential {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> std::result::Result<tonic::Request<()>, tonic::Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(redacted)")
    }
}

/// Connects. `timeout` is how long a call may take.
///
/// # Errors
/// `AGENT_UNREACHABLE`, `AGENT_UNTRUSTED` (exit 3), or a credential that the agent refuses (exit 4).
pub async fn connect(target: &Target, timeout: Duration) -> Result<Connection> {
    let alpn = [Alpn::H2];
    let config = client_config(&target.ca, target.identity.as_ref(), &alpn, Arc::new(SystemClock))
        .map_err(|error| Error::new(ErrorReason::ContextInvalid, error.to_string()))?;
    let road = Arc::new(dial::Road {
        addresses: target.addresses.clone(),
        server_name: target.server_name.clone(),
        config: Arc::new(config),
    });
    let faults = Faults::default();
    let first = Tap::new(road.dial().await?, faults.clone());
    let channel = channel(&target.server_name, road, first, timeout)?;
    Ok(Connection { channel: InterceptedService::new(channel, credential(target)?), faults })
}

fn channel(server_name: &str, road: Arc<dial::Road>, first: Tap, timeout: Duration) -> Result<Channel> {
    let host = if server_name.contains(':') { format!("[{server_name}]") } else { server_name.to_owned() };
    let origin: Uri = format!("https://{host}")
        .parse()
        .map_err(|_| Error::new(ErrorReason::ContextInvalid, format!("{host} cannot name a server")))?;
    let endpoint = Endpoint::from(origin)
        .user_agent(concat!("opsctl/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| Error::new(ErrorReason::Internal, error.to_string()))?
        .timeout(timeout)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE);
    let faults = first.faults();
    let first = Arc::new(Mutex::new(Some(first)));
    let connector = service_fn(move |_: Uri| {
        let (road, first, faults) = (Arc::clone(&road), Arc::clone(&first), faults.clone());
        async move {
            let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            let stream = match ready {
                Some(stream) => stream,
                None => Tap::new(road.dial().await?, faults),
            };
            Ok::<_, Error>(TokioIo::new(stream))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn credential(target: &Target) -> Result<Credential> {
    let Some(token) = &target.token else { return Ok(Credential { authorization: None }) };
    let mut value: MetadataValue<Ascii> = format!("Bearer {}", token.expose()).parse().map_err(|_| {
        Error::new(ErrorReason::CredentialInvalid, "the access token has characters that none has")
    })?;
    value.set_sensitive(true);
    Ok(Credential { authorization: Some(value) })
}
