//! On a database and a store in memory, with a crash at every step.

use std::time::Duration;

use super::*;
use crate::access::{Binding, Credential, Permission, Principal, Role, Scope, authorize};
use crate::fakes::{DatabaseFault, FakeCatalog, FakeClock, FakeDatabase, FakeStore, RecordingRunSink};
use crate::ids::{OperationId, Subject};
use crate::operation::{Confirm, Operation, Outcome, State};
use crate::ports::AuditEntry;
use crate::ports::journal::Recorded;

type Contents = BTreeMap<String, (Vec<Vec<u8>>, Vec<String>)>;

struct World {
    database: FakeDatabase,
    store: FakeStore,
    catalog: Arc<FakeCatalog>,
    backups: Backups,
}

fn world(dotted_renames: bool) -> World {
    let database = FakeDatabase::new(dotted_renames);
    database.put("auction", "bids", documents(10..17), &["_id_", "amount_1"]);
    database.put("auction", "users", documents(20..25), &["_id_"]);
    database.put("auction", "empty", Vec::new(), &["_id_"]);
    database.put("auction", "fs.files", documents(30..33), &["_id_", "name_1"]);
    on(database, FakeStore::default(), Arc::new(FakeCatalog::default()))
}

fn on(database: FakeDatabase, store: FakeStore, catalog: Arc<FakeCatalog>) -> World {
    let ports = Ports {
        database: Some(Arc::new(database.clone())),
        dump: Some(Arc::new(database.clone())),
        store: Some(Arc::new(store.clone())),
        catalog: Arc::<FakeCatalog>::clone(&catalog),
    };
    let backups = Backups::new(ports, "prod-1", "0.1.0");
    World { database, store, catalog, backups }
}

fn documents(numbers: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    numbers.map(|number| vec![9, 0, 0, 0, number, number, number, number, 0]).collect()
}

fn may() -> Authorized {
    let principal = Principal {
        subject: Subject::parse("alice").unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: [Role::Admin].into(), services: Default::default() },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    };
    authorize(&principal, Permission::BackupList, Scope::None).unwrap()
}

async fn run(task: &dyn Task) -> (Outcome, Arc<RecordingRunSink>) {
    let sink = RecordingRunSink::new(FakeClock::new());
    let (run, _) = sink.run(Duration::from_secs(3600));
    (task.run(&run).await, sink)
}

impl World {
    async fn create(&self) -> BackupId {
        let (outcome, _) = run(&*self.backups.create("nightly").unwrap()).await;
        assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
        BackupId::parse(&outcome.results[0].target).unwrap()
    }

    /// What someone does who should not.
    fn ruin(&self) {
        self.database.put("auction", "bids", documents(90..92), &["_id_"]);
        self.database.take("auction", "users");
        self.database.put("auction", "fs.files", documents(70..71), &["_id_"]);
        self.database.put("auction", "payments", documents(50..53), &["_id_"]);
    }

    fn contents(&self) -> Contents {
        self.database.contents("auction")
    }

    async fn recover(&self, kind: &str, sink: &Arc<RecordingRunSink>) -> Outcome {
        let recorded = Recorded {
            operation: Operation {
                id: OperationId::parse("op-0000000000").unwrap(),
                kind: kind.to_owned(),
                targets: Vec::new(),
                subject: Subject::parse("alice").unwrap(),
                reason: String::new(),
                state: State::Running,
                created_at: Timestamp::UNIX_EPOCH,
                finished_at: None,
                phases: Vec::new(),
                results: Vec::new(),
                problem: None,
                notes: Vec::new(),
                last_seq: 0,
            },
            parameters: serde_json::Value::Null,
            locks: Vec::new(),
            intent: AuditEntry::default(),
            checkpoints: sink.checkpoints(),
        };
        // The same journal: a second recovery sees the checkpoints of the first.
        let (run, _) = sink.run(Duration::from_secs(3600));
        self.backups.recovery().recover(&recorded, &run).await
    }
}

/// The live data with the backup's collections in place.
fn restored(before: &Contents, ruined: &Contents) -> Contents {
    let mut restored = ruined.clone();
    restored.extend(before.clone());
    restored
}

#[tokio::test]
async fn a_backup_is_listed_with_what_is_in_it_and_latest_names_it() {
    let world = world(true);
    let id = world.create().await;
    let listing = world.backups.list(&may(), 50).await.unwrap();
    let [backup] = listing.backups.as_slice() else { panic!("{listing:?}") };
    assert_eq!((&backup.id, backup.state, backup.origin), (&id, BackupState::Ok, Origin::Agent));
    assert_eq!(backup.verified.map(|(level, _)| level), Some(Level::Structure));
    let manifest = backup.manifest.as_ref().unwrap();
    assert_eq!((manifest.documents(), manifest.collections.len()), (15, 4));
    for wanted in ["latest", id.as_str(), &id.as_str()[15..]] {
        assert_eq!(world.backups.get(&may(), wanted).await.unwrap().id, id, "{wanted}");
    }
    let error = world.backups.get(&may(), "nope").await.unwrap_err();
    assert_eq!(error.reason, Reason::BackupNotFound);
    let error = world.backups.get(&may(), "../etc").await.unwrap_err();
    assert_eq!(error.reason, Reason::InvalidArgument);
}

#[tokio::test]
async fn what_another_agent_made_is_foreign_and_never_latest() {
    let world = world(true);
    let id = world.create().await;
    world.catalog.forget();
    let error = world.backups.get(&may(), "latest").await.unwrap_err();
    assert_eq!(error.reason, Reason::BackupNotFound);
    let backup = world.backups.get(&may(), id.as_str()).await.unwrap();
    assert_eq!((backup.origin, backup.verified), (Origin::Foreign, None));
    let plan = world.backups.restore(id.as_str(), "").await.unwrap().plan().await.unwrap();
    assert!(plan.facts.iter().any(|fact| fact.name == "origin"), "{plan:?}");
}

#[tokio::test]
async fn nothing_to_back_up_is_not_a_backup() {
    let empty = on(FakeDatabase::new(true), FakeStore::default(), Arc::default());
    let (outcome, _) = run(&*empty.backups.create("").unwrap()).await;
    assert_eq!(outcome.problem.unwrap().reason, Reason::BackupIncomplete);
    assert!(empty.backups.list(&may(), 50).await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn no_room_is_told_before_anything_is_written() {
    let world = world(true);
    world.create().await;
    world.store.use_up(1_000_000_000 - 1000);
    let (outcome, sink) = run(&*world.backups.create("").unwrap()).await;
    let problem = outcome.problem.unwrap();
    assert_eq!(problem.reason, Reason::NoSpace);
    let facts: Vec<&str> = problem.evidence.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(facts, ["needs", "free", "newest"]);
    assert!(sink.checkpoints().is_empty());
}

#[tokio::test]
async fn a_plan_reads_the_bytes_and_changes_nothing() {
    let world = world(false);
    let id = world.create().await;
    world.ruin();
    let ruined = world.contents();
    world.database.fail(DatabaseFault::None);
    let task = world.backups.restore("latest", "").await.unwrap();
    let plan = task.plan().await.unwrap();
    assert_eq!(plan.confirm, Confirm::Type("auction".to_owned()));
    let table = &plan.facts.iter().find(|fact| fact.name == "collections").unwrap().lines;
    assert_eq!(
        table,
        &[
            "COLLECTION  NOW  AFTER  CHANGE",
            "bids        ~2   7      +5",
            "empty       ~0   0      0",
            "fs.files    ~1   3      +2",
            "users       -    5      comes back, 1 indexes",
            "payments    ~3   ~3     not in the backup: left alone",
        ]
    );
    assert!(plan.facts.iter().any(|fact| fact.name == "copied" && fact.lines == ["fs.files"]));
    assert_eq!((world.database.writes(), world.contents()), (0, ruined));
    world.store.damage(&id, "c00001.zst", |bytes| bytes[20] ^= 1);
    let error = task.plan().await.unwrap_err();
    assert_eq!(error.reason, Reason::BackupCorrupt);
    assert!(error.message.contains("c00001.zst (collection bids)"), "{}", error.message);
}

#[tokio::test]
async fn a_restore_over_live_data_is_what_the_backup_was() {
    for dotted_renames in [true, false] {
        let world = world(dotted_renames);
        let before = world.contents();
        let id = world.create().await;
        world.ruin();
        let ruined = world.contents();
        let (outcome, sink) = run(&*world.backups.restore("latest", "").await.unwrap()).await;
        assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
        assert_eq!(world.contents(), restored(&before, &ruined));
        let phases: Vec<String> = sink.ended().into_iter().map(|(name, _)| name).collect();
        assert_eq!(phases, ["check", "load", "compare", "safety", "swap"]);
        // The way back is a backup like any other, and not what latest means.
        let all = world.backups.list(&may(), 50).await.unwrap().backups;
        let safety = all.iter().find(|backup| backup.id != id).unwrap();
        assert_eq!(safety.manifest.as_ref().unwrap().purpose, Purpose::Safety);
        assert_eq!(world.backups.get(&may(), "latest").await.unwrap().id, id);
        let (outcome, _) = run(&*world.backups.restore(safety.id.as_str(), "").await.unwrap()).await;
        assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
        let back = world.contents();
        assert!(ruined.iter().all(|(name, held)| back.get(name) == Some(held)));
    }
}

#[tokio::test]
async fn a_restore_into_a_new_database_leaves_the_live_one_alone() {
    let world = world(true);
    let before = world.contents();
    world.create().await;
    world.ruin();
    let ruined = world.contents();
    let task = world.backups.restore("latest", "check").await.unwrap();
    assert_eq!(task.plan().await.unwrap().confirm, Confirm::None);
    let (outcome, _) = run(&*task).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    assert_eq!((world.contents(), world.database.contents("check")), (ruined, before));
    let error = task.plan().await.unwrap_err();
    assert!(error.message.contains("exists already"), "{error}");
    for bad in ["auction", "admin", "a b", "a/b", "ä"] {
        let refused = world.backups.restore("latest", bad).await;
        assert_eq!(refused.err().unwrap().reason, Reason::InvalidArgument, "{bad}");
    }
}

#[tokio::test]
async fn a_damaged_backup_is_named_and_never_restored() {
    let world = world(true);
    let id = world.create().await;
    world.ruin();
    let ruined = world.contents();
    let task = world.backups.restore("latest", "").await.unwrap();
    world.store.damage(&id, "c00004.zst", |bytes| bytes[3] ^= 1);
    let (outcome, _) = run(&*task).await;
    let problem = outcome.problem.unwrap();
    assert_eq!((outcome.state, problem.reason), (State::Failed, Reason::BackupCorrupt));
    assert_eq!(world.contents(), ruined);
    // From now on it is listed as what it is.
    let backup = world.backups.get(&may(), id.as_str()).await.unwrap();
    assert_eq!(backup.state, BackupState::Corrupt);
    assert_eq!(backup.problem.unwrap().collection, "users");
    assert!(world.backups.restore(id.as_str(), "").await.is_err());
    world.store.damage(&id, "c00004.zst", |bytes| bytes[3] ^= 1);
    let (outcome, _) = run(&*world.backups.verify(id.as_str(), Level::Structure).await.unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded);
    assert_eq!(world.backups.get(&may(), "latest").await.unwrap().state, BackupState::Ok);
}

#[tokio::test]
async fn what_is_written_in_the_moment_of_the_swap_does_not_stop_it() {
    let world = world(true);
    let before = world.contents();
    world.create().await;
    world.ruin();
    let ruined = world.contents();
    world.database.intrude("bids", documents(1..2).remove(0));
    let (outcome, _) = run(&*world.backups.restore("latest", "").await.unwrap()).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    assert_eq!(world.contents(), restored(&before, &ruined));
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_anywhere_is_undone() {
    for dotted_renames in [true, false] {
        for at in 0.. {
            let world = world(dotted_renames);
            let before = world.contents();
            world.create().await;
            world.ruin();
            let ruined = world.contents();
            let task = world.backups.restore("latest", "").await.unwrap();
            world.database.fail(DatabaseFault::Refuses(at));
            let (outcome, _) = run(&*task).await;
            if world.database.writes() <= at {
                break;
            }
            match outcome.state {
                State::Undone => assert_eq!(world.contents(), ruined, "write {at}"),
                // Only the removal of the replaced ones failed.
                State::Succeeded => {
                    assert!(outcome.notes.iter().any(|note| note.contains("could not be removed")), "{at}");
                    let now = world.contents();
                    assert!(before.iter().all(|(name, held)| now.get(name) == Some(held)), "write {at}");
                }
                other => panic!("write {at}: {other:?} {outcome:?}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_dies_anywhere_leaves_what_a_restart_can_mend() {
    let mut seen = [0, 0];
    for dotted_renames in [true, false] {
        for done in [false, true] {
            for at in 0.. {
                let world = world(dotted_renames);
                let before = world.contents();
                world.create().await;
                world.ruin();
                let ruined = world.contents();
                let task = world.backups.restore("latest", "").await.unwrap();
                world.database.fail(DatabaseFault::CallerDiesAt(at, done));
                let sink = RecordingRunSink::new(FakeClock::new());
                let (run, _) = sink.run(Duration::from_secs(3600));
                let died = tokio::time::timeout(Duration::from_secs(60), task.run(&run)).await.is_err();
                if !died {
                    break;
                }
                world.database.fail(DatabaseFault::None);
                let outcome = world.recover("backup.restore", &sink).await;
                let swapping = sink.checkpoints().iter().any(|checkpoint| checkpoint.name == "swap-out");
                let expected = if swapping { restored(&before, &ruined) } else { ruined };
                assert_eq!(world.contents(), expected, "write {at} {done} {outcome:?}");
                let state = if swapping { State::Succeeded } else { State::Undone };
                assert_eq!(outcome.state, state, "write {at}");
                seen[usize::from(swapping)] += 1;
            }
        }
    }
    assert!(seen[0] > 10 && seen[1] > 10, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_dies_anywhere_is_mended_by_the_next_one() {
    for dotted_renames in [true, false] {
        let writes = {
            let world = world(dotted_renames);
            world.create().await;
            world.ruin();
            let task = world.backups.restore("latest", "").await.unwrap();
            world.database.fail(DatabaseFault::None);
            run(&*task).await;
            world.database.writes()
        };
        for first in 0..writes {
            for second in 0.. {
                let world = world(dotted_renames);
                let before = world.contents();
                world.create().await;
                world.ruin();
                let ruined = world.contents();
                let task = world.backups.restore("latest", "").await.unwrap();
                let sink = RecordingRunSink::new(FakeClock::new());
                let (run, _) = sink.run(Duration::from_secs(3600));
                let hour = Duration::from_secs(3600);
                world.database.fail(DatabaseFault::CallerDiesAt(first, true));
                assert!(tokio::time::timeout(hour, task.run(&run)).await.is_err());
                let swapping = sink.checkpoints().iter().any(|checkpoint| checkpoint.name == "swap-out");
                world.database.fail(DatabaseFault::CallerDiesAt(second, true));
                let recovery = world.recover("backup.restore", &sink);
                let died = tokio::time::timeout(hour, recovery).await.is_err();
                world.database.fail(DatabaseFault::None);
                world.recover("backup.restore", &sink).await;
                let expected = if swapping { restored(&before, &ruined) } else { ruined };
                assert_eq!(world.contents(), expected, "writes {first}, {second}");
                if !died {
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_goes_away_is_waited_for_and_then_undone() {
    for at in 0.. {
        let world = world(false);
        world.create().await;
        world.ruin();
        let ruined = world.contents();
        let task = world.backups.restore("latest", "").await.unwrap();
        world.database.fail(DatabaseFault::AwayFrom(at, true));
        let back = world.database.clone();
        let returning = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(20)).await;
            back.fail(DatabaseFault::None);
        });
        let (outcome, _) = run(&*task).await;
        let reached = !returning.is_finished() && world.database.writes() <= at;
        returning.await.unwrap();
        if reached {
            break;
        }
        if outcome.state == State::Undone {
            assert_eq!(world.contents(), ruined, "write {at}");
        } else {
            assert_eq!(outcome.state, State::Succeeded, "write {at} {outcome:?}");
        }
    }
}

#[tokio::test]
async fn an_interrupted_backup_is_failed_and_its_partial_removed() {
    let world = world(true);
    let old = world.create().await;
    // It dies while it waits for a reader that never ends: a checkpoint is all there is of it.
    let id = BackupId::parse("20261124T0130Z-zz").unwrap();
    drop(world.store.begin(&id).await.unwrap());
    let sink = RecordingRunSink::new(FakeClock::new());
    let (run, _) = sink.run(Duration::from_secs(60));
    run.checkpoint("stage", serde_json::json!({ "id": id })).await.unwrap();
    let outcome = world.recover("backup.create", &sink).await;
    assert_eq!((outcome.state, outcome.problem.unwrap().reason), (State::Failed, Reason::Interrupted));
    assert!(world.store.partials().await.unwrap().is_empty());
    assert_eq!(world.store.list().await.unwrap(), std::slice::from_ref(&old));
    // One that had its name already is whole.
    let sink = RecordingRunSink::new(FakeClock::new());
    let (run, _) = sink.run(Duration::from_secs(60));
    run.checkpoint("stage", serde_json::json!({ "id": old })).await.unwrap();
    assert_eq!(world.recover("backup.create", &sink).await.state, State::Succeeded);
}
