//! Whole collections, in raw batches.
//!
//! A reply is copied once, into the batch that goes to the receiver; documents are never decoded. `getMore` is sent
//! only when the cursor is polled, so the reader is a task of its own and runs ahead of the receiver by a bounded
//! channel.

use std::time::Duration;

use async_trait::async_trait;
use bson::{Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};
use bytes::Bytes;
use futures_util::StreamExt as _;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use ops_domain::ports::database::{
    Capabilities, Collection, Database as _, DatabaseError, Index, ServerKind, Unreachable,
};
use ops_domain::ports::dump::{Batch, DOCUMENT_MAX, Dump};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::connection::{Lease, run};
use super::failure::{failure, protocol};
use super::indexes::{fit_index, fit_options, losses};
use super::{MongoDb, number};

/// What one batch of a cursor should hold.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;
/// What one insert holds at most: the command is one BSON document of at most 16 MiB and 16 KiB.
const INSERT_BYTES: usize = 15 * 1024 * 1024;
/// How many documents one insert holds at most.
const INSERT_DOCUMENTS: usize = 100_000;
/// Batches that wait for the receiver.
const AHEAD: usize = 2;
/// A cursor that gives nothing for so long is given up.
const STALL_LIMIT: Duration = Duration::from_secs(600);
/// Creating, renaming, dropping.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// One insert.
const INSERT_LIMIT: Duration = Duration::from_secs(300);
/// All indexes of a collection.
const INDEX_LIMIT: Duration = Duration::from_secs(6 * 3600);

#[async_trait]
impl Dump for MongoDb {
    async fn read(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<mpsc::Receiver<Result<Batch, DatabaseError>>, DatabaseError> {
        let what = format!("read {database}.{collection}");
        let size = self.batch_size(database, collection).await?;
        let lease = self.connection.lease().await?;
        let handle = lease.client.database(database).collection::<Document>(collection);
        let cursor = run(self.connection.address(), what.clone(), STALL_LIMIT, async move {
            handle.find(doc! {}).batch_size(size).batch().await
        })
        .await?;
        let (fetched, fetches) = mpsc::channel(1);
        let uri = self.connection.address().masked().to_owned();
        tokio::spawn(fetch(cursor, fetched, lease, uri.clone(), what.clone()));
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(forward(fetches, sender, uri, what));
        Ok(receiver)
    }

    async fn create(&self, database: &str, collection: &str, options: &[u8]) -> Result<(), DatabaseError> {
        let what = format!("create {database}.{collection}");
        let server = self.connection.lease().await?.capabilities;
        let options: Document =
            bson::deserialize_from_slice(options).map_err(|error| protocol(&what, &error))?;
        let mut command = doc! { "create": collection };
        command.extend(fit_options(&server, &options).0);
        self.step(what, database, command).await
    }

    async fn insert(&self, database: &str, collection: &str, batch: Batch) -> Result<(), DatabaseError> {
        let what = format!("insert into {database}.{collection}");
        let lease = self.connection.lease().await?;
        let mut rest = &batch.bytes[..];
        while !rest.is_empty() {
            let (documents, count, behind) = take(rest).map_err(|detail| protocol(&what, &detail))?;
            rest = behind;
            let command = insert_command(&lease.capabilities, collection, documents)
                .map_err(|detail| protocol(&what, &detail))?;
            let handle = lease.client.database(database);
            let held = lease.clone();
            let reply = run(self.connection.address(), what.clone(), INSERT_LIMIT, async move {
                let reply = handle.run_raw_command(command).await;
                drop(held);
                reply
            })
            .await?;
            inserted(&what, &reply, count)?;
        }
        Ok(())
    }

    async fn index(&self, database: &str, collection: &str, indexes: &[Index]) -> Result<(), DatabaseError> {
        let what = format!("build the indexes of {database}.{collection}");
        let lease = self.connection.lease().await?;
        let mut specs = Vec::new();
        for index in indexes.iter().filter(|index| index.name != "_id_") {
            let listed: Document =
                bson::deserialize_from_slice(&index.spec).map_err(|error| protocol(&what, &error))?;
            specs.extend(fit_index(&lease.capabilities, &listed).0);
        }
        if specs.is_empty() {
            return Ok(());
        }
        let handle = lease.client.database(database);
        let command = doc! { "createIndexes": collection, "indexes": specs };
        run(self.connection.address(), what, INDEX_LIMIT, async move {
            let reply = handle.run_command(command).await;
            drop(lease);
            reply
        })
        .await
        .map(|_| ())
    }

    fn losses(&self, server: &Capabilities, collection: &Collection) -> Vec<String> {
        losses(server, collection)
    }

    fn takes(&self, server: &Capabilities, index: &Index) -> bool {
        bson::deserialize_from_slice(&index.spec).is_ok_and(|listed| fit_index(server, &listed).0.is_some())
    }

    async fn rename(&self, database: &str, from: &str, to: &str) -> Result<(), DatabaseError> {
        let what = format!("rename {database}.{from} to {to}");
        let command = doc! {
            "renameCollection": format!("{database}.{from}"), "to": format!("{database}.{to}"), "dropTarget": false,
        };
        self.step(what, "admin", command).await
    }

    async fn drop_collection(&self, database: &str, collection: &str) -> Result<(), DatabaseError> {
        /// NamespaceNotFound.
        const ABSENT: i32 = 26;
        let what = format!("drop {database}.{collection}");
        match self.step(what, database, doc! { "drop": collection }).await {
            Err(error) if error.code() == Some(ABSENT) => Ok(()),
            other => other,
        }
    }

    async fn drop_empty(&self, database: &str) -> Result<(), DatabaseError> {
        if !self.collections(database).await?.is_empty() {
            return Ok(());
        }
        self.step(format!("drop {database}"), database, doc! { "dropDatabase": 1 }).await
    }
}

impl MongoDb {
    async fn step(&self, what: String, on: &str, command: Document) -> Result<(), DatabaseError> {
        let lease = self.connection.lease().await?;
        let mut command = command;
        if matches!(lease.capabilities.kind, ServerKind::Mongod | ServerKind::Mongos) {
            command.insert("writeConcern", doc! { "w": "majority" });
        }
        let handle = lease.client.database(on);
        run(self.connection.address(), what, STEP_LIMIT, async move {
            let reply = handle.run_command(command).await;
            drop(lease);
            reply
        })
        .await
        .map(|_| ())
    }

    /// FerretDB puts no limit of bytes on a batch, so the number of documents must.
    async fn batch_size(&self, database: &str, collection: &str) -> Result<u32, DatabaseError> {
        let what = format!("collStats of {database}.{collection}");
        let reply = self.command(what, database, doc! { "collStats": collection }).await?;
        let average = number(&reply, "avgObjSize").filter(|average| *average > 0).unwrap_or(1024);
        let size = (BATCH_BYTES / average).clamp(1, INSERT_DOCUMENTS as u64);
        Ok(u32::try_from(size).unwrap_or(1))
    }
}

/// Polls the cursor to its end. It is never torn: a receiver that went away ends it between two batches.
async fn fetch(
    mut cursor: RawBatchCursor,
    sender: mpsc::Sender<Result<Batch, DatabaseError>>,
    lease: Lease,
    uri: String,
    what: String,
) {
    while let Some(reply) = cursor.next().await {
        let batch = match reply {
            Ok(reply) => copy(&reply).map_err(|detail| protocol(&what, &detail)),
            Err(error) => Err(failure(&uri, &what, &error)),
        };
        let failed = batch.is_err();
        if batch.as_ref().is_ok_and(|batch| batch.documents == 0) {
            continue;
        }
        if sender.send(batch).await.is_err() || failed {
            break;
        }
    }
    drop(lease);
}

/// Passes batches on, and gives up when none comes for too long.
async fn forward(
    mut fetches: mpsc::Receiver<Result<Batch, DatabaseError>>,
    sender: mpsc::Sender<Result<Batch, DatabaseError>>,
    uri: String,
    what: String,
) {
    loop {
        let batch = match timeout(STALL_LIMIT, fetches.recv()).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return,
            Err(_) => Err(DatabaseError::Unreachable {
                uri: uri.clone(),
                cause: Unreachable::Timeout,
                detail: format!("{what}: nothing came for {} s", STALL_LIMIT.as_secs()),
            }),
        };
        let failed = batch.is_err();
        if sender.send(batch).await.is_err() || failed {
            return;
        }
    }
}

fn copy(reply: &RawBatch) -> Result<Batch, String> {
    let documents = reply.doc_slices().map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(documents.as_bytes().len());
    let mut count = 0;
    for document in documents {
        match document.map_err(|error| error.to_string())? {
            RawBsonRef::Document(document) => bytes.extend_from_slice(document.as_bytes()),
            _ => return Err("a batch holds what is not a document".to_owned()),
        }
        count += 1;
    }
    Ok(Batch { bytes: Bytes::from(bytes), documents: count })
}

/// As many whole documents as one insert can hold, how many they are, and what is left.
fn take(bytes: &[u8]) -> Result<(RawArrayBuf, u64, &[u8]), String> {
    let mut documents = RawArrayBuf::new();
    let (mut count, mut end) = (0, 0);
    while end < bytes.len() && count < INSERT_DOCUMENTS {
        let rest = &bytes[end..];
        let length = rest
            .first_chunk::<4>()
            .and_then(|head| usize::try_from(i32::from_le_bytes(*head)).ok())
            .filter(|length| (5..=DOCUMENT_MAX.min(rest.len())).contains(length))
            .ok_or("a document's length is wrong")?;
        if count > 0 && end + length > INSERT_BYTES {
            break;
        }
        let document = RawDocument::from_bytes(&rest[..length]).map_err(|error| error.to_string())?;
        documents.push(document);
        end += length;
        count += 1;
    }
    Ok((documents, count as u64, &bytes[end..]))
}

fn insert_command(
    server: &Capabilities,
    collection: &str,
    documents: RawArrayBuf,
) -> Result<RawDocumentBuf, String> {
    let mut command = rawdoc! { "insert": collection, "ordered": false };
    command.append(bson::cstr!("documents"), documents);
    if server.kind == ServerKind::Mongod {
        // Else a top-level Timestamp(0, 0) becomes the time of the insert. Known since 5.0.29, 6.0.17, 7.0.13.
        if bypasses_timestamps(&server.version) {
            command.append(bson::cstr!("bypassEmptyTsReplacement"), true);
        }
        command.append(bson::cstr!("bypassDocumentValidation"), true);
    }
    Ok(command)
}

fn bypasses_timestamps(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let (major, minor, patch) =
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    match (major, minor) {
        (5, 0) => patch >= 29,
        (6, 0) => patch >= 17,
        (7, 0) => patch >= 13,
        (major, _) => major >= 8,
    }
}

/// An insert that is not whole is a failure, whatever `ok` says.
fn inserted(what: &str, reply: &Document, expected: u64) -> Result<(), DatabaseError> {
    if let Some(first) = reply.get_array("writeErrors").ok().and_then(|errors| errors.first()?.as_document())
    {
        return Err(DatabaseError::Command {
            what: what.to_owned(),
            code: first.get_i32("code").unwrap_or(0),
            name: String::new(),
            detail: super::failure::line(first.get_str("errmsg").unwrap_or_default()),
        });
    }
    match number(reply, "n") {
        Some(count) if count == expected => Ok(()),
        count => Err(protocol(what, &format!("{count:?} documents of {expected} were taken"))),
    }
}
