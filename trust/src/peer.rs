//! What we demand of the other side's certificate, and who it then is.
//!
//! Both sides demand the same: signed by our CA itself (nothing in between), inside its dates, the right extended key
//! usage *present*, and exactly one URI SAN, of our trust domain, of the right kind. rustls and webpki alone would take
//! a certificate without any key usage and never look at URIs.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::{CaCertificate, hex};
use crate::subject::{Kind, Subject, SubjectError, TrustDomain};

/// Most certificates that may come with a leaf: our CA's own, which some clients send along.
pub const MAX_INTERMEDIATES: usize = 1;

/// Which end of a connection a certificate is used at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A user or a service that calls.
    Client,
    /// An agent that answers.
    Server,
}

impl Side {
    /// The key usage's OID, DER without tag and length (RFC 5280, 4.2.1.12).
    const fn usage(self) -> &'static [u8] {
        match self {
            Self::Server => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
            Self::Client => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        }
    }

    const fn usage_name(self) -> &'static str {
        match self {
            Self::Server => "serverAuth",
            Self::Client => "clientAuth",
        }
    }

    const fn takes(self, kind: Kind) -> bool {
        matches!((self, kind), (Self::Server, Kind::Agent) | (Self::Client, Kind::User | Kind::Service))
    }
}

/// Who a checked certificate speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The subject in its URI.
    pub subject: Subject,
    /// The URI itself.
    pub uri: String,
    /// SHA-256 of the certificate's DER bytes.
    pub cert_sha256: [u8; 32],
    /// Its serial number, lower-case hex.
    pub serial: String,
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}

impl Peer {
    /// Reads who a certificate names. This proves nothing about who signed it: [`verify`] does, and so did the handshake
    /// of a connection that our TLS configuration accepted.
    pub fn from_der(der: &[u8], domain: &TrustDomain, side: Side) -> Result<Self, PeerError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| PeerError::Unreadable)?;
        if !rest.is_empty() {
            return Err(PeerError::Unreadable);
        }
        let san = certificate.subject_alternative_name().map_err(|_| PeerError::Unreadable)?;
        let mut uris = san.iter().flat_map(|san| &san.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let uri = uris.next().ok_or(PeerError::NoUri)?;
        if uris.next().is_some() {
            return Err(PeerError::SeveralUris);
        }
        let subject = Subject::from_uri(uri, domain)?;
        if !side.takes(subject.kind()) {
            return Err(PeerError::Kind { subject, usage: side.usage_name() });
        }
        let time = |t: i64| Timestamp::from_second(t).map_err(|_| PeerError::Unreadable);
        let life = certificate.validity();
        Ok(Self {
            subject,
            uri: uri.to_owned(),
            cert_sha256: Sha256::digest(der).into(),
            serial: hex(&certificate.serial.to_bytes_be()),
            not_before: time(life.not_before.timestamp())?,
            not_after: time(life.not_after.timestamp())?,
        })
    }

    /// Whether the certificate is inside its dates; asked on every request, because connections outlive certificates.
    pub fn check_time(&self, now: Timestamp) -> Result<(), PeerError> {
        if now > self.not_after {
            Err(PeerError::Expired { not_after: self.not_after })
        } else if now < self.not_before {
            Err(PeerError::NotYetValid { not_before: self.not_before })
        } else {
            Ok(())
        }
    }

    /// The certificate's hash as lower-case hex, as it stands in the audit trail.
    pub fn cert_sha256_hex(&self) -> String {
        hex(&self.cert_sha256)
    }

    /// The certificate's hash as a token's `cnf.x5t#S256` writes it (RFC 8705).
    pub fn x5t_s256(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.cert_sha256)
    }
}

/// Checks a certificate as the handshake does: the whole of it, for a certificate that comes from a file.
pub fn verify(
    ca: &CaCertificate,
    certificate: &CertificateDer<'_>,
    side: Side,
    now: Timestamp,
) -> Result<Peer, PeerError> {
    let seconds = u64::try_from(now.as_second()).map_err(|_| PeerError::Unreadable)?;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    Rules::new(ca, side)?.check(certificate, &[], now)
}

/// Why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It is no longer valid.
    #[error("the certificate expired at {not_after}")]
    Expired {
        /// Its last second.
        not_after: Timestamp,
    },
    /// It is not valid yet.
    #[error("the certificate is valid only from {not_before}; is a clock wrong?")]
    NotYetValid {
        /// Its first second.
        not_before: Timestamp,
    },
    /// Another CA signed it, or it signed itself.
    #[error("the certificate was not signed by our CA")]
    UnknownCa,
    /// It came with more certificates than any of ours.
    #[error("the certificate came with {count} others; ours need none")]
    LongChain {
        /// How many others.
        count: usize,
    },
    /// It has not the key usage of this side.
    #[error("the certificate has no extended key usage {0}")]
    Usage(&'static str),
    /// It names nobody.
    #[error("the certificate names nobody: no URI SAN")]
    NoUri,
    /// It names more than one.
    #[error("the certificate has more than one URI SAN")]
    SeveralUris,
    /// It names somebody of another trust domain, or nobody we could mean.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// Its subject is of the wrong kind for this side.
    #[error("{subject} may not be used for {usage}")]
    Kind {
        /// Whom it names.
        subject: Subject,
        /// The side's key usage.
        usage: &'static str,
    },
    /// The agent's certificate is not for the name it was called by.
    #[error("the agent's certificate is not for {expected}; it is for {}", .presented.join(", "))]
    Name {
        /// The name that was asked for.
        expected: String,
        /// The names that the certificate has.
        presented: Vec<String>,
    },
    /// Anything else that webpki refuses: bad encoding, a CA used as a leaf, unknown critical extensions.
    #[error("the certificate is refused: {0}")]
    Other(String),
}

impl From<PeerError> for rustls::Error {
    /// Keeps rustls' own variants where there are some, because they choose the alert that the other side sees.
    fn from(error: PeerError) -> Self {
        match error {
            PeerError::Unreadable => CertificateError::BadEncoding.into(),
            PeerError::UnknownCa => CertificateError::UnknownIssuer.into(),
            PeerError::Expired { not_after } => {
                CertificateError::ExpiredContext { time: unix(not_after).1, not_after: unix(not_after).0 }
                    .into()
            }
            PeerError::NotYetValid { not_before } => CertificateError::NotValidYetContext {
                time: unix(not_before).1,
                not_before: unix(not_before).0,
            }
            .into(),
            other => CertificateError::Other(OtherError(Arc::new(other))).into(),
        }
    }
}

/// Accepts clients with a certificate of our CA, and clients without one: those bring a token, or may only ask whether
/// the agent lives.
#[derive(Debug)]
pub struct ClientVerifier(Rules);

impl ClientVerifier {
    /// Rules for callers of this CA.
    pub fn new(ca: &CaCertificate) -> Result<Self, PeerError> {
        Ok(Self(Rules::new(ca, Side::Client)?))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.0.check(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// Accepts an agent of our CA under the name it was called by. No system roots, ever.
#[derive(Debug)]
pub struct AgentVerifier(Rules);

impl AgentVerifier {
    /// Rules for agents of this CA.
    pub fn new(ca: &CaCertificate) -> Result<Self, PeerError> {
        Ok(Self(Rules::new(ca, Side::Server)?))
    }
}

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.check(end_entity, intermediates, now)?;
        let certificate = EndEntityCert::try_from(end_entity).map_err(|e| refused(e, Side::Server))?;
        certificate.verify_is_valid_for_subject_name(server_name).map_err(|_| PeerError::Name {
            expected: server_name.to_str().into_owned(),
            presented: hosts_of(end_entity),
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}

/// The rules of both sides.
#[derive(Debug)]
struct Rules {
    anchor: TrustAnchor<'static>,
    ca: CertificateDer<'static>,
    domain: TrustDomain,
    side: Side,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Rules {
    fn new(ca: &CaCertificate, side: Side) -> Result<Self, PeerError> {
        let anchor = webpki::anchor_from_trusted_cert(ca.der()).map_err(|e| refused(e, side))?.to_owned();
        Ok(Self {
            anchor,
            ca: ca.der().clone(),
            domain: ca.domain().clone(),
            side,
            algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
        })
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Peer, PeerError> {
        // No path is ever built, so no chain, however long or tangled, costs anything.
        if others.len() > MAX_INTERMEDIATES || others.iter().any(|other| **other != *self.ca) {
            return Err(PeerError::LongChain { count: others.len() });
        }
        EndEntityCert::try_from(certificate)
            .and_then(|leaf| {
                let anchors = std::slice::from_ref(&self.anchor);
                // `client_auth()` and `server_auth()` of webpki would take a certificate without any usage.
                let usage = KeyUsage::required(self.side.usage());
                leaf.verify_for_usage(self.algorithms.all, anchors, &[], now, usage, None, None).map(|_| ())
            })
            .map_err(|e| refused(e, self.side))?;
        Peer::from_der(certificate, &self.domain, self.side)
    }
}

fn refused(error: webpki::Error, side: Side) -> PeerError {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => PeerError::Unreadable,
        E::CertExpired { not_after, .. } => {
            timestamp(not_after).map_or(PeerError::Unreadable, |not_after| PeerError::Expired { not_after })
        }
        E::CertNotValidYet { not_before, .. } => timestamp(not_before)
            .map_or(PeerError::Unreadable, |not_before| PeerError::NotYetValid { not_before }),
        // A wrong signature under our CA's name is a rogue CA of the same name.
        E::UnknownIssuer | E::InvalidSignatureForPublicKey => PeerError::UnknownCa,
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => PeerError::Usage(side.usage_name()),
        other => PeerError::Other(other.to_string()),
    }
}

fn timestamp(time: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()
}

/// The moment itself and the second after it, as rustls' time.
fn unix(moment: Timestamp) -> (UnixTime, UnixTime) {
    let seconds = u64::try_from(moment.as_second()).unwrap_or(0);
    let at = |s| UnixTime::since_unix_epoch(std::time::Duration::from_secs(s));
    (at(seconds), at(seconds + 1))
}

fn hosts_of(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let Ok(Some(san)) = certificate.subject_alternative_name() else { return Vec::new() };
    san.value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress([a, b, c, d]) => Some(std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string()),
            GeneralName::IPAddress(bytes) => {
                <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string())
            }
            _ => None,
        })
        .take(crate::leaf::MAX_HOSTS)
        .collect()
}

fn only_tls13() -> rustls::Error {
    rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into()
}

#[cfg(test)]
mod tests;
