//! Documents out of the database and into it, as raw BSON, in batches of some MiB.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::database::{Capabilities, Collection, DatabaseError, Index};

/// No document is longer: 16 MiB and the 16 KiB that servers allow themselves.
pub const DOCUMENT_MAX: usize = 16 * 1024 * 1024 + 16 * 1024;

/// Whole documents, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Their bytes.
    pub bytes: Bytes,
    /// How many.
    pub documents: u64,
}

/// Reads and writes whole collections.
#[async_trait]
pub trait Dump: Send + Sync {
    /// Every document of a collection, once, in no order. A few batches are read ahead of the receiver. The last
    /// message is an error, or the channel just ends: then all was read.
    async fn read(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<mpsc::Receiver<Result<Batch, DatabaseError>>, DatabaseError>;

    /// Makes an empty collection with these options (one BSON document, as listed).
    async fn create(&self, database: &str, collection: &str, options: &[u8]) -> Result<(), DatabaseError>;

    /// Inserts whole documents as they are.
    async fn insert(&self, database: &str, collection: &str, batch: Batch) -> Result<(), DatabaseError>;

    /// Builds the indexes, that of `_id` left out, in the form that this server takes.
    async fn index(&self, database: &str, collection: &str, indexes: &[Index]) -> Result<(), DatabaseError>;

    /// What such a server would not keep of a collection: `bids.amount_1: sparse`. Nothing is asked.
    fn losses(&self, server: &Capabilities, collection: &Collection) -> Vec<String>;

    /// Whether such a server builds this index at all.
    fn takes(&self, server: &Capabilities, index: &Index) -> bool;

    /// Renames within the database; the new name must be free.
    async fn rename(&self, database: &str, from: &str, to: &str) -> Result<(), DatabaseError>;

    /// Drops a collection; it need not exist.
    async fn drop_collection(&self, database: &str, collection: &str) -> Result<(), DatabaseError>;

    /// Drops a database without collections; it need not exist.
    async fn drop_empty(&self, database: &str) -> Result<(), DatabaseError>;
}
