//! From a certificate and an `Authorization` header to a principal. Nothing else that a caller says counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jiff::Timestamp;
use ops_domain::access::{Credential, Permission, Policy, Principal};
use ops_domain::ids::Subject;
use ops_domain::{Error, Reason, Result};
use ops_trust::peer::{Peer, PeerError};
use ops_trust::token::{Claims, KeySet, LEEWAY};

use crate::api::listener::Connection;
use crate::app::tls::TlsState;

/// What credentials are checked with.
pub(super) struct Credentials {
    tls: Arc<TlsState>,
    keys: Option<KeySet>,
}

impl Credentials {
    pub(super) fn new(tls: Arc<TlsState>, keys: Option<KeySet>) -> Self {
        Self { tls, keys }
    }

    /// `None`: no credential at all.
    pub(super) fn principal(
        &self,
        headers: &HeaderMap,
        connection: &Connection,
        policy: &Policy,
        now: Timestamp,
        request_id: &str,
    ) -> Result<Option<Principal>> {
        let peer = connection.certificate.as_deref();
        if let Some(peer) = peer {
            self.check_certificate(peer, connection, now)?;
        }
        let claims = match bearer(headers)? {
            None => None,
            Some(token) => Some(self.check_token(token, peer, now)?),
        };
        let (credential, subject) = match (peer, &claims) {
            (None, None) => return Ok(None),
            (Some(peer), None) => (Credential::Certificate, peer.subject.to_string()),
            (None, Some(claims)) => (Credential::Token, claims.sub.to_string()),
            (Some(_), Some(claims)) => (Credential::Both, claims.sub.to_string()),
        };
        let subject = Subject::parse(&subject)?;
        let binding = policy.bindings.get(&subject).cloned().unwrap_or_default();
        let narrowed = claims.as_ref().and_then(|claims| claims.ops_narrow.as_ref()).map(|list| {
            // A name that this agent does not know grants nothing.
            list.iter().filter_map(|name| Permission::by_name(name)).collect::<BTreeSet<_>>()
        });
        let certificate_ends = peer.map_or(Timestamp::MAX, |peer| peer.not_after);
        let token_ends = claims.as_ref().map_or(Timestamp::MAX, ends);
        Ok(Some(Principal {
            subject,
            credential,
            binding,
            narrowed,
            expires_at: certificate_ends.min(token_ends),
            certificate_sha256: peer.map(Peer::cert_sha256_hex).unwrap_or_default(),
            peer: connection.peer.to_string(),
            request_id: request_id.to_owned(),
        }))
    }

    /// Connections outlive certificates, and the CA they were checked against.
    fn check_certificate(&self, peer: &Peer, connection: &Connection, now: Timestamp) -> Result<()> {
        if connection.ca != self.tls.current().ca_sha256 {
            return Err(refused(
                Reason::CredentialInvalid,
                "the CA was changed since this connection was made",
            ));
        }
        peer.check_time(now).map_err(|error| match error {
            PeerError::Expired { .. } => {
                let subject = peer.subject.to_string();
                let name = subject.strip_prefix("user/").unwrap_or(&subject);
                refused(Reason::CredentialExpired, error.to_string())
                    .next_with(&["opsctl", "pki", "renew", name], "where the CA's folder is")
            }
            other => refused(Reason::CredentialInvalid, other.to_string()),
        })
    }

    fn check_token(&self, token: &str, peer: Option<&Peer>, now: Timestamp) -> Result<Claims> {
        use ops_trust::token::Error as TokenError;
        let keys = self.keys.as_ref().ok_or_else(|| {
            refused(Reason::CredentialInvalid, "this agent takes no tokens: [token] key is not set")
        })?;
        let claims = keys.verify(token, now).map_err(|error| {
            let reason = match error {
                TokenError::Expired => Reason::CredentialExpired,
                _ => Reason::CredentialInvalid,
            };
            refused(reason, error.to_string()).fact("token", error.reason())
        })?;
        claims.check_binding(peer).map_err(|error| {
            let shown = peer.map_or_else(|| "none".to_owned(), |peer| peer.subject.to_string());
            refused(Reason::BindingMismatch, error.to_string())
                .fact("token", claims.sub.to_string())
                .fact("certificate", shown)
        })?;
        Ok(claims)
    }
}

/// When a token stops being taken, leeway included.
fn ends(claims: &Claims) -> Timestamp {
    Timestamp::from_second(claims.exp.saturating_add(LEEWAY.as_secs())).unwrap_or(Timestamp::MAX)
}

/// Two headers are refused, never the first or the last taken.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>> {
    let invalid = |message: &str| refused(Reason::CredentialInvalid, message);
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("Authorization is given twice"));
    }
    let text = value.to_str().map_err(|_| invalid("Authorization is not text"))?;
    let (scheme, token) =
        text.split_once(' ').ok_or_else(|| invalid("Authorization is not \"Bearer TOKEN\""))?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(invalid("Authorization is not \"Bearer TOKEN\""));
    }
    Ok(Some(token))
}

fn refused(reason: Reason, message: impl Into<String>) -> Error {
    Error::new(reason, message).effect("nothing was done")
}
