//! The thread that owns the trail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ops_domain::ports::AuditEntry;
use ops_trust::audit::{Record, Stage};
use serde_json::Value;
use tokio::sync::oneshot;

use super::Settings;
use super::chain_file::{ChainFile, moment};
use super::ring::Ring;

/// How often an owed result is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Owed results beyond this are no longer kept in memory; the freeze holds all the same.
const OWED_MAX: usize = 1_024;

pub(super) enum Message {
    Append(Box<AuditEntry>, oneshot::Sender<Result<(), String>>),
    Note(Box<AuditEntry>),
}

pub(super) struct Writer {
    chain: ChainFile,
    ring: Ring,
    settings: Settings,
    writable: Arc<AtomicBool>,
    /// Results that could not be written. They come first, and no intent is taken before they are on disk.
    owed: VecDeque<AuditEntry>,
    /// When a checkpoint is due; `None`: everything is signed.
    due: Option<Instant>,
    unsigned: u64,
}

impl Writer {
    pub(super) fn new(chain: ChainFile, ring: Ring, settings: Settings, writable: Arc<AtomicBool>) -> Self {
        Self { chain, ring, settings, writable, owed: VecDeque::new(), due: None, unsigned: 0 }
    }

    /// Until every sender is gone.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let message = match self.wait() {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => receiver.recv_timeout(wait),
            };
            match message {
                Ok(Message::Append(entry, reply)) => self.append(*entry, reply),
                Ok(Message::Note(entry)) => self.ring.note(&entry, Timestamp::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.pay();
            if self.due.is_some_and(|due| due <= Instant::now())
                || self.unsigned >= self.settings.checkpoint_records
            {
                self.checkpoint();
            }
        }
        self.pay();
        if self.unsigned > 0 {
            self.checkpoint();
        }
    }

    /// `None`: nothing is due, an idle agent is idle.
    fn wait(&self) -> Option<Duration> {
        let retry = (!self.owed.is_empty()).then_some(RETRY);
        let checkpoint = self.due.map(|due| due.saturating_duration_since(Instant::now()));
        match (retry, checkpoint) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    fn append(&mut self, entry: AuditEntry, reply: oneshot::Sender<Result<(), String>>) {
        let intent = entry.stage == "intent";
        if intent {
            self.pay();
            if !self.owed.is_empty() {
                drop(reply.send(Err("the result of an earlier change could not be written down".to_owned())));
                return;
            }
        }
        let written = self.write(&entry);
        if written.is_err() && entry.stage == "result" && self.owed.len() < OWED_MAX {
            self.owed.push_back(entry.clone());
        }
        self.tell();
        let late = reply.send(written.clone()).is_err();
        if late && intent && written.is_ok() {
            // The caller waited too long and was refused: nothing will come of this intent.
            drop(self.write(&AuditEntry { stage: "abandoned".to_owned(), ..entry }));
        }
    }

    fn pay(&mut self) {
        while let Some(entry) = self.owed.pop_front() {
            if self.write(&entry).is_err() {
                self.owed.push_front(entry);
                break;
            }
        }
        self.tell();
    }

    fn write(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let written = self.chain.append(&record(entry, Timestamp::now()));
        match &written {
            Ok(()) => {
                self.unsigned += 1;
                let change = matches!(entry.stage.as_str(), "intent" | "result" | "abandoned");
                let within = if change {
                    self.settings.checkpoint_after_change
                } else {
                    self.settings.checkpoint_after
                };
                let due = Instant::now() + within;
                self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
                self.writable.store(self.owed.is_empty(), Ordering::Relaxed);
            }
            Err(error) => {
                tracing::error!(file = %self.chain.path().display(), %error, "the audit trail cannot be written");
                self.writable.store(false, Ordering::Relaxed);
            }
        }
        written
    }

    fn checkpoint(&mut self) {
        match self.chain.checkpoint(Timestamp::now()) {
            Ok(()) => {
                self.due = None;
                self.unsigned = 0;
            }
            Err(error) => {
                tracing::error!(file = %self.chain.path().display(), %error, "the audit trail cannot be signed");
                self.due = Some(Instant::now() + RETRY);
            }
        }
    }

    fn tell(&self) {
        if !self.owed.is_empty() {
            self.writable.store(false, Ordering::Relaxed);
        }
    }
}

fn record(entry: &AuditEntry, now: Timestamp) -> Record {
    let stage = match entry.stage.as_str() {
        "intent" => Stage::Intent,
        "abandoned" => Stage::Abandoned,
        "denied" => Stage::Denied,
        _ => Stage::Result,
    };
    let mut record = Record::new(stage, moment(now));
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    record.req_id = some(&entry.request_id);
    record.op_id = some(&entry.operation_id);
    record.peer_addr = some(&entry.peer);
    record.cert_sha256 = some(&entry.certificate_sha256);
    record.sub = some(&entry.subject);
    record.roles.clone_from(&entry.roles);
    record.rule = some(&entry.rule);
    record.route = some(&entry.route);
    record.decision = some(&entry.decision);
    record.code = some(&entry.outcome);
    record.reason = some(&entry.reason);
    if let Value::Object(params) = &entry.params {
        record.params.extend(params.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.clone(), text)
        }));
    }
    if !entry.target.is_empty() {
        record.params.insert(super::reader::TARGET.to_owned(), entry.target.clone());
    }
    record
}
