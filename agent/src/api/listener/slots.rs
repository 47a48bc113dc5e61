//! Room for connections: in all, an address, an identity, and those without a certificate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Limits;

pub(super) struct Slots {
    total: usize,
    anonymous: usize,
    per_address: usize,
    per_identity: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    anonymous: usize,
    by_address: HashMap<IpAddr, usize>,
    by_identity: HashMap<String, usize>,
}

/// A connection's place. Until its handshake is over it counts as one without a certificate.
pub(super) struct Slot {
    slots: Arc<Slots>,
    address: IpAddr,
    identity: Option<String>,
}

impl Slots {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            total: limits.connections,
            anonymous: limits.connections_without_certificate,
            per_address: limits.connections_per_address,
            per_identity: limits.connections_per_identity,
            taken: Mutex::default(),
        })
    }

    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.total >= self.total || taken.anonymous >= self.anonymous || here >= self.per_address {
            return None;
        }
        taken.total += 1;
        taken.anonymous += 1;
        taken.by_address.insert(address, here + 1);
        Some(Slot { slots: Arc::clone(self), address, identity: None })
    }
}

impl Slot {
    /// Says whose it is; false when that identity has too many.
    pub(super) fn identify(&mut self, identity: Option<String>) -> bool {
        let Some(identity) = identity else { return true };
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.by_identity.entry(identity.clone()).or_default();
        if *count >= self.slots.per_identity {
            return false;
        }
        *count += 1;
        taken.anonymous = taken.anonymous.saturating_sub(1);
        drop(taken);
        self.identity = Some(identity);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        less(&mut taken.by_address, &self.address);
        match &self.identity {
            Some(identity) => less(&mut taken.by_identity, identity),
            None => taken.anonymous = taken.anonymous.saturating_sub(1),
        }
    }
}

fn less<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_holds_and_places_come_back() {
        let limits = Limits {
            connections: 4,
            connections_without_certificate: 3,
            connections_per_address: 2,
            connections_per_identity: 1,
            ..Limits::default()
        };
        let slots = Slots::new(&limits);
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let mut first = slots.enter(a).unwrap();
        let mut second = slots.enter(a).unwrap();
        assert!(slots.enter(a).is_none(), "per address");
        let third = slots.enter(b).unwrap();
        assert!(slots.enter(c).is_none(), "without certificate");
        assert!(first.identify(Some("user/alice".to_owned())));
        assert!(!second.identify(Some("user/alice".to_owned())), "per identity");
        let _fourth = slots.enter(c).unwrap();
        assert!(slots.enter(b).is_none(), "total");
        drop(third);
        drop(first);
        assert!(second.identify(Some("user/alice".to_owned())));
        let _again = slots.enter(b).unwrap();
    }
}
