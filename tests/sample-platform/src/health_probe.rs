//! A health client of our own, where `grpc-health-probe` is not to be had: grpc.health.v1 over TLS.
//!
//! It shares no code with opsctl: what it sees, any client written from the standard sees.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Endpoint, Uri};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::{Failure, say};

/// How long the answer may take.
const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The agent's TLS port.
    #[arg(long)]
    address: SocketAddr,
    /// The authority of its certificate.
    #[arg(long)]
    ca: PathBuf,
    /// Our certificate; without one only the agent itself can be asked about.
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// A service; the agent itself when not given.
    #[arg(long, default_value = "")]
    service: String,
}

/// Exit code 0 for SERVING, 1 for anything else.
pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let tls = TlsConnector::from(Arc::new(config(&arguments)?));
    let address = arguments.address;
    let connect = tower::service_fn(move |_: Uri| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = tls.connect(ServerName::from(address.ip()), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(ANSWER);
    let mut client = HealthClient::new(endpoint.connect_with_connector(connect).await?);
    let answer = client.check(HealthCheckRequest { service: arguments.service }).await?.into_inner();
    say(&format!("status: {}", answer.status().as_str_name()));
    Ok(if answer.status() == ServingStatus::Serving { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn config(arguments: &Arguments) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&arguments.ca)? {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match (&arguments.cert, &arguments.key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
