//! The journal on SQLite: WAL and `synchronous=FULL`, so that what was answered survives a power cut.
//!
//! One thread owns the connection; calls reach it through a channel and are done in their order. The file is one
//! agent's own: the state folder's lock is taken before this is opened.

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use async_trait::async_trait;
use jiff::Timestamp;
use ops_domain::ids::{OperationId, Subject};
use ops_domain::operation::{Checkpoint, Event, Operation};
use ops_domain::ports::AuditEntry;
use ops_domain::ports::journal::{IdempotencyKey, Journal, Owed, Recorded};
use ops_domain::{Error, Reason, Result};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

mod open;

pub use open::OpenError;

/// The file's name in the state folder.
pub const FILE: &str = "state.db";

type Job = Box<dyn FnOnce(&mut Connection) + Send>;
type Answer<T> = std::result::Result<T, Failure>;

/// The journal of one agent.
pub struct StateDb {
    path: PathBuf,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("a record cannot be understood: {0}")]
    Record(#[from] serde_json::Error),
    #[error("there is no operation {0} in it")]
    Missing(String),
}

impl StateDb {
    /// Opens `state.db` in the folder, makes it where there is none, and checks it whole. `now` names a damaged file.
    ///
    /// # Errors
    /// See [`OpenError`]; a damaged file has been moved aside, every other one is untouched.
    pub fn open(folder: &Path, now: Timestamp) -> std::result::Result<Self, OpenError> {
        let path = folder.join(FILE);
        let mut connection = open::open(&path, now)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = thread::Builder::new()
            .name("state-db".to_owned())
            .spawn(move || {
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        Ok(Self { path, jobs: Some(jobs), thread: Some(thread) })
    }

    /// On the connection's thread, as one transaction.
    async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transaction<'_>) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        self.call(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = change(&transaction)?;
            transaction.commit()?;
            Ok(answer)
        })
        .await
    }

    async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Answer<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Who asked may have gone; what was written stays written.
            drop(reply.send(job(connection)));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        let answer = if sent { answer.await.ok() } else { None };
        match answer {
            Some(answer) => answer.map_err(|failure| self.unavailable(&failure.to_string())),
            None => Err(self.unavailable("its thread has ended")),
        }
    }

    fn unavailable(&self, why: &str) -> Error {
        Error::new(Reason::StateUnavailable, format!("the journal {} failed: {why}", self.path.display()))
            .about(self.path.display())
            .retryable()
    }
}

impl Drop for StateDb {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // Waits for what is queued and for the file to be closed; a panic there has been answered by its call.
            drop(thread.join());
        }
    }
}

fn text<T: Serialize + ?Sized>(value: &T) -> Answer<String> {
    Ok(serde_json::to_string(value)?)
}

fn value<T: DeserializeOwned>(text: &str) -> Answer<T> {
    Ok(serde_json::from_str(text)?)
}

/// The first column of each row, as a value.
fn values<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Answer<Vec<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| row.get::<_, String>(0))?;
    rows.map(|row| value(&row?)).collect()
}

fn advance(transaction: &Transaction<'_>, operation: &Operation, events: &[Event]) -> Answer<()> {
    let sql = "UPDATE operation SET document = ?2, ended_ms = ?3 WHERE id = ?1";
    let ended = operation.finished_at.map(Timestamp::as_millisecond);
    let changed =
        transaction.prepare_cached(sql)?.execute(params![operation.id.as_str(), text(operation)?, ended])?;
    if changed != 1 {
        return Err(Failure::Missing(operation.id.to_string()));
    }
    let sql = "INSERT INTO event (operation_id, seq, document) VALUES (?1, ?2, ?3)";
    let mut statement = transaction.prepare_cached(sql)?;
    for event in events {
        statement.execute(params![operation.id.as_str(), event.seq.cast_signed(), text(event)?])?;
    }
    Ok(())
}

fn owe(transaction: &Transaction<'_>, entry: &str) -> Answer<()> {
    transaction.prepare_cached("INSERT INTO owed (entry) VALUES (?1)")?.execute([entry])?;
    Ok(())
}

/// The columns that [`recorded`] reads.
const RECORDED: &str = "SELECT id, document, parameters, locks, intent FROM operation";

type RecordedText = (String, String, String, String, String);

fn recorded_text(row: &Row<'_>) -> rusqlite::Result<RecordedText> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn recorded(connection: &Connection, texts: &RecordedText) -> Answer<Recorded> {
    let (id, operation, parameters, locks, intent) = texts;
    let sql = "SELECT document FROM checkpoint WHERE operation_id = ?1 ORDER BY number";
    Ok(Recorded {
        operation: value(operation)?,
        parameters: value(parameters)?,
        locks: value(locks)?,
        intent: value(intent)?,
        checkpoints: values(connection, sql, [id])?,
    })
}

#[async_trait]
impl Journal for StateDb {
    async fn prepare(&self, id: &OperationId, abandoned: &AuditEntry) -> Result<()> {
        let (id, abandoned) = (id.clone(), abandoned.clone());
        self.write(move |transaction| {
            let sql = "INSERT INTO prepared (operation_id, entry) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute([id.as_str(), &text(&abandoned)?])?;
            Ok(())
        })
        .await
    }

    async fn abandon(&self, id: &OperationId) -> Result<()> {
        let id = id.clone();
        self.write(move |transaction| {
            let sql = "DELETE FROM prepared WHERE operation_id = ?1 RETURNING entry";
            let mut statement = transaction.prepare_cached(sql)?;
            let entry: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
            entry.map_or(Ok(()), |entry| owe(transaction, &entry))
        })
        .await
    }

    async fn insert(&self, recorded: &Recorded, idempotency: Option<&IdempotencyKey>) -> Result<()> {
        let (recorded, idempotency) = (recorded.clone(), idempotency.cloned());
        self.write(move |transaction| {
            let operation = &recorded.operation;
            let sql = "DELETE FROM prepared WHERE operation_id = ?1";
            transaction.prepare_cached(sql)?.execute([operation.id.as_str()])?;
            let sql = "INSERT INTO operation (id, subject, created_ms, ended_ms, document, parameters, locks, intent, \
                       idempotency_key, request_digest) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
            transaction.prepare_cached(sql)?.execute(params![
                operation.id.as_str(),
                operation.subject.as_str(),
                operation.created_at.as_millisecond(),
                operation.finished_at.map(Timestamp::as_millisecond),
                text(operation)?,
                text(&recorded.parameters)?,
                text(&recorded.locks)?,
                text(&recorded.intent)?,
                idempotency.as_ref().map(|named| named.key.as_str()),
                idempotency.as_ref().map(|named| named.request_digest.as_str()),
            ])?;
            Ok(())
        })
        .await
    }

    async fn by_idempotency_key(
        &self,
        subject: &Subject,
        key: &str,
        since: Timestamp,
    ) -> Result<Option<(OperationId, String)>> {
        let (subject, key) = (subject.clone(), key.to_owned());
        let found = self.call(move |connection| {
            let sql = "SELECT id, request_digest FROM operation WHERE subject = ?1 AND idempotency_key = ?2 \
                       AND created_ms >= ?3 ORDER BY number DESC LIMIT 1";
            let mut statement = connection.prepare_cached(sql)?;
            let params = params![subject.as_str(), key, since.as_millisecond()];
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            Ok(statement.query_row(params, row).optional()?)
        });
        let Some((id, digest)) = found.await? else { return Ok(None) };
        Ok(Some((OperationId::parse(&id)?, digest)))
    }

    async fn checkpoint(&self, id: &OperationId, checkpoint: &Checkpoint) -> Result<()> {
        let (id, checkpoint) = (id.clone(), checkpoint.clone());
        self.write(move |transaction| {
            let sql = "INSERT INTO checkpoint (operation_id, document) VALUES (?1, ?2)";
            transaction.prepare_cached(sql)?.execute([id.as_str(), &text(&checkpoint)?])?;
            Ok(())
        })
        .await
    }

    async fn advance(&self, operation: &Operation, events: &[Event]) -> Result<()> {
        let (operation, events) = (operation.clone(), events.to_vec());
        self.write(move |transaction| advance(transaction, &operation, &events)).await
    }

    async fn finish(&self, operation: &Operation, events: &[Event], owed: &[AuditEntry]) -> Result<()> {
        let (operation, events, owed) = (operation.clone(), events.to_vec(), owed.to_vec());
        self.write(move |transaction| {
            advance(transaction, &operation, &events)?;
            owed.iter().try_for_each(|entry| owe(transaction, &text(entry)?))
        })
        .await
    }

    async fn owed(&self) -> Result<Vec<Owed>> {
        self.call(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT number, entry FROM owed ORDER BY number")?;
            let rows =
                statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            rows.map(|row| {
                let (number, entry) = row?;
                Ok(Owed { number: number.cast_unsigned(), entry: value(&entry)? })
            })
            .collect()
        })
        .await
    }

    async fn settled(&self, number: u64) -> Result<()> {
        self.write(move |transaction| {
            let sql = "DELETE FROM owed WHERE number = ?1";
            transaction.prepare_cached(sql)?.execute([number.cast_signed()])?;
            Ok(())
        })
        .await
    }

    async fn load(&self, id: &OperationId) -> Result<Option<Recorded>> {
        let id = id.clone();
        self.call(move |connection| {
            let found = connection
                .prepare_cached(&format!("{RECORDED} WHERE id = ?1"))?
                .query_row([id.as_str()], recorded_text)
                .optional()?;
            found.map(|texts| recorded(connection, &texts)).transpose()
        })
        .await
    }

    async fn events(&self, id: &OperationId, after_seq: u64, limit: u32) -> Result<Vec<Event>> {
        let id = id.clone();
        let after_seq = i64::try_from(after_seq).unwrap_or(i64::MAX);
        self.call(move |connection| {
            let sql = "SELECT document FROM event WHERE operation_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
            values(connection, sql, params![id.as_str(), after_seq, limit])
        })
        .await
    }

    async fn matching(&self, part: &str) -> Result<Vec<OperationId>> {
        let part = part.to_owned();
        let ids = self.call(move |connection| {
            let sql = "SELECT id FROM operation WHERE instr(id, ?1) > 0 ORDER BY number DESC LIMIT 10";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([part], |row| row.get::<_, String>(0))?;
            rows.map(|row| Ok(row?)).collect::<Answer<Vec<_>>>()
        });
        ids.await?.iter().map(|id| OperationId::parse(id)).collect()
    }

    async fn list(&self, limit: u32, running: bool) -> Result<Vec<Operation>> {
        self.call(move |connection| {
            let sql = if running {
                "SELECT document FROM operation WHERE ended_ms IS NULL ORDER BY number DESC LIMIT ?1"
            } else {
                "SELECT document FROM operation ORDER BY number DESC LIMIT ?1"
            };
            values(connection, sql, [limit])
        })
        .await
    }

    async fn open(&self) -> Result<Vec<Recorded>> {
        self.write(|transaction| {
            transaction
                .execute("INSERT INTO owed (entry) SELECT entry FROM prepared ORDER BY operation_id", [])?;
            transaction.execute("DELETE FROM prepared", [])?;
            let sql = format!("{RECORDED} WHERE ended_ms IS NULL ORDER BY number");
            let mut statement = transaction.prepare_cached(&sql)?;
            let rows = statement.query_map([], recorded_text)?;
            rows.map(|row| recorded(transaction, &row?)).collect()
        })
        .await
    }

    async fn forget(&self, ended_before: Timestamp) -> Result<u64> {
        self.write(move |transaction| {
            let sql = "DELETE FROM operation WHERE ended_ms < ?1";
            let count = transaction.execute(sql, [ended_before.as_millisecond()])?;
            Ok(u64::try_from(count).unwrap_or(u64::MAX))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
