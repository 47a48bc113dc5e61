//! Backup and restore through the agent's own adapters, on a real server and a real folder.

mod server;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};
use mongodb::{Client, IndexModel};
use ops_agent::adapters::catalog_file::CatalogFile;
use ops_agent::adapters::mongodb::{Address, MongoDb};
use ops_agent::adapters::store_dir::StoreDir;
use ops_domain::Reason;
use ops_domain::access::{Authorized, Binding, Credential, Permission, Principal, Role, Scope, authorize};
use ops_domain::backup::{BackupState, Backups, Level, Ports};
use ops_domain::ids::{BackupId, OperationId, Subject};
use ops_domain::operation::{Outcome, Run, RunSink, State, Task};
use ops_domain::ports::database::{Database as _, ServerKind};
use tokio_util::sync::CancellationToken;

use server::{Relay, Server, private};

/// No other test uses this name, so a server that is shared is left alone.
const DATABASE: &str = "ops_test_backup";

struct Sink {
    clock: std::time::Instant,
    checkpoints: std::sync::Mutex<Vec<ops_domain::operation::Checkpoint>>,
}

#[tonic::async_trait]
impl RunSink for Sink {
    fn phase(&self, _phase: ops_domain::operation::Phase) {}

    fn note(&self, _text: String) {}

    async fn checkpoint(&self, checkpoint: ops_domain::operation::Checkpoint) -> ops_domain::Result<()> {
        self.checkpoints.lock().unwrap().push(checkpoint);
        Ok(())
    }

    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.clock.elapsed()
    }
}

async fn run(task: &dyn Task) -> Outcome {
    run_with(task, CancellationToken::new()).await
}

async fn run_with(task: &dyn Task, cancel: CancellationToken) -> Outcome {
    let sink = Arc::new(Sink { clock: std::time::Instant::now(), checkpoints: Default::default() });
    let id = OperationId::parse("op-7k2m9q1c0d").unwrap();
    task.run(&Run::new(id, sink, cancel, Duration::from_secs(600))).await
}

fn may() -> Authorized {
    let principal = Principal {
        subject: Subject::parse("alice").unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: [Role::Admin].into(), services: Default::default() },
        narrowed: None,
        expires_at: jiff::Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    };
    authorize(&principal, Permission::BackupList, Scope::None).unwrap()
}

fn backups(folder: &Path, uri: &str) -> (Backups, Arc<MongoDb>) {
    let database = Arc::new(MongoDb::new(Address::parse(uri).unwrap(), DATABASE.to_owned()));
    let ports = Ports {
        database: Some(Arc::<MongoDb>::clone(&database) as _),
        dump: Some(Arc::<MongoDb>::clone(&database) as _),
        store: Some(Arc::new(StoreDir::new(folder.join("store"), 0))),
        catalog: Arc::new(CatalogFile::new(folder.join("backups.jsonl"))),
    };
    (Backups::new(ports, "prod-1", "0.1.0"), database)
}

/// Documents of every type that all servers take, several indexes, an empty collection, a dotted name.
async fn seed(client: &Client) {
    let database = client.database(DATABASE);
    database.drop().await.unwrap();
    let users: Vec<Document> = (0..1500)
        .map(|n| {
            doc! {
                "_id": ObjectId::from_bytes([u8::try_from(n % 251).unwrap(), 1, 2, 3, 4, 5, 6, 7, 8, 9, u8::try_from(n / 251).unwrap(), 1]),
                "name": format!("user {n} ä☃"), "email": format!("u{n}@example.net"), "n": n, "big": i64::from(n) << 40,
                "ratio": f64::from(n) / 7.0, "on": n % 2 == 0, "none": Bson::Null, "at": DateTime::from_millis(i64::from(n) * 1000),
                "tags": ["a", "b"], "nested": { "deep": { "er": n } },
                "blob": Bson::Binary(mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3] }),
            }
        })
        .collect();
    database.collection("users").insert_many(users).await.unwrap();
    let unique = mongodb::options::IndexOptions::builder().unique(true).build();
    let models = [
        IndexModel::builder().keys(doc! { "email": 1 }).options(unique).build(),
        IndexModel::builder().keys(doc! { "n": -1, "name": 1 }).build(),
    ];
    database.collection::<Document>("users").create_indexes(models).await.unwrap();
    let filler = "x".repeat(2000);
    for part in 0..6 {
        let bids: Vec<Document> =
            (0..1000).map(|n| doc! { "_id": part * 1000 + n, "amount": n, "filler": &filler }).collect();
        database.collection("bids").insert_many(bids).await.unwrap();
    }
    let model = IndexModel::builder().keys(doc! { "amount": 1 }).build();
    database.collection::<Document>("bids").create_index(model).await.unwrap();
    database.create_collection("empty").await.unwrap();
    database.collection("fs.files").insert_one(doc! { "_id": 1, "name": "a.txt" }).await.unwrap();
    database.collection("one").insert_one(doc! { "_id": { "a": 1 }, "x": 1 }).await.unwrap();
}

async fn destroy(client: &Client) {
    let database = client.database(DATABASE);
    database.collection::<RawDocumentBuf>("users").drop().await.unwrap();
    database.collection::<Document>("bids").delete_many(doc! { "amount": { "$gt": 10 } }).await.unwrap();
    database.collection::<Document>("bids").drop_index("amount_1").await.unwrap();
    database.collection::<Document>("fs.files").delete_many(doc! {}).await.unwrap();
    database.collection("payments").insert_one(doc! { "_id": 1, "paid": true }).await.unwrap();
}

#[tokio::test]
async fn what_was_destroyed_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    private(folder.path(), "store");
    let server = Server::start(folder.path()).await;
    seed(&server.client).await;
    let (backups, database) = backups(folder.path(), &server.uri());
    let before = server.contents(DATABASE).await;

    let outcome = run(&*backups.create("pre-deploy").unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    destroy(&server.client).await;
    let ruined = server.contents(DATABASE).await;
    assert_ne!(before, ruined);

    // Into a new database first: the live one is not touched.
    let task = backups.restore("latest", "ops_test_backup_check").await.unwrap();
    let outcome = run(&*task).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    assert_eq!(server.contents(DATABASE).await, ruined);
    assert_eq!(same_names(server.contents("ops_test_backup_check").await), same_names(before.clone()));

    let task = backups.restore("latest", "").await.unwrap();
    let plan = task.plan().await.unwrap();
    assert_eq!(server.contents(DATABASE).await, ruined, "a plan changed something: {plan:?}");
    let outcome = run(&*task).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    let after = server.contents(DATABASE).await;
    let payments = ruined.iter().find(|(name, ..)| name == "payments").unwrap().clone();
    let mut expected = before.clone();
    expected.push(payments);
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    let mut after = after;
    after.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(same_names(after), same_names(expected));
    if database.capabilities().await.unwrap().kind == ServerKind::Ferretdb {
        assert!(
            plan.facts.iter().any(|fact| fact.name == "copied" && fact.lines == ["fs.files"]),
            "{plan:?}"
        );
    }
    for name in [DATABASE, "ops_test_backup_check"] {
        server.client.database(name).drop().await.unwrap();
    }
}

/// Without what belongs to the place and not to the index: its namespace.
fn same_names(
    contents: Vec<(String, Vec<Vec<u8>>, Vec<Document>)>,
) -> Vec<(String, usize, String, Vec<Document>)> {
    contents
        .into_iter()
        .map(|(name, documents, indexes)| {
            let indexes = indexes
                .into_iter()
                .map(|mut index| {
                    index.remove("ns");
                    index
                })
                .collect();
            let all = format!("{:?}", documents);
            (name, documents.len(), all, indexes)
        })
        .collect()
}

#[tokio::test]
async fn a_server_that_dies_while_it_is_read_fails_the_backup_and_spares_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = private(folder.path(), "store");
    let server = Server::start(folder.path()).await;
    seed(&server.client).await;
    let relay = Relay::start(server.address()).await;
    let (backups, _) = backups(folder.path(), &relay.uri);
    let outcome = run(&*backups.create("").unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    let old = outcome.results[0].target.clone();

    for bytes in [100_000, 4_000_000] {
        relay.cut_after_received(bytes);
        let outcome = run(&*backups.create("").unwrap()).await;
        assert!(relay.is_cut(), "{outcome:?}");
        let problem = outcome.problem.unwrap();
        assert_eq!(
            (outcome.state, problem.reason),
            (State::Failed, Reason::DatabaseUnreachable),
            "{problem:?}"
        );
        let left: Vec<_> = std::fs::read_dir(&store)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != ".lock")
            .collect();
        assert_eq!(left, std::slice::from_ref(&old), "{problem:?}");
        relay.mend();
    }
    let outcome = run(&*backups.verify(&old, Level::Structure).await.unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    server.client.database(DATABASE).drop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_while_it_is_written_is_waited_for_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    private(folder.path(), "store");
    let server = Server::start(folder.path()).await;
    seed(&server.client).await;
    let relay = Arc::new(Relay::start(server.address()).await);
    let (backups, _) = backups(folder.path(), &relay.uri);
    let outcome = run(&*backups.create("").unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    destroy(&server.client).await;
    let ruined = server.contents(DATABASE).await;
    relay.cut_after_sent(5_000_000);
    let mending = Arc::clone(&relay);
    let mend = tokio::spawn(async move {
        while !mending.is_cut() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        mending.mend();
    });
    let outcome = run(&*backups.restore("latest", "").await.unwrap()).await;
    mend.await.unwrap();
    assert_eq!(outcome.state, State::Undone, "{outcome:?}");
    assert_eq!(outcome.problem.unwrap().reason, Reason::DatabaseUnreachable);
    assert_eq!(server.contents(DATABASE).await, ruined);
    server.client.database(DATABASE).drop().await.unwrap();
}

#[tokio::test]
async fn a_backup_that_is_cancelled_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = private(folder.path(), "store");
    let server = Server::start(folder.path()).await;
    seed(&server.client).await;
    let (backups, _) = backups(folder.path(), &server.uri());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = run_with(&*backups.create("").unwrap(), cancel).await;
    assert_eq!(outcome.state, State::Cancelled, "{outcome:?}");
    assert!(std::fs::read_dir(store).unwrap().all(|entry| entry.unwrap().file_name() == ".lock"));
    let listing = backups.list(&may(), 10).await.unwrap();
    assert!(listing.backups.is_empty());
    server.client.database(DATABASE).drop().await.unwrap();
}

#[tokio::test]
async fn a_backup_outlives_what_is_listed_of_it() {
    let folder = tempfile::tempdir().unwrap();
    private(folder.path(), "store");
    let server = Server::start(folder.path()).await;
    seed(&server.client).await;
    let (made, _) = backups(folder.path(), &server.uri());
    let outcome = run(&*made.create("").unwrap()).await;
    let id = BackupId::parse(&outcome.results[0].target).unwrap();
    // An agent that starts anew knows it by its catalog.
    let (again, _) = backups(folder.path(), &server.uri());
    let backup = again.get(&may(), "latest").await.unwrap();
    assert_eq!((backup.id, backup.state), (id, BackupState::Ok));
    server.client.database(DATABASE).drop().await.unwrap();
}
