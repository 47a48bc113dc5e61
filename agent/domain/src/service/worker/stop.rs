//! Stop, and be sure that it stopped.

use std::time::Duration;

use crate::error::{Error, Reason};
use crate::ports::service_history::Change;
use crate::ports::service_manager::ManagerError;
use crate::service::worker::{Step, Worker};

/// supervisord's own SIGKILL comes at its stopwaitsecs, and its report within a second.
const MARGIN: Duration = Duration::from_secs(3);
/// How long SIGTERM has before `--force` sends SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// A port is closed with its process; who inherited it may take a moment longer.
const PORT: Duration = Duration::from_millis(500);

impl Worker<'_> {
    /// Gives notes.
    pub(super) async fn stop(&mut self, force: bool) -> Step<Vec<String>> {
        self.checkpoint("stopping").await?;
        let phase = self.run.phase("stop", &self.label);
        self.stop_at = Some(self.run.monotonic());
        match self.inner.ports.manager.stop(&self.service.program).await {
            // It is going down already, or has just gone.
            Ok(()) | Err(ManagerError::NotRunning) => {}
            Err(error) => {
                phase.failed(error.to_string());
                return Err(self.fail(self.manager_error(error)));
            }
        }
        let limit = (self.patience.stop + MARGIN).min(self.run.remaining());
        let grace = GRACE.min(self.patience.stop).min(limit / 2);
        let first = if force { grace } else { limit };
        let mut down = match self.until(first, |program| program.state.is_down().then_some(())).await {
            Ok(down) => down.is_some(),
            Err(failed) => {
                phase.failed(failed.error.message.clone());
                return Err(failed);
            }
        };
        if !down && force {
            // It may have gone in this moment.
            let _ = self.inner.ports.manager.kill(&self.service.program).await;
            let left = limit.saturating_sub(grace).max(Duration::from_secs(1));
            down = match self.until(left, |program| program.state.is_down().then_some(())).await {
                Ok(down) => down.is_some(),
                Err(failed) => {
                    phase.failed(failed.error.message.clone());
                    return Err(failed);
                }
            };
        }
        if !down {
            phase.failed(format!("still STOPPING after {:.1} s", limit.as_secs_f64()));
            return Err(self.fail(self.stop_timeout(limit, force)));
        }
        self.gone_at = Some(self.run.monotonic());
        let pid = self.old.as_ref().map_or_else(|| "process".to_owned(), |old| format!("pid {}", old.pid));
        let mut text = format!("{pid} gone");
        let mut notes = Vec::new();
        if let Some(note) = self.killed(force) {
            text = format!("{text}, by SIGKILL");
            notes.push(note);
        }
        if let Some(address) = self.socket() {
            let port = address.rsplit(':').next().unwrap_or_default().to_owned();
            let ports = &self.inner.ports;
            let until = self.run.monotonic() + PORT;
            let mut closed = self.is_closed(&address).await;
            while !closed && self.run.monotonic() < until {
                ports.clock.sleep(super::POLL).await;
                closed = self.is_closed(&address).await;
            }
            if closed {
                text = format!("{text}, port {port} closed");
            } else {
                text = format!("{text}, port {port} still open");
                notes.push(format!(
                    "{}: its process is gone, yet {address} still takes connections: another process listens there",
                    self.service.name
                ));
            }
        }
        phase.done(text);
        Ok(notes)
    }

    /// SIGTERM was not enough.
    fn killed(&self, force: bool) -> Option<String> {
        let by_manager = self.transitions().iter().any(|change| matches!(change, Change::Killing { .. }));
        let name = &self.service.name;
        if by_manager {
            let after = self.patience.stop.as_secs();
            return Some(format!(
                "{name}: it ignored its stop signal; supervisord killed it after {after} s"
            ));
        }
        let killed = |change: &Change| matches!(change, Change::Stopped { exit } if exit.text() == "killed by SIGKILL");
        (force && self.transitions().iter().any(killed))
            .then(|| format!("{name}: it ignored its stop signal and was killed (--force)"))
    }

    fn stop_timeout(&self, waited: Duration, force: bool) -> Error {
        let name = self.service.name.as_str();
        let pid = self.old.as_ref().map_or(String::new(), |old| format!(", pid {}", old.pid));
        let error = Error::new(
            Reason::StopTimeout,
            format!("{name} did not stop: still STOPPING after {:.1} s{pid}", waited.as_secs_f64()),
        )
        .about(name)
        .fact("stopwaitsecs", format!("{} s: then supervisord sends SIGKILL", self.patience.stop.as_secs()))
        .effect(format!("{name} is on its way down; no second process was started"));
        if force {
            error
                .fact(
                    "kill",
                    "SIGKILL was sent; a process in uninterruptible sleep ends only with what it waits for",
                )
                .next(&["opsctl", "service", "get", name])
        } else {
            error
                .next_with(&["opsctl", "service", "stop", name, "--force"], "sends SIGKILL")
                .next(&["opsctl", "service", "get", name])
        }
    }
}
