//! Why the CA's folder did not do what was asked.

use std::path::PathBuf;

use ops_trust::ca::{self, folder::IssuedRecord};
use ops_trust::leaf::LeafError;
use ops_trust::private_file;
use ops_trust::subject::{Subject, SubjectError};
use ops_trust::{bundle, policy};

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The name is none.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// The certificate may not be so.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// The role or the service is none.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// The policy beside the folder is wrong, or says something else.
    #[error("{path}: {source}")]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: policy::Error,
    },
    /// The CA or its folder.
    #[error(transparent)]
    Ca(#[from] ca::Error),
    /// The agent's address or name.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// A file.
    #[error(transparent)]
    File(#[from] private_file::Error),
    /// The CA knows no agent, so a bundle would lead nowhere.
    #[error(
        "this CA knows no agent yet; its certificate comes first: opsctl pki issue agent/NAME --csr FILE --address HOST:PORT --audit-root=KEY"
    )]
    NoAgent,
    /// The CA knows several agents and none was chosen.
    #[error("this CA knows several agents; choose one with --agent: {}", .names.join(", "))]
    WhichAgent {
        /// Their names.
        names: Vec<String>,
    },
    /// The CA does not know this agent.
    #[error("this CA knows no {name}; it knows {}", .names.join(", "))]
    UnknownAgent {
        /// What was asked for.
        name: Subject,
        /// What there is.
        names: Vec<String>,
    },
    /// Nobody of this name has a certificate.
    #[error("{name} never had a certificate of this CA{}", suggestion(.nearest))]
    Unknown {
        /// What was asked for.
        name: Subject,
        /// A subject whose name is near it.
        nearest: Option<String>,
    },
    /// An agent makes its own key.
    #[error("an agent makes its own key: run opsd init --csr on its host, then give the request with --csr")]
    AgentNeedsRequest,
    /// A new agent whose bundles would lead nowhere.
    #[error("a new agent needs --address HOST:PORT and --audit-root=KEY, for the bundles of its callers")]
    AgentNeedsAddress,
    /// A flag that does not apply.
    #[error("{flag} is for {only}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// What it is for.
        only: &'static str,
    },
    /// The agent's files beside the folder are not those of this agent.
    #[error("{path} is not the certificate of {agent}; give its request with --csr")]
    OtherAgent {
        /// The file beside the CA's folder.
        path: PathBuf,
        /// The agent that was asked for.
        agent: Subject,
    },
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The caller's words are wrong.
    Input,
    /// What was named is not there.
    NotFound,
    /// A file.
    File,
}

impl Fault {
    pub(super) fn unknown(name: &Subject, issued: &[IssuedRecord]) -> Self {
        let wanted = name.to_string();
        let nearest = issued
            .iter()
            .map(|record| record.subject.to_string())
            .map(|known| (strsim::jaro_winkler(&known, &wanted), known))
            .filter(|(nearness, _)| *nearness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, known)| known);
        Self::Unknown { name: name.clone(), nearest }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Unknown { .. } | Self::UnknownAgent { .. } => Kind::NotFound,
            Self::File(_)
            | Self::PolicyFile { .. }
            | Self::OtherAgent { .. }
            | Self::Ca(
                ca::Error::File(_)
                | ca::Error::Record { .. }
                | ca::Error::Agent { .. }
                | ca::Error::NotACa(_)
                | ca::Error::NotAKey
                | ca::Error::KeyOfAnother,
            ) => Kind::File,
            _ => Kind::Input,
        }
    }

    /// True when the system refused a file for this reason.
    pub(super) fn is(&self, kind: std::io::ErrorKind) -> bool {
        let (Self::File(error) | Self::Ca(ca::Error::File(error))) = self else { return false };
        matches!(error, private_file::Error::Io { source, .. } if source.kind() == kind)
    }
}

fn suggestion(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!("; did you mean {n}?")).unwrap_or_default()
}
