//! An access token as it came from the environment.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ops_trust::token::MAX_BYTES;

use super::{Environment, Error};

/// An access token. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token of `OPSCTL_TOKEN` or of the file that `OPSCTL_TOKEN_FILE` names.
    pub(super) fn from_environment(environment: &Environment) -> Result<Option<Self>, Error> {
        let file = environment.path("OPSCTL_TOKEN_FILE");
        match (environment.text("OPSCTL_TOKEN")?, file) {
            (Some(_), Some(_)) => Err(Error::Both { one: "OPSCTL_TOKEN", other: "OPSCTL_TOKEN_FILE" }),
            (Some(text), None) => Self::checked("OPSCTL_TOKEN", text).map(Some),
            (None, Some(path)) => {
                let bytes = ops_trust::private_file::read(&path, MAX_BYTES as u64 + 2)?;
                let text = String::from_utf8(bytes).unwrap_or_default();
                Self::checked("OPSCTL_TOKEN_FILE", &text).map(Some)
            }
            (None, None) => Ok(None),
        }
    }

    /// The secret itself, for the `authorization` header.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True when the token says that it is worthless without its certificate. Nothing is verified: this only decides
    /// whether a certificate is shown beside it.
    pub fn is_bound(&self) -> bool {
        let claims = self.0.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = claims.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
        claims.is_some_and(|claims| claims.get("cnf").is_some())
    }

    fn checked(name: &'static str, text: &str) -> Result<Self, Error> {
        let text = text.trim_end_matches(['\r', '\n']);
        let bad = |problem: &str| Err(Error::Variable { name, problem: problem.into() });
        if text.len() > MAX_BYTES {
            return bad("longer than a token can be");
        }
        let shaped = text.split('.').count() == 3
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if shaped { Ok(Self(text.to_owned())) } else { bad("it holds no access token") }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(redacted)")
    }
}
