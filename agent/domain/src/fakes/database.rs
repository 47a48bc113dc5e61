use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::backup::digest::first_document;
use crate::ports::database::{
    Capabilities, Collection, Database, DatabaseError, Index, Ping, ServerKind, Stats, Unreachable,
};
use crate::ports::dump::{Batch, Dump};

/// An empty BSON document.
const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

/// A MongoDB server in memory. Clones share what is in it, so it survives the "crash" of who used it.
#[derive(Clone, Default)]
pub struct FakeDatabase {
    state: Arc<Mutex<State>>,
}

/// What happens at a write, counted from 0 over every write since the fault was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatabaseFault {
    /// All is well.
    #[default]
    None,
    /// From this write on the server is away; `true`: that write itself was still done.
    AwayFrom(u64, bool),
    /// The caller has died there: it never returns; `true`: that write itself was done.
    CallerDiesAt(u64, bool),
    /// The server refuses this one write.
    Refuses(u64),
}

#[derive(Default)]
struct State {
    databases: BTreeMap<String, BTreeMap<String, Held>>,
    dotted_renames: bool,
    fault: DatabaseFault,
    writes: u64,
    /// Another client makes this collection again whenever it is renamed away.
    intruder: Option<(String, Vec<u8>)>,
}

#[derive(Clone, Default)]
struct Held {
    documents: Vec<Vec<u8>>,
    indexes: Vec<Index>,
}

enum Verdict {
    Go,
    GoAndFail,
    GoAndDie,
    Die,
    Away,
    Refused,
}

impl FakeDatabase {
    /// A server that renames any name, or one that refuses dotted ones.
    #[must_use]
    pub fn new(dotted_renames: bool) -> Self {
        let fake = Self::default();
        fake.state().dotted_renames = dotted_renames;
        fake
    }

    /// What happens to writes from now on.
    pub fn fail(&self, fault: DatabaseFault) {
        let mut state = self.state();
        (state.fault, state.writes) = (fault, 0);
    }

    /// How many writes there have been since the fault was set.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Puts a collection in place: documents and names of indexes.
    pub fn put(&self, database: &str, collection: &str, documents: Vec<Vec<u8>>, indexes: &[&str]) {
        let indexes = indexes.iter().map(|name| index(name)).collect();
        let held = Held { documents, indexes };
        self.state().databases.entry(database.to_owned()).or_default().insert(collection.to_owned(), held);
    }

    /// Takes a collection away.
    pub fn take(&self, database: &str, collection: &str) {
        if let Some(collections) = self.state().databases.get_mut(database) {
            collections.remove(collection);
        }
    }

    /// All of a database: documents, sorted, by collection, and the names of indexes.
    #[must_use]
    pub fn contents(&self, database: &str) -> BTreeMap<String, (Vec<Vec<u8>>, Vec<String>)> {
        let state = self.state();
        let collections = state.databases.get(database).cloned().unwrap_or_default();
        collections
            .into_iter()
            .map(|(name, mut held)| {
                held.documents.sort();
                let indexes = held.indexes.into_iter().map(|index| index.name).collect();
                (name, (held.documents, indexes))
            })
            .collect()
    }

    /// Another client writes this document into the collection whenever it is renamed away.
    pub fn intrude(&self, collection: &str, document: Vec<u8>) {
        self.state().intruder = Some((collection.to_owned(), document));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away() -> DatabaseError {
        DatabaseError::Unreachable {
            uri: "mongodb://fake".to_owned(),
            cause: Unreachable::Refused,
            detail: "connection refused".to_owned(),
        }
    }

    fn is_away(&self) -> bool {
        let state = self.state();
        matches!(state.fault, DatabaseFault::AwayFrom(at, _) if state.writes > at)
    }

    fn verdict(&self) -> Verdict {
        let mut state = self.state();
        let number = state.writes;
        state.writes += 1;
        match state.fault {
            DatabaseFault::AwayFrom(at, done) if number == at && done => Verdict::GoAndFail,
            DatabaseFault::AwayFrom(at, _) if number >= at => Verdict::Away,
            DatabaseFault::CallerDiesAt(at, true) if number == at => Verdict::GoAndDie,
            DatabaseFault::CallerDiesAt(at, _) if number >= at => Verdict::Die,
            DatabaseFault::Refuses(at) if number == at => Verdict::Refused,
            _ => Verdict::Go,
        }
    }

    async fn write(
        &self,
        what: String,
        work: impl FnOnce(&mut State) -> Result<(), DatabaseError> + Send,
    ) -> Result<(), DatabaseError> {
        match self.verdict() {
            Verdict::Go => work(&mut self.state()),
            Verdict::GoAndFail => {
                work(&mut self.state())?;
                Err(Self::away())
            }
            Verdict::GoAndDie => {
                work(&mut self.state())?;
                std::future::pending().await
            }
            Verdict::Die => std::future::pending().await,
            Verdict::Away => Err(Self::away()),
            Verdict::Refused => Err(command(what, 13, "Unauthorized")),
        }
    }
}

fn command(what: String, code: i32, name: &str) -> DatabaseError {
    DatabaseError::Command { what, code, name: name.to_owned(), detail: name.to_owned() }
}

fn index(name: &str) -> Index {
    Index { name: name.to_owned(), spec: EMPTY.to_vec() }
}

#[async_trait]
impl Database for FakeDatabase {
    fn name(&self) -> &'static str {
        "auction"
    }

    fn uri(&self) -> &'static str {
        "mongodb://fake"
    }

    async fn ping(&self) -> Result<Ping, DatabaseError> {
        let server = self.capabilities().await?;
        Ok(Ping { server, connect: Duration::from_millis(1), round_trip: Duration::from_millis(1) })
    }

    async fn capabilities(&self) -> Result<Capabilities, DatabaseError> {
        if self.is_away() {
            return Err(Self::away());
        }
        let whole = self.state().dotted_renames;
        Ok(Capabilities {
            kind: if whole { ServerKind::Mongod } else { ServerKind::Ferretdb },
            version: "1.0".to_owned(),
            topology: "standalone".to_owned(),
            rename_dotted: whole,
            index_options: whole,
        })
    }

    async fn databases(&self) -> Result<Vec<String>, DatabaseError> {
        if self.is_away() {
            return Err(Self::away());
        }
        Ok(self.state().databases.keys().cloned().collect())
    }

    async fn collections(&self, database: &str) -> Result<Vec<Collection>, DatabaseError> {
        if self.is_away() {
            return Err(Self::away());
        }
        let collections = self.state().databases.get(database).cloned().unwrap_or_default();
        Ok(collections
            .into_iter()
            .map(|(name, held)| Collection {
                name,
                kind: "collection".to_owned(),
                uuid: String::new(),
                options: EMPTY.to_vec(),
                indexes: held.indexes,
            })
            .collect())
    }

    async fn count(&self, database: &str, collection: &str, _estimated: bool) -> Result<u64, DatabaseError> {
        if self.is_away() {
            return Err(Self::away());
        }
        let state = self.state();
        let held = state.databases.get(database).and_then(|collections| collections.get(collection));
        Ok(held.map_or(0, |held| held.documents.len() as u64))
    }

    async fn stats(&self, database: &str) -> Result<Stats, DatabaseError> {
        let collections = self.collections(database).await?.len() as u64;
        let state = self.state();
        let held = state.databases.get(database).into_iter().flat_map(BTreeMap::values);
        let data_bytes = held.flat_map(|held| &held.documents).map(|document| document.len() as u64).sum();
        Ok(Stats { collections, data_bytes, ..Stats::default() })
    }
}

#[async_trait]
impl Dump for FakeDatabase {
    async fn read(
        &self,
        database: &str,
        collection: &str,
    ) -> Result<mpsc::Receiver<Result<Batch, DatabaseError>>, DatabaseError> {
        if self.is_away() {
            return Err(Self::away());
        }
        let held = {
            let state = self.state();
            state.databases.get(database).and_then(|collections| collections.get(collection)).cloned()
        };
        let (sender, receiver) = mpsc::channel(1);
        let batches = held.map(|held| held.documents).unwrap_or_default();
        tokio::spawn(async move {
            for documents in batches.chunks(3) {
                let batch = Batch { bytes: documents.concat().into(), documents: documents.len() as u64 };
                if sender.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    async fn create(&self, database: &str, collection: &str, _options: &[u8]) -> Result<(), DatabaseError> {
        self.write(format!("create {collection}"), |state| {
            let collections = state.databases.entry(database.to_owned()).or_default();
            if collections.contains_key(collection) {
                return Err(command(format!("create {collection}"), 48, "NamespaceExists"));
            }
            collections
                .insert(collection.to_owned(), Held { documents: Vec::new(), indexes: vec![index("_id_")] });
            Ok(())
        })
        .await
    }

    async fn insert(&self, database: &str, collection: &str, batch: Batch) -> Result<(), DatabaseError> {
        self.write(format!("insert into {collection}"), |state| {
            let collections = state.databases.entry(database.to_owned()).or_default();
            let held = collections.entry(collection.to_owned()).or_default();
            let mut rest = &batch.bytes[..];
            while let Some(document) = first_document(rest) {
                held.documents.push(document.to_vec());
                rest = &rest[document.len()..];
            }
            Ok(())
        })
        .await
    }

    async fn index(&self, database: &str, collection: &str, indexes: &[Index]) -> Result<(), DatabaseError> {
        self.write(format!("index {collection}"), |state| {
            let collections = state.databases.entry(database.to_owned()).or_default();
            collections.entry(collection.to_owned()).or_default().indexes = indexes.to_vec();
            Ok(())
        })
        .await
    }

    fn losses(&self, _server: &Capabilities, _collection: &Collection) -> Vec<String> {
        Vec::new()
    }

    fn takes(&self, _server: &Capabilities, _index: &Index) -> bool {
        true
    }

    async fn rename(&self, database: &str, from: &str, to: &str) -> Result<(), DatabaseError> {
        let what = format!("rename {from} to {to}");
        self.write(what.clone(), |state| {
            let dotted = from.contains('.') || to.contains('.');
            let intruder = state.intruder.clone().filter(|(name, _)| name == from);
            if dotted && !state.dotted_renames {
                return Err(command(what, 73, "InvalidNamespace"));
            }
            let collections = state.databases.entry(database.to_owned()).or_default();
            if collections.contains_key(to) {
                return Err(command(what, 48, "NamespaceExists"));
            }
            let Some(held) = collections.remove(from) else {
                return Err(command(what, 26, "NamespaceNotFound"));
            };
            collections.insert(to.to_owned(), held);
            if let Some((name, document)) = intruder {
                collections.insert(name, Held { documents: vec![document], indexes: vec![index("_id_")] });
                state.intruder = None;
            }
            Ok(())
        })
        .await
    }

    async fn drop_collection(&self, database: &str, collection: &str) -> Result<(), DatabaseError> {
        self.write(format!("drop {collection}"), |state| {
            if let Some(collections) = state.databases.get_mut(database) {
                collections.remove(collection);
            }
            Ok(())
        })
        .await
    }

    async fn drop_empty(&self, database: &str) -> Result<(), DatabaseError> {
        self.write(format!("drop {database}"), |state| {
            if state.databases.get(database).is_some_and(BTreeMap::is_empty) {
                state.databases.remove(database);
            }
            Ok(())
        })
        .await
    }
}
