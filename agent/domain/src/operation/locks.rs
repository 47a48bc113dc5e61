//! A lock a target: one holder each, the others in the order in which they came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// All locks that are held. `H` says who holds one.
pub(super) struct Locks<H>(Arc<Mutex<BTreeMap<String, Lock<H>>>>);

struct Lock<H> {
    holder: H,
    waiting: VecDeque<(H, oneshot::Sender<Held<H>>)>,
}

/// A lock that is held until this is dropped.
pub(super) struct Held<H> {
    locks: Locks<H>,
    name: String,
}

/// What asking for a lock gives.
pub(super) enum Take<H> {
    /// It was free.
    Now(Held<H>),
    /// It will be one's turn; who drops this leaves the queue.
    Later(oneshot::Receiver<Held<H>>),
}

impl<H> Locks<H> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Takes the lock, or a place in its queue.
    pub(super) fn take(&self, name: &str, holder: H) -> Take<H> {
        let mut table = self.table();
        if let Some(lock) = table.get_mut(name) {
            let (sender, receiver) = oneshot::channel();
            lock.waiting.push_back((holder, sender));
            return Take::Later(receiver);
        }
        table.insert(name.to_owned(), Lock { holder, waiting: VecDeque::new() });
        Take::Now(self.held(name))
    }

    /// Waits for the lock as long as it takes.
    pub(super) async fn taken(&self, name: &str, holder: H) -> Held<H> {
        match self.take(name, holder) {
            Take::Now(held) => held,
            // The sender lives in the table until it has sent, and the table lives in `self`.
            Take::Later(turn) => match turn.await {
                Ok(held) => held,
                Err(_) => self.held(name),
            },
        }
    }

    /// Who holds it now.
    pub(super) fn holder(&self, name: &str) -> Option<H>
    where
        H: Clone,
    {
        self.table().get(name).map(|lock| lock.holder.clone())
    }

    fn held(&self, name: &str) -> Held<H> {
        Held { locks: Self(Arc::clone(&self.0)), name: name.to_owned() }
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<String, Lock<H>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next in the queue who still waits becomes the holder.
    fn pass_on(&self, name: &str) -> Option<oneshot::Sender<Held<H>>> {
        let mut table = self.table();
        let lock = table.get_mut(name)?;
        while let Some((holder, turn)) = lock.waiting.pop_front() {
            if !turn.is_closed() {
                lock.holder = holder;
                return Some(turn);
            }
        }
        table.remove(name);
        None
    }
}

impl<H> Drop for Held<H> {
    fn drop(&mut self) {
        if let Some(turn) = self.locks.pass_on(&self.name) {
            // Who left in this very moment gives it back, and drops it: the next one's turn.
            drop(turn.send(self.locks.held(&self.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_holder_and_then_in_the_order_of_asking() {
        let locks = Locks::new();
        let Take::Now(first) = locks.take("a", 1) else { panic!("free") };
        let Take::Now(_other) = locks.take("b", 9) else { panic!("free") };
        let (Take::Later(second), Take::Later(third), Take::Later(fourth)) =
            (locks.take("a", 2), locks.take("a", 3), locks.take("a", 4))
        else {
            panic!("held")
        };
        assert_eq!(locks.holder("a"), Some(1));
        drop(third);
        drop(first);
        assert_eq!(locks.holder("a"), Some(2));
        let second = second.await.unwrap();
        drop(second);
        assert_eq!(locks.holder("a"), Some(4), "who left the queue is passed over");
        drop(fourth);
        assert_eq!(locks.holder("a"), None, "a lock handed to someone who left is free again");
        assert!(matches!(locks.take("a", 5), Take::Now(_)));
    }
}
