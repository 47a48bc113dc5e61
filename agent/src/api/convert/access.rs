//! Callers, roles, tokens.

use jiff::Timestamp;
use ops_domain::access::token::CreateToken;
use ops_domain::access::{Permission, Principal, Role};
use ops_domain::ids::{ServiceName, Subject};
use ops_domain::ports::SignedToken;
use ops_domain::{Error, Reason, Result};
use ops_proto::v1;

/// Who is calling.
#[must_use]
pub fn who_am_i(principal: &Principal, agent: &Subject, now: Timestamp) -> v1::WhoAmIResponse {
    v1::WhoAmIResponse {
        subject: principal.subject.to_string(),
        roles: principal.binding.roles.iter().map(|role| role.name().to_owned()).collect(),
        services: principal.binding.services.iter().map(ServiceName::to_string).collect(),
        permissions: principal.permissions().iter().map(|permission| permission.name().to_owned()).collect(),
        credential: super::credential(principal.credential) as i32,
        expires_at: Some(super::timestamp(principal.expires_at)),
        agent_id: agent.short().trim_start_matches("agent/").to_owned(),
        agent_time: Some(super::timestamp(now)),
    }
}

/// The roles there are.
#[must_use]
pub fn roles() -> v1::ListRolesResponse {
    let role = |role: &Role| v1::Role {
        name: role.name().to_owned(),
        description: role.description().to_owned(),
        permissions: role.permissions().iter().map(|permission| permission.name().to_owned()).collect(),
        certificate_only: *role == Role::Admin,
    };
    v1::ListRolesResponse { roles: Role::ALL.iter().map(role).collect() }
}

/// What is asked for.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub fn create_token(request: v1::CreateTokenRequest) -> Result<CreateToken> {
    let options = super::change_options(request.options)?;
    let permission = |name: &String| {
        Permission::by_name(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            Error::new(Reason::InvalidArgument, format!("there is no permission \"{shown}\""))
                .next(&["opsctl", "access", "roles"])
                .effect("no token was made")
        })
    };
    Ok(CreateToken {
        life: super::milliseconds(request.ttl_ms),
        subject: super::subject(&request.for_subject)?,
        permissions: request.permissions.iter().take(super::NAMES).map(permission).collect::<Result<_>>()?,
        bind: request.bind,
        reason: options.reason,
    })
}

/// The token.
#[must_use]
pub fn token(token: SignedToken, subject: &Subject) -> v1::CreateTokenResponse {
    v1::CreateTokenResponse {
        token: token.token,
        subject: subject.to_string(),
        token_id: token.id,
        expires_at: Some(super::timestamp(token.expires_at)),
    }
}
