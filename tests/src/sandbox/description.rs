//! What a sandbox is, for other programs: the document of `cargo xtask sandbox up --json`.
//!
//! `docs/sandbox.md` documents it; fields are added, never renamed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::belongings::Process;
use crate::parts::Tools;

/// The file in the sandbox's folder that holds the document.
const FILE: &str = "sandbox.json";

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The sandbox's folder.
    pub dir: PathBuf,
    /// The client's binary.
    pub opsctl: PathBuf,
    /// The agent's binary.
    pub opsd: PathBuf,
    /// What to export so that `opsctl` finds its configuration.
    pub env: BTreeMap<String, String>,
    /// The agent; `None` in a sandbox without one.
    pub agent: Option<Agent>,
    /// supervisord.
    pub supervisor: Supervisor,
    /// The database.
    pub mongodb: Mongodb,
    /// The sample platform.
    pub platform: Platform,
    /// Who can call the agent, by role; empty without an agent.
    pub identities: BTreeMap<String, Identity>,
    /// The authority that the agent's certificate is from; `None` without an agent.
    pub ca: Option<PathBuf>,
    /// Stock clients.
    pub tools: Tools,
    /// Processes to end, each with its start so that a later owner of its pid is left alone.
    pub(super) processes: Processes,
    /// The folder of the sockets, when it lies outside `dir`.
    pub(super) sockets: PathBuf,
}

/// opsd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// `host:port` of its TLS port.
    pub address: String,
    /// Its pid at the time of writing.
    pub pid: i32,
    /// Its configuration.
    pub config: PathBuf,
    /// Its state.
    pub state_dir: PathBuf,
    /// The audit trail.
    pub audit_log: PathBuf,
}

/// supervisord.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Its pid at the time of writing.
    pub pid: i32,
    /// Its configuration.
    pub config: PathBuf,
    /// The stock client: `supervisorctl -c CONFIG status`.
    pub supervisorctl: PathBuf,
    /// Its XML-RPC socket.
    pub socket: PathBuf,
}

/// The database server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mongodb {
    /// Connection string; may hold a password.
    pub uri: String,
    /// The platform's database.
    pub database: String,
    /// `given`, `mongod` or `ferretdb`.
    pub kind: String,
}

/// The sample platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The API.
    pub backend_url: String,
    /// The pages.
    pub frontend_url: String,
    /// The fault switches.
    pub admin_url: String,
}

/// Somebody who can call the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The context's name in opsctl's configuration.
    pub context: String,
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// The processes that the sandbox started itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Processes {
    pub(super) supervisord: Process,
    pub(super) agent: Option<Process>,
}

impl Description {
    /// Reads the document of the sandbox in `dir`; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::doing(format!("read {}", path.display()))(error)),
        };
        let read = serde_json::from_slice(&text).map_err(std::io::Error::other);
        read.map(Some).map_err(Error::doing(format!("read {}", path.display())))
    }

    /// The document as text.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self).map_err(|error| Error::doing("describe the sandbox")(error.into()))
    }

    pub(super) fn write(&self) -> Result<(), Error> {
        super::supervisor::write_private(&self.dir.join(FILE), &(self.to_json()? + "\n"))
    }

    pub(super) fn remove(dir: &Path) -> Result<(), Error> {
        match std::fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::doing("remove sandbox.json")(error))
            }
            _ => Ok(()),
        }
    }
}
