//! TLS configurations of both sides, and what a failed handshake means.
//!
//! TLS 1.3 only, no resumption, no tickets, no early data, our CA only. The time comes from the given provider; a
//! program passes [`SystemClock`].

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ServerConfig};

pub use rustls::time_provider::DefaultTimeProvider as SystemClock;

use crate::ca::CaCertificate;
use crate::key::PrivateKeyPem;
use crate::peer::{self, AgentVerifier, ClientVerifier, Peer, PeerError, Side};

mod fault;

pub use fault::{Fault, Party};

/// What a connection speaks after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2: gRPC, and REST for who can.
    H2,
    /// HTTP/1.1: REST.
    Http11,
}

impl Alpn {
    /// The protocol's name on the wire (RFC 7301).
    pub const fn wire(self) -> &'static [u8] {
        match self {
            Self::H2 => b"h2",
            Self::Http11 => b"http/1.1",
        }
    }
}

/// A certificate with its key, ready for a handshake. `Debug` shows neither.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads one certificate and its key; refuses a key of another certificate.
    pub fn from_pem(certificate: &str, key: &PrivateKeyPem) -> Result<Self, Error> {
        let mut all = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let (Some(Ok(certificate)), None) = (all.next(), all.next()) else {
            return Err(Error::Certificate);
        };
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| Error::Key)?;
        let certified = CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => Error::KeyOfAnother,
            rustls::Error::InvalidCertificate(_) => Error::Certificate,
            _ => Error::Key,
        })?;
        Ok(Self { certified: Arc::new(certified) })
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> Result<&CertificateDer<'_>, Error> {
        self.certified.end_entity_cert().map_err(|_| Error::Certificate)
    }

    /// Checks this identity against the CA, for one side, now.
    pub fn verify(&self, ca: &CaCertificate, side: Side, now: Timestamp) -> Result<Peer, Error> {
        Ok(peer::verify(ca, self.certificate()?, side, now)?)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(redacted)")
    }
}

/// The agent's certificate, which can be swapped while it serves: new connections see the new one.
#[derive(Debug)]
pub struct ServerIdentity {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerIdentity {
    /// Takes an identity that [`Identity::verify`] accepts for an agent.
    pub fn new(identity: &Identity, ca: &CaCertificate, now: Timestamp) -> Result<Arc<Self>, Error> {
        identity.verify(ca, Side::Server, now)?;
        Ok(Arc::new(Self { current: RwLock::new(Arc::clone(&identity.certified)) }))
    }

    /// Puts another identity in place. A bad one is refused and the old one stays.
    pub fn swap(&self, identity: &Identity, ca: &CaCertificate, now: Timestamp) -> Result<Peer, Error> {
        let peer = identity.verify(ca, Side::Server, now)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&identity.certified);
        Ok(peer)
    }
}

impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The agent's side. Clients may come without a certificate; one that is shown must be of `ca`.
pub fn server_config(
    ca: &CaCertificate,
    identity: Arc<ServerIdentity>,
    clock: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Library)?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(ca)?))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![Alpn::H2.wire().to_vec(), Alpn::Http11.wire().to_vec()];
    // Each connection proves its certificate afresh, so that what was revoked cannot resume.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The caller's side: trusts `ca` only; `identity` is left out by who brings a token.
pub fn client_config(
    ca: &CaCertificate,
    identity: Option<&Identity>,
    alpn: &[Alpn],
    clock: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_details(provider(), clock)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Library)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AgentVerifier::new(ca)?));
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Fixed(Arc::clone(&identity.certified)))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.iter().map(|a| a.wire().to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Why a configuration could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not exactly one certificate.
    #[error("not exactly one certificate in PEM")]
    Certificate,
    /// No key that TLS can use.
    #[error("not a private key in PEM")]
    Key,
    /// Certificate and key are of different identities.
    #[error("the key does not belong to the certificate")]
    KeyOfAnother,
    /// The certificate would be refused by the other side.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// rustls refused.
    #[error("TLS: {0}")]
    Library(rustls::Error),
}

/// Shows the same certificate whatever the server hints at: the refusal then says why.
#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl rustls::client::ResolvesClientCert for Fixed {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests;
