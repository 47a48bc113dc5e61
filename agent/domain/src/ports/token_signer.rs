//! What makes access tokens.

use std::time::Duration;

use jiff::Timestamp;

use crate::access::Permission;
use crate::error::Result;
use crate::ids::Subject;

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// For whom it speaks.
    pub subject: Subject,
    /// How long it lives.
    pub life: Duration,
    /// All that it may be used for; `None`: what the policy gives its subject.
    pub narrowed: Option<Vec<Permission>>,
    /// SHA-256 of the certificate that it is bound to, hex.
    pub bound_to: Option<String>,
    /// Now.
    pub now: Timestamp,
}

/// A token. `Debug` does not show it.
#[derive(Clone)]
pub struct SignedToken {
    /// The secret.
    pub token: String,
    /// Its id, which is none.
    pub id: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for SignedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedToken").field("id", &self.id).field("expires_at", &self.expires_at).finish()
    }
}

/// Signs tokens with the agent's own key.
pub trait TokenSigner: Send + Sync {
    /// Signs.
    ///
    /// # Errors
    /// `NOT_SUPPORTED` without a key, `INVALID_ARGUMENT` for what a token cannot say.
    fn sign(&self, request: &TokenRequest) -> Result<SignedToken>;
}
