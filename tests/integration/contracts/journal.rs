use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use ops_agent::adapters::state_db::StateDb;
use ops_domain::ids::{OperationId, Subject};
use ops_domain::operation::{
    Checkpoint, Event, FieldValue, Happening, Operation, Phase, PhaseState, ResultRow, State,
};
use ops_domain::ports::journal::{IdempotencyKey, Recorded};
use ops_domain::ports::{AuditEntry, Journal};
use ops_domain::{Error, Reason};
use serde_json::json;

/// A journal that can be closed and opened again with what is in it.
trait Reopened {
    fn open(&self) -> Arc<dyn Journal>;
}

struct Memory(ops_domain::fakes::FakeJournal);

impl Reopened for Memory {
    fn open(&self) -> Arc<dyn Journal> {
        Arc::new(self.0.clone())
    }
}

struct Disk(tempfile::TempDir);

impl Reopened for Disk {
    fn open(&self) -> Arc<dyn Journal> {
        Arc::new(StateDb::open(self.0.path(), now()).unwrap())
    }
}

fn now() -> Timestamp {
    "2026-11-24T01:30:00.123456789Z".parse().unwrap()
}

fn id(number: u32) -> OperationId {
    OperationId::parse(&format!("op-{number:010}")).unwrap()
}

fn entry(stage: &str, number: u32) -> AuditEntry {
    AuditEntry {
        stage: stage.into(),
        operation_id: id(number).to_string(),
        params: json!({ "services": ["backend"], "nested": { "b": 1, "a": [null, true] } }),
        ..AuditEntry::default()
    }
}

fn recorded(number: u32) -> Recorded {
    Recorded {
        operation: Operation {
            id: id(number),
            kind: "service.restart".into(),
            targets: vec!["backend".into(), "frontend".into()],
            subject: Subject::parse("service/ci").unwrap(),
            reason: "\"quotes\" and \u{1f980}".into(),
            state: State::Running,
            created_at: now() + SignedDuration::from_secs(i64::from(number)),
            finished_at: None,
            phases: Vec::new(),
            results: Vec::new(),
            problem: None,
            notes: Vec::new(),
            last_seq: 0,
        },
        parameters: json!({ "services": ["backend"] }),
        locks: vec!["service/backend".into(), "service/frontend".into()],
        intent: entry("intent", number),
        checkpoints: Vec::new(),
    }
}

fn ended(number: u32, last_seq: u64) -> Operation {
    let phase = Phase {
        name: "stop".into(),
        target: String::new(),
        state: PhaseState::Failed,
        started_at: now(),
        elapsed_ms: 400,
        text: "pid 7 gone".into(),
        done: u64::MAX,
        total: 3,
        unit: "probes".into(),
    };
    let fields = vec![
        ("old_pid".into(), FieldValue::Number(-7)),
        ("down_since".into(), FieldValue::At(now())),
        ("word".into(), FieldValue::Text("FAILED".into())),
    ];
    Operation {
        state: State::Failed,
        finished_at: Some(now() + SignedDuration::from_mins(5)),
        phases: vec![phase],
        results: vec![ResultRow { target: "backend".into(), result: "FAILED".into(), fields }],
        problem: Some(
            Error::new(Reason::StartFatal, "it did not start")
                .lines("stderr", "1 of 1", vec!["\u{1b}[31mKeyError".into()])
                .next(&["opsctl", "status"])
                .effect("stays down"),
        ),
        notes: vec!["read this".into()],
        last_seq,
        ..recorded(number).operation
    }
}

fn event(seq: u64) -> Event {
    Event { seq, at: now(), what: Happening::Note(format!("event {seq}")) }
}

async fn what_is_written_is_read_back_whole(store: &dyn Reopened) {
    let journal = store.open();
    journal.insert(&recorded(1), None).await.unwrap();
    let point = |name: &str| Checkpoint { name: name.into(), data: json!({ "pid": 7, "none": null }) };
    for name in ["stopped", "started", "stopped"] {
        journal.checkpoint(&id(1), &point(name)).await.unwrap();
    }
    journal.advance(&recorded(1).operation, &[event(1), event(2)]).await.unwrap();
    journal.finish(&ended(1, 4), &[event(3), event(4)], &[entry("result", 1)]).await.unwrap();
    drop(journal);
    let journal = store.open();
    let read = journal.load(&id(1)).await.unwrap().unwrap();
    assert_eq!(read.operation, ended(1, 4));
    assert_eq!(read.checkpoints, [point("stopped"), point("started"), point("stopped")]);
    assert_eq!(
        (read.parameters, read.locks, read.intent),
        (recorded(1).parameters, recorded(1).locks, recorded(1).intent)
    );
    assert_eq!(journal.load(&id(2)).await.unwrap(), None);
    assert_eq!(journal.events(&id(1), 0, 100).await.unwrap(), [event(1), event(2), event(3), event(4)]);
    assert_eq!(journal.events(&id(1), 1, 2).await.unwrap(), [event(2), event(3)]);
    assert_eq!(journal.events(&id(1), u64::MAX, 2).await.unwrap(), []);
    assert_eq!(journal.events(&id(9), 0, 2).await.unwrap(), []);
}

async fn open_ones_are_listed_oldest_first_until_they_end(store: &dyn Reopened) {
    let journal = store.open();
    for number in [1, 2, 3] {
        journal.insert(&recorded(number), None).await.unwrap();
    }
    journal.finish(&ended(2, 0), &[], &[]).await.unwrap();
    drop(journal);
    let journal = store.open();
    let open: Vec<_> = journal.open().await.unwrap().into_iter().map(|open| open.operation.id).collect();
    assert_eq!(open, [id(1), id(3)]);
    let ids = |operations: Vec<Operation>| operations.into_iter().map(|one| one.id).collect::<Vec<_>>();
    assert_eq!(ids(journal.list(10, false).await.unwrap()), [id(3), id(2), id(1)]);
    assert_eq!(ids(journal.list(10, true).await.unwrap()), [id(3), id(1)]);
    assert_eq!(ids(journal.list(1, false).await.unwrap()), [id(3)]);
    assert_eq!(journal.matching("00000002").await.unwrap(), [id(2)]);
    assert_eq!(journal.matching("op-0").await.unwrap(), [id(3), id(2), id(1)]);
    for nothing in ["%", "_", "' OR 1=1", "x"] {
        assert_eq!(journal.matching(nothing).await.unwrap(), [], "{nothing}");
    }
}

async fn a_key_names_the_newest_of_its_subject(store: &dyn Reopened) {
    let journal = store.open();
    let key = |digest: &str| IdempotencyKey { key: "route build-7".into(), request_digest: digest.into() };
    journal.insert(&recorded(1), Some(&key("first"))).await.unwrap();
    journal.insert(&recorded(2), None).await.unwrap();
    let (ci, other) = (Subject::parse("service/ci").unwrap(), Subject::parse("user/ci").unwrap());
    let find = |subject: Subject, key: &'static str, since: Timestamp| {
        let journal = &journal;
        async move { journal.by_idempotency_key(&subject, key, since).await.unwrap() }
    };
    let long_ago = now() - SignedDuration::from_hours(24);
    assert_eq!(find(ci.clone(), "route build-7", long_ago).await, Some((id(1), "first".into())));
    assert_eq!(find(ci.clone(), "route build-8", long_ago).await, None);
    assert_eq!(find(other, "route build-7", long_ago).await, None);
    assert_eq!(find(ci.clone(), "route build-7", now() + SignedDuration::from_secs(2)).await, None);
    journal.insert(&recorded(3), Some(&key("second"))).await.unwrap();
    assert_eq!(find(ci, "route build-7", long_ago).await, Some((id(3), "second".into())));
}

async fn what_was_prepared_and_never_begun_is_owed(store: &dyn Reopened) {
    let journal = store.open();
    for number in [1, 2, 3] {
        journal.prepare(&id(number), &entry("abandoned", number)).await.unwrap();
    }
    journal.insert(&recorded(1), None).await.unwrap();
    assert!(journal.owed().await.unwrap().is_empty(), "this process may still begin them");
    journal.abandon(&id(2)).await.unwrap();
    journal.abandon(&id(9)).await.unwrap();
    let owed = journal.owed().await.unwrap();
    assert_eq!(owed.iter().map(|owed| &owed.entry).collect::<Vec<_>>(), [&entry("abandoned", 2)]);
    drop(journal);
    let journal = store.open();
    journal.open().await.unwrap();
    journal.finish(&ended(1, 0), &[], &[entry("result", 1), entry("result", 7)]).await.unwrap();
    let owed = journal.owed().await.unwrap();
    let entries: Vec<_> = owed.iter().map(|owed| owed.entry.clone()).collect();
    let (abandoned, result) = (|number| entry("abandoned", number), |number| entry("result", number));
    assert_eq!(entries, [abandoned(2), abandoned(3), result(1), result(7)], "in the order they came");
    journal.settled(owed[0].number).await.unwrap();
    journal.settled(owed[2].number).await.unwrap();
    journal.settled(owed[2].number).await.unwrap();
    drop(journal);
    let left: Vec<_> = store.open().owed().await.unwrap().into_iter().map(|owed| owed.entry).collect();
    assert_eq!(left, [abandoned(3), result(7)]);
}

async fn what_ended_long_ago_can_be_forgotten(store: &dyn Reopened) {
    let journal = store.open();
    for number in [1, 2] {
        journal.insert(&recorded(number), None).await.unwrap();
        journal.advance(&recorded(number).operation, &[event(1)]).await.unwrap();
        journal.checkpoint(&id(number), &Checkpoint { name: "c".into(), data: json!({}) }).await.unwrap();
    }
    journal.finish(&ended(1, 2), &[event(2)], &[]).await.unwrap();
    assert_eq!(journal.forget(now()).await.unwrap(), 0);
    assert_eq!(journal.forget(now() + SignedDuration::from_hours(1)).await.unwrap(), 1);
    assert_eq!(journal.load(&id(1)).await.unwrap(), None);
    assert_eq!(journal.events(&id(1), 0, 10).await.unwrap(), []);
    assert!(journal.load(&id(2)).await.unwrap().is_some(), "what runs is never forgotten");
    journal.insert(&recorded(1), None).await.unwrap();
    assert_eq!(journal.load(&id(1)).await.unwrap().unwrap().checkpoints, []);
}

macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Memory(ops_domain::fakes::FakeJournal::default())).await;
            })+
        }
        mod disk {
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::Disk(tempfile::tempdir().unwrap())).await;
            })+
        }
    };
}

on_both! {
    what_is_written_is_read_back_whole,
    open_ones_are_listed_oldest_first_until_they_end,
    a_key_names_the_newest_of_its_subject,
    what_was_prepared_and_never_begun_is_owed,
    what_ended_long_ago_can_be_forgotten,
}

#[tokio::test]
async fn one_call_changes_all_or_nothing_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let journal = StateDb::open(folder.path(), now()).unwrap();
    journal.insert(&recorded(1), None).await.unwrap();
    journal.advance(&recorded(1).operation, &[event(1)]).await.unwrap();
    let twice = journal.finish(&ended(1, 2), &[event(2), event(1)], &[entry("result", 1)]).await;
    assert_eq!(twice.unwrap_err().reason, Reason::StateUnavailable);
    assert_eq!(journal.load(&id(1)).await.unwrap().unwrap().operation, recorded(1).operation);
    assert_eq!(journal.events(&id(1), 0, 10).await.unwrap(), [event(1)]);
    assert!(journal.owed().await.unwrap().is_empty());
    assert!(journal.advance(&ended(8, 1), &[event(1)]).await.is_err(), "an operation it does not have");
}
