//! Who a credential speaks for: a kind and a name inside one trust domain.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest name of a user, a service or an agent, in bytes.
pub const NAME_MAX: usize = 64;

/// What kind of caller a subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A person.
    User,
    /// A job or another program.
    Service,
    /// An opsd; the only kind that may serve.
    Agent,
}

impl Kind {
    /// The word of this kind in subjects and URIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A caller's identity, written `user/alice`. Its name matches `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject {
    kind: Kind,
    name: String,
}

impl Subject {
    /// Makes a subject of a checked name.
    pub fn new(kind: Kind, name: &str) -> Result<Self, SubjectError> {
        check_name(name)?;
        Ok(Self { kind, name: name.to_owned() })
    }

    /// What a person types: `alice` means `user/alice`, everything else is written out.
    pub fn from_argument(text: &str) -> Result<Self, SubjectError> {
        if text.contains('/') { text.parse() } else { Self::new(Kind::User, text) }
    }

    /// The subject's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The subject's name, without its kind.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URI that stands in a certificate: `spiffe://<trust domain>/user/alice`.
    pub fn uri(&self, domain: &TrustDomain) -> String {
        format!("spiffe://{domain}/{self}")
    }

    /// Reads a certificate's URI; it has to be of `domain` and written exactly as [`Subject::uri`] writes it.
    pub fn from_uri(uri: &str, domain: &TrustDomain) -> Result<Self, SubjectError> {
        let foreign = || SubjectError::ForeignUri { uri: shorten(uri), domain: domain.clone() };
        let rest = uri.strip_prefix("spiffe://").ok_or_else(foreign)?;
        let path =
            rest.strip_prefix(domain.as_str()).and_then(|r| r.strip_prefix('/')).ok_or_else(foreign)?;
        path.parse()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let (kind, name) = text.split_once('/').ok_or_else(|| SubjectError::Kind { text: shorten(text) })?;
        let kind = match kind {
            "user" => Kind::User,
            "service" => Kind::Service,
            "agent" => Kind::Agent,
            _ => return Err(SubjectError::Kind { text: shorten(text) }),
        };
        Self::new(kind, name)
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;

    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.to_string()
    }
}

/// The name space of one CA: `opsd-` and the first 16 hex digits of the SHA-256 of its public key (SPKI, DER). Nobody
/// chooses it, so two CAs never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(String);

impl TrustDomain {
    /// The trust domain of the CA with this SubjectPublicKeyInfo.
    pub fn of_key(spki_der: &[u8]) -> Self {
        let hash = Sha256::digest(spki_der);
        let hex: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        Self(format!("opsd-{hex}"))
    }

    /// The domain as it stands in URIs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The name has another shape, or is too long or empty.
    #[error(
        "`{name}` is not a name: letters, digits, `.`, `_` and `-`, a letter or digit first, at most {NAME_MAX}"
    )]
    Name {
        /// The beginning of what was given, made printable.
        name: String,
    },
    /// The kind is missing or unknown.
    #[error("`{text}` is not a subject: write user/NAME, service/NAME or agent/NAME")]
    Kind {
        /// The beginning of what was given, made printable.
        text: String,
    },
    /// The URI is not one of our trust domain's.
    #[error("`{uri}` does not belong to {domain}")]
    ForeignUri {
        /// The beginning of what was given, made printable.
        uri: String,
        /// The domain that was asked for.
        domain: TrustDomain,
    },
}

fn check_name(name: &str) -> Result<(), SubjectError> {
    let bytes = name.as_bytes();
    let good = (1..=NAME_MAX).contains(&bytes.len())
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if good { Ok(()) } else { Err(SubjectError::Name { name: shorten(name) }) }
}

/// Bounded and printable, because it goes into messages and comes from outside.
fn shorten(text: &str) -> String {
    let mut shown: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().count() > 80 {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        TrustDomain::of_key(b"a key")
    }

    #[test]
    fn a_bare_name_is_a_user() {
        assert_eq!(Subject::from_argument("alice").unwrap().to_string(), "user/alice");
        assert_eq!(Subject::from_argument("service/ci-deploy").unwrap().kind(), Kind::Service);
    }

    #[test]
    fn hostile_names_are_refused() {
        let long = "a".repeat(65);
        for bad in ["", ".", "-x", "../etc", "a b", "a\nb", "ä", "a/b/c", "user/", "root/x", "user//x", &long]
        {
            assert!(Subject::from_argument(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Subject::from_argument(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn a_uri_round_trips_and_a_foreign_one_is_refused() {
        let alice = Subject::from_argument("alice").unwrap();
        let uri = alice.uri(&domain());
        assert_eq!(Subject::from_uri(&uri, &domain()).unwrap(), alice);
        for bad in [
            format!("{uri}/"),
            uri.replace("spiffe", "https"),
            uri.replace("opsd-", "opsd-0"),
            format!("spiffe://{}evil/user/alice", domain()),
            format!("spiffe://{}/user/alice?role=admin", domain()),
        ] {
            assert!(Subject::from_uri(&bad, &domain()).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn messages_show_no_control_bytes() {
        let error = Subject::from_argument("a\x1b[31m").unwrap_err().to_string();
        assert!(!error.contains('\x1b'), "{error:?}");
    }
}
