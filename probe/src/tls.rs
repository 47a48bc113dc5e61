//! TLS for probes: given roots, or the system's. There is no way to trust everything.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::sample::{Attempt, Failure};
use crate::target::HttpTarget;

/// Whom an `https` probe trusts. The system's roots are read at the first probe that needs them, not before.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    given: Option<Arc<ClientConfig>>,
    system: Arc<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

/// Roots that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no usable CA certificate: {0}")]
pub struct BadRoots(String);

impl Roots {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self::default()
    }

    /// These only, PEM.
    ///
    /// # Errors
    /// No certificate in it, or one that does not parse.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadRoots> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| BadRoots(error.to_string()))?;
            roots.add(certificate).map_err(|error| BadRoots(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(BadRoots("the text holds none".to_owned()));
        }
        let given = client(roots).map_err(BadRoots)?;
        Ok(Self { given: Some(given), ..Self::default() })
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        if let Some(given) = &self.given {
            return Ok(Arc::clone(given));
        }
        self.system
            .get_or_init(|| {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(
                        "this system has no CA certificates; install them, or give the probe a ca".into()
                    );
                }
                client(roots)
            })
            .clone()
    }
}

fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) async fn handshake(
    stream: TcpStream,
    target: &HttpTarget,
    roots: &Roots,
    attempt: &mut Attempt,
) -> Result<TlsStream<TcpStream>, (Failure, String)> {
    let config = roots.config().map_err(|why| (Failure::Tls, why))?;
    let name = ServerName::try_from(target.socket.host.clone())
        .map_err(|error| (Failure::Tls, format!("{}: {error}", target.socket.host)))?;
    let (session, took) =
        attempt.phase("TLS handshake", TlsConnector::from(config).connect(name, stream)).await?;
    attempt.timings.tls = Some(took);
    let session = session.map_err(|error| (Failure::Tls, said(&error)))?;
    let certificates = session.get_ref().1.peer_certificates();
    attempt.certificate_days = certificates.and_then(<[_]>::first).and_then(days_left);
    Ok(session)
}

fn days_left(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    let now = i64::try_from(now.as_secs()).ok()?;
    Some((certificate.validity().not_after.timestamp() - now).div_euclid(86_400))
}

fn said(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => format!("its certificate is not accepted: {why}"),
        Some(rustls::Error::InvalidMessage(_)) => "what answers there does not speak TLS".to_owned(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed during the handshake".to_owned()
        }
        None => error.to_string(),
    }
}
