//! The backend's way to its database.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::FindOptions;

use crate::Failure;
use crate::seed::Target;

/// How long one answer may take: a server that is stopped accepts connections and says nothing.
const ANSWER: Duration = Duration::from_millis(1000);

/// The platform's database.
#[derive(Debug, Clone)]
pub(super) struct Database {
    database: mongodb::Database,
    address: String,
}

/// The database did not answer, in the words of the driver that the playbook's backend uses.
#[derive(Debug)]
pub(super) struct Unreachable {
    /// `Type: text`, the last line of a traceback.
    pub(super) error: String,
}

impl Database {
    pub(super) async fn open(target: &Target) -> Result<Self, Failure> {
        let (database, address) = target.open(ANSWER / 2).await?;
        Ok(Self { database, address })
    }

    pub(super) async fn ping(&self) -> Result<(), Unreachable> {
        self.within(self.database.run_command(doc! { "ping": 1 }).into_future()).await.map(drop)
    }

    /// The first documents of a collection in `order`, as JSON.
    pub(super) async fn newest(
        &self,
        collection: &str,
        order: Document,
        limit: i64,
    ) -> Result<serde_json::Value, Unreachable> {
        let options = FindOptions::builder().sort(order).limit(limit).build();
        let found = async {
            let cursor = self
                .database
                .collection::<Document>(collection)
                .find(Document::new())
                .with_options(options)
                .await?;
            cursor.try_collect::<Vec<_>>().await
        };
        let documents = self.within(found).await?;
        Ok(documents.into_iter().map(|document| json(Bson::Document(document))).collect())
    }

    pub(super) async fn insert(&self, collection: &str, document: Document) -> Result<(), Unreachable> {
        let collection = self.database.collection::<Document>(collection);
        self.within(collection.insert_one(document).into_future()).await.map(drop)
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, mongodb::error::Error>>,
    ) -> Result<T, Unreachable> {
        match tokio::time::timeout(ANSWER, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.refused(&error)),
            Err(_) => Err(Unreachable {
                error: format!("pymongo.errors.NetworkTimeout: {}: timed out", self.address),
            }),
        }
    }

    fn refused(&self, error: &mongodb::error::Error) -> Unreachable {
        use mongodb::error::ErrorKind::{Command, ServerSelection};
        let error = match error.kind.as_ref() {
            ServerSelection { .. } => format!(
                "pymongo.errors.ServerSelectionTimeoutError: {}: [Errno 111] Connection refused",
                self.address
            ),
            Command(told) => format!("pymongo.errors.OperationFailure: {}", told.message),
            other => format!("pymongo.errors.AutoReconnect: {}: {other}", self.address),
        };
        Unreachable { error }
    }
}

/// What a browser can use: ids as hex, times as RFC 3339.
fn json(value: Bson) -> serde_json::Value {
    match value {
        Bson::Document(document) => document.into_iter().map(|(key, value)| (key, json(value))).collect(),
        Bson::Array(values) => values.into_iter().map(json).collect(),
        Bson::String(text) => text.into(),
        Bson::Double(number) => number.into(),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::Boolean(truth) => truth.into(),
        Bson::ObjectId(id) => id.to_hex().into(),
        Bson::DateTime(time) => time.try_to_rfc3339_string().unwrap_or_default().into(),
        _ => serde_json::Value::Null,
    }
}
