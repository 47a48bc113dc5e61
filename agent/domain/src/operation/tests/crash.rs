//! The agent dies at every write of the journal there is; the next one ends what it began, once.

use super::*;
use crate::fakes::Fault;
use crate::ports::journal::Recorded;

/// The world that a restart works on; it survives the agent.
#[derive(Default)]
struct World {
    /// Steps that were done, with what the audit trail knew at that moment.
    effects: Mutex<Vec<(String, bool)>>,
    recovered: Mutex<Vec<String>>,
}

fn audited(audit: &FakeAuditLog, run: &Run) -> bool {
    audit.stages(run.id().as_str()).contains(&"intent".to_owned())
}

fn restart(world: &Arc<World>, audit: &Arc<FakeAuditLog>) -> Arc<Act> {
    let (world, audit) = (Arc::clone(world), Arc::clone(audit));
    Act::on("backend", move |run| {
        let (world, audit) = (Arc::clone(&world), Arc::clone(&audit));
        Box::pin(async move {
            for step in ["stop", "start"] {
                let phase = run.phase(step, "");
                if run.checkpoint(step, json!({ "pid": 1 })).await.is_err() {
                    let problem = Error::new(Reason::StateUnavailable, "no journal");
                    return Outcome::failed(State::Failed, problem, Vec::new());
                }
                let known = audited(&audit, &run);
                world.effects.lock().unwrap().push((step.into(), known));
                phase.done("");
                tokio::task::yield_now().await;
            }
            Outcome::succeeded(Vec::new())
        })
    })
}

/// Starts again what was interrupted, and checkpoints on its way.
struct StartAgain(Arc<World>, Arc<FakeAuditLog>);

#[async_trait]
impl Recovery for StartAgain {
    fn kinds(&self) -> &'static [&'static str] {
        &["service.restart"]
    }

    async fn recover(&self, interrupted: &Recorded, run: &Run) -> Outcome {
        assert!(interrupted.checkpoints.iter().all(|point| !point.name.starts_with("engine.")));
        assert_eq!(interrupted.parameters, json!({ "services": ["backend"] }));
        let phase = run.phase("start", "");
        run.checkpoint("again", json!({})).await.unwrap();
        self.0.effects.lock().unwrap().push(("again".into(), audited(&self.1, run)));
        self.0.recovered.lock().unwrap().push(run.id().to_string());
        phase.done("pid 2");
        Outcome::succeeded(Vec::new())
    }
}

/// One life of an agent: its runtime, and with it all of its tasks, ends when this returns.
fn life(
    journal: &FakeJournal,
    audit: &Arc<FakeAuditLog>,
    entropy: &Arc<FakeEntropy>,
    live: impl AsyncFnOnce(Bench),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        live(Bench::on(journal, audit, FakeClock::new(), entropy)).await;
    });
}

fn check(journal: &FakeJournal, audit: &FakeAuditLog, world: &World, at: &str) {
    assert!(
        world.effects.lock().unwrap().iter().all(|(_, audited)| *audited),
        "an effect before its intent, {at}"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (operations, open) =
        runtime.block_on(async { (journal.list(100, false).await.unwrap(), journal.open().await.unwrap()) });
    assert!(open.is_empty(), "{open:?} is still open, {at}");
    for operation in &operations {
        let ends = runtime.block_on(journal.events(&operation.id, 0, 1000)).unwrap();
        assert!(ends.iter().zip(1..).all(|(event, seq)| event.seq == seq), "a hole in the events, {at}");
        let ends = ends.iter().filter(|event| matches!(event.what, Happening::Ended(_))).count();
        assert_eq!(ends, 1, "{} ended {ends} times, {at}", operation.id);
    }
    let entries = audit.entries();
    let intents = entries.iter().filter(|entry| entry.stage == "intent" && entry.subject == "user/alice");
    for intent in intents {
        let of_it = |entry: &&crate::ports::AuditEntry| {
            entry.operation_id == intent.operation_id
                && entry.subject == intent.subject
                && entry.stage != "intent"
        };
        let told: BTreeSet<_> = entries.iter().filter(of_it).map(|entry| &entry.stage).collect();
        assert_eq!(told.len(), 1, "{} is told as {told:?}, {at}", intent.operation_id);
        let known = operations.iter().any(|operation| operation.id.as_str() == intent.operation_id);
        let expected = if known { "result" } else { "abandoned" };
        assert!(told.iter().all(|stage| *stage == expected), "{told:?} for {known}, {at}");
    }
}

/// Dies at `first` in the operation and at `second` in the recovery; says whether both were reached.
fn crash_twice(first: (u64, bool), second: (u64, bool)) -> (bool, bool) {
    let at = format!("crash at {first:?} and {second:?}");
    let (journal, audit, world) =
        (FakeJournal::default(), Arc::<FakeAuditLog>::default(), Arc::<World>::default());
    let entropy = Arc::default();
    let task = restart(&world, &audit);
    journal.fail(Fault::DiesAt(first.0, first.1));
    life(&journal, &audit, &entropy, async |bench| {
        tokio::select! {
            _ = bench.start(ChangeOptions::default(), &task) => settle().await,
            () = settle() => {}
        }
    });
    let reached = journal.writes() >= first.0;
    let recoveries: [Arc<dyn Recovery>; 1] = [Arc::new(StartAgain(Arc::clone(&world), Arc::clone(&audit)))];
    let before = journal.writes();
    journal.fail(Fault::DiesAt(before + second.0, second.1));
    life(&journal, &audit, &entropy, async |bench| {
        tokio::select! {
            ids = bench.operations.recover(&recoveries) => { ids.unwrap(); settle().await }
            () = settle() => {}
        }
    });
    let reached = (reached, journal.writes() >= before + second.0);
    journal.fail(Fault::None);
    life(&journal, &audit, &entropy, async |bench| {
        for id in bench.operations.recover(&recoveries).await.unwrap() {
            bench.operations.wait(id.as_str(), Duration::from_secs(9999)).await.unwrap();
        }
    });
    check(&journal, &audit, &world, &at);
    let kept = world.effects.lock().unwrap().iter().any(|(step, _)| step == "stop");
    let started = world.effects.lock().unwrap().iter().any(|(step, _)| step != "stop");
    assert!(!kept || started, "what was stopped stays stopped, {at}");
    reached
}

#[test]
fn whatever_write_the_agent_dies_at_everything_ends_once_and_is_told() {
    let mut points = 0;
    for first in 1.. {
        let mut reached = (false, false);
        for (second, kept) in (1..40).flat_map(|second| [(second, false), (second, true)]) {
            for first_kept in [false, true] {
                reached = crash_twice((first, first_kept), (second, kept));
                points += 1;
            }
            if !reached.1 {
                break;
            }
        }
        if !reached.0 {
            break;
        }
        assert!(first < 100, "the operation writes without end");
    }
    assert!(points > 60, "only {points} crashes were tried");
}

#[tokio::test]
async fn a_kind_without_recovery_needs_a_human_and_says_how_far_it_came() {
    let (journal, audit) = (FakeJournal::default(), Arc::<FakeAuditLog>::default());
    let entropy = Arc::<FakeEntropy>::default();
    let dead = Bench::on(&journal, &audit, FakeClock::new(), &entropy);
    let task = Act::on("backend", |run| {
        Box::pin(async move {
            run.checkpoint("stopped", json!({ "pid": 7 })).await.unwrap();
            std::future::pending().await
        })
    });
    let begun = dead.start(ChangeOptions::default(), &task).await.unwrap();
    settle().await;
    let next = Bench::on(&journal, &audit, FakeClock::new(), &entropy);
    assert_eq!(next.operations.recover(&[]).await.unwrap(), std::slice::from_ref(&begun.id));
    let error = next.start(ChangeOptions::default(), &Act::quick("backend")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Locked, "held until someone has looked at it");
    let ended = next.ended(&begun).await;
    let problem = ended.problem.unwrap();
    assert_eq!((ended.state, problem.reason), (State::NeedsHuman, Reason::Interrupted));
    assert_eq!(problem.evidence[0].text, "stopped");
    assert!(ended.notes[0].contains("after \"stopped\""), "{:?}", ended.notes);
    assert_eq!(
        audit.stages(begun.id.as_str()),
        ["intent", "intent", "result INTERRUPTED", "result INTERRUPTED"],
        "the caller's act and the agent's own"
    );
    assert!(next.start(ChangeOptions::default(), &Act::quick("backend")).await.is_ok());
}

#[tokio::test]
async fn a_recovery_waits_for_the_audit_trail_and_keeps_its_locks() {
    let (journal, audit) = (FakeJournal::default(), Arc::<FakeAuditLog>::default());
    let entropy = Arc::<FakeEntropy>::default();
    let dead = Bench::on(&journal, &audit, FakeClock::new(), &entropy);
    let begun = dead.start(ChangeOptions::default(), &Act::patient("backend")).await.unwrap();
    audit.break_down(true);
    let world = Arc::<World>::default();
    let next = Bench::on(&journal, &audit, FakeClock::new(), &entropy);
    let recoveries: [Arc<dyn Recovery>; 1] = [Arc::new(StartAgain(Arc::clone(&world), Arc::clone(&audit)))];
    next.operations.recover(&recoveries).await.unwrap();
    settle().await;
    assert!(world.effects.lock().unwrap().is_empty());
    audit.break_down(false);
    next.clock.advance(Duration::from_secs(5));
    assert_eq!(next.ended(&begun).await.state, State::Succeeded);
    assert_eq!(*world.recovered.lock().unwrap(), [begun.id.to_string()]);
}

/// A recovery that takes the agent down with it.
struct Deadly;

#[async_trait]
impl Recovery for Deadly {
    fn kinds(&self) -> &'static [&'static str] {
        &["service.restart"]
    }

    async fn recover(&self, _: &Recorded, _: &Run) -> Outcome {
        std::future::pending().await
    }
}

#[test]
fn a_recovery_that_kills_the_agent_is_not_tried_for_ever() {
    let (journal, audit, entropy) = (FakeJournal::default(), Arc::default(), Arc::default());
    life(&journal, &audit, &entropy, async |bench| {
        bench.start(ChangeOptions::default(), &Act::patient("backend")).await.unwrap();
    });
    for _ in 0..3 {
        life(&journal, &audit, &entropy, async |bench| {
            bench.operations.recover(&[Arc::new(Deadly)]).await.unwrap();
            settle().await;
        });
    }
    life(&journal, &audit, &entropy, async |bench| {
        let ids = bench.operations.recover(&[Arc::new(Deadly)]).await.unwrap();
        let ended = bench.operations.wait(ids[0].as_str(), Duration::from_secs(1)).await.unwrap();
        assert_eq!(ended.state, State::NeedsHuman);
    });
}
