use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, oneshot};

use crate::ports::Clock;

/// Time that stands still until [`FakeClock::advance`], or goes on by itself when everyone sleeps:
/// [`FakeClock::hasty`]. It begins at 2026-11-24T01:30:00Z.
#[derive(Default)]
pub struct FakeClock {
    state: Mutex<Time>,
    slept: Notify,
}

#[derive(Default)]
struct Time {
    elapsed: Duration,
    wall_shift: jiff::SignedDuration,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
}

impl FakeClock {
    /// Time goes on only by [`FakeClock::advance`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whenever all tasks of this (current-thread) runtime wait, time jumps to the end of the next sleep. For tests
    /// whose parts are all in memory: who waits for a socket or a thread looks idle to it.
    #[must_use]
    pub fn hasty() -> Arc<Self> {
        let clock = Self::new();
        tokio::spawn(Self::hurry(Arc::downgrade(&clock)));
        clock
    }

    async fn hurry(clock: Weak<Self>) {
        loop {
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            let Some(clock) = clock.upgrade() else { return };
            let now = clock.monotonic();
            match clock.next_wake() {
                Some(at) => clock.advance(at.saturating_sub(now)),
                // Looks again now and then, so that it ends with its clock.
                None => drop(tokio::time::timeout(Duration::from_millis(20), clock.slept.notified()).await),
            }
        }
    }

    /// Lets time go on, and wakes whose sleep is over.
    pub fn advance(&self, length: Duration) {
        let due = {
            let mut time = self.time();
            time.elapsed += length;
            let now = time.elapsed;
            let (due, later) =
                std::mem::take(&mut time.sleepers).into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= now);
            time.sleepers = later;
            due
        };
        for (_, sleeper) in due {
            let _ = sleeper.send(());
        }
    }

    /// Turns the wall clock, as an administrator or NTP does; monotonic time does not notice.
    pub fn turn(&self, by: jiff::SignedDuration) {
        self.time().wall_shift += by;
    }

    /// How many sleep now.
    #[must_use]
    pub fn sleeping(&self) -> usize {
        self.time().sleepers.iter().filter(|(_, sleeper)| !sleeper.is_closed()).count()
    }

    /// Returns once at least `count` sleep.
    pub async fn until_sleeping(&self, count: usize) {
        while self.sleeping() < count {
            tokio::task::yield_now().await;
        }
    }

    fn next_wake(&self) -> Option<Duration> {
        let mut time = self.time();
        time.sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
        time.sleepers.iter().map(|(at, _)| *at).min()
    }

    fn time(&self) -> std::sync::MutexGuard<'_, Time> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let time = self.time();
        let elapsed = jiff::SignedDuration::try_from(time.elapsed).unwrap_or_default();
        Timestamp::constant(1_795_483_800, 0) + elapsed + time.wall_shift
    }

    fn monotonic(&self) -> Duration {
        self.time().elapsed
    }

    fn sleep(&self, length: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if length.is_zero() {
            return Box::pin(tokio::task::yield_now());
        }
        let (sender, receiver) = oneshot::channel();
        let mut time = self.time();
        let at = time.elapsed + length;
        time.sleepers.push((at, sender));
        drop(time);
        self.slept.notify_one();
        Box::pin(async move { drop(receiver.await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_when_its_time_is_over_and_not_before() {
        let clock = FakeClock::new();
        assert_eq!(clock.now().to_string(), "2026-11-24T01:30:00Z");
        let mut sleep = clock.sleep(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        assert!(futures_util::poll!(&mut sleep).is_pending());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        clock.turn(jiff::SignedDuration::from_hours(-1));
        assert_eq!(clock.monotonic(), Duration::from_secs(2));
        assert_eq!(clock.now().to_string(), "2026-11-24T00:30:02Z");
    }

    #[tokio::test]
    async fn a_hasty_clock_wakes_in_order_without_waiting() {
        let clock = FakeClock::hasty();
        let (first, second) = (clock.sleep(Duration::from_secs(3600)), clock.sleep(Duration::from_secs(60)));
        second.await;
        assert_eq!(clock.monotonic(), Duration::from_secs(60));
        first.await;
        assert_eq!(clock.monotonic(), Duration::from_secs(3600));
    }
}
