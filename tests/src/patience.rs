//! Waiting for something outside this process, with a deadline.
//!
//! The one place of the tests that retries on a clock: whoever can wait for an event (a pipe, a child's end,
//! a connection) does that instead.

use std::time::{Duration, Instant};

/// Between two tries: short against everything that is waited for, long against what a try costs.
const PAUSE: Duration = Duration::from_millis(15);

/// What was waited for did not come before the deadline.
#[derive(Debug)]
pub struct TimedOut {
    /// What was waited for, in words.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last try answered.
    pub last: String,
}

impl std::fmt::Display for TimedOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} did not come within {:.1} s: {}", self.what, self.waited.as_secs_f64(), self.last)
    }
}

impl std::error::Error for TimedOut {}

/// Tries until `attempt` answers `Ok`, at least once, and gives up after `limit`, saying what the last try
/// answered.
///
/// # Errors
/// [`TimedOut`] when the limit passed first.
pub fn eventually<T, E: std::fmt::Display>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, TimedOut> {
    let began = Instant::now();
    loop {
        let last = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error.to_string(),
        };
        let waited = began.elapsed();
        if waited >= limit {
            return Err(TimedOut { what: what.to_owned(), waited, last });
        }
        pause(PAUSE.min(limit - waited));
    }
}

#[expect(clippy::disallowed_methods, reason = "what is waited for here tells nobody when it happens")]
fn pause(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_good_answer_ends_the_wait() {
        let mut tries = 0;
        let answer = eventually(Duration::from_secs(5), "three", || {
            tries += 1;
            if tries == 3 { Ok(tries) } else { Err(format!("only {tries}")) }
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn the_deadline_tells_the_last_answer() {
        let answer: Result<(), _> = eventually(Duration::from_millis(1), "rain", || Err("sun"));
        let words = answer.unwrap_err().to_string();
        assert!(words.starts_with("rain did not come within") && words.ends_with(": sun"), "{words}");
    }
}
