// Generated from the protos; see tests/drift.rs.

/// Every rpc of `ops.v1`; a method's name is unique in the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rpc {
    /// `/ops.v1.OperationService/CancelOperation`
    CancelOperation,
    /// `/ops.v1.DatabaseService/CountDocuments`
    CountDocuments,
    /// `/ops.v1.BackupService/CreateBackup`
    CreateBackup,
    /// `/ops.v1.AccessService/CreateToken`
    CreateToken,
    /// `/ops.v1.AgentService/GetAgent`
    GetAgent,
    /// `/ops.v1.BackupService/GetBackup`
    GetBackup,
    /// `/ops.v1.DatabaseService/GetDatabaseStats`
    GetDatabaseStats,
    /// `/ops.v1.OperationService/GetOperation`
    GetOperation,
    /// `/ops.v1.ServiceService/GetService`
    GetService,
    /// `/ops.v1.HealthService/GetStatus`
    GetStatus,
    /// `/ops.v1.AuditService/ListAudit`
    ListAudit,
    /// `/ops.v1.BackupService/ListBackups`
    ListBackups,
    /// `/ops.v1.OperationService/ListOperations`
    ListOperations,
    /// `/ops.v1.ProbeService/ListProbes`
    ListProbes,
    /// `/ops.v1.AccessService/ListRoles`
    ListRoles,
    /// `/ops.v1.ServiceService/ListServices`
    ListServices,
    /// `/ops.v1.LogService/ListSources`
    ListSources,
    /// `/ops.v1.DatabaseService/PingDatabase`
    PingDatabase,
    /// `/ops.v1.AuditService/ReadAudit`
    ReadAudit,
    /// `/ops.v1.AgentService/ReloadAgent`
    ReloadAgent,
    /// `/ops.v1.ServiceService/RestartServices`
    RestartServices,
    /// `/ops.v1.BackupService/RestoreBackup`
    RestoreBackup,
    /// `/ops.v1.ProbeService/RunProbe`
    RunProbe,
    /// `/ops.v1.ServiceService/StartServices`
    StartServices,
    /// `/ops.v1.ServiceService/StopServices`
    StopServices,
    /// `/ops.v1.LogService/TailLog`
    TailLog,
    /// `/ops.v1.BackupService/VerifyBackup`
    VerifyBackup,
    /// `/ops.v1.OperationService/WatchOperation`
    WatchOperation,
    /// `/ops.v1.ServiceService/WatchServices`
    WatchServices,
    /// `/ops.v1.AccessService/WhoAmI`
    WhoAmI,
}

impl Rpc {
    /// All of them, by name.
    pub const ALL: &'static [Rpc] = &[
        Rpc::CancelOperation,
        Rpc::CountDocuments,
        Rpc::CreateBackup,
        Rpc::CreateToken,
        Rpc::GetAgent,
        Rpc::GetBackup,
        Rpc::GetDatabaseStats,
        Rpc::GetOperation,
        Rpc::GetService,
        Rpc::GetStatus,
        Rpc::ListAudit,
        Rpc::ListBackups,
        Rpc::ListOperations,
        Rpc::ListProbes,
        Rpc::ListRoles,
        Rpc::ListServices,
        Rpc::ListSources,
        Rpc::PingDatabase,
        Rpc::ReadAudit,
        Rpc::ReloadAgent,
        Rpc::RestartServices,
        Rpc::RestoreBackup,
        Rpc::RunProbe,
        Rpc::StartServices,
        Rpc::StopServices,
        Rpc::TailLog,
        Rpc::VerifyBackup,
        Rpc::WatchOperation,
        Rpc::WatchServices,
        Rpc::WhoAmI,
    ];

    /// The path of its HTTP/2 request.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Rpc::CancelOperation => "/ops.v1.OperationService/CancelOperation",
            Rpc::CountDocuments => "/ops.v1.DatabaseService/CountDocuments",
            Rpc::CreateBackup => "/ops.v1.BackupService/CreateBackup",
            Rpc::CreateToken => "/ops.v1.AccessService/CreateToken",
            Rpc::GetAgent => "/ops.v1.AgentService/GetAgent",
            Rpc::GetBackup => "/ops.v1.BackupService/GetBackup",
            Rpc::GetDatabaseStats => "/ops.v1.DatabaseService/GetDatabaseStats",
            Rpc::GetOperation => "/ops.v1.OperationService/GetOperation",
            Rpc::GetService => "/ops.v1.ServiceService/GetService",
            Rpc::GetStatus => "/ops.v1.HealthService/GetStatus",
            Rpc::ListAudit => "/ops.v1.AuditService/ListAudit",
            Rpc::ListBackups => "/ops.v1.BackupService/ListBackups",
            Rpc::ListOperations => "/ops.v1.OperationService/ListOperations",
            Rpc::ListProbes => "/ops.v1.ProbeService/ListProbes",
            Rpc::ListRoles => "/ops.v1.AccessService/ListRoles",
            Rpc::ListServices => "/ops.v1.ServiceService/ListServices",
            Rpc::ListSources => "/ops.v1.LogService/ListSources",
            Rpc::PingDatabase => "/ops.v1.DatabaseService/PingDatabase",
            Rpc::ReadAudit => "/ops.v1.AuditService/ReadAudit",
            Rpc::ReloadAgent => "/ops.v1.AgentService/ReloadAgent",
            Rpc::RestartServices => "/ops.v1.ServiceService/RestartServices",
            Rpc::RestoreBackup => "/ops.v1.BackupService/RestoreBackup",
            Rpc::RunProbe => "/ops.v1.ProbeService/RunProbe",
            Rpc::StartServices => "/ops.v1.ServiceService/StartServices",
            Rpc::StopServices => "/ops.v1.ServiceService/StopServices",
            Rpc::TailLog => "/ops.v1.LogService/TailLog",
            Rpc::VerifyBackup => "/ops.v1.BackupService/VerifyBackup",
            Rpc::WatchOperation => "/ops.v1.OperationService/WatchOperation",
            Rpc::WatchServices => "/ops.v1.ServiceService/WatchServices",
            Rpc::WhoAmI => "/ops.v1.AccessService/WhoAmI",
        }
    }

    /// Whether it answers with a stream.
    #[must_use]
    pub const fn is_streaming(self) -> bool {
        match self {
            Rpc::CancelOperation => false,
            Rpc::CountDocuments => false,
            Rpc::CreateBackup => false,
            Rpc::CreateToken => false,
            Rpc::GetAgent => false,
            Rpc::GetBackup => false,
            Rpc::GetDatabaseStats => false,
            Rpc::GetOperation => false,
            Rpc::GetService => false,
            Rpc::GetStatus => false,
            Rpc::ListAudit => false,
            Rpc::ListBackups => false,
            Rpc::ListOperations => false,
            Rpc::ListProbes => false,
            Rpc::ListRoles => false,
            Rpc::ListServices => false,
            Rpc::ListSources => false,
            Rpc::PingDatabase => false,
            Rpc::ReadAudit => true,
            Rpc::ReloadAgent => false,
            Rpc::RestartServices => false,
            Rpc::RestoreBackup => false,
            Rpc::RunProbe => false,
            Rpc::StartServices => false,
            Rpc::StopServices => false,
            Rpc::TailLog => true,
            Rpc::VerifyBackup => false,
            Rpc::WatchOperation => true,
            Rpc::WatchServices => true,
            Rpc::WhoAmI => false,
        }
    }

    /// The rpc of a request's path.
    #[must_use]
    pub fn from_path(path: &str) -> Option<Rpc> {
        Some(match path {
            "/ops.v1.OperationService/CancelOperation" => Rpc::CancelOperation,
            "/ops.v1.DatabaseService/CountDocuments" => Rpc::CountDocuments,
            "/ops.v1.BackupService/CreateBackup" => Rpc::CreateBackup,
            "/ops.v1.AccessService/CreateToken" => Rpc::CreateToken,
            "/ops.v1.AgentService/GetAgent" => Rpc::GetAgent,
            "/ops.v1.BackupService/GetBackup" => Rpc::GetBackup,
            "/ops.v1.DatabaseService/GetDatabaseStats" => Rpc::GetDatabaseStats,
            "/ops.v1.OperationService/GetOperation" => Rpc::GetOperation,
            "/ops.v1.ServiceService/GetService" => Rpc::GetService,
            "/ops.v1.HealthService/GetStatus" => Rpc::GetStatus,
            "/ops.v1.AuditService/ListAudit" => Rpc::ListAudit,
            "/ops.v1.BackupService/ListBackups" => Rpc::ListBackups,
            "/ops.v1.OperationService/ListOperations" => Rpc::ListOperations,
            "/ops.v1.ProbeService/ListProbes" => Rpc::ListProbes,
            "/ops.v1.AccessService/ListRoles" => Rpc::ListRoles,
            "/ops.v1.ServiceService/ListServices" => Rpc::ListServices,
            "/ops.v1.LogService/ListSources" => Rpc::ListSources,
            "/ops.v1.DatabaseService/PingDatabase" => Rpc::PingDatabase,
            "/ops.v1.AuditService/ReadAudit" => Rpc::ReadAudit,
            "/ops.v1.AgentService/ReloadAgent" => Rpc::ReloadAgent,
            "/ops.v1.ServiceService/RestartServices" => Rpc::RestartServices,
            "/ops.v1.BackupService/RestoreBackup" => Rpc::RestoreBackup,
            "/ops.v1.ProbeService/RunProbe" => Rpc::RunProbe,
            "/ops.v1.ServiceService/StartServices" => Rpc::StartServices,
            "/ops.v1.ServiceService/StopServices" => Rpc::StopServices,
            "/ops.v1.LogService/TailLog" => Rpc::TailLog,
            "/ops.v1.BackupService/VerifyBackup" => Rpc::VerifyBackup,
            "/ops.v1.OperationService/WatchOperation" => Rpc::WatchOperation,
            "/ops.v1.ServiceService/WatchServices" => Rpc::WatchServices,
            "/ops.v1.AccessService/WhoAmI" => Rpc::WhoAmI,
            _ => return None,
        })
    }
}
