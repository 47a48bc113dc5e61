//! What a failed handshake means, told apart for people and exit codes.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};

use crate::peer::PeerError;

/// Whose credential a fault is about, seen from the side that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// Ours: the other side refused it.
    Ours,
    /// The other side's: we refused it.
    Theirs,
    /// Nobody's: the connection never came so far.
    Nobody,
}

/// Why a TLS connection failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// We refused the other side's certificate.
    #[error("{0}")]
    Refused(PeerError),
    /// The other side wants a certificate and we showed none.
    #[error("the other side demands a certificate and none was shown")]
    CertificateRequired,
    /// The other side says that our certificate has expired, or is not valid yet.
    #[error("our certificate has expired or is not valid yet, says the other side")]
    OursExpired,
    /// The other side does not know the CA of our certificate.
    #[error("our certificate is of a CA that the other side does not know")]
    OursUnknownCa,
    /// The other side refused our certificate for another reason.
    #[error("the other side refused our certificate ({alert})")]
    OursRefused {
        /// The TLS alert's name.
        alert: String,
    },
    /// What answered does not speak TLS.
    #[error("the other side does not speak TLS")]
    NotTls,
    /// It speaks TLS, but not 1.3 with our algorithms.
    #[error("no common version or algorithm; TLS 1.3 is needed")]
    Incompatible,
    /// It speaks neither HTTP/2 nor HTTP/1.1.
    #[error("no common application protocol (ALPN)")]
    NoProtocol,
    /// Anything else.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl Fault {
    /// Reads a rustls error.
    pub fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => Self::from_certificate(error),
            E::NoCertificatesPresented => Self::CertificateRequired,
            E::AlertReceived(alert) => Self::from_alert(*alert),
            E::InvalidMessage(InvalidMessage::InvalidContentType) => Self::NotTls,
            E::PeerIncompatible(PeerIncompatible::ServerSentHelloRetryRequestWithUnknownExtension) => {
                Self::Other(error.to_string())
            }
            E::PeerIncompatible(_) => Self::Incompatible,
            E::NoApplicationProtocol => Self::NoProtocol,
            other => Self::Other(other.to_string()),
        }
    }

    /// Looks for a TLS failure in an error and everything below it, the inside of `io::Error`s too.
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(error);
        // Bounded, because chains come from libraries and one that turns back on itself would hang the client.
        for _ in 0..32 {
            let error = next?;
            if let Some(tls) = error.downcast_ref::<rustls::Error>() {
                return Some(Self::from_rustls(tls));
            }
            if let Some(peer) = error.downcast_ref::<PeerError>() {
                return Some(Self::Refused(peer.clone()));
            }
            next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    /// Whose credential this is about.
    pub fn party(&self) -> Party {
        match self {
            Self::Refused(_) => Party::Theirs,
            Self::CertificateRequired
            | Self::OursExpired
            | Self::OursUnknownCa
            | Self::OursRefused { .. } => Party::Ours,
            Self::NotTls | Self::Incompatible | Self::NoProtocol | Self::Other(_) => Party::Nobody,
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        use CertificateError as C;
        let time = |t: &rustls::pki_types::UnixTime| {
            i64::try_from(t.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok())
        };
        let peer = match error {
            C::ExpiredContext { not_after, .. } => {
                time(not_after).map(|not_after| PeerError::Expired { not_after })
            }
            C::NotValidYetContext { not_before, .. } => {
                time(not_before).map(|not_before| PeerError::NotYetValid { not_before })
            }
            C::UnknownIssuer | C::BadSignature => Some(PeerError::UnknownCa),
            C::BadEncoding => Some(PeerError::Unreadable),
            C::Other(other) => other.0.downcast_ref::<PeerError>().cloned(),
            _ => None,
        };
        Self::Refused(peer.unwrap_or_else(|| PeerError::Other(error.to_string())))
    }

    fn from_alert(alert: AlertDescription) -> Self {
        use AlertDescription as A;
        match alert {
            A::CertificateRequired | A::NoCertificate => Self::CertificateRequired,
            A::CertificateExpired => Self::OursExpired,
            A::UnknownCA => Self::OursUnknownCa,
            A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateUnknown
            | A::CertificateRevoked
            | A::AccessDenied
            | A::DecryptError => Self::OursRefused { alert: format!("{alert:?}") },
            A::ProtocolVersion | A::HandshakeFailure | A::InsufficientSecurity => Self::Incompatible,
            A::NoApplicationProtocol => Self::NoProtocol,
            other => Self::Other(format!("the other side ended it with {other:?}")),
        }
    }
}
