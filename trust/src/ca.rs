//! The small CA: a key, a certificate, and the folder they lie in. It is used as files; no rpc ever signs anything.

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::key::PrivateKeyPem;
use crate::leaf::{self, Csr, Leaf, LeafError, Serial};
use crate::private_file;
use crate::subject::{Subject, TrustDomain};

pub mod folder;

pub use folder::CaFolder;

/// Life of a CA certificate, in days.
pub const CA_DAYS: i64 = 3650;
/// Longest `ca.pem`, in bytes.
pub const MAX_CA_PEM_BYTES: usize = 16 * 1024;

/// What everybody knows of a CA: its certificate. The agent holds no more than this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    pem: String,
    domain: TrustDomain,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl CaCertificate {
    /// Reads exactly one CA certificate in PEM.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        if pem.len() > MAX_CA_PEM_BYTES {
            return Err(Error::NotACa("longer than a CA certificate can be"));
        }
        let mut all = CertificateDer::pem_slice_iter(pem.as_bytes());
        let der = match (all.next(), all.next()) {
            (Some(Ok(der)), None) => der,
            (None, _) => return Err(Error::NotACa("no certificate in it")),
            (Some(Ok(_)), Some(_)) => return Err(Error::NotACa("more than one certificate in it")),
            (Some(Err(_)), _) => return Err(Error::NotACa("not PEM")),
        };
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|_| Error::NotACa("not an X.509 certificate"))?;
        if !rest.is_empty() {
            return Err(Error::NotACa("bytes after the certificate"));
        }
        if !parsed.is_ca() {
            return Err(Error::NotACa("its basic constraints do not say CA"));
        }
        let life = parsed.validity();
        let time =
            |t: i64| Timestamp::from_second(t).map_err(|_| Error::NotACa("its dates are out of range"));
        let (not_before, not_after) = (time(life.not_before.timestamp())?, time(life.not_after.timestamp())?);
        let domain = TrustDomain::of_key(parsed.public_key().raw);
        Ok(Self { der, pem: pem.to_owned(), domain, not_before, not_after })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate in PEM, as it was read.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The name space of its subjects.
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Its last second.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Its first second.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }
}

/// A CA with its private key in memory: signs, writes nothing.
pub struct Authority {
    certificate: CaCertificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new CA, valid from now for [`CA_DAYS`].
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let key = leaf::new_key()?;
        let domain = TrustDomain::of_key(&key.subject_public_key_info());
        let mut params = CertificateParams::default();
        let from = now.as_second() - 60;
        leaf::set_life(&mut params, from, from + CA_DAYS * 86_400)?;
        params.distinguished_name = leaf::name(&format!("CA of {domain}"));
        // Nothing below it but leaves.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(LeafError::Library)?;
        Self::from_pem(&certificate.pem(), &PrivateKeyPem::new(key.serialize_pem()))
    }

    /// Takes a CA certificate and its key; refuses a key of another certificate.
    pub fn from_pem(certificate_pem: &str, key_pem: &PrivateKeyPem) -> Result<Self, Error> {
        let certificate = CaCertificate::from_pem(certificate_pem)?;
        let key = KeyPair::from_pem(key_pem.expose()).map_err(|_| Error::NotAKey)?;
        if TrustDomain::of_key(&key.subject_public_key_info()) != *certificate.domain() {
            return Err(Error::KeyOfAnother);
        }
        let issuer = Issuer::from_ca_cert_der(certificate.der(), key).map_err(LeafError::Library)?;
        Ok(Self { certificate, issuer })
    }

    /// The public part.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The private key, to be written with [`private_file::create`] and nowhere else.
    pub fn key_pem(&self) -> PrivateKeyPem {
        PrivateKeyPem::new(self.issuer.key().serialize_pem())
    }

    /// Signs a certificate with a key made here.
    pub fn issue(&self, leaf: &Leaf, now: Timestamp) -> Result<(Issued, PrivateKeyPem), Error> {
        let key = leaf::new_key()?;
        let issued = self.sign(leaf, &key, now)?;
        Ok((issued, PrivateKeyPem::new(key.serialize_pem())))
    }

    /// Signs a certificate for the key of a request. Nothing else is taken from it: not its name, not its extensions.
    pub fn issue_csr(&self, leaf: &Leaf, csr: &Csr, now: Timestamp) -> Result<Issued, Error> {
        self.sign(leaf, &csr.inner.public_key, now)
    }

    fn sign(&self, leaf: &Leaf, key: &impl PublicKeyData, now: Timestamp) -> Result<Issued, Error> {
        if leaf.not_after(now) > self.certificate.not_after.as_second() {
            return Err(LeafError::OutlivesCa.into());
        }
        let serial = Serial::random()?;
        let params = leaf.params(&self.certificate.domain, &serial, now)?;
        let signed = params.signed_by(key, &self.issuer).map_err(LeafError::Library)?;
        let not_after = Timestamp::from_second(leaf.not_after(now)).map_err(|_| LeafError::Time)?;
        Ok(Issued {
            subject: leaf.subject().clone(),
            serial: serial.to_string(),
            not_after,
            certificate_pem: signed.pem(),
            sha256: hex(&Sha256::digest(signed.der())),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("domain", &self.certificate.domain).finish_non_exhaustive()
    }
}

/// A signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Whom it names.
    pub subject: Subject,
    /// Its serial number, 32 hex digits.
    pub serial: String,
    /// Its last second.
    pub not_after: Timestamp,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// SHA-256 of its DER bytes, 64 hex digits.
    pub sha256: String,
}

/// Why a CA could not be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate is none of a CA's.
    #[error("not a CA certificate: {0}")]
    NotACa(&'static str),
    /// The CA's key cannot be read.
    #[error("not a private key that can sign certificates (PKCS#8, PEM)")]
    NotAKey,
    /// Certificate and key are of different CAs.
    #[error("the CA's key does not belong to its certificate")]
    KeyOfAnother,
    /// A request was refused.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// A file of the folder was refused.
    #[error(transparent)]
    File(#[from] private_file::Error),
    /// A note about an agent cannot be used.
    #[error("{path}: {problem}")]
    Agent {
        /// The note.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder's list of certificates cannot be read.
    #[error("{path}: line {line} is not a record of a certificate")]
    Record {
        /// The list.
        path: std::path::PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
