//! Whether there is room: calls at the same time, streams at the same time, calls in a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ops_domain::access::{Credential, Principal, Role};

use crate::config::Limits;

/// Slots beside the global limit, so that an admin gets through when everything is busy.
const ADMIN_SLOTS: usize = 2;
/// Keys that a table of buckets remembers; full ones are forgotten first, because they know nothing.
const KEYS: usize = 4_096;

/// Calls and streams that run now.
pub(super) struct Room {
    calls: usize,
    calls_per_identity: usize,
    streams_per_identity: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    calls: usize,
    by_identity: HashMap<String, Used>,
}

#[derive(Default)]
struct Used {
    calls: usize,
    streams: usize,
}

/// A place; dropping it gives it free.
pub(super) struct Place {
    room: Arc<Room>,
    identity: String,
    streaming: bool,
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            calls: limits.calls,
            calls_per_identity: limits.calls_per_identity,
            streams_per_identity: limits.streams_per_identity,
            taken: Mutex::default(),
        })
    }

    /// A place, or what is full.
    pub(super) fn enter(self: &Arc<Self>, principal: &Principal, streaming: bool) -> Result<Place, String> {
        let identity = principal.subject.to_string();
        let admin =
            principal.binding.roles.contains(&Role::Admin) && principal.credential != Credential::Token;
        let calls = self.calls + if admin { ADMIN_SLOTS } else { 0 };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let global = taken.calls;
        let used = taken.by_identity.entry(identity.clone()).or_default();
        let full = match streaming {
            true if used.streams >= self.streams_per_identity => {
                Some(format!("{}: {} streams are open already", principal.subject.short(), used.streams))
            }
            false if used.calls >= self.calls_per_identity => {
                Some(format!("{}: {} calls are running already", principal.subject.short(), used.calls))
            }
            false if global >= calls => Some(format!("the agent is busy with {global} calls")),
            _ => None,
        };
        if let Some(full) = full {
            return Err(full);
        }
        if streaming {
            used.streams += 1;
        } else {
            used.calls += 1;
            taken.calls += 1;
        }
        Ok(Place { room: Arc::clone(self), identity, streaming })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.streaming {
            taken.calls = taken.calls.saturating_sub(1);
        }
        if let Some(used) = taken.by_identity.get_mut(&self.identity) {
            let count = if self.streaming { &mut used.streams } else { &mut used.calls };
            *count = count.saturating_sub(1);
            if used.calls == 0 && used.streams == 0 {
                taken.by_identity.remove(&self.identity);
            }
        }
    }
}

/// A token bucket a key: as many as `count` at once, refilled over `per`.
pub(super) struct Buckets<K> {
    count: u32,
    per: Duration,
    buckets: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    tokens: f64,
    at: Duration,
}

impl<K: Eq + Hash> Buckets<K> {
    pub(super) fn new((count, per): (u32, Duration)) -> Self {
        Self { count, per, buckets: Mutex::default() }
    }

    /// Takes one, or says in how many seconds there is one. `now` is monotonic.
    pub(super) fn take(&self, key: K, now: Duration) -> Result<(), u64> {
        let full = f64::from(self.count);
        let per_second = full / self.per.as_secs_f64();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= KEYS {
            buckets.retain(|_, bucket| bucket.filled(now, per_second) < full);
            if buckets.len() >= KEYS {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { tokens: full, at: now });
        bucket.tokens = bucket.filled(now, per_second).min(full);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - bucket.tokens) / per_second);
        Err(wait.as_secs() + 1)
    }
}

impl Bucket {
    fn filled(&self, now: Duration, per_second: f64) -> f64 {
        self.tokens + now.saturating_sub(self.at).as_secs_f64() * per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let buckets = Buckets::new((10, Duration::from_secs(60)));
        let start = Duration::from_secs(1_000);
        for _ in 0..10 {
            assert_eq!(buckets.take("a", start), Ok(()));
        }
        assert_eq!(buckets.take("a", start), Err(7));
        assert_eq!(buckets.take("b", start), Ok(()));
        assert_eq!(buckets.take("a", start + Duration::from_secs(7)), Ok(()));
    }

    #[test]
    fn many_keys_stay_within_bounds() {
        let buckets = Buckets::new((1, Duration::from_secs(60)));
        for key in 0..20_000 {
            let _taken_or_not = buckets.take(key, Duration::ZERO);
        }
        assert!(buckets.buckets.lock().unwrap().len() <= KEYS);
    }
}
