//! The agent's certificate and the CA of its callers, read from their files and swapped while it serves.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ops_trust::ca::{CaCertificate, MAX_CA_PEM_BYTES};
use ops_trust::key::PrivateKeyPem;
use ops_trust::peer::Side;
use ops_trust::subject::TrustDomain;
use ops_trust::tls::{Identity, ServerIdentity, SystemClock, server_config};
use sha2::{Digest as _, Sha256};

use crate::config::{Config, Error, private_file};

const MAX_PEM_BYTES: u64 = 64 * 1024;

/// What new connections are made with.
#[derive(Debug)]
pub struct TlsState {
    current: ArcSwap<Tls>,
}

/// One state of it.
#[derive(Debug)]
pub struct Tls {
    /// For handshakes.
    pub server: Arc<rustls::ServerConfig>,
    /// The callers' name space.
    pub domain: TrustDomain,
    /// Which CA it is.
    pub ca_sha256: [u8; 32],
    /// Which certificate it is.
    pub cert_sha256: [u8; 32],
    /// The certificate's last second.
    pub not_after: Timestamp,
}

impl TlsState {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong, with the line of the configuration.
    pub fn open(config: &Config, now: Timestamp) -> Result<Self, Error> {
        Ok(Self { current: ArcSwap::from_pointee(read(config, now)?) })
    }

    /// What holds now.
    #[must_use]
    pub fn current(&self) -> Arc<Tls> {
        self.current.load_full()
    }

    /// Reads the files again; connections that come see the new ones. Answers whether anything changed.
    ///
    /// # Errors
    /// What is wrong; the old ones stay.
    pub fn reload(&self, config: &Config, now: Timestamp) -> Result<bool, Error> {
        let fresh = read(config, now)?;
        let old = self.current.load();
        let changed = fresh.ca_sha256 != old.ca_sha256 || fresh.cert_sha256 != old.cert_sha256;
        self.current.store(Arc::new(fresh));
        Ok(changed)
    }
}

fn read(config: &Config, now: Timestamp) -> Result<Tls, Error> {
    let at = |name: &'static str| move |message: String| config.error_at(&["tls", name], message);
    let text = |name: &'static str, path: &std::path::Path, limit: u64| {
        let bytes =
            ops_trust::private_file::read(path, limit).map_err(|error| at(name)(error.to_string()))?;
        String::from_utf8(bytes).map_err(|_| at(name)(format!("{} is not PEM", path.display())))
    };
    private_file(&config.tls.key).map_err(at("key"))?;
    let ca = CaCertificate::from_pem(&text("ca", &config.tls.ca, MAX_CA_PEM_BYTES as u64)?)
        .map_err(|error| at("ca")(format!("{}: {error}", config.tls.ca.display())))?;
    let cert = text("cert", &config.tls.cert, MAX_PEM_BYTES)?;
    let key = PrivateKeyPem::new(text("key", &config.tls.key, MAX_PEM_BYTES)?);
    let wrong = |error: ops_trust::tls::Error| {
        let (name, path) = match error {
            ops_trust::tls::Error::Key | ops_trust::tls::Error::KeyOfAnother => ("key", &config.tls.key),
            _ => ("cert", &config.tls.cert),
        };
        at(name)(format!("{}: {error}", path.display()))
    };
    let identity = Identity::from_pem(&cert, &key).map_err(wrong)?;
    let peer = identity.verify(&ca, Side::Server, now).map_err(wrong)?;
    let named = config.agent.subject().map(|subject| subject.to_string()).unwrap_or_default();
    if peer.subject.to_string() != named {
        let message = format!("{} is of {}, and this is {named}", config.tls.cert.display(), peer.subject);
        return Err(at("cert")(message));
    }
    let resolver = ServerIdentity::new(&identity, &ca, now).map_err(wrong)?;
    let server = server_config(&ca, resolver, Arc::new(SystemClock)).map_err(wrong)?;
    Ok(Tls {
        server: Arc::new(server),
        domain: ca.domain().clone(),
        ca_sha256: Sha256::digest(ca.der()).into(),
        cert_sha256: peer.cert_sha256,
        not_after: peer.not_after,
    })
}
