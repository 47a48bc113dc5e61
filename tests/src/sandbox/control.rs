//! The agent of a sandbox, and the callers of it.

use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::Signal;

use super::agent::agent_log;
use super::{Agent, Error, ORDERLY, Sandbox};
use crate::belongings::Process;
use crate::patience::eventually;

/// What `opsctl` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl Sandbox {
    /// `opsctl` as one of [`super::ROLES`], ready to be given arguments.
    pub fn opsctl_command(&self, identity: &str) -> Command {
        let mut opsctl = Command::new(&self.binaries.opsctl);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"OPSCTL_") {
                opsctl.env_remove(name);
            }
        }
        opsctl.env("OPSCTL_CONFIG", &self.agent_files.contexts).env("OPSCTL_CONTEXT", identity);
        opsctl.env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
        opsctl
    }

    /// Runs `opsctl` to its end.
    ///
    /// # Errors
    /// When it cannot be started; its own failures are in the output.
    pub fn opsctl(&self, identity: &str, arguments: &[&str]) -> Result<Output, Error> {
        let output = self
            .opsctl_command(identity)
            .args(arguments)
            .output()
            .map_err(Error::doing(format!("start {}", self.binaries.opsctl.display())))?;
        Ok(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        })
    }

    /// The agent's process; `None` when it was ended, or in a sandbox without one.
    pub fn agent(&self) -> Option<Process> {
        self.agent.filter(|agent| agent.is_alive())
    }

    /// What the agent has said on its two streams.
    ///
    /// # Errors
    /// When it was never started.
    pub fn agent_said(&self) -> Result<String, Error> {
        let said = std::fs::read(agent_log(&self.layout)).map_err(Error::doing("read the agent's log"))?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    /// Starts the agent, or starts it again, and waits until its port answers.
    ///
    /// # Errors
    /// With its last lines when it ends early.
    pub fn start_agent(&mut self) -> Result<(), Error> {
        let (child, process) = self.agent_files.start(&self.layout, &self.addresses, &self.binaries)?;
        self.agent = Some(process);
        self.agent_child = Some(child);
        self.description.processes.agent = Some(process);
        self.description.agent = Some(Agent {
            address: self.addresses.agent.to_string(),
            pid: process.pid,
            config: self.agent_files.config(),
            state_dir: self.agent_files.state(),
            audit_log: self.agent_files.audit_log(),
        });
        self.description.write()
    }

    /// Asks the agent to end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time.
    pub fn stop_agent(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.end_agent(Signal::SIGTERM)
    }

    /// Kills the agent, in whatever it is doing.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill_agent(&mut self) -> Result<(), Error> {
        self.end_agent(Signal::SIGKILL).map(drop)
    }

    /// Sends the agent a signal that does not end it: SIGHUP, SIGSTOP, SIGCONT.
    ///
    /// # Errors
    /// When it is not alive.
    pub fn signal_agent(&self, signal: Signal) -> Result<(), Error> {
        let sent = self.agent.map(|agent| agent.signal(signal)).transpose();
        match sent.map_err(Error::doing(format!("send {signal} to opsd")))? {
            Some(true) => Ok(()),
            _ => Err(Error::Failed { what: format!("{signal} to opsd"), evidence: "not alive".to_owned() }),
        }
    }

    fn end_agent(&mut self, signal: Signal) -> Result<Option<ExitStatus>, Error> {
        self.signal_agent(signal)?;
        let Some(mut child) = self.agent_child.take() else {
            return Ok(None);
        };
        let ended = eventually(ORDERLY, "the agent's end", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        match ended {
            Ok(status) => Ok(Some(status)),
            Err(waited) => {
                self.agent_child = Some(child);
                Err(Error::NotReady { waited, log: super::last_lines(&agent_log(&self.layout)) })
            }
        }
    }
}
