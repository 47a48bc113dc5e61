//! supervisord 4 over XML-RPC on its unix socket.
//!
//! The methods are a fixed list, `Method`; none of them is about all programs, and none reaches supervisord itself.
//! Everything observed about the other side is written down beside the code that minds it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use ops_domain::ports::service_manager::{ManagerError, Patience, Program, ProgramName, ServiceManager};

mod call;
pub mod log;
mod reply;

use call::{Caller, Failed};

/// Every method that this agent ever calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Version,
    AllProcessInfo,
    ProcessInfo,
    AllConfigInfo,
    Start,
    Stop,
    Signal,
}

impl Method {
    const fn name(self) -> &'static str {
        match self {
            Method::Version => "supervisor.getSupervisorVersion",
            Method::AllProcessInfo => "supervisor.getAllProcessInfo",
            Method::ProcessInfo => "supervisor.getProcessInfo",
            Method::AllConfigInfo => "supervisor.getAllConfigInfo",
            Method::Start => "supervisor.startProcess",
            Method::Stop => "supervisor.stopProcess",
            Method::Signal => "supervisor.signalProcess",
        }
    }
}

/// Name and password of supervisord's own `[unix_http_server]`.
#[derive(Clone)]
pub struct Login {
    /// `username`.
    pub user: String,
    /// `password`.
    pub password: secrecy::SecretString,
}

/// A supervisord, reached anew for each call: nothing is kept that could be stale.
pub struct Supervisord {
    caller: Caller,
}

impl Supervisord {
    /// At this socket.
    #[must_use]
    pub fn new(socket: PathBuf, login: Option<Login>) -> Self {
        Self { caller: Caller::new(socket, login) }
    }

    /// A fault becomes what it means for this program.
    fn meaning(&self, failed: Failed, name: &ProgramName) -> ManagerError {
        let Failed::Fault { code, text } = failed else { return self.caller.error(failed) };
        match code {
            6 => ManagerError::ShuttingDown { place: self.caller.place() },
            10 => ManagerError::NoSuchProgram(name.clone()),
            20 | 21 => ManagerError::Command(text),
            40 | 50 => ManagerError::Spawn(text),
            60 => ManagerError::AlreadyStarted,
            70 => ManagerError::NotRunning,
            _ => ManagerError::Refused(format!("{text} (fault {code})")),
        }
    }
}

#[async_trait]
impl ServiceManager for Supervisord {
    async fn version(&self) -> Result<String, ManagerError> {
        let version = self.caller.call(Method::Version, &[]).await.and_then(|value| reply::text(&value));
        version.map_err(|failed| self.caller.error(failed))
    }

    async fn programs(&self) -> Result<Vec<Program>, ManagerError> {
        let programs =
            self.caller.call(Method::AllProcessInfo, &[]).await.and_then(|value| reply::programs(&value));
        programs.map_err(|failed| self.caller.error(failed))
    }

    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError> {
        let program = self.caller.call(Method::ProcessInfo, &[name.as_str().into()]).await;
        program.and_then(|value| reply::program(&value)).map_err(|failed| self.meaning(failed, name))
    }

    async fn patience(&self) -> Result<BTreeMap<ProgramName, Patience>, ManagerError> {
        let patience =
            self.caller.call(Method::AllConfigInfo, &[]).await.and_then(|value| reply::patience(&value));
        patience.map_err(|failed| self.caller.error(failed))
    }

    async fn start(&self, name: &ProgramName) -> Result<(), ManagerError> {
        // With wait=true it would answer fault 50 at the first early exit though it goes on trying.
        let started = self.caller.call(Method::Start, &[name.as_str().into(), false.into()]).await;
        started.and_then(|value| reply::done(&value)).map_err(|failed| self.meaning(failed, name))
    }

    async fn stop(&self, name: &ProgramName) -> Result<(), ManagerError> {
        let stopped = self.caller.call(Method::Stop, &[name.as_str().into(), false.into()]).await;
        stopped.and_then(|value| reply::done(&value)).map_err(|failed| self.meaning(failed, name))
    }

    async fn kill(&self, name: &ProgramName) -> Result<(), ManagerError> {
        let killed = self.caller.call(Method::Signal, &[name.as_str().into(), "KILL".into()]).await;
        killed.and_then(|value| reply::done(&value)).map_err(|failed| self.meaning(failed, name))
    }
}

#[cfg(test)]
mod tests;
