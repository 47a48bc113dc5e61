//! Phases on stderr: one line each when it ends; the running one redrawn on a terminal, else told every five seconds.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ops_proto::v1::operation_event::Event as Happening;
use ops_proto::v1::{OperationEvent, OperationPhase, PhaseState};
use tokio::time::Instant;

use crate::output::{Tone, size, timestamp, visible};
use crate::session::Session;

/// How often a running phase is told where nothing can be redrawn.
const TELL: Duration = Duration::from_secs(5);

pub(super) struct Phases<'a> {
    session: &'a Session,
    /// The running line, on a terminal.
    bar: Option<ProgressBar>,
    running: Vec<Running>,
}

struct Running {
    phase: OperationPhase,
    /// When its newest form came.
    seen: Instant,
    told: Instant,
}

impl<'a> Phases<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        let draws = std::io::stderr().is_terminal() && !session.output.is_quiet();
        let bar = draws.then(|| {
            let bar = ProgressBar::new_spinner();
            // A template of ours always parses.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { session, bar, running: Vec::new() }
    }

    pub(super) fn event(&mut self, event: OperationEvent) {
        match event.event {
            Some(Happening::Phase(phase)) if phase.state() == PhaseState::Running => self.goes_on(phase),
            Some(Happening::Phase(phase)) => {
                self.running.retain(|known| !is_same(&known.phase, &phase));
                let clock = event.at.as_ref().and_then(timestamp).map(|at| self.session.output.clock(at));
                let failed = phase.state() == PhaseState::Failed;
                let text = if failed { format!("FAILED: {}", phase.text) } else { phase.text.clone() };
                let text = if failed && phase.text.is_empty() { "FAILED" } else { &text };
                let tone = if failed { Tone::Bad } else { Tone::Dim };
                self.line(clock.as_deref(), &phase, &elapsed(phase.elapsed_ms), text, tone);
                self.redraw();
            }
            Some(Happening::Note(note)) => self.notice(&note),
            Some(Happening::Ended(_)) | None => {}
        }
    }

    /// A line about the operation as a whole, or about the connection.
    pub(super) fn notice(&self, text: &str) {
        let clock = self.session.output.clock(self.session.now());
        self.say(&self.session.output.stderr().tone(Tone::Dim, &format!("-- {clock} {}", visible(text))));
    }

    /// The running line as of now.
    pub(super) fn redraw(&self) {
        let Some(bar) = &self.bar else { return };
        let Some(running) = self.running.last() else {
            bar.set_message("");
            return;
        };
        let waited = u64::try_from(running.seen.elapsed().as_millis()).unwrap_or(u64::MAX);
        let elapsed = elapsed(running.phase.elapsed_ms.saturating_add(waited));
        bar.set_message(visible(&words(&running.phase, &elapsed, &progress(&running.phase))).into_owned());
        bar.tick();
    }

    /// Takes the running line away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn goes_on(&mut self, phase: OperationPhase) {
        let now = Instant::now();
        let index = self.running.iter().position(|known| is_same(&known.phase, &phase));
        let Some(known) = index.and_then(|index| self.running.get_mut(index)) else {
            self.running.push(Running { phase, seen: now, told: now });
            self.redraw();
            return;
        };
        (known.phase, known.seen) = (phase, now);
        if self.bar.is_some() {
            self.redraw();
        } else if known.told.elapsed() >= TELL {
            known.told = now;
            let phase = known.phase.clone();
            let clock = self.session.output.clock(self.session.now());
            let text = progress(&phase);
            self.line(Some(&clock), &phase, &elapsed(phase.elapsed_ms), &text, Tone::Dim);
        }
    }

    fn line(&self, clock: Option<&str>, phase: &OperationPhase, elapsed: &str, text: &str, tone: Tone) {
        let words = words(phase, elapsed, text);
        let line = match (clock, &self.bar) {
            (Some(clock), None) => format!("{clock} {words}"),
            _ => format!("  {words}"),
        };
        self.say(&self.session.output.stderr().tone(tone, &visible(&line)));
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.session.output.note(line)),
            None => self.session.output.note(line),
        }
    }
}

fn is_same(one: &OperationPhase, other: &OperationPhase) -> bool {
    (one.name.as_str(), one.target.as_str()) == (other.name.as_str(), other.target.as_str())
}

/// `stop     0.4s  pid 41207 gone`, with the target first when there are several.
fn words(phase: &OperationPhase, elapsed: &str, text: &str) -> String {
    let target = if phase.target.is_empty() { String::new() } else { format!("{:<9} ", phase.target) };
    format!("{target}{:<8}{elapsed:>6}  {text}", phase.name).trim_end().to_owned()
}

fn elapsed(ms: u64) -> String {
    // Precise enough for a person; an operation of years loses a digit.
    #[allow(clippy::cast_precision_loss)]
    let seconds = ms as f64 / 1000.0;
    if seconds < 600.0 { format!("{seconds:.1}s") } else { crate::output::span(ms / 1000) }
}

/// `48%, 31.0MB of 64.1MB, 22.0MB/s, 2s left`, and what is known beside.
fn progress(phase: &OperationPhase) -> String {
    let amount = |number: u64| match phase.unit.as_str() {
        "bytes" => size(number),
        _ => number.to_string(),
    };
    let unit = if phase.unit == "bytes" { String::new() } else { format!(" {}", phase.unit) };
    let mut parts = Vec::new();
    if phase.total > 0 {
        let share = u128::from(phase.done) * 100 / u128::from(phase.total);
        parts.push(format!("{share}%"));
        parts.push(format!("{} of {}{unit}", amount(phase.done), amount(phase.total)));
    } else if phase.done > 0 {
        parts.push(format!("{}{unit}", amount(phase.done)));
    }
    let per_second = phase.done.saturating_mul(1000).checked_div(phase.elapsed_ms).unwrap_or(0);
    if phase.elapsed_ms >= 1000 && per_second > 0 && phase.unit != "probes" {
        parts.push(format!("{}/s", amount(per_second)));
        let left = phase.total.saturating_sub(phase.done) / per_second;
        if phase.total > phase.done {
            parts.push(format!("{} left", crate::output::span(left)));
        }
    }
    if !phase.text.is_empty() {
        parts.push(phase.text.clone());
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(done: u64, total: u64, unit: &str, elapsed_ms: u64) -> OperationPhase {
        OperationPhase { done, total, unit: unit.into(), elapsed_ms, ..OperationPhase::default() }
    }

    #[test]
    fn progress_says_share_rate_and_what_is_left() {
        assert_eq!(
            progress(&phase(31_000_000, 64_100_000, "bytes", 1400)),
            "48%, 31.0MB of 64.1MB, 22.1MB/s, 1s left"
        );
        assert_eq!(progress(&phase(2, 3, "probes", 2000)), "66%, 2 of 3 probes");
        assert_eq!(progress(&phase(500, 0, "documents", 2000)), "500 documents, 250/s");
        assert_eq!(progress(&phase(0, 0, "", 5000)), "");
        assert_eq!(progress(&phase(u64::MAX, u64::MAX, "bytes", 1)), "100%, 18.4EB of 18.4EB");
    }

    #[test]
    fn a_phase_is_one_aligned_line() {
        let named = |name: &str, target: &str| OperationPhase {
            name: name.into(),
            target: target.into(),
            ..OperationPhase::default()
        };
        assert_eq!(words(&named("stop", ""), "0.4s", "pid 7 gone"), "stop      0.4s  pid 7 gone");
        assert_eq!(words(&named("publish", ""), "60.0s", ""), "publish  60.0s");
        assert_eq!(words(&named("stop", "backend"), "0.4s", "gone"), "backend   stop      0.4s  gone");
        assert_eq!(
            (elapsed(0), elapsed(6_430), elapsed(605_000)),
            ("0.0s".into(), "6.4s".into(), "10m05s".into())
        );
    }
}
