//! The MongoDB server, through the driver.
//!
//! A client costs threads of attention (monitors, a pool), so it is opened at the first question and closed after
//! five idle minutes. The driver's futures are never dropped half-way (RUST-937): each runs in a task of its own, and
//! a call that takes too long is left behind, not torn.

mod address;
mod connection;
mod dump;
mod failure;
mod indexes;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use ops_domain::ports::database::{
    Capabilities, Collection, Database, DatabaseError, Index, Ping, Stats, Unreachable,
};

pub use address::{Address, AddressError};
use connection::{Connection, run};

/// A ping's limit, its connection included.
const PING_LIMIT: Duration = Duration::from_secs(5);
/// A question's limit: names, indexes, sizes.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);
/// An exact count reads everything.
const COUNT_LIMIT: Duration = Duration::from_secs(120);

/// The configured server.
pub struct MongoDb {
    connection: Connection,
    database: String,
}

impl MongoDb {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(address: Address, database: String) -> Self {
        Self { connection: Connection::new(address), database }
    }

    /// The same, closed after this much idleness; for tests.
    #[must_use]
    pub fn with_idle(address: Address, database: String, idle: Duration) -> Self {
        Self { connection: Connection::with_idle(address, idle), database }
    }

    /// Whether a client is open just now.
    pub async fn is_open(&self) -> bool {
        self.connection.is_open().await
    }

    async fn command(&self, what: String, on: &str, command: Document) -> Result<Document, DatabaseError> {
        let lease = self.connection.lease().await?;
        let database = lease.client.database(on);
        run(self.connection.address(), what, QUESTION_LIMIT, async move {
            let reply = database.run_command(command).await;
            drop(lease);
            reply
        })
        .await
    }

    async fn ping_once(&self) -> Result<(), DatabaseError> {
        let lease = self.connection.lease().await?;
        let database = lease.client.database("admin");
        run(self.connection.address(), "ping".to_owned(), PING_LIMIT, async move {
            let reply = database.run_command(doc! { "ping": 1 }).await;
            drop(lease);
            reply
        })
        .await
        .map(drop)
    }

    async fn listing(
        &self,
        what: String,
        on: &str,
        command: Document,
    ) -> Result<Vec<Document>, DatabaseError> {
        let lease = self.connection.lease().await?;
        let database = lease.client.database(on);
        run(self.connection.address(), what, QUESTION_LIMIT, async move {
            let cursor = database.run_cursor_command(command).await?;
            let documents = cursor.try_collect().await;
            drop(lease);
            documents
        })
        .await
    }

    async fn indexes(&self, database: &str, collection: &str) -> Result<Vec<Index>, DatabaseError> {
        let what = format!("list the indexes of {database}.{collection}");
        let listed = self.listing(what.clone(), database, doc! { "listIndexes": collection }).await?;
        listed
            .into_iter()
            .map(|spec| {
                let name = spec.get_str("name").map_err(|error| failure::protocol(&what, &error))?.to_owned();
                let spec = bson::serialize_to_vec(&spec).map_err(|error| failure::protocol(&what, &error))?;
                Ok(Index { name, spec })
            })
            .collect()
    }
}

#[async_trait]
impl Database for MongoDb {
    fn name(&self) -> &str {
        &self.database
    }

    fn uri(&self) -> &str {
        self.connection.address().masked()
    }

    async fn ping(&self) -> Result<Ping, DatabaseError> {
        let connect = self.connection.knock().await?;
        let lease = self.connection.lease().await?;
        let server = (*lease.capabilities).clone();
        drop(lease);
        let mut began = Instant::now();
        let mut reply = self.ping_once().await;
        if matches!(&reply, Err(DatabaseError::Unreachable { cause: Unreachable::Broken, .. })) {
            // A pooled connection dies with the server's last process. The driver has emptied its pool by now.
            began = Instant::now();
            reply = self.ping_once().await;
        }
        reply?;
        Ok(Ping { server, connect, round_trip: began.elapsed() })
    }

    async fn capabilities(&self) -> Result<Capabilities, DatabaseError> {
        Ok((*self.connection.lease().await?.capabilities).clone())
    }

    async fn databases(&self) -> Result<Vec<String>, DatabaseError> {
        let what = "list the databases";
        let reply =
            self.command(what.to_owned(), "admin", doc! { "listDatabases": 1, "nameOnly": true }).await?;
        let listed = reply.get_array("databases").map_err(|error| failure::protocol(what, &error))?;
        Ok(listed
            .iter()
            .filter_map(|entry| entry.as_document()?.get_str("name").ok())
            .map(str::to_owned)
            .collect())
    }

    async fn collections(&self, database: &str) -> Result<Vec<Collection>, DatabaseError> {
        let what = format!("list the collections of {database}");
        let listed = self.listing(what.clone(), database, doc! { "listCollections": 1 }).await?;
        let mut collections = Vec::with_capacity(listed.len());
        for entry in listed {
            let name = entry.get_str("name").map_err(|error| failure::protocol(&what, &error))?.to_owned();
            if name.starts_with("system.") {
                continue;
            }
            let kind = entry.get_str("type").unwrap_or("collection").to_owned();
            let uuid = entry
                .get_document("info")
                .and_then(|info| info.get_binary_generic("uuid"))
                .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
                .unwrap_or_default();
            let options = entry.get_document("options").cloned().unwrap_or_default();
            let options =
                bson::serialize_to_vec(&options).map_err(|error| failure::protocol(&what, &error))?;
            let indexes =
                if kind == "collection" { self.indexes(database, &name).await? } else { Vec::new() };
            collections.push(Collection { name, kind, uuid, options, indexes });
        }
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(collections)
    }

    async fn count(&self, database: &str, collection: &str, estimated: bool) -> Result<u64, DatabaseError> {
        let what = format!("count {database}.{collection}");
        let lease = self.connection.lease().await?;
        let collection = lease.client.database(database).collection::<Document>(collection);
        run(self.connection.address(), what, COUNT_LIMIT, async move {
            let count = if estimated {
                collection.estimated_document_count().await
            } else {
                collection.count_documents(doc! {}).await
            };
            drop(lease);
            count
        })
        .await
    }

    async fn stats(&self, database: &str) -> Result<Stats, DatabaseError> {
        let reply = self.command(format!("dbStats of {database}"), database, doc! { "dbStats": 1 }).await?;
        let mut missing = Vec::new();
        let mut field = |name: &str| {
            number(&reply, name).unwrap_or_else(|| {
                missing.push(format!("{name}: this server's dbStats does not give it"));
                0
            })
        };
        Ok(Stats {
            collections: field("collections"),
            objects: field("objects"),
            data_bytes: field("dataSize"),
            storage_bytes: field("storageSize"),
            indexes: field("indexes"),
            index_bytes: field("indexSize"),
            missing,
        })
    }
}

/// A count or size, whichever number type the server chose for it.
fn number(reply: &Document, name: &str) -> Option<u64> {
    let value = reply.get(name)?;
    let value = value
        .as_i64()
        .or_else(|| value.as_i32().map(i64::from))
        // Sizes above 2^53 bytes do not occur; a negative or broken number saturates to 0.
        .or_else(|| value.as_f64().map(|float| float as i64))?;
    Some(u64::try_from(value).unwrap_or(0))
}

#[cfg(test)]
mod tests;
