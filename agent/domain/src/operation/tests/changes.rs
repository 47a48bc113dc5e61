//! What is asked before anything is done.

use super::*;

#[tokio::test]
async fn a_change_is_audited_before_and_after_and_can_be_read_whole() {
    let bench = Bench::new();
    let audit = Arc::clone(&bench.audit);
    let task = Act::on("backend", move |run| {
        let told = audit.stages(run.id().as_str());
        Box::pin(async move {
            assert_eq!(told, ["intent"], "told before the first effect");
            run.phase("stop", "").done("pid 1 gone");
            run.note("halfway");
            Outcome::succeeded(vec![ResultRow { target: "backend".into(), ..ResultRow::default() }])
        })
    });
    let options = ChangeOptions { reason: "sockets stuck".into(), ..ChangeOptions::default() };
    let begun = bench.start(options, &task).await.unwrap();
    assert_eq!((begun.state, begun.reason.as_str()), (State::Running, "sockets stuck"));
    let mut watch = bench.operations.watch(begun.id.as_str(), 0).await.unwrap();
    let (mut seen, mut whole) = (Vec::new(), None);
    while let Some(watched) = watch.next().await {
        match watched.unwrap() {
            Watched::Event(event) => seen.push(event),
            Watched::Operation(operation) => whole = Some(*operation),
        }
    }
    let whole = whole.expect("the last message is the operation");
    assert_eq!(whole.state, State::Succeeded);
    assert_eq!(whole.results.len(), 1);
    assert_eq!(whole, bench.operations.get(begun.id.as_str()).await.unwrap());
    assert_eq!(seen.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(seen.last().unwrap().what, Happening::Ended(State::Succeeded));
    let mut later = bench.operations.watch(begun.id.as_str(), 2).await.unwrap();
    assert!(matches!(later.next().await, Some(Ok(Watched::Event(event))) if event.seq == 3));
    let entries = bench.audit.entries();
    assert_eq!(bench.audit.stages(begun.id.as_str()), ["intent", "result OK"]);
    let intent = &entries[0];
    assert_eq!(
        (intent.subject.as_str(), intent.route.as_str(), intent.rule.as_str(), intent.target.as_str()),
        ("user/alice", ROUTE, "service.restart", "backend")
    );
    assert_eq!((intent.reason.as_str(), intent.peer.as_str()), ("sockets stuck", "192.0.2.1:5"));
}

#[tokio::test]
async fn options_out_of_their_rules_are_refused_and_nothing_is_done() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    let plain = ChangeOptions::default;
    let long = "x".repeat(600);
    for options in [
        ChangeOptions { reason: long.clone(), ..plain() },
        ChangeOptions { reason: "a\u{1b}[2J".into(), ..plain() },
        ChangeOptions { reason: "a\nb".into(), ..plain() },
        ChangeOptions { idempotency_key: "x".repeat(129), ..plain() },
        ChangeOptions { idempotency_key: "a b".into(), ..plain() },
        ChangeOptions { confirm: long.clone(), ..plain() },
        ChangeOptions { plan_id: long, ..plain() },
        ChangeOptions { plan_digest: "abc".into(), ..plain() },
        ChangeOptions { timeout: Some(Duration::ZERO), ..plain() },
        ChangeOptions { timeout: Some(Duration::from_secs(86_401)), ..plain() },
        ChangeOptions { lock_timeout: Duration::from_secs(86_401), ..plain() },
    ] {
        let error = bench.start(options.clone(), &task).await.unwrap_err();
        assert_eq!(error.reason, Reason::InvalidArgument, "{options:?}");
        assert_eq!(error.effect, "nothing was done");
    }
    assert_eq!((task.runs(), bench.journal.writes(), bench.audit.entries().len()), (0, 0, 0));
}

#[tokio::test]
async fn a_plan_changes_nothing_and_runs_once_for_who_made_it() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    let plan = bench.plan("alice", &task).await;
    assert_eq!((bench.journal.writes(), bench.audit.entries().len(), task.runs()), (0, 0, 0));
    assert_eq!(plan.expires_at.to_string(), "2026-11-24T01:40:00Z");
    assert_eq!(plan.digest.len(), 64);
    let with = |plan: &Planned| ChangeOptions { plan_id: plan.plan_id.clone(), ..ChangeOptions::default() };
    let error = bench.start_as("bob", with(&plan), &task).await.unwrap_err();
    assert_eq!(error.reason, Reason::PlanStale, "another's plan is none");
    let first = bench.start(with(&plan), &task).await.unwrap();
    bench.ended(&first).await;
    let error = bench.start(with(&plan), &task).await.unwrap_err();
    assert_eq!(error.reason, Reason::PlanStale, "it has been used");

    let plan = bench.plan("alice", &task).await;
    bench.clock.advance(Duration::from_secs(600));
    assert_eq!(bench.start(with(&plan), &task).await.unwrap_err().reason, Reason::PlanStale, "too old");

    let plan = bench.plan("alice", &task).await;
    *task.preconditions.lock().unwrap() = json!({ "pid": 2 });
    assert_eq!(bench.start(with(&plan), &task).await.unwrap_err().reason, Reason::PlanStale, "changed");
    let other = Act::quick("frontend");
    assert_eq!(bench.start(with(&plan), &other).await.unwrap_err().reason, Reason::PlanStale, "another");
    assert_eq!((task.runs(), other.runs()), (1, 0));
}

#[tokio::test]
async fn a_digest_runs_only_what_was_approved_however_late() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    let digest = bench.plan("bob", &task).await.digest;
    assert_eq!(digest, bench.plan("alice", &task).await.digest, "the same plan has the same digest");
    bench.clock.advance(Duration::from_secs(5 * 3600));
    let options = ChangeOptions { plan_digest: digest, ..ChangeOptions::default() };
    let begun = bench.start(options.clone(), &task).await.unwrap();
    bench.ended(&begun).await;
    *task.preconditions.lock().unwrap() = json!({ "pid": 3 });
    assert_eq!(bench.start(options, &task).await.unwrap_err().reason, Reason::PlanStale);
    assert_eq!(task.runs(), 1);
}

#[tokio::test]
async fn what_must_be_said_is_asked_for_with_the_line_to_run() {
    let bench = Bench::new();
    let well = |_| -> BoxFuture<'static, Outcome> { Box::pin(async { Outcome::succeeded(Vec::new()) }) };
    let ask = Act::confirmed_by(Confirm::Ask, "backend", well);
    let error = bench.start(ChangeOptions::default(), &ask).await.unwrap_err();
    assert_eq!(error.reason, Reason::ConfirmationMissing);
    assert_eq!(error.next[0].argv.join(" "), "opsctl service restart backend --yes");
    let yes = ChangeOptions { confirmed: true, ..ChangeOptions::default() };
    assert!(bench.start(yes.clone(), &ask).await.is_ok());

    let typed = Act::confirmed_by(Confirm::Type("mongodb".into()), "mongodb", well);
    let error = bench.start(yes, &typed).await.unwrap_err();
    assert!(error.message.contains("--yes is not enough"), "{error}");
    assert_eq!(error.next[0].argv.join(" "), "opsctl service restart mongodb --confirm mongodb");
    let plan = bench.plan("alice", &typed).await;
    let say = |text: &str| ChangeOptions {
        confirm: text.into(),
        plan_id: plan.plan_id.clone(),
        ..ChangeOptions::default()
    };
    for wrong in ["MongoDB", "mongodb ", "backend"] {
        let error = bench.start(say(wrong), &typed).await.unwrap_err();
        assert_eq!(error.reason, Reason::ConfirmationMissing, "{wrong}");
    }
    assert_eq!(typed.runs(), 0);
    assert!(bench.start(say("mongodb"), &typed).await.is_ok(), "a slip does not cost the plan");
}

#[tokio::test]
async fn twenty_calls_with_one_key_are_one_operation() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    let calls = (0..20).map(|_| bench.start(key("build-7"), &task));
    let begun = futures_util::future::join_all(calls).await;
    let ids: BTreeSet<_> = begun.iter().map(|operation| operation.as_ref().unwrap().id.clone()).collect();
    assert_eq!(ids.len(), 1);
    bench.ended(begun[0].as_ref().unwrap()).await;
    assert_eq!(task.runs(), 1);
    let again = bench.start(key("build-7"), &task).await.unwrap();
    assert_eq!(again.state, State::Succeeded, "told as it ended");

    let other = Act::quick("frontend");
    let error = bench.start(key("build-7"), &other).await.unwrap_err();
    assert_eq!(error.reason, Reason::IdempotencyConflict);
    assert_eq!(error.target, again.id.as_str());
    assert!(bench.start_as("bob", key("build-7"), &other).await.is_ok(), "keys are their subject's own");
    bench.clock.advance(Duration::from_secs(24 * 3600 + 1));
    assert_ne!(bench.start(key("build-7"), &task).await.unwrap().id, again.id, "a day later it is free");
}

#[tokio::test]
async fn a_key_whose_call_was_refused_is_free() {
    let bench = Bench::new();
    let (holder, task) = (Act::patient("backend"), Act::quick("backend"));
    bench.start(ChangeOptions::default(), &holder).await.unwrap();
    assert_eq!(bench.start(key("k"), &task).await.unwrap_err().reason, Reason::Locked);
    bench.operations.shutdown(Duration::from_secs(1)).await;
    let bench = Bench::on(&bench.journal, &bench.audit, FakeClock::new(), &Arc::default());
    assert!(bench.start(key("k"), &task).await.is_ok());
}

#[tokio::test]
async fn without_an_audit_trail_nothing_is_done() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    bench.audit.break_down(true);
    for _ in 0..3 {
        let error = bench.start(ChangeOptions::default(), &task).await.unwrap_err();
        assert_eq!((error.reason, error.effect.as_str()), (Reason::AuditUnavailable, "nothing was done"));
    }
    assert_eq!(task.runs(), 0);
    assert!(bench.operations.list(0, false).await.unwrap().is_empty());
    bench.audit.break_down(false);
    bench.done(&task).await;
    let stages: Vec<_> = bench.audit.entries().iter().map(|entry| entry.stage.clone()).collect();
    assert_eq!(
        stages,
        ["abandoned", "intent", "result"],
        "a refused intent may be late, and is abandoned once"
    );
}

#[tokio::test]
async fn an_owed_result_freezes_changes_until_it_is_written_first() {
    let bench = Bench::new();
    let audit = Arc::clone(&bench.audit);
    let breaker = Act::on("backend", move |_| {
        audit.break_down(true);
        Box::pin(async { Outcome::succeeded(Vec::new()) })
    });
    let first = bench.done(&breaker).await;
    assert_eq!(bench.audit.stages(first.id.as_str()), ["intent"]);
    let task = Act::quick("frontend");
    let error = bench.start(ChangeOptions::default(), &task).await.unwrap_err();
    assert_eq!((error.reason, task.runs()), (Reason::AuditUnavailable, 0));
    bench.audit.break_down(false);
    let second = bench.done(&task).await;
    let told: Vec<_> = bench.audit.entries().iter().map(|entry| entry.operation_id.clone()).collect();
    let (first, second) = (first.id.to_string(), second.id.to_string());
    assert_eq!(told, [first.clone(), first, second.clone(), second]);
}

#[tokio::test]
async fn what_the_journal_does_not_take_is_not_done() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    for write in [1, 2] {
        let now = bench.journal.writes();
        bench.journal.fail(crate::fakes::Fault::From(now + write));
        let error = bench.start(ChangeOptions::default(), &task).await.unwrap_err();
        assert_eq!((error.reason, task.runs()), (Reason::StateUnavailable, 0));
        bench.journal.fail(crate::fakes::Fault::None);
    }
    assert!(bench.operations.list(0, false).await.unwrap().is_empty());
}
