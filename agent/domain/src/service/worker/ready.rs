//! Readiness: passes in a row, of one and the same process.

use std::time::Duration;

use crate::error::Error;
use crate::operation::PhaseHandle;
use crate::ports::service_manager::ProgramState;
use crate::service::definition::Check;
use crate::service::failure::Failed;
use crate::service::worker::{Identity, POLL, Step, Worker};

impl Worker<'_> {
    /// Gives notes.
    pub(super) async fn ready(&mut self) -> Step<Vec<String>> {
        let Some(new) = self.new.clone() else { return Ok(Vec::new()) };
        match &self.service.readiness.check {
            Check::None => {
                let text = format!("{}: RUNNING, no readiness is configured", self.service.name);
                Ok(std::iter::once(text).chain(self.measured()).collect())
            }
            Check::Log { pattern } => {
                let mut phase = self.run.phase("ready", &self.label);
                let found = self.await_line(pattern, &new, &mut phase).await;
                Self::ended(phase, found.map(|()| "its line has come".to_owned()))?;
                Ok(self.measured().into_iter().collect())
            }
            Check::Probe(_) => {
                let mut phase = self.run.phase("ready", &self.label);
                let passed = self.await_passes(&new, &mut phase).await;
                Self::ended(phase, passed)?;
                Ok(self.measured().into_iter().collect())
            }
        }
    }

    fn ended(phase: PhaseHandle, result: Step<String>) -> Step<()> {
        match result {
            Ok(text) => {
                phase.done(text);
                Ok(())
            }
            Err(failed) => {
                phase.failed(failed.phase_text());
                Err(failed)
            }
        }
    }

    async fn await_passes(&self, new: &Identity, phase: &mut PhaseHandle) -> Step<String> {
        let rule = &self.service.readiness;
        let passes = rule.passes.max(1);
        let began = self.run.monotonic();
        let limit = rule.timeout.min(self.run.remaining());
        let mut shown = 0;
        loop {
            self.stable(new, began).await?;
            let seen = self.observer.as_ref().map(super::Observer::now).unwrap_or_default();
            // Passes of before RUNNING do not count: a process that lives for its startsecs only is not ready.
            let held = seen
                .streak()
                .map_or(Duration::ZERO, |streak| streak.last.saturating_sub(streak.first.max(began)));
            let enough = seen.streak().is_some_and(|streak| streak.passes >= passes);
            let intervals = held.as_nanos() / rule.interval.as_nanos().max(1);
            let got = u32::try_from(intervals).unwrap_or(u32::MAX).min(passes);
            if got >= passes && enough {
                self.stable(new, began).await?;
                let answer = seen.answer.map(|answer| answer.text).unwrap_or_default();
                return Ok(format!("{answer}, {passes} of {passes}"));
            }
            if got != shown {
                shown = got;
                phase.progress(got.into(), passes.into(), "probes");
            }
            let waited = self.run.monotonic().saturating_sub(began);
            if waited >= limit {
                let answer = seen.failure.or(seen.answer).map(|answer| answer.text);
                return Err(self.not_ready(limit, got, answer).await);
            }
            self.pause().await?;
        }
    }

    async fn await_line(&self, pattern: &str, new: &Identity, phase: &mut PhaseHandle) -> Step<()> {
        let began = self.run.monotonic();
        let limit = self.service.readiness.timeout.min(self.run.remaining());
        let mut trouble = None;
        loop {
            self.stable(new, began).await?;
            for (path, mark) in &self.marks.paths {
                match self.inner.ports.excerpts.contains(path, mark.as_ref(), pattern).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => {}
                    Err(why) => trouble = Some(why),
                }
            }
            if self.run.monotonic().saturating_sub(began) >= limit {
                let why = trouble.unwrap_or_else(|| format!("no line matched /{pattern}/"));
                return Err(self.not_ready(limit, 0, Some(why)).await);
            }
            if let Some(why) = &trouble {
                phase.text(why.clone());
            }
            self.pause().await?;
        }
    }

    /// The same process, and RUNNING.
    async fn stable(&self, new: &Identity, began: Duration) -> Step<()> {
        let program = self.program().await?;
        let same = self.identity(&program).is_some_and(|now| now.pid == new.pid && now.start == new.start);
        if program.state == ProgramState::Running && same {
            return Ok(());
        }
        Err(self.flapping(new, &program, self.run.monotonic().saturating_sub(began)).await)
    }

    async fn pause(&self) -> Step<()> {
        // Its time over is told as that, not as a cancel.
        if self.run.cancelled().is_cancelled() && !self.run.remaining().is_zero() {
            return Err(self.cancelled());
        }
        self.inner.ports.clock.sleep(POLL).await;
        Ok(())
    }

    fn cancelled(&self) -> Box<Failed> {
        let pid = self.new.as_ref().map_or(String::new(), |new| format!(" as pid {}", new.pid));
        let name = &self.service.name;
        let error = Error::new(crate::error::Reason::Cancelled, format!("the wait for {name} was cancelled"))
            .about(name)
            .effect(format!("{name} runs{pid}; its readiness was not awaited"));
        let mut failed = self.fail(error);
        failed.state = crate::operation::State::Cancelled;
        "cancelled".clone_into(&mut failed.row.result);
        failed
    }
}
