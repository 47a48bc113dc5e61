//! Access tokens: short-lived JWTs that the agent signs for CI jobs and services.
//!
//! What the `jsonwebtoken` crate leaves open is closed here: it signs and verifies bytes, and every rule about header
//! and claims is ours. The algorithm is the key's, never the header's; `kid` is looked up in a map together with the
//! issuer; all times are compared with the `now` that comes in.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

use crate::key::{KeyError, PublicKey, SigningKey};
use crate::subject::{Kind, Subject};

/// Longest token, in bytes.
pub const MAX_BYTES: usize = 4096;
/// The `typ` of our tokens; a token made for something else is not taken for one.
pub const TYPE: &str = "ops+jwt";
/// Tolerance for clocks that differ.
pub const LEEWAY: SignedDuration = SignedDuration::from_secs(30);
/// A token's life when nothing else is asked for.
pub const DEFAULT_LIFE: SignedDuration = SignedDuration::from_mins(10);
/// Longest life of a token.
pub const MAX_LIFE: SignedDuration = SignedDuration::from_mins(60);
/// Most entries of a narrowing list.
pub const MAX_NARROW: usize = 64;
const MAX_ID_BYTES: usize = 128;

/// What a token says. It carries no roles: those are the policy's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who signed it: an agent's id, or an external issuer.
    pub iss: String,
    /// For whom: the agent's id.
    pub aud: String,
    /// For whom it speaks.
    pub sub: Subject,
    /// When it was made, Unix seconds.
    pub iat: i64,
    /// From when it holds, Unix seconds.
    pub nbf: i64,
    /// Until when it holds, Unix seconds.
    pub exp: i64,
    /// Its own id, for revocation.
    pub jti: String,
    /// The certificate without which it is worthless.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Permissions to which it narrows what the policy gives its subject; absent: everything the policy gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ops_narrow: Option<Vec<String>>,
}

/// The `cnf` claim (RFC 8705, 3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// SHA-256 of the certificate's DER bytes, URL-safe base64: [`crate::peer::Peer::x5t_s256`].
    #[serde(rename = "x5t#S256")]
    pub x5t_s256: String,
}

impl Claims {
    /// Claims for a token that an agent makes for callers of its own.
    pub fn new(agent: &Subject, sub: Subject, life: SignedDuration, now: Timestamp) -> Result<Self, Error> {
        if life <= SignedDuration::ZERO || life > MAX_LIFE {
            return Err(Error::Life);
        }
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| Error::Key(KeyError::Library))?;
        let second = now.as_second();
        Ok(Self {
            iss: agent.to_string(),
            aud: agent.to_string(),
            sub,
            iat: second,
            nbf: second,
            exp: second + life.as_secs(),
            jti: URL_SAFE_NO_PAD.encode(id),
            cnf: None,
            ops_narrow: None,
        })
    }

    /// Whether the token still holds, leeway included; asked again while a stream is open.
    pub fn check_time(&self, now: Timestamp) -> Result<(), Error> {
        let (second, leeway) = (now.as_second(), LEEWAY.as_secs());
        if second > self.exp.saturating_add(leeway) {
            Err(Error::Expired)
        } else if second.saturating_add(leeway) < self.nbf || second.saturating_add(leeway) < self.iat {
            Err(Error::NotYetValid)
        } else {
            Ok(())
        }
    }

    /// Checks the binding against the certificate that came with the token, if any did: a bound token needs exactly its
    /// certificate, and an unbound one may come only with a certificate of the same subject.
    pub fn check_binding(&self, peer: Option<&crate::peer::Peer>) -> Result<(), Error> {
        let bound = self.cnf.as_ref().is_none_or(|cnf| peer.is_some_and(|p| p.x5t_s256() == cnf.x5t_s256));
        let same = peer.is_none_or(|p| p.subject == self.sub);
        if bound && same { Ok(()) } else { Err(Error::BindingMismatch) }
    }
}

/// The agent's token key.
#[derive(Debug)]
pub struct Signer {
    kid: String,
    key: SigningKey,
}

impl Signer {
    /// Takes a key; its `kid` is the first 16 characters of its public half.
    pub fn new(key: SigningKey) -> Self {
        let kid = key.public().to_string().chars().take(16).collect();
        Self { kid, key }
    }

    /// The key's id.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key's public half.
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Claims) -> Result<String, Error> {
        if claims.exp - claims.iat > MAX_LIFE.as_secs() {
            return Err(Error::Life);
        }
        let header = Header { alg: "EdDSA".into(), typ: TYPE.into(), kid: self.kid.clone() };
        let encode = |bytes: Result<Vec<u8>, serde_json::Error>| {
            bytes.map(|b| URL_SAFE_NO_PAD.encode(b)).map_err(|_| Error::Malformed)
        };
        let message =
            format!("{}.{}", encode(serde_json::to_vec(&header))?, encode(serde_json::to_vec(claims))?);
        let key = EncodingKey::from_ed_der(&self.key.pkcs8()?);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA)
            .map_err(|_| Error::Key(KeyError::Library))?;
        let token = format!("{message}.{signature}");
        if token.len() > MAX_BYTES { Err(Error::TooLong) } else { Ok(token) }
    }
}

/// For which subjects a key may speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectRule {
    /// Users and services: the agent's own key, which signs only for bound subjects.
    Callers,
    /// These and no others: an external issuer.
    Only(Vec<Subject>),
}

impl SubjectRule {
    fn allows(&self, subject: &Subject) -> bool {
        match self {
            Self::Callers => matches!(subject.kind(), Kind::User | Kind::Service),
            Self::Only(list) => list.contains(subject),
        }
    }
}

/// A key that tokens may be signed with.
#[derive(Clone)]
pub struct TrustedKey {
    /// The one algorithm that counts for this key.
    pub algorithm: Algorithm,
    /// The key itself.
    pub key: DecodingKey,
    /// Longest `exp - iat`; never more than [`MAX_LIFE`].
    pub max_life: SignedDuration,
    /// For whom it may speak.
    pub subjects: SubjectRule,
}

impl TrustedKey {
    /// An agent's own Ed25519 key.
    pub fn own(key: &PublicKey) -> Self {
        Self {
            algorithm: Algorithm::EdDSA,
            key: DecodingKey::from_ed_der(key.as_bytes()),
            max_life: MAX_LIFE,
            subjects: SubjectRule::Callers,
        }
    }
}

impl std::fmt::Debug for TrustedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustedKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The keys that an agent takes tokens of, by issuer and key id.
#[derive(Debug, Clone)]
pub struct KeySet {
    audience: String,
    keys: HashMap<(String, String), TrustedKey>,
}

impl KeySet {
    /// An empty set: it takes nothing. `audience` is the agent's id.
    pub fn new(audience: &Subject) -> Self {
        Self { audience: audience.to_string(), keys: HashMap::new() }
    }

    /// Adds a key, or puts it in the place of the one with the same issuer and id.
    pub fn insert(&mut self, issuer: &str, kid: &str, key: TrustedKey) {
        self.keys.insert((issuer.to_owned(), kid.to_owned()), key);
    }

    /// Checks a token wholly, but for revocation, binding ([`Claims::check_binding`]) and policy.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, Error> {
        if token.len() > MAX_BYTES {
            return Err(Error::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Error::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(Error::Malformed)?;
        if claims.contains('.') {
            return Err(Error::Malformed);
        }
        let header: Header = read(header)?;
        if header.typ != TYPE {
            return Err(Error::WrongType);
        }
        // Read before the signature is checked, only to know whose key to check it with.
        let claims: Claims = read(claims)?;
        let known = (claims.iss.clone(), header.kid);
        let trusted = self.keys.get(&known).ok_or(Error::UnknownKey)?;
        if header.alg != name(trusted.algorithm) {
            return Err(Error::WrongAlgorithm);
        }
        let good =
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &trusted.key, trusted.algorithm)
                .unwrap_or(false);
        if !good {
            return Err(Error::BadSignature);
        }
        if claims.aud != self.audience {
            return Err(Error::WrongAudience);
        }
        if !trusted.subjects.allows(&claims.sub) {
            return Err(Error::SubjectNotAllowed);
        }
        let life = claims.exp.saturating_sub(claims.iat);
        if life <= 0 || life > trusted.max_life.min(MAX_LIFE).as_secs() || claims.nbf < claims.iat {
            return Err(Error::Life);
        }
        let narrow = claims.ops_narrow.as_ref().map_or(0, Vec::len);
        if claims.jti.is_empty() || claims.jti.len() > MAX_ID_BYTES || narrow > MAX_NARROW {
            return Err(Error::Malformed);
        }
        claims.check_time(now)?;
        Ok(claims)
    }
}

/// Why a token was refused. The words say nothing about keys that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than [`MAX_BYTES`].
    #[error("the token is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Not a JWT of our shape: parts, encoding, a claim missing, given twice or of the wrong type, or a header
    /// parameter that we never take (`jku`, `x5u`, `jwk`, `crit` among them).
    #[error("the token is malformed")]
    Malformed,
    /// Made for something else.
    #[error("the token's typ is not {TYPE}")]
    WrongType,
    /// No such key of that issuer.
    #[error("the token's issuer or key is not known here")]
    UnknownKey,
    /// The header names another algorithm than the key has.
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    /// The signature is not the key's.
    #[error("the token's signature is wrong")]
    BadSignature,
    /// For another agent.
    #[error("the token is for another agent")]
    WrongAudience,
    /// The key may not speak for this subject.
    #[error("the token's key may not speak for this subject")]
    SubjectNotAllowed,
    /// Lives longer than allowed, or not at all.
    #[error("the token's life is not within 1 to 60 minutes, or its times contradict each other")]
    Life,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// Not yet.
    #[error("the token is not valid yet; is a clock wrong?")]
    NotYetValid,
    /// Bound to a certificate that did not come with it, or it came with somebody else's.
    #[error("the token and the certificate do not belong together")]
    BindingMismatch,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Error {
    /// The short constant that stands in audit records and error details.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "TOKEN_TOO_LONG",
            Self::Malformed => "TOKEN_MALFORMED",
            Self::WrongType => "TOKEN_WRONG_TYPE",
            Self::UnknownKey => "TOKEN_UNKNOWN_KEY",
            Self::WrongAlgorithm => "TOKEN_WRONG_ALGORITHM",
            Self::BadSignature => "TOKEN_BAD_SIGNATURE",
            Self::WrongAudience => "TOKEN_WRONG_AUDIENCE",
            Self::SubjectNotAllowed => "TOKEN_SUBJECT_NOT_ALLOWED",
            Self::Life => "TOKEN_LIFE",
            Self::Expired => "TOKEN_EXPIRED",
            Self::NotYetValid => "TOKEN_NOT_YET_VALID",
            Self::BindingMismatch => "BINDING_MISMATCH",
            Self::Key(_) => "TOKEN_KEY",
        }
    }
}

/// Exactly these: what is not here (`jku`, `x5u`, `jwk`, `x5c`, `crit`, …) makes a token malformed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Error::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Error::Malformed)
}

/// The header's name of an algorithm that a key may have (RFC 7518, RFC 8037); the others match nothing.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "EdDSA",
        Algorithm::ES256 => "ES256",
        Algorithm::RS256 => "RS256",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
