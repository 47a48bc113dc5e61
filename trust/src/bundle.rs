//! A bundle: one TOML file that enrols a person, or is a CI job's one secret.
//!
//! ```toml
//! version = 1
//! [agent]
//! id = "agent/auction-1"
//! addresses = ["auction-1.example.net:7443"]
//! server_name = "auction-1.example.net"
//! ca = "-----BEGIN CERTIFICATE-----…"
//! audit_root = "43 characters: the public half of the audit trail's first key"
//! [identity]                      # left out for who brings tokens only
//! subject = "user/alice"
//! cert = "-----BEGIN CERTIFICATE-----…"
//! key = "-----BEGIN PRIVATE KEY-----…"   # left out when the certificate was made from a signing request
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ca::{self, CaCertificate};
use crate::key::{PrivateKeyPem, PublicKey};
use crate::leaf::Host;
use crate::peer::{PeerError, Side};
use crate::subject::{Kind, Subject};
use crate::tls::{self, Identity};

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// Longest bundle, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most addresses of one agent.
pub const MAX_ADDRESSES: usize = 16;

/// A bundle whose texts have been checked. `Debug` never shows the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    version: u32,
    /// The agent that it leads to.
    pub agent: AgentInfo,
    /// Who its holder is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<BundleIdentity>,
}

/// How an agent is reached and known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentInfo {
    /// The agent's own subject, `agent/NAME`; issuer and audience of its tokens.
    pub id: Subject,
    /// Where it listens: `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// The name that its certificate has to carry.
    pub server_name: String,
    /// Its CA, PEM.
    pub ca: String,
    /// The public key of the audit trail's epoch 0.
    pub audit_root: PublicKey,
}

/// The holder's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleIdentity {
    /// Whom the certificate names.
    pub subject: Subject,
    /// The certificate, PEM.
    pub cert: String,
    /// Its key, PEM; `None` when the holder made it and sent a signing request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PrivateKeyPem>,
}

impl Bundle {
    /// A bundle of parts that were made together.
    pub fn new(agent: AgentInfo, identity: Option<BundleIdentity>) -> Self {
        Self { version: VERSION, agent, identity }
    }

    /// Reads a bundle and checks that its parts belong together. Dates are not looked at: see [`Bundle::check_time`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_BYTES {
            return Err(Error::TooLong { bytes: text.len() });
        }
        let bundle: Self = toml::from_str(text).map_err(|e| Error::Toml(describe(&e, text)))?;
        bundle.check()?;
        Ok(bundle)
    }

    /// The bundle as TOML, key included.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::Toml(e.to_string()))
    }

    /// The agent's CA.
    pub fn ca(&self) -> Result<CaCertificate, Error> {
        Ok(CaCertificate::from_pem(&self.agent.ca)?)
    }

    /// Checks that the holder's certificate is signed by the agent's CA, names the stated subject and is valid now.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Error> {
        let Some(identity) = &self.identity else { return Ok(()) };
        let certificate = single_certificate(&identity.cert)?;
        let peer = crate::peer::verify(&self.ca()?, &certificate, Side::Client, now)?;
        if peer.subject != identity.subject {
            return Err(Error::OtherSubject { stated: identity.subject.clone(), certified: peer.subject });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.version != VERSION {
            return Err(Error::Version { found: self.version });
        }
        self.agent.check()?;
        let ca = self.ca()?;
        let Some(identity) = &self.identity else { return Ok(()) };
        let certificate = single_certificate(&identity.cert)?;
        let peer = crate::peer::Peer::from_der(&certificate, ca.domain(), Side::Client)?;
        if peer.subject != identity.subject {
            return Err(Error::OtherSubject { stated: identity.subject.clone(), certified: peer.subject });
        }
        // Signed by this CA, told apart from expired: an old bundle is still a bundle.
        match crate::peer::verify(&ca, &certificate, Side::Client, peer.not_after) {
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(key) = &identity.key {
            Identity::from_pem(&identity.cert, key)?;
        }
        Ok(())
    }
}

impl AgentInfo {
    /// Checks id, addresses and name; the CA is checked where it is used.
    pub fn check(&self) -> Result<(), Error> {
        if self.id.kind() != Kind::Agent {
            return Err(Error::NotAnAgent { id: self.id.clone() });
        }
        if !(1..=MAX_ADDRESSES).contains(&self.addresses.len()) {
            return Err(Error::Addresses { count: self.addresses.len() });
        }
        self.addresses.iter().try_for_each(|address| check_address(address))?;
        self.server_name.parse::<Host>().map(|_| ()).map_err(|_| Error::ServerName)
    }
}

/// Checks an address as bundles and configuration write it: `host:port`, IPv6 in brackets, port not 0.
pub fn check_address(address: &str) -> Result<(), Error> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.contains(':') && host.parse::<Host>().is_ok(),
        };
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        host && digits && port.parse::<u16>().is_ok_and(|p| p > 0)
    });
    if good {
        Ok(())
    } else {
        Err(Error::Address { address: address.chars().take(80).flat_map(char::escape_debug).collect() })
    }
}

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than any bundle.
    #[error("{bytes} bytes: a bundle has at most {MAX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not TOML of this shape. The text names line and key, never a value.
    #[error("not a bundle: {0}")]
    Toml(String),
    /// Written by another version.
    #[error("bundle version {found}; this program reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// The agent's id is not an agent.
    #[error("agent.id is {id}, which is not an agent")]
    NotAnAgent {
        /// What it says.
        id: Subject,
    },
    /// None, or too many.
    #[error("agent.addresses has {count} entries: 1 to {MAX_ADDRESSES}")]
    Addresses {
        /// How many.
        count: usize,
    },
    /// Not host:port.
    #[error("`{address}` is not host:port")]
    Address {
        /// What was given, made printable.
        address: String,
    },
    /// Not a host name.
    #[error("agent.server_name is neither a DNS name nor an address")]
    ServerName,
    /// The certificate names somebody else.
    #[error("identity.subject is {stated}, but the certificate names {certified}")]
    OtherSubject {
        /// What the bundle says.
        stated: Subject,
        /// What the certificate says.
        certified: Subject,
    },
    /// The CA cannot be used.
    #[error("agent.ca: {0}")]
    Ca(#[from] ca::Error),
    /// The certificate is not one that the agent would take.
    #[error("identity.cert: {0}")]
    Certificate(#[from] PeerError),
    /// Certificate and key cannot be used.
    #[error("identity: {0}")]
    Identity(#[from] tls::Error),
}

fn single_certificate(pem: &str) -> Result<rustls::pki_types::CertificateDer<'static>, Error> {
    use rustls::pki_types::pem::PemObject;
    let mut all = rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes());
    match (all.next(), all.next()) {
        (Some(Ok(certificate)), None) => Ok(certificate),
        _ => Err(tls::Error::Certificate.into()),
    }
}

/// Line and message without the excerpt that `toml` prints: the excerpt may be the key.
fn describe(error: &toml::de::Error, text: &str) -> String {
    let line =
        error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    // Messages quote names of fields and types; only `invalid type: string "…"` quotes a value.
    let message = error.message().split(" \"").next().unwrap_or_default();
    let message = message.lines().next().unwrap_or_default();
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::Authority;
    use crate::key::SigningKey;
    use crate::leaf::Leaf;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn bundle() -> Bundle {
        let ca = Authority::generate(now()).unwrap();
        let subject: Subject = "user/alice".parse().unwrap();
        let (issued, key) = ca.issue(&Leaf::new(subject.clone(), vec![], None).unwrap(), now()).unwrap();
        Bundle::new(
            AgentInfo {
                id: "agent/auction-1".parse().unwrap(),
                addresses: vec!["auction-1.example.net:7443".into(), "[::1]:7443".into()],
                server_name: "auction-1.example.net".into(),
                ca: ca.certificate().pem().to_owned(),
                audit_root: SigningKey::generate().unwrap().public(),
            },
            Some(BundleIdentity { subject, cert: issued.certificate_pem, key: Some(key) }),
        )
    }

    #[test]
    fn a_bundle_round_trips() {
        let bundle = bundle();
        let text = bundle.to_toml().unwrap();
        assert_eq!(Bundle::parse(&text).unwrap(), bundle);
        bundle.check_time(now()).unwrap();
        let late = now() + jiff::SignedDuration::from_hours(24 * 91);
        assert!(matches!(bundle.check_time(late), Err(Error::Certificate(PeerError::Expired { .. }))));
    }

    #[test]
    fn neither_debug_nor_errors_show_the_key() {
        let bundle = bundle();
        assert!(!format!("{bundle:?}").contains("PRIVATE KEY"));
        let text = bundle.to_toml().unwrap();
        for bad in [
            text.replace("key = ", "kee = "),
            text.replace("key = \"\"\"", "key = \"\"\"\"\"\"x"),
            text.replace("version = 1", "version = \"S3CR3T\""),
            text.replace("subject = \"user/alice\"", "subject = \"S3CR3T S3CR3T\""),
        ] {
            let error = Bundle::parse(&bad).unwrap_err().to_string();
            assert!(!error.contains("PRIVATE") && !error.contains("MIG"), "{error}");
        }
    }

    #[test]
    fn parts_that_do_not_belong_together_are_refused() {
        let (one, two) = (bundle(), bundle());
        let refuse = |change: &dyn Fn(&mut Bundle)| {
            let mut bundle = one.clone();
            change(&mut bundle);
            Bundle::parse(&bundle.to_toml().unwrap()).expect_err("it was accepted")
        };
        let other = two.identity.clone().unwrap();
        assert!(matches!(refuse(&|b| b.agent.ca = two.agent.ca.clone()), Error::Certificate(_)));
        assert!(matches!(refuse(&|b| b.agent.ca = "garbage".into()), Error::Ca(_)));
        assert!(matches!(refuse(&|b| b.agent.id = "user/x".parse().unwrap()), Error::NotAnAgent { .. }));
        assert!(matches!(refuse(&|b| b.agent.addresses.clear()), Error::Addresses { .. }));
        assert!(matches!(refuse(&|b| b.agent.server_name = "a b".into()), Error::ServerName));
        assert!(matches!(refuse(&|b| b.version = 2), Error::Version { found: 2 }));
        let identity =
            |change: &dyn Fn(&mut BundleIdentity)| refuse(&|b| b.identity.iter_mut().for_each(change));
        assert!(matches!(identity(&|i| i.key = other.key.clone()), Error::Identity(_)));
        assert!(matches!(identity(&|i| i.subject = "user/bob".parse().unwrap()), Error::OtherSubject { .. }));
    }

    #[test]
    fn garbage_is_refused() {
        let text = bundle().to_toml().unwrap();
        let long = format!("{text}\n# {}", "x".repeat(MAX_BYTES));
        assert!(matches!(Bundle::parse(&long), Err(Error::TooLong { .. })));
        for bad in
            ["", "x", "version = 1", "\0", &format!("{text}\nmore = 1"), &text.replace("[agent]", "[agnt]")]
        {
            assert!(matches!(Bundle::parse(bad), Err(Error::Toml(_))), "{bad}");
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["a.example:1", "127.0.0.1:7443", "[::1]:65535"] {
            assert!(check_address(good).is_ok(), "{good}");
        }
        for bad in
            ["", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "::1:7443", "[a]:1", "https://a:1", "a b:1"]
        {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
