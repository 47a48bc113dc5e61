//! The prober that runs all the while: when a service answered, and when it did not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ports::{Clock, Prober};
use crate::probe::{Answer, Target};

/// Between the beginnings of two samples: what a measured downtime is exact to.
pub(super) const RESOLUTION: Duration = Duration::from_millis(25);
/// Of one sample. Longer than a slow answer of a busy service, shorter than anyone's patience.
const SAMPLE: Duration = Duration::from_secs(2);
/// Streaks that are remembered; a service that comes and goes more often is not measured but flapping.
const MOST_STREAKS: usize = 1000;

/// Samples a target until dropped.
pub(super) struct Observer {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

/// Passes in a row, in monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Streak {
    pub(super) first: Duration,
    pub(super) last: Duration,
    pub(super) passes: u32,
    /// The longest time between two of them.
    pub(super) widest: Duration,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    streaks: Vec<Streak>,
    passing: bool,
    /// The newest sample.
    pub(super) answer: Option<Answer>,
    /// The newest that failed.
    pub(super) failure: Option<Answer>,
}

impl Seen {
    fn add(&mut self, now: Duration, answer: Answer) {
        if answer.passed() {
            let full = self.streaks.len() >= MOST_STREAKS;
            match self.streaks.last_mut().filter(|_| self.passing) {
                Some(streak) => {
                    streak.widest = streak.widest.max(now.saturating_sub(streak.last));
                    (streak.last, streak.passes) = (now, streak.passes + 1);
                }
                None if full => {}
                None => {
                    self.streaks.push(Streak { first: now, last: now, passes: 1, widest: Duration::ZERO });
                }
            }
        } else {
            self.failure = Some(answer.clone());
        }
        self.passing = answer.passed();
        self.answer = Some(answer);
    }

    /// The passes in a row that have not ended.
    pub(super) fn streak(&self) -> Option<Streak> {
        self.streaks.last().copied().filter(|_| self.passing)
    }

    /// Last pass → first pass of the final streak, for an outage that was asked for at `stop`. `None`: it has not
    /// come back, or was not up at `stop` and nobody knows since when. An outage that no sample fell into lay between
    /// two passes, so it was no longer than the longest time between two.
    pub(super) fn down(&self, stop: Duration) -> Option<Duration> {
        let end = self.streak()?;
        let before = self.streaks.iter().rev().find(|streak| streak.first <= stop)?;
        if before.last + SAMPLE < stop {
            return None;
        }
        Some(if before.first == end.first { end.widest } else { end.first.saturating_sub(before.last) })
    }
}

impl Observer {
    pub(super) fn begin(target: Target, prober: Arc<dyn Prober>, clock: Arc<dyn Clock>) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let task = tokio::spawn(async move {
            while !sender.is_closed() {
                let began = clock.monotonic();
                let answer = prober.ask(&target, SAMPLE).await;
                let now = clock.monotonic();
                sender.send_modify(|seen| seen.add(now, answer));
                clock.sleep(RESOLUTION.saturating_sub(now.saturating_sub(began))).await;
            }
        });
        Self { seen, task }
    }

    /// Waits for the first sample.
    pub(super) async fn first(&mut self) -> Seen {
        // It ends only with the task, which ends only with us.
        let _ = self.seen.wait_for(|seen| seen.answer.is_some()).await;
        self.now()
    }

    pub(super) fn now(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Failure;

    fn seen(samples: &[(u64, bool)]) -> Seen {
        let mut seen = Seen::default();
        for (at, passed) in samples {
            let answer = Answer {
                failure: (!passed).then_some(Failure::Connect),
                text: String::new(),
                status: None,
                dns: None,
                connect: None,
                tls: None,
                first_byte: None,
                total: Duration::ZERO,
                certificate_days: None,
                address: None,
            };
            seen.add(Duration::from_millis(*at), answer);
        }
        seen
    }

    fn down(samples: &[(u64, bool)], stop: u64) -> Option<u64> {
        let down = seen(samples).down(Duration::from_millis(stop))?;
        Some(u64::try_from(down.as_millis()).unwrap())
    }

    #[test]
    fn downtime_is_from_the_last_pass_to_the_first_of_the_final_streak() {
        let answered_once_more =
            [(0, true), (25, true), (60, true), (85, false), (900, false), (925, true), (950, true)];
        assert_eq!(down(&answered_once_more, 30), Some(865));
        let came_and_went = [(0, true), (25, false), (500, true), (525, false), (900, true)];
        assert_eq!(down(&came_and_went, 10), Some(900));
        let between_two_samples = [(0, true), (25, true), (53, true), (78, true)];
        assert_eq!(down(&between_two_samples, 30), Some(28));
    }

    #[test]
    fn what_was_down_before_or_is_not_back_has_no_downtime() {
        assert_eq!(down(&[(0, false), (25, false), (50, true)], 30), None);
        assert_eq!(down(&[(0, true), (25, false)], 10), None);
        assert_eq!(down(&[(0, true), (25, false), (9000, false), (9900, true)], 9000), None);
    }
}
