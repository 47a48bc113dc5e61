//! The agent's Ed25519 key for tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ops_domain::ports::{SignedToken, TokenRequest, TokenSigner};
use ops_domain::{Error, Reason, Result};
use ops_trust::subject::Subject;
use ops_trust::token::{Claims, Confirmation, Signer};

/// Signs with the configured key; without one, refuses.
#[derive(Debug)]
pub struct TokenKey {
    agent: Subject,
    signer: Option<Signer>,
}

impl TokenKey {
    /// `agent` is the issuer and the audience.
    #[must_use]
    pub fn new(agent: Subject, signer: Option<Signer>) -> Self {
        Self { agent, signer }
    }
}

impl TokenSigner for TokenKey {
    fn sign(&self, request: &TokenRequest) -> Result<SignedToken> {
        let Some(signer) = &self.signer else {
            return Err(Error::new(
                Reason::NotSupported,
                "this agent has no key for tokens: [token] key is not set",
            ));
        };
        let invalid = |error: &dyn std::fmt::Display| Error::new(Reason::InvalidArgument, error.to_string());
        let subject = request.subject.as_str().parse().map_err(|error| invalid(&error))?;
        let life = SignedDuration::try_from(request.life).map_err(|error| invalid(&error))?;
        let mut claims =
            Claims::new(&self.agent, subject, life, request.now).map_err(|error| invalid(&error))?;
        claims.ops_narrow = request
            .narrowed
            .as_ref()
            .map(|list| list.iter().map(|permission| permission.name().to_owned()).collect());
        if let Some(hash) = &request.bound_to {
            let bytes =
                from_hex(hash).ok_or_else(|| invalid(&"there is no certificate to bind the token to"))?;
            claims.cnf = Some(Confirmation { x5t_s256: URL_SAFE_NO_PAD.encode(bytes) });
        }
        let token = signer.sign(&claims).map_err(|error| invalid(&error))?;
        let expires_at = Timestamp::from_second(claims.exp).map_err(|error| invalid(&error))?;
        Ok(SignedToken { token, id: claims.jti, expires_at })
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
