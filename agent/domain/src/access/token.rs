//! Minting access tokens: for oneself with a certificate, for others as admin, never by a token.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::{Permission, Principal, Scope, authorize};
use crate::audit::{self, Change};
use crate::error::{Error, Reason, Result};
use crate::ids::Subject;
use crate::ports::{AuditLog, Clock, PolicySource, SignedToken, TokenRequest, TokenSigner};

/// A token's life when nothing else is asked for.
pub const LIFE: Duration = Duration::from_secs(600);
/// The shortest life.
pub const LIFE_MIN: Duration = Duration::from_secs(60);
/// The longest life.
pub const LIFE_MAX: Duration = Duration::from_secs(3_600);

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct CreateToken {
    /// Its life; `None`: [`LIFE`].
    pub life: Option<Duration>,
    /// For whom; `None`: the caller.
    pub subject: Option<Subject>,
    /// All that it may be used for; empty: everything that the subject may.
    pub permissions: Vec<Permission>,
    /// Bind it to the caller's certificate.
    pub bind: bool,
    /// Why.
    pub reason: String,
}

/// Mints tokens.
pub struct Tokens {
    signer: Arc<dyn TokenSigner>,
    policy: Arc<dyn PolicySource>,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    /// With what it needs.
    #[must_use]
    pub fn new(
        signer: Arc<dyn TokenSigner>,
        policy: Arc<dyn PolicySource>,
        audit: Arc<dyn AuditLog>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { signer, policy, audit, clock }
    }

    /// Checks, writes down, signs.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` and `CERTIFICATE_REQUIRED`; `INVALID_ARGUMENT` for a life outside 1 to 60 minutes, a subject
    /// that the policy does not know, or a permission that the subject has not; `AUDIT_UNAVAILABLE`.
    pub async fn create(
        &self,
        principal: &Principal,
        route: &str,
        asked: CreateToken,
    ) -> Result<(SignedToken, Subject)> {
        let for_another = asked.subject.as_ref().is_some_and(|subject| *subject != principal.subject);
        let needed = if for_another { Permission::TokenCreateAny } else { Permission::TokenCreate };
        let authorized = authorize(principal, needed, Scope::None)?;
        let life = asked.life.unwrap_or(LIFE);
        if !(LIFE_MIN..=LIFE_MAX).contains(&life) {
            return Err(refused("a token lives 1 to 60 minutes"));
        }
        let subject = asked.subject.clone().unwrap_or_else(|| principal.subject.clone());
        let policy = self.policy.current();
        let Some(binding) = policy.bindings.get(&subject) else {
            return Err(refused(format!("{} has no roles in the policy", subject.short())).about(&subject));
        };
        let has: BTreeSet<Permission> =
            binding.roles.iter().flat_map(|role| role.permissions().iter().copied()).collect();
        if let Some(more) = asked.permissions.iter().find(|permission| !has.contains(permission)) {
            return Err(refused(format!("{} has not the permission {}", subject.short(), more.name())));
        }
        if asked.bind && for_another {
            return Err(refused("a token for another cannot be bound to your certificate"));
        }
        let names: Vec<&str> = asked.permissions.iter().map(|permission| permission.name()).collect();
        let what = Change {
            route: route.to_owned(),
            target: subject.to_string(),
            params: json!({ "ttl_ms": life.as_millis(), "permissions": names, "bind": asked.bind }),
            reason: asked.reason,
        };
        let request = TokenRequest {
            subject: subject.clone(),
            life,
            narrowed: (!asked.permissions.is_empty()).then_some(asked.permissions),
            bound_to: asked.bind.then(|| principal.certificate_sha256.clone()),
            now: self.clock.now(),
        };
        let signer = Arc::clone(&self.signer);
        let signed =
            audit::change(&self.audit, &authorized, what, async move { signer.sign(&request) }).await?;
        Ok((signed, subject))
    }
}

fn refused(message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidArgument, message).effect("no token was made")
}
