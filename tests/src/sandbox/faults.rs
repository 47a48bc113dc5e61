//! Breaking a sandbox, and mending it.

use std::fs;

use nix::sys::signal::Signal;

use super::{Error, FAULTY, KEPT, ORDERLY, Sandbox, supervisor};
use crate::http::{self, Answer};
use crate::patience::eventually;

impl Sandbox {
    /// Sends a signal to the process of a program; a stopped one takes SIGCONT and SIGKILL only.
    ///
    /// # Errors
    /// When it is not alive.
    pub fn signal(&self, program: &str, signal: Signal) -> Result<(), Error> {
        let sent = self.process(program).map(|process| process.signal(signal)).transpose();
        match sent.map_err(Error::doing(format!("send {signal} to {program}")))? {
            Some(true) => Ok(()),
            _ => Err(Error::Failed {
                what: format!("{signal} to {program}"),
                evidence: "not alive".to_owned(),
            }),
        }
    }

    /// Kills supervisord alone; its programs live on without a parent, as they would on a host.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill_supervisord(&mut self) -> Result<(), Error> {
        self.supervisord.signal(Signal::SIGKILL).map_err(Error::doing("kill supervisord"))?;
        if let Some(mut child) = self.supervisord_child.take() {
            child.wait().map_err(Error::doing("wait for supervisord's end"))?;
        }
        Ok(())
    }

    /// Starts supervisord again after [`Sandbox::kill_supervisord`]. Programs that lived on are killed first:
    /// they hold the ports.
    ///
    /// # Errors
    /// As [`Sandbox::up`].
    pub fn start_supervisord(&mut self) -> Result<(), Error> {
        for program in KEPT.iter().chain(&FAULTY) {
            if let Some(process) = self.process(program) {
                process.signal(Signal::SIGKILL).map_err(Error::doing(format!("kill {program}")))?;
                eventually(ORDERLY, program, || if process.is_alive() { Err("still there") } else { Ok(()) })
                    .map_err(|waited| Error::NotReady { waited, log: String::new() })?;
            }
        }
        let (child, process) = supervisor::start(&self.layout, &self.parts)?;
        self.supervisord = process;
        self.supervisord_child = Some(child);
        self.description.supervisor.pid = process.pid;
        self.description.processes.supervisord = process;
        self.description.write()
    }

    /// Turns one of the backend's fault switches: `latency?ms=800`.
    ///
    /// # Errors
    /// When the backend does not take it.
    pub fn fault(&self, switch: &str) -> Result<(), Error> {
        let path = format!("/fault/{switch}");
        match http::post(self.addresses.admin, &path).map_err(Error::doing(format!("POST {path}")))? {
            Answer { status: 202, .. } => Ok(()),
            Answer { body, .. } => Err(Error::Failed { what: path, evidence: body }),
        }
    }

    /// Removes the faults that outlive the backend's process: also when the backend is down.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn heal(&self) -> Result<(), Error> {
        for fault in ["crash-on-start", "never-ready"] {
            match fs::remove_file(self.layout.backend_state().join(fault)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::doing(format!("remove {fault}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
