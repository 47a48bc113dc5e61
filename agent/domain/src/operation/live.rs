//! An operation while it runs: its newest form, its events on their way to the journal, and its switch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::ids::{OperationId, Subject};
use crate::operation::{Checkpoint, Event, Happening, Operation, Outcome, Phase, PhaseState, RunSink};
use crate::ports::{AuditEntry, Clock, Journal};

/// The shortest time between two events of one phase's progress.
const PROGRESS: Duration = Duration::from_millis(250);
/// How long until the journal is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Why a run was asked to stop; the first one counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Asked(Subject),
    Deadline,
    Shutdown,
}

pub(super) struct Live {
    id: OperationId,
    clock: Arc<dyn Clock>,
    journal: Arc<dyn Journal>,
    progress: Mutex<Progress>,
    /// Held while events are written, so that they reach the journal in order.
    writing: tokio::sync::Mutex<()>,
    wake: Notify,
    durable: watch::Sender<u64>,
    over: CancellationToken,
    switch: CancellationToken,
    cause: Mutex<Option<Cause>>,
}

struct Progress {
    operation: Operation,
    /// When each phase last made an event; beside `operation.phases`.
    sent: Vec<Duration>,
    /// Phases whose newest form has not become an event.
    behind: BTreeSet<usize>,
    /// Events that the journal does not have yet.
    fresh: Vec<Event>,
    refused: bool,
    checkpoint: Option<String>,
}

impl Live {
    pub(super) fn new(operation: Operation, clock: Arc<dyn Clock>, journal: Arc<dyn Journal>) -> Arc<Self> {
        let sent = vec![Duration::ZERO; operation.phases.len()];
        Arc::new(Self {
            id: operation.id.clone(),
            clock,
            journal,
            durable: watch::Sender::new(operation.last_seq),
            progress: Mutex::new(Progress {
                operation,
                sent,
                behind: BTreeSet::new(),
                fresh: Vec::new(),
                refused: false,
                checkpoint: None,
            }),
            writing: tokio::sync::Mutex::new(()),
            wake: Notify::new(),
            over: CancellationToken::new(),
            switch: CancellationToken::new(),
            cause: Mutex::new(None),
        })
    }

    /// Its newest form.
    pub(super) fn operation(&self) -> Operation {
        self.progress().operation.clone()
    }

    /// The last checkpoint of this run.
    pub(super) fn checkpointed(&self) -> Option<String> {
        self.progress().checkpoint.clone()
    }

    /// Changes when events have become durable.
    pub(super) fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Fires when it has ended and everything about its end is written down.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// What a task looks at.
    pub(super) fn switch(&self) -> &CancellationToken {
        &self.switch
    }

    pub(super) fn stop(&self, cause: Cause) {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(cause);
        self.switch.cancel();
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns when there is something to write.
    pub(super) async fn pending(&self) {
        let wait = {
            let progress = self.progress();
            let now = self.clock.monotonic();
            let due = progress.behind.iter().filter_map(|index| progress.sent.get(*index)).min();
            match due {
                _ if progress.refused => Some(AGAIN),
                _ if !progress.fresh.is_empty() => Some(Duration::ZERO),
                due => due.map(|sent| (*sent + PROGRESS).saturating_sub(now)),
            }
        };
        let due = async {
            match wait {
                Some(Duration::ZERO) => {}
                Some(wait) => self.clock.sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.wake.notified() => {}
        }
    }

    /// Writes the events that are due.
    pub(super) async fn flush(&self) {
        let _in_order = self.writing.lock().await;
        let (operation, events) = self.progress().due(&*self.clock);
        if events.is_empty() {
            return;
        }
        match self.journal.advance(&operation, &events).await {
            Ok(()) => {
                self.progress().refused = false;
                self.durable.send_replace(operation.last_seq);
            }
            Err(error) => {
                tracing::warn!(operation = %self.id, %error, "events wait for the journal");
                self.progress().put_back(events);
            }
        }
    }

    /// Writes its end and what is owed for it. Until [`Live::publish`] it still looks as if it ran.
    pub(super) async fn finish(&self, outcome: &Outcome, owed: &[AuditEntry]) -> (Operation, Result<()>) {
        let _in_order = self.writing.lock().await;
        let (operation, events) = self.progress().end(outcome, self.clock.now());
        let mut written = self.journal.finish(&operation, &events, owed).await;
        for _ in 0..3 {
            let Err(error) = &written else { break };
            tracing::warn!(operation = %self.id, %error, "the end waits for the journal");
            self.clock.sleep(AGAIN).await;
            written = self.journal.finish(&operation, &events, owed).await;
        }
        (operation, written)
    }

    /// From now on everyone sees that it has ended.
    pub(super) fn publish(&self, operation: Operation) {
        let seq = operation.last_seq;
        self.progress().operation = operation;
        self.over.cancel();
        self.durable.send_replace(seq);
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    fn phase(&mut self, phase: Phase, clock: &dyn Clock) {
        let now = clock.monotonic();
        let same = |known: &Phase| {
            known.state == PhaseState::Running && known.name == phase.name && known.target == phase.target
        };
        let Some(index) = self.operation.phases.iter().rposition(same) else {
            self.operation.phases.push(phase);
            self.sent.push(now);
            self.tell(self.operation.phases.len() - 1, clock.now());
            return;
        };
        let ended = phase.state != PhaseState::Running;
        if let Some(known) = self.operation.phases.get_mut(index) {
            *known = phase;
        }
        match self.sent.get_mut(index) {
            Some(sent) if !ended && now < *sent + PROGRESS => {
                self.behind.insert(index);
            }
            Some(sent) => {
                *sent = now;
                self.tell(index, clock.now());
            }
            None => {}
        }
    }

    fn tell(&mut self, index: usize, at: Timestamp) {
        self.behind.remove(&index);
        if let Some(phase) = self.operation.phases.get(index).cloned() {
            self.event(Happening::Phase(phase), at);
        }
    }

    fn event(&mut self, what: Happening, at: Timestamp) {
        self.operation.last_seq += 1;
        self.fresh.push(Event { seq: self.operation.last_seq, at, what });
    }

    /// What is to be written now.
    fn due(&mut self, clock: &dyn Clock) -> (Operation, Vec<Event>) {
        let now = clock.monotonic();
        let is_due = |index: &usize| self.sent.get(*index).is_some_and(|sent| now >= *sent + PROGRESS);
        for index in self.behind.iter().copied().filter(is_due).collect::<Vec<_>>() {
            if let Some(sent) = self.sent.get_mut(index) {
                *sent = now;
            }
            self.tell(index, clock.now());
        }
        (self.operation.clone(), std::mem::take(&mut self.fresh))
    }

    fn put_back(&mut self, events: Vec<Event>) {
        self.refused = true;
        self.fresh.splice(0..0, events);
    }

    fn end(&mut self, outcome: &Outcome, at: Timestamp) -> (Operation, Vec<Event>) {
        let mut operation = self.operation.clone();
        let mut events = std::mem::take(&mut self.fresh);
        let mut tell = |operation: &mut Operation, what| {
            operation.last_seq += 1;
            events.push(Event { seq: operation.last_seq, at, what });
        };
        for index in 0..operation.phases.len() {
            let Some(phase) = operation.phases.get_mut(index) else { break };
            if phase.state == PhaseState::Running {
                phase.state = PhaseState::Failed;
                if phase.text.is_empty() {
                    "did not end".clone_into(&mut phase.text);
                }
                let phase = phase.clone();
                tell(&mut operation, Happening::Phase(phase));
            }
        }
        operation.state = outcome.state;
        operation.finished_at = Some(at);
        operation.results.clone_from(&outcome.results);
        operation.problem.clone_from(&outcome.problem);
        operation.notes.extend(outcome.notes.iter().cloned());
        tell(&mut operation, Happening::Ended(outcome.state));
        (operation, events)
    }
}

#[async_trait]
impl RunSink for Live {
    fn phase(&self, phase: Phase) {
        self.progress().phase(phase, &*self.clock);
        self.wake.notify_one();
    }

    fn note(&self, text: String) {
        self.progress().event(Happening::Note(text), self.clock.now());
        self.wake.notify_one();
    }

    async fn checkpoint(&self, checkpoint: Checkpoint) -> Result<()> {
        self.flush().await;
        self.journal.checkpoint(&self.id, &checkpoint).await?;
        if !checkpoint.name.starts_with("engine.") {
            self.progress().checkpoint = Some(checkpoint.name);
        }
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}
