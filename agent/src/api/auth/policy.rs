//! The table of rights: what each rpc needs, for both doors. An rpc without an arm does not compile.

use ops_domain::access::Permission;
use ops_proto::Rpc;

/// What a call needs before its handler sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The right.
    pub permission: Permission,
    /// What the handler checks it against.
    pub scope: Scope,
    /// Which proof of identity is enough.
    pub credential: Credential,
    /// What the caller must say.
    pub confirm: Confirm,
    /// How it is written down.
    pub audit: Audit,
}

/// What scopes apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing.
    None,
    /// The services that the message names; the handler authorizes each.
    Services,
    /// Answers are cut down to the caller's services.
    Filtered,
}

/// Which proof is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A certificate or a token.
    Any,
    /// A certificate, with or without a token.
    Certificate,
}

/// The level of confirmation; the engine or the handler asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirm {
    /// Nothing.
    None,
    /// `confirmed`.
    Ask,
    /// The plan decides: `confirmed`, or the typed target for what is protected or live.
    Plan,
}

/// How it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Intent before, result after; a denial is in the trail too.
    Mutation,
    /// In the ring beside the trail, best effort.
    Read,
    /// In the trail before anything is shown, or nothing is.
    Raw,
}

/// The one table.
#[must_use]
pub const fn row(rpc: Rpc) -> Row {
    use Permission as P;
    match rpc {
        Rpc::WhoAmI | Rpc::ListRoles => read(P::Identity, Scope::None),
        Rpc::CreateToken => {
            Row { credential: Credential::Certificate, ..change(P::TokenCreate, Scope::None, Confirm::None) }
        }
        Rpc::GetAgent => read(P::Status, Scope::None),
        Rpc::ReloadAgent => {
            Row { credential: Credential::Certificate, ..change(P::AgentReload, Scope::None, Confirm::None) }
        }
        Rpc::ListAudit | Rpc::ReadAudit => {
            Row { credential: Credential::Certificate, audit: Audit::Raw, ..read(P::AuditRead, Scope::None) }
        }
        Rpc::GetStatus => read(P::Status, Scope::Filtered),
        Rpc::ListServices | Rpc::WatchServices => read(P::ServiceRead, Scope::Filtered),
        Rpc::GetService => read(P::ServiceRead, Scope::Services),
        Rpc::StartServices => change(P::ServiceStart, Scope::Services, Confirm::Plan),
        Rpc::StopServices => change(P::ServiceStop, Scope::Services, Confirm::Plan),
        Rpc::RestartServices => change(P::ServiceRestart, Scope::Services, Confirm::Plan),
        Rpc::ListProbes | Rpc::RunProbe => read(P::ProbeRun, Scope::None),
        Rpc::ListSources => read(P::LogRead, Scope::Filtered),
        Rpc::TailLog => read(P::LogRead, Scope::Services),
        Rpc::ListOperations => read(P::OperationRead, Scope::Filtered),
        Rpc::GetOperation | Rpc::WatchOperation => read(P::OperationRead, Scope::None),
        Rpc::CancelOperation => change(P::OperationCancelOwn, Scope::None, Confirm::Ask),
        Rpc::PingDatabase | Rpc::CountDocuments | Rpc::GetDatabaseStats => read(P::DatabaseRead, Scope::None),
        Rpc::ListBackups | Rpc::GetBackup => read(P::BackupList, Scope::None),
        Rpc::CreateBackup | Rpc::VerifyBackup => change(P::BackupCreate, Scope::None, Confirm::None),
        // Into a new database; over live data the handler asks for backup.restore-live.
        Rpc::RestoreBackup => change(P::BackupRestoreScratch, Scope::None, Confirm::Plan),
    }
}

/// `ops.v1.ServiceService/RestartServices`: how a route is written down.
#[must_use]
pub fn route(rpc: Rpc) -> &'static str {
    rpc.path().trim_start_matches('/')
}

const fn read(permission: Permission, scope: Scope) -> Row {
    Row { permission, scope, credential: Credential::Any, confirm: Confirm::None, audit: Audit::Read }
}

const fn change(permission: Permission, scope: Scope, confirm: Confirm) -> Row {
    Row { permission, scope, credential: Credential::Any, confirm, audit: Audit::Mutation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_domain_agree_about_certificates() {
        for rpc in Rpc::ALL {
            let row = row(*rpc);
            let certificate = row.credential == Credential::Certificate;
            assert_eq!(certificate, row.permission.needs_certificate(), "{rpc:?}");
        }
    }
}
