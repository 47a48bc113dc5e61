//! One table of exit codes for all commands.

use ops_proto::v1::{ErrorReason, OperationState};

/// How opsctl ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; healthy.
    Done = 0,
    /// The operation failed, or a check failed.
    Failed = 1,
    /// Usage, bad input, confirmation missing.
    Usage = 2,
    /// Agent unreachable, TLS failure.
    Unreachable = 3,
    /// Not authenticated or not allowed.
    Denied = 4,
    /// No such service, backup, operation…
    NotFound = 5,
    /// A precondition is not met, or another operation holds the lock.
    Precondition = 6,
    /// Failed, and undone: things are as before.
    Undone = 7,
    /// Failed, and could not be undone: a human is needed.
    NeedsHuman = 8,
    /// Inconclusive or timed out.
    Inconclusive = 9,
    /// Some hosts or targets failed.
    Partial = 10,
    /// Ctrl-C.
    Interrupted = 130,
}

/// The table as `opsctl --help` shows it.
pub const TABLE: &str = "\
Exit codes:
   0  done, healthy
   1  the operation failed, or a check failed
   2  usage, bad input, confirmation missing
   3  agent unreachable, TLS failure
   4  not authenticated or not allowed
   5  no such service, backup, operation…
   6  precondition not met, or locked by another operation
   7  failed, and undone: things are as before
   8  failed, and could not be undone: a human is needed
   9  inconclusive or timed out
  10  partial: some hosts or targets failed
 130  interrupted";

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What a failure of this reason exits with, unless an operation's state says more.
    #[must_use]
    pub const fn of_reason(reason: ErrorReason) -> Self {
        use ErrorReason as R;
        match reason {
            R::InvalidArgument
            | R::ConfirmationMissing
            | R::LimitExceeded
            | R::NotSupported
            | R::CursorInvalid
            | R::ContextMissing
            | R::ContextInvalid => Self::Usage,
            R::AgentUnreachable | R::AgentUntrusted | R::ShuttingDown | R::Overloaded => Self::Unreachable,
            R::Unauthenticated
            | R::CredentialExpired
            | R::CredentialInvalid
            | R::BindingMismatch
            | R::PermissionDenied
            | R::CertificateRequired
            | R::ProtectedService => Self::Denied,
            R::OperationNotFound
            | R::ServiceNotFound
            | R::ProbeNotFound
            | R::LogNotFound
            | R::CollectionNotFound
            | R::BackupNotFound => Self::NotFound,
            R::PlanStale
            | R::IdempotencyConflict
            | R::AuditUnavailable
            | R::StateUnavailable
            | R::ConfigInvalid
            | R::Locked
            | R::ServiceUnmanaged
            | R::DatabaseUnconfigured
            | R::NoSpace => Self::Precondition,
            R::UndoFailed => Self::NeedsHuman,
            R::DeadlineExceeded => Self::Inconclusive,
            R::RestartPartial => Self::Partial,
            R::Unspecified
            | R::Internal
            | R::Cancelled
            | R::Interrupted
            | R::SupervisorUnreachable
            | R::SupervisorBadReply
            | R::StartFatal
            | R::NotReadyTimeout
            | R::Flapping
            | R::StopTimeout
            | R::ProbeFailed
            | R::LogUnreadable
            | R::LogRefused
            | R::SlowConsumer
            | R::DatabaseUnreachable
            | R::DatabaseAuthentication
            | R::DatabaseFailed
            | R::BackupCorrupt
            | R::BackupIncomplete
            | R::RestoreFailed
            | R::RestoreMismatch
            | R::StoreUnavailable
            | R::AuditBroken
            | R::FileFailed => Self::Failed,
        }
    }

    /// What an operation that ended in `state` exits with; `reason` is its problem's.
    #[must_use]
    pub const fn of_operation(state: OperationState, reason: ErrorReason) -> Self {
        match state {
            OperationState::Succeeded => Self::Done,
            OperationState::Undone => Self::Undone,
            OperationState::NeedsHuman => Self::NeedsHuman,
            OperationState::Partial => Self::Partial,
            OperationState::Cancelled => Self::Failed,
            OperationState::Failed => Self::of_reason(reason),
            OperationState::Unspecified | OperationState::Pending | OperationState::Running => {
                Self::Inconclusive
            }
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
