//! What a caller may do. Roles live in the policy, never in a credential; what is not granted is denied.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::ids::{ServiceName, Subject};

macro_rules! permissions {
    ($($variant:ident = $name:literal, $text:literal;)+) => {
        /// A right. Every rpc needs exactly one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Permission {
            $(#[doc = $text] #[serde(rename = $name)] $variant,)+
        }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Permission] = &[$(Permission::$variant,)+];

            /// `service.restart`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Permission::$variant => $name,)+ }
            }

            /// By its name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|permission| permission.name() == name)
            }
        }
    };
}

permissions! {
    Identity = "identity", "Who am I, which roles are there.";
    Status = "status", "The status of the platform and of the agent.";
    ServiceRead = "service.read", "The state of services.";
    ServiceStart = "service.start", "Start services.";
    ServiceRestart = "service.restart", "Restart services.";
    ServiceStop = "service.stop", "Stop services that are not protected.";
    ServiceProtected = "service.protected", "Start, stop and restart what is protected.";
    ProbeRun = "probe.run", "List and run configured probes.";
    LogRead = "log.read", "Read logs, masked.";
    LogRaw = "log.raw", "Read logs without masks.";
    OperationRead = "operation.read", "See operations.";
    OperationCancelOwn = "operation.cancel-own", "Cancel operations that one began.";
    OperationCancelAny = "operation.cancel-any", "Cancel anyone's operations.";
    DatabaseRead = "database.read", "Ping, counts and statistics of the database.";
    BackupList = "backup.list", "List and show backups.";
    BackupCreate = "backup.create", "Create and verify backups.";
    BackupRestoreScratch = "backup.restore-scratch", "Restore a backup into a new database.";
    BackupRestoreLive = "backup.restore-live", "Restore a backup over live data.";
    TokenCreate = "token.create", "Mint an access token for oneself.";
    TokenCreateAny = "token.create-any", "Mint access tokens for others.";
    AuditRead = "audit.read", "Read the audit trail.";
    AgentReload = "agent.reload", "Apply policy and certificates anew.";
}

/// A named set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Keeps the platform running.
    Operator,
    /// Restarts and verifies, for CI.
    Deployer,
    /// Creates and verifies backups, never reads or restores them.
    Backup,
    /// Reads the audit trail.
    Auditor,
    /// Everything, with a certificate only.
    Admin,
}

impl Role {
    /// All of them, the smallest first.
    pub const ALL: &'static [Role] =
        &[Role::Viewer, Role::Backup, Role::Auditor, Role::Deployer, Role::Operator, Role::Admin];

    /// `viewer`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Deployer => "deployer",
            Role::Backup => "backup",
            Role::Auditor => "auditor",
            Role::Admin => "admin",
        }
    }

    /// By its name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.name() == name)
    }

    /// One line for people.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Role::Viewer => {
                "reads status, services, probes, logs (masked), backups, operations, database counts"
            }
            Role::Operator => {
                "viewer, and starts, restarts, stops what is not protected, creates and verifies backups"
            }
            Role::Deployer => "viewer, and starts and restarts its services; for CI",
            Role::Backup => "creates, verifies and lists backups; never reads or restores them",
            Role::Auditor => "status and the audit trail",
            Role::Admin => {
                "everything; the only one for protected services, live restores, raw logs, others' tokens"
            }
        }
    }

    /// Its permissions.
    #[must_use]
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission as P;
        match self {
            Role::Viewer => &[
                P::Identity,
                P::Status,
                P::ServiceRead,
                P::ProbeRun,
                P::LogRead,
                P::OperationRead,
                P::DatabaseRead,
                P::BackupList,
                P::TokenCreate,
            ],
            Role::Operator => &[
                P::Identity,
                P::Status,
                P::ServiceRead,
                P::ProbeRun,
                P::LogRead,
                P::OperationRead,
                P::DatabaseRead,
                P::BackupList,
                P::TokenCreate,
                P::ServiceStart,
                P::ServiceRestart,
                P::ServiceStop,
                P::OperationCancelOwn,
                P::BackupCreate,
                P::BackupRestoreScratch,
            ],
            Role::Deployer => &[
                P::Identity,
                P::Status,
                P::ServiceRead,
                P::ProbeRun,
                P::LogRead,
                P::OperationRead,
                P::DatabaseRead,
                P::BackupList,
                P::TokenCreate,
                P::ServiceStart,
                P::ServiceRestart,
                P::OperationCancelOwn,
            ],
            Role::Backup => &[
                P::Identity,
                P::Status,
                P::OperationRead,
                P::OperationCancelOwn,
                P::BackupList,
                P::BackupCreate,
                P::TokenCreate,
            ],
            Role::Auditor => &[P::Identity, P::Status, P::AuditRead, P::TokenCreate],
            Role::Admin => Permission::ALL,
        }
    }
}

/// Whether a permission is worth nothing without a certificate.
impl Permission {
    /// What only `admin` has needs a certificate, and so does the audit trail and minting a token.
    #[must_use]
    pub fn needs_certificate(self) -> bool {
        matches!(self, Permission::AuditRead | Permission::TokenCreate) || self.smallest_role() == Role::Admin
    }

    /// What a restore needs: over live data when no other database is named.
    #[must_use]
    pub fn to_restore(to_database: &str) -> Self {
        if to_database.is_empty() { Permission::BackupRestoreLive } else { Permission::BackupRestoreScratch }
    }

    /// The smallest role that has it: what a denial names.
    #[must_use]
    pub fn smallest_role(self) -> Role {
        Role::ALL.iter().copied().find(|role| role.permissions().contains(&self)).unwrap_or(Role::Admin)
    }
}

/// What a subject is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Its roles.
    pub roles: BTreeSet<Role>,
    /// The services it is scoped to; empty: all.
    pub services: BTreeSet<ServiceName>,
}

/// Subject → binding. A subject without a binding has no rights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The bindings.
    pub bindings: BTreeMap<Subject, Binding>,
    /// Grows with each policy that was applied.
    pub generation: u64,
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// A client certificate.
    Certificate,
    /// An access token alone.
    Token,
    /// Both, of one subject.
    Both,
}

/// Who is calling, with the rights of this moment.
#[derive(Clone, Debug)]
pub struct Principal {
    /// Who.
    pub subject: Subject,
    /// By which proof.
    pub credential: Credential,
    /// Roles and scope, from the policy.
    pub binding: Binding,
    /// A token's narrowing list; `None`: not narrowed.
    pub narrowed: Option<BTreeSet<Permission>>,
    /// When the credential ends.
    pub expires_at: Timestamp,
    /// SHA-256 of the certificate, hex; empty without one.
    pub certificate_sha256: String,
    /// The socket's peer, never a header.
    pub peer: String,
    /// This request's id, for answers, logs and the audit trail.
    pub request_id: String,
}

impl Principal {
    /// The agent's own acts: recovery, schedules.
    #[must_use]
    pub fn agent(id: &Subject, request_id: String) -> Self {
        Self {
            subject: id.clone(),
            credential: Credential::Certificate,
            binding: Binding { roles: BTreeSet::from([Role::Admin]), services: BTreeSet::new() },
            narrowed: None,
            expires_at: Timestamp::MAX,
            certificate_sha256: String::new(),
            peer: String::new(),
            request_id,
        }
    }

    /// Whether it has the permission at all, whatever the target.
    #[must_use]
    pub fn has(&self, permission: Permission) -> bool {
        self.binding.roles.iter().any(|role| role.permissions().contains(&permission))
            && self.narrowed.as_ref().is_none_or(|list| list.contains(&permission))
            && !(permission.needs_certificate() && self.credential == Credential::Token)
    }

    /// Whether its scope covers the service.
    #[must_use]
    pub fn covers(&self, service: &ServiceName) -> bool {
        self.binding.services.is_empty() || self.binding.services.contains(service)
    }

    /// Its permissions of this moment.
    #[must_use]
    pub fn permissions(&self) -> Vec<Permission> {
        Permission::ALL.iter().copied().filter(|permission| self.has(*permission)).collect()
    }
}

/// Proof that the check was made: methods that act take one, and only [`authorize`] makes it.
#[derive(Clone, Debug)]
pub struct Authorized {
    principal: Principal,
    permission: Permission,
}

impl Authorized {
    /// Who.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// For what.
    #[must_use]
    pub fn permission(&self) -> Permission {
        self.permission
    }
}

/// What a call is about, for the check of scopes.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// Nothing that scopes apply to.
    None,
    /// These services, every one of them.
    Services(&'a [ServiceName]),
    /// The whole platform: only for principals without a scope.
    All,
}

/// The one check of rights against a target. The same answer for what exists and what does not.
///
/// # Errors
/// `CERTIFICATE_REQUIRED` when the role is there and only the certificate is missing, else `PERMISSION_DENIED`, with
/// the permission and the smallest role that has it.
pub fn authorize(principal: &Principal, permission: Permission, scope: Scope<'_>) -> Result<Authorized> {
    let named = principal.subject.short();
    if !principal.has(permission) {
        let role = permission.smallest_role();
        let by_role = principal.binding.roles.iter().any(|role| role.permissions().contains(&permission));
        if by_role && permission.needs_certificate() && principal.credential == Credential::Token {
            return Err(Error::new(
                Reason::CertificateRequired,
                format!(
                    "{permission} needs a client certificate, {named} showed a token",
                    permission = permission.name()
                ),
            )
            .effect("nothing was done"));
        }
        let roles: Vec<&str> = principal.binding.roles.iter().map(|role| role.name()).collect();
        let has = if by_role {
            "a token that is narrowed to less".to_owned()
        } else if roles.is_empty() {
            "no role".to_owned()
        } else {
            roles.join(", ")
        };
        return Err(Error::new(
            Reason::PermissionDenied,
            format!("{named} may not: {} needs role {}, {named} has {has}", permission.name(), role.name()),
        )
        .fact("permission", permission.name())
        .fact("role", role.name())
        .effect("nothing was done"));
    }
    let outside = match scope {
        Scope::None => None,
        Scope::Services(services) => services.iter().find(|service| !principal.covers(service)),
        Scope::All if principal.binding.services.is_empty() => None,
        Scope::All => {
            return Err(Error::new(
                Reason::PermissionDenied,
                format!("{named} may not: its rights are scoped to some services, this is about all of them"),
            )
            .fact("permission", permission.name())
            .effect("nothing was done"));
        }
    };
    if let Some(service) = outside {
        return Err(Error::new(
            Reason::PermissionDenied,
            format!("{named} may not: {} on {service} is outside its services", permission.name()),
        )
        .about(service)
        .fact("permission", permission.name())
        .effect("nothing was done"));
    }
    Ok(Authorized { principal: principal.clone(), permission })
}

pub mod token;

#[cfg(test)]
mod tests;
