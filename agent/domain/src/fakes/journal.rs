use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::{Error, Reason, Result};
use crate::ids::{OperationId, Subject};
use crate::operation::{Checkpoint, Event, Operation};
use crate::ports::AuditEntry;
use crate::ports::journal::{IdempotencyKey, Journal, Owed, Recorded};

/// A journal in memory. Clones share what is in it, so one survives the "crash" of who wrote it.
#[derive(Clone, Default)]
pub struct FakeJournal {
    state: Arc<Mutex<State>>,
}

/// When writes begin to fail, counted from 1 over every write there has been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// All is well.
    #[default]
    None,
    /// From this write on nothing is taken.
    From(u64),
    /// From this write on nothing returns, as when the process has died there. `true`: that write itself is on disk.
    DiesAt(u64, bool),
}

#[derive(Default)]
struct State {
    rows: BTreeMap<u64, Row>,
    prepared: BTreeMap<String, AuditEntry>,
    owed: BTreeMap<u64, AuditEntry>,
    next: u64,
    writes: u64,
    fault: Fault,
}

struct Row {
    recorded: Recorded,
    idempotency: Option<IdempotencyKey>,
    events: Vec<Event>,
}

enum Verdict {
    Taken,
    Refused,
    Dead,
}

impl FakeJournal {
    /// What happens to writes from now on.
    pub fn fail(&self, fault: Fault) {
        self.state().fault = fault;
    }

    /// How many writes there have been.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    async fn write<T>(&self, change: impl FnOnce(&mut State) -> T + Send) -> Result<T> {
        let (verdict, result) = {
            let mut state = self.state();
            state.writes += 1;
            let (verdict, applied) = match state.fault {
                Fault::From(at) if state.writes >= at => (Verdict::Refused, false),
                Fault::DiesAt(at, applied) if state.writes >= at => {
                    (Verdict::Dead, applied && state.writes == at)
                }
                _ => (Verdict::Taken, true),
            };
            (verdict, applied.then(|| change(&mut state)))
        };
        match (verdict, result) {
            (Verdict::Taken, Some(result)) => Ok(result),
            (Verdict::Dead, _) => std::future::pending().await,
            _ => Err(Error::new(Reason::StateUnavailable, "the journal did not take it")),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn row(&mut self, id: &OperationId) -> Option<&mut Row> {
        self.rows.values_mut().find(|row| row.recorded.operation.id == *id)
    }

    fn advance(&mut self, operation: &Operation, events: &[Event]) {
        if let Some(row) = self.row(&operation.id) {
            row.recorded.operation = operation.clone();
            row.events.extend_from_slice(events);
        }
    }

    fn owe(&mut self, entry: AuditEntry) {
        self.next += 1;
        self.owed.insert(self.next, entry);
    }
}

#[async_trait]
impl Journal for FakeJournal {
    async fn prepare(&self, id: &OperationId, abandoned: &AuditEntry) -> Result<()> {
        self.write(|state| state.prepared.insert(id.to_string(), abandoned.clone())).await.map(drop)
    }

    async fn abandon(&self, id: &OperationId) -> Result<()> {
        self.write(|state| {
            if let Some(entry) = state.prepared.remove(id.as_str()) {
                state.owe(entry);
            }
        })
        .await
    }

    async fn insert(&self, recorded: &Recorded, idempotency: Option<&IdempotencyKey>) -> Result<()> {
        self.write(|state| {
            state.prepared.remove(recorded.operation.id.as_str());
            state.next += 1;
            let row =
                Row { recorded: recorded.clone(), idempotency: idempotency.cloned(), events: Vec::new() };
            state.rows.insert(state.next, row);
        })
        .await
    }

    async fn by_idempotency_key(
        &self,
        subject: &Subject,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<(OperationId, String)>> {
        Ok(self.state().rows.values().rev().find_map(|row| {
            let operation = &row.recorded.operation;
            let named = row.idempotency.as_ref().filter(|named| named.key == key)?;
            (operation.subject == *subject && operation.created_at >= since)
                .then(|| (operation.id.clone(), named.request_digest.clone()))
        }))
    }

    async fn checkpoint(&self, id: &OperationId, checkpoint: &Checkpoint) -> Result<()> {
        self.write(|state| {
            if let Some(row) = state.row(id) {
                row.recorded.checkpoints.push(checkpoint.clone());
            }
        })
        .await
    }

    async fn advance(&self, operation: &Operation, events: &[Event]) -> Result<()> {
        self.write(|state| state.advance(operation, events)).await
    }

    async fn finish(&self, operation: &Operation, events: &[Event], owed: &[AuditEntry]) -> Result<()> {
        self.write(|state| {
            state.advance(operation, events);
            for entry in owed {
                state.owe(entry.clone());
            }
        })
        .await
    }

    async fn owed(&self) -> Result<Vec<Owed>> {
        let state = self.state();
        Ok(state.owed.iter().map(|(number, entry)| Owed { number: *number, entry: entry.clone() }).collect())
    }

    async fn settled(&self, number: u64) -> Result<()> {
        self.write(|state| state.owed.remove(&number)).await.map(drop)
    }

    async fn load(&self, id: &OperationId) -> Result<Option<Recorded>> {
        Ok(self.state().row(id).map(|row| row.recorded.clone()))
    }

    async fn events(&self, id: &OperationId, after_seq: u64, limit: u32) -> Result<Vec<Event>> {
        let mut state = self.state();
        let events = state.row(id).map(|row| row.events.as_slice()).unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(events.iter().filter(|event| event.seq > after_seq).take(limit).cloned().collect())
    }

    async fn matching(&self, part: &str) -> Result<Vec<OperationId>> {
        let state = self.state();
        let ids = state.rows.values().rev().map(|row| row.recorded.operation.id.clone());
        Ok(ids.filter(|id| id.as_str().contains(part)).take(10).collect())
    }

    async fn list(&self, limit: u32, running: bool) -> Result<Vec<Operation>> {
        let state = self.state();
        let operations = state.rows.values().rev().map(|row| row.recorded.operation.clone());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(operations.filter(|operation| !running || !operation.state.ended()).take(limit).collect())
    }

    async fn open(&self) -> Result<Vec<Recorded>> {
        let mut state = self.state();
        for (_, entry) in std::mem::take(&mut state.prepared) {
            state.owe(entry);
        }
        let recorded = state.rows.values().map(|row| row.recorded.clone());
        Ok(recorded.filter(|recorded| !recorded.operation.state.ended()).collect())
    }

    async fn forget(&self, ended_before: Timestamp) -> Result<u64> {
        self.write(|state| {
            let before = state.rows.len();
            let old = |row: &Row| row.recorded.operation.finished_at.is_some_and(|at| at < ended_before);
            state.rows.retain(|_, row| !old(row));
            u64::try_from(before - state.rows.len()).unwrap_or(u64::MAX)
        })
        .await
    }
}
