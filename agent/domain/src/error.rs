//! What a person is told when something fails: reason, what failed, evidence, next command.
//!
//! Errors of adapters are typed where they are raised; a domain service turns them into this one value, and the api
//! turns this into a status or problem+json. The sentence is written once, here in the domain.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A result with the domain's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! reasons {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// Why something failed; the same names as `ops.v1.ErrorReason`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $(#[doc = $name] #[serde(rename = $name)] $variant,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)+];

            /// `START_FATAL`: what people see, and the name of its page.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)+ }
            }
        }
    };
}

reasons! {
    InvalidArgument = "INVALID_ARGUMENT",
    ConfirmationMissing = "CONFIRMATION_MISSING",
    PlanStale = "PLAN_STALE",
    IdempotencyConflict = "IDEMPOTENCY_CONFLICT",
    LimitExceeded = "LIMIT_EXCEEDED",
    NotSupported = "NOT_SUPPORTED",
    Unauthenticated = "UNAUTHENTICATED",
    CredentialExpired = "CREDENTIAL_EXPIRED",
    CredentialInvalid = "CREDENTIAL_INVALID",
    BindingMismatch = "BINDING_MISMATCH",
    PermissionDenied = "PERMISSION_DENIED",
    CertificateRequired = "CERTIFICATE_REQUIRED",
    ProtectedService = "PROTECTED_SERVICE",
    AuditUnavailable = "AUDIT_UNAVAILABLE",
    ShuttingDown = "SHUTTING_DOWN",
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    Overloaded = "OVERLOADED",
    Internal = "INTERNAL",
    ConfigInvalid = "CONFIG_INVALID",
    StateUnavailable = "STATE_UNAVAILABLE",
    OperationNotFound = "OPERATION_NOT_FOUND",
    Locked = "LOCKED",
    Cancelled = "CANCELLED",
    Interrupted = "INTERRUPTED",
    UndoFailed = "UNDO_FAILED",
    ServiceNotFound = "SERVICE_NOT_FOUND",
    ServiceUnmanaged = "SERVICE_UNMANAGED",
    SupervisorUnreachable = "SUPERVISOR_UNREACHABLE",
    SupervisorBadReply = "SUPERVISOR_BAD_REPLY",
    StartFatal = "START_FATAL",
    NotReadyTimeout = "NOT_READY_TIMEOUT",
    Flapping = "FLAPPING",
    StopTimeout = "STOP_TIMEOUT",
    RestartPartial = "RESTART_PARTIAL",
    ProbeNotFound = "PROBE_NOT_FOUND",
    ProbeFailed = "PROBE_FAILED",
    LogNotFound = "LOG_NOT_FOUND",
    LogUnreadable = "LOG_UNREADABLE",
    LogRefused = "LOG_REFUSED",
    CursorInvalid = "CURSOR_INVALID",
    SlowConsumer = "SLOW_CONSUMER",
    DatabaseUnreachable = "DATABASE_UNREACHABLE",
    DatabaseAuthentication = "DATABASE_AUTHENTICATION",
    DatabaseFailed = "DATABASE_FAILED",
    DatabaseUnconfigured = "DATABASE_UNCONFIGURED",
    CollectionNotFound = "COLLECTION_NOT_FOUND",
    BackupNotFound = "BACKUP_NOT_FOUND",
    BackupCorrupt = "BACKUP_CORRUPT",
    BackupIncomplete = "BACKUP_INCOMPLETE",
    NoSpace = "NO_SPACE",
    RestoreFailed = "RESTORE_FAILED",
    RestoreMismatch = "RESTORE_MISMATCH",
    StoreUnavailable = "STORE_UNAVAILABLE",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failure, ready to be shown. It is stored with operations, so it serialises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Why.
    pub reason: Reason,
    /// One sentence: what failed and where; lower case at its beginning, no full stop, never a secret.
    pub message: String,
    /// What it is about; empty for the call itself.
    pub target: String,
    /// Facts that support it.
    pub evidence: Vec<Evidence>,
    /// What to run next, the best first.
    pub next: Vec<Next>,
    /// The same call may succeed later without anyone changing anything.
    pub retryable: bool,
    /// What became of the target: "nothing was done".
    pub effect: String,
}

/// One fact: a name of one word, a line, or quoted lines (at most 20, oldest first).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `probe`, `stderr`, `exit`, `holder`.
    pub name: String,
    /// One line; may be empty when there are lines.
    pub text: String,
    /// Quoted lines.
    pub lines: Vec<String>,
}

/// A command that helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The program's name first.
    pub argv: Vec<String>,
    /// Said behind it; may be empty.
    pub note: String,
}

impl Error {
    /// A failure with its sentence and nothing else yet.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            target: String::new(),
            evidence: Vec::new(),
            next: Vec::new(),
            retryable: false,
            effect: String::new(),
        }
    }

    /// What it is about.
    #[must_use]
    pub fn about(mut self, target: impl fmt::Display) -> Self {
        self.target = target.to_string();
        self
    }

    /// Adds a fact of one line.
    #[must_use]
    pub fn fact(mut self, name: &str, text: impl Into<String>) -> Self {
        self.evidence.push(Evidence { name: name.to_owned(), text: text.into(), lines: Vec::new() });
        self
    }

    /// Adds quoted lines; only the last 20 are kept.
    #[must_use]
    pub fn lines(mut self, name: &str, text: impl Into<String>, lines: Vec<String>) -> Self {
        let lines = lines.into_iter().rev().take(20).rev().collect();
        self.evidence.push(Evidence { name: name.to_owned(), text: text.into(), lines });
        self
    }

    /// Adds a command: `["opsctl", "service", "get", name]`.
    #[must_use]
    pub fn next(self, argv: &[&str]) -> Self {
        self.next_with(argv, "")
    }

    /// Adds a command with a note: "after the fix".
    #[must_use]
    pub fn next_with(mut self, argv: &[&str], note: &str) -> Self {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        self.next.push(Next { argv, note: note.to_owned() });
        self
    }

    /// The same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// What became of the target.
    #[must_use]
    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl std::error::Error for Error {}
