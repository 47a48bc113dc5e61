//! The one profile of certificates that our CA signs.
//!
//! P-256; exactly one URI SAN that names the subject; `clientAuth` for users and services, `serverAuth` and host names
//! for agents; no roles: those live in the agent's policy, so that a change of role needs no new certificate.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::DnsName;
use x509_parser::time::ASN1Time;

use crate::key::PrivateKeyPem;
use crate::subject::{Kind, Subject, TrustDomain};

/// Life of a user's or service's certificate, in days, when nothing else is asked for.
pub const DEFAULT_CLIENT_DAYS: u16 = 90;
/// Life of an agent's certificate, in days, when nothing else is asked for.
pub const DEFAULT_AGENT_DAYS: u16 = 398;
/// Longest life of a leaf, in days.
pub const MAX_DAYS: u16 = 398;
/// Most host names in an agent's certificate.
pub const MAX_HOSTS: usize = 32;
/// Longest certificate signing request, in bytes of PEM.
pub const MAX_CSR_BYTES: usize = 16 * 1024;
/// How long before `now` a new certificate begins, so that a clock that is a little behind takes it.
const BACKDATE_SECONDS: i64 = 60;

/// A name under which an agent is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name, without wildcards, lower case.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = LeafError;

    fn from_str(text: &str) -> Result<Self, LeafError> {
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        match DnsName::try_from(text) {
            Ok(name) => Ok(Self::Dns(name.to_lowercase_owned().as_ref().to_owned())),
            Err(_) => {
                Err(LeafError::Host { text: text.chars().take(80).flat_map(char::escape_debug).collect() })
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// What a certificate is to say; made by [`Leaf::new`], which checks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    subject: Subject,
    hosts: Vec<Host>,
    days: u16,
}

impl Leaf {
    /// Checks the request: 1 to [`MAX_DAYS`] days (the kind's default when `None`), at least one host for an agent and
    /// none for anybody else.
    pub fn new(subject: Subject, hosts: Vec<Host>, days: Option<u16>) -> Result<Self, LeafError> {
        let is_agent = subject.kind() == Kind::Agent;
        let default = if is_agent { DEFAULT_AGENT_DAYS } else { DEFAULT_CLIENT_DAYS };
        let days = days.unwrap_or(default);
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(LeafError::Days { days });
        }
        match (is_agent, hosts.len()) {
            (true, 0) => Err(LeafError::NoHost),
            (true, n) if n > MAX_HOSTS => Err(LeafError::TooManyHosts { count: n }),
            (false, 1..) => Err(LeafError::HostOfClient { subject }),
            _ => Ok(Self { subject, hosts, days }),
        }
    }

    /// Whom the certificate names.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The agent's host names.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub(crate) fn not_after(&self, now: Timestamp) -> i64 {
        now.as_second() + i64::from(self.days) * 86_400
    }

    pub(crate) fn params(
        &self,
        domain: &TrustDomain,
        serial: &Serial,
        now: Timestamp,
    ) -> Result<CertificateParams, LeafError> {
        let usage = match self.subject.kind() {
            Kind::Agent => ExtendedKeyUsagePurpose::ServerAuth,
            Kind::User | Kind::Service => ExtendedKeyUsagePurpose::ClientAuth,
        };
        let mut params = CertificateParams::default();
        set_life(&mut params, now.as_second() - BACKDATE_SECONDS, self.not_after(now))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial.0));
        params.distinguished_name = name(&self.subject.to_string());
        params.subject_alt_names =
            vec![SanType::URI(self.subject.uri(domain).try_into().map_err(LeafError::Library)?)];
        for host in &self.hosts {
            params.subject_alt_names.push(match host {
                Host::Dns(name) => SanType::DnsName(name.clone().try_into().map_err(LeafError::Library)?),
                Host::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A certificate's serial number: 16 random bytes, the first bit clear, never all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    pub(crate) fn random() -> Result<Self, LeafError> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| LeafError::Random)?;
        // DER integers are signed and drop leading zeros: 0x40..0x7f keeps it positive and 16 bytes long.
        bytes[0] = (bytes[0] & 0x3f) | 0x40;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serial({self})")
    }
}

/// A signing request that was read and whose own signature holds. Only its key counts for a user or service; an agent's
/// host names may be taken over too.
pub struct Csr {
    pub(crate) inner: CertificateSigningRequestParams,
    hosts: Vec<Host>,
}

impl Csr {
    /// Reads a PEM request of at most [`MAX_CSR_BYTES`] with a P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, LeafError> {
        if pem.len() > MAX_CSR_BYTES {
            return Err(LeafError::CsrTooLong { bytes: pem.len() });
        }
        let inner = CertificateSigningRequestParams::from_pem(pem).map_err(LeafError::Csr)?;
        // The library tells the curve by the signature's algorithm; the point's length tells it truly.
        let point = inner.public_key.der_bytes();
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(LeafError::CsrKey);
        }
        let mut hosts = Vec::new();
        for san in &inner.params.subject_alt_names {
            match san {
                SanType::DnsName(name) => hosts.push(name.as_str().parse()?),
                SanType::IpAddress(ip) => hosts.push(Host::Ip(*ip)),
                _ => {}
            }
        }
        Ok(Self { inner, hosts })
    }

    /// The DNS names and addresses that it asks for.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}

impl fmt::Debug for Csr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csr").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// A new P-256 key and the request to sign it, both PEM: for a machine that has no CA.
pub fn new_csr(subject: &Subject, hosts: &[Host]) -> Result<(String, PrivateKeyPem), LeafError> {
    let key = new_key()?;
    Ok((request(subject, hosts, &key)?, PrivateKeyPem::new(key.serialize_pem())))
}

/// The request to sign a key that is there already: a renewal that keeps it.
pub fn csr_of_key(subject: &Subject, hosts: &[Host], key: &PrivateKeyPem) -> Result<String, LeafError> {
    request(subject, hosts, &KeyPair::from_pem(key.expose()).map_err(LeafError::Library)?)
}

fn request(subject: &Subject, hosts: &[Host], key: &KeyPair) -> Result<String, LeafError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&subject.to_string());
    for host in hosts {
        params.subject_alt_names.push(match host {
            Host::Dns(name) => SanType::DnsName(name.clone().try_into().map_err(LeafError::Library)?),
            Host::Ip(ip) => SanType::IpAddress(*ip),
        });
    }
    params.serialize_request(key).and_then(|csr| csr.pem()).map_err(LeafError::Library)
}

pub(crate) fn new_key() -> Result<KeyPair, LeafError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(LeafError::Library)
}

pub(crate) fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "opsd");
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets the first and last second, in Unix seconds. rcgen speaks the `time` crate; x509-parser makes its values.
pub(crate) fn set_life(params: &mut CertificateParams, from: i64, to: i64) -> Result<(), LeafError> {
    let time = |seconds| ASN1Time::from_timestamp(seconds).map_err(|_| LeafError::Time);
    params.not_before = time(from)?.to_datetime();
    params.not_after = time(to)?.to_datetime();
    Ok(())
}

/// Why a certificate or a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// The life asked for is outside the limits.
    #[error("{days} days: a certificate lives 1 to {MAX_DAYS} days")]
    Days {
        /// What was asked for.
        days: u16,
    },
    /// Not a DNS name and not an address.
    #[error("`{text}` is neither a DNS name nor an address")]
    Host {
        /// The beginning of what was given, made printable.
        text: String,
    },
    /// An agent has to be reachable by a name.
    #[error("an agent's certificate needs at least one host name or address")]
    NoHost,
    /// More names than any host has.
    #[error("{count} host names: at most {MAX_HOSTS}")]
    TooManyHosts {
        /// How many were given.
        count: usize,
    },
    /// Host names are for agents.
    #[error("{subject} is no agent: its certificate carries no host names")]
    HostOfClient {
        /// For whom they were asked.
        subject: Subject,
    },
    /// The request is longer than any real one.
    #[error("a signing request of {bytes} bytes: at most {MAX_CSR_BYTES}")]
    CsrTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The request cannot be read or its signature is wrong.
    #[error("not a usable signing request: {0}")]
    Csr(rcgen::Error),
    /// The request's key is not P-256.
    #[error(
        "the signing request's key is not P-256; make one with: opsd init --csr, or openssl ecparam -name prime256v1"
    )]
    CsrKey,
    /// The certificate would outlive its CA.
    #[error("the CA itself ends first; ask for fewer days or make a new CA")]
    OutlivesCa,
    /// A date that certificates cannot carry.
    #[error("the date is outside what certificates can carry")]
    Time,
    /// No random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// The certificate library refused.
    #[error("the certificate library refused: {0}")]
    Library(rcgen::Error),
}
