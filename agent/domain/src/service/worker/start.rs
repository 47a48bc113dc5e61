//! Start, and watch on after the first failure: the manager goes on trying, and so do we look on.

use std::time::Duration;

use crate::ports::service_manager::{ManagerError, Program, ProgramState};
use crate::service::change::WaitFor;
use crate::service::worker::{Step, Worker};

/// For a busy host, on top of what the manager itself allows.
const MARGIN: Duration = Duration::from_secs(10);
/// A start that was asked for while the program was stopping is lost without an error; it is asked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// How a start came out.
enum Came {
    Up,
    Down(ProgramState),
    Lost,
}

impl Worker<'_> {
    pub(super) async fn start(&mut self, program: &Program, wait: WaitFor) -> Step<()> {
        self.mark(program).await;
        self.checkpoint("starting").await?;
        let mut phase = self.run.phase("start", &self.label);
        if self.stop_at.is_none() {
            self.since = self.run.now();
        }
        let limit = self.start_limit().min(self.run.remaining());
        let end = self.run.monotonic() + limit;
        loop {
            match self.inner.ports.manager.start(&self.service.program).await {
                Ok(()) | Err(ManagerError::AlreadyStarted | ManagerError::Spawn(_)) => {}
                Err(ManagerError::Command(why)) => {
                    phase.failed(format!("its command cannot be run: {why}"));
                    return Err(self.command_failed(&why).await);
                }
                Err(error) => {
                    phase.failed(error.to_string());
                    return Err(self.fail(self.manager_error(error)));
                }
            }
            self.spawned_at.get_or_insert_with(|| self.run.monotonic());
            let asked = self.run.monotonic();
            let looked = self
                .until(end.saturating_sub(asked), |program| match program.state {
                    ProgramState::Running => Some((Came::Up, program.clone())),
                    ProgramState::Starting if wait == WaitFor::None => Some((Came::Up, program.clone())),
                    ProgramState::Fatal | ProgramState::Exited => {
                        Some((Came::Down(program.state), program.clone()))
                    }
                    ProgramState::Stopped if self.run.monotonic().saturating_sub(asked) > AGAIN => {
                        Some((Came::Lost, program.clone()))
                    }
                    _ => None,
                })
                .await;
            let looked = match looked {
                Ok(looked) => looked,
                Err(failed) => {
                    phase.failed(failed.error.message.clone());
                    return Err(failed);
                }
            };
            match looked {
                Some((Came::Up, program)) => {
                    let identity = self.identity(&program);
                    let Some(identity) = identity.filter(|now| self.is_new(now)) else {
                        phase.failed("the old process still runs");
                        return Err(self.same_process(&program));
                    };
                    phase.done(format!("pid {}", identity.pid));
                    self.new = Some(identity);
                    return Ok(());
                }
                Some((Came::Down(state), program)) => {
                    let attempts = self.attempts().await;
                    phase.failed(attempts.phase(state));
                    return Err(self.start_fatal(state, &program, &attempts).await);
                }
                Some((Came::Lost, _)) => phase.text("asked again: the first request was lost"),
                None => {
                    phase.failed(format!("not RUNNING after {:.1} s", limit.as_secs_f64()));
                    return Err(self.not_running(limit).await);
                }
            }
        }
    }

    /// Where its logs end now: what comes later is this start's.
    async fn mark(&mut self, program: &Program) {
        let paths = [program.stderr_log.as_ref(), program.stdout_log.as_ref()];
        for path in paths.into_iter().flatten() {
            let mark = self.inner.ports.excerpts.mark(path).await;
            self.marks.paths.push((path.clone(), mark));
        }
    }

    /// Every try for its startsecs, and between them 1, 2, 3… seconds.
    fn start_limit(&self) -> Duration {
        let tries = self.patience.retries.min(100) + 1;
        let pauses = Duration::from_secs(u64::from(tries * (tries - 1) / 2));
        (self.patience.start + Duration::from_secs(1)) * tries + pauses + MARGIN
    }
}
