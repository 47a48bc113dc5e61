//! While it runs: locks, ends, words.

use super::*;

#[tokio::test]
async fn a_lock_names_its_holder_and_how_far_it_is() {
    let bench = Bench::new();
    let (holder, task) = (Act::patient("backend"), Act::quick("backend"));
    let first = bench.start(ChangeOptions::default(), &holder).await.unwrap();
    settle().await;
    let error = bench.start_as("bob", ChangeOptions::default(), &task).await.unwrap_err();
    assert_eq!(error.reason, Reason::Locked);
    assert_eq!(
        error.message,
        "service backend is locked: service.restart by alice since 01:30:00Z, ready 25 %"
    );
    assert!(error.evidence[0].text.starts_with(first.id.as_str()), "{error:?}");
    assert_eq!(error.next[0].argv.join(" "), format!("opsctl operation wait {}", first.id));
    assert!(error.retryable);
    assert!(bench.start(ChangeOptions::default(), &Act::quick("frontend")).await.is_ok());
    assert_eq!(task.runs(), 0);
}

#[tokio::test]
async fn who_waits_for_a_lock_gets_it_in_turn_or_is_told_in_time() {
    let bench = Bench::new();
    let holder = Act::patient("backend");
    let (second, third) = (Act::quick("backend"), Act::quick("backend"));
    let first = bench.start(ChangeOptions::default(), &holder).await.unwrap();
    let patience =
        |seconds| ChangeOptions { lock_timeout: Duration::from_secs(seconds), ..ChangeOptions::default() };
    let short = bench.start(patience(5), &third);
    let long = bench.start(patience(60), &second);
    let script = async {
        settle().await;
        bench.clock.advance(Duration::from_secs(6));
        settle().await;
        let yes = ChangeOptions { confirmed: true, ..ChangeOptions::default() };
        let cancel = "ops.v1.OperationService/CancelOperation";
        let alice = principal("alice", Role::Operator);
        bench.operations.cancel(&alice, cancel, &yes, first.id.as_str()).await.unwrap();
    };
    let (short, long, ()) = tokio::join!(short, long, script);
    assert_eq!(short.unwrap_err().reason, Reason::Locked);
    assert_eq!(bench.ended(&long.unwrap()).await.state, State::Succeeded);
    assert_eq!((second.runs(), third.runs()), (1, 0));
}

#[tokio::test]
async fn after_a_wait_the_plan_must_still_hold() {
    let bench = Bench::new();
    let (holder, task) = (Act::patient("backend"), Act::quick("backend"));
    let first = bench.start(ChangeOptions::default(), &holder).await.unwrap();
    let plan_id = bench.plan("alice", &task).await.plan_id;
    let options =
        ChangeOptions { plan_id, lock_timeout: Duration::from_secs(60), ..ChangeOptions::default() };
    let waiting = bench.start(options, &task);
    let script = async {
        settle().await;
        *task.preconditions.lock().unwrap() = json!({ "pid": 2 });
        let yes = ChangeOptions { confirmed: true, ..ChangeOptions::default() };
        let alice = principal("alice", Role::Operator);
        bench.operations.cancel(&alice, "c", &yes, first.id.as_str()).await.unwrap();
    };
    assert_eq!(tokio::join!(waiting, script).0.unwrap_err().reason, Reason::PlanStale);
    assert_eq!(task.runs(), 0);
}

#[tokio::test]
async fn two_clients_a_hundred_times_never_both() {
    let bench = Bench::new();
    let inside = Arc::new(AtomicUsize::new(0));
    let task = Act::on("backend", move |_| {
        let inside = Arc::clone(&inside);
        Box::pin(async move {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            Outcome::succeeded(Vec::new())
        })
    });
    for _ in 0..100 {
        let pair = tokio::join!(
            bench.start_as("alice", ChangeOptions::default(), &task),
            bench.start_as("bob", ChangeOptions::default(), &task)
        );
        for begun in [pair.0, pair.1].into_iter().flatten() {
            assert_eq!(bench.ended(&begun).await.state, State::Succeeded);
        }
    }
    assert!(task.runs() >= 100);
}

#[tokio::test]
async fn it_outlives_the_call_that_began_it() {
    let bench = Bench::new();
    let task = Act::quick("backend");
    {
        let mut call = Box::pin(bench.start(key("k"), &task));
        // Polled until it is past its lock, then dropped as when the connection is cut.
        while bench.journal.writes() == 0 {
            assert!(futures_util::poll!(&mut call).is_pending());
            tokio::task::yield_now().await;
        }
    }
    settle().await;
    let operations = bench.operations.list(0, false).await.unwrap();
    assert_eq!((operations.len(), operations[0].state, task.runs()), (1, State::Succeeded, 1));
    assert_eq!(bench.audit.stages(operations[0].id.as_str()), ["intent", "result OK"]);
}

#[tokio::test]
async fn a_panic_is_an_end_like_any_other() {
    let bench = Bench::new();
    let early = Act::on("a", |_| Box::pin(async { panic!("early") }));
    let ended = bench.done(&early).await;
    assert_eq!((ended.state, ended.problem.unwrap().reason), (State::Failed, Reason::Internal));
    let late = Act::on("a", |run| {
        Box::pin(async move {
            let _phase = run.phase("swap", "");
            run.checkpoint("swapped", json!({})).await.unwrap();
            panic!("late")
        })
    });
    let ended = bench.done(&late).await;
    assert_eq!(ended.state, State::NeedsHuman);
    assert!(ended.problem.unwrap().effect.contains("swapped"));
    assert_eq!(ended.phases[0].state, PhaseState::Failed, "no phase is left running");
    assert_eq!(bench.audit.stages(ended.id.as_str()), ["intent", "result INTERNAL"]);
    assert!(bench.start(ChangeOptions::default(), &early).await.is_ok(), "its lock is free");
}

#[tokio::test]
async fn time_over_asks_for_a_safe_point_and_then_gives_up() {
    let bench = Bench::new();
    let timeout = |task| {
        let options = ChangeOptions { timeout: Some(Duration::from_secs(7)), ..ChangeOptions::default() };
        bench.start(options, task)
    };
    let patient = Act::patient("a");
    let begun = timeout(&patient).await.unwrap();
    settle().await;
    bench.clock.advance(Duration::from_secs(7));
    let problem = bench.ended(&begun).await.problem.unwrap();
    assert_eq!(problem.reason, Reason::DeadlineExceeded);
    assert_eq!(problem.message, "service.restart did not end within 7 s");

    let deaf = Act::on("a", |_| Box::pin(std::future::pending()));
    let begun = timeout(&deaf).await.unwrap();
    settle().await;
    bench.clock.advance(Duration::from_secs(7));
    settle().await;
    bench.clock.advance(Limits::default().grace);
    let ended = bench.ended(&begun).await;
    assert_eq!((ended.state, ended.problem.unwrap().reason), (State::Failed, Reason::DeadlineExceeded));
}

#[tokio::test]
async fn cancel_is_for_ones_own_or_for_admins_and_needs_a_yes() {
    let bench = Bench::new();
    let route = "ops.v1.OperationService/CancelOperation";
    let begun = bench.start(ChangeOptions::default(), &Act::patient("backend")).await.unwrap();
    settle().await;
    let yes = ChangeOptions { confirmed: true, ..ChangeOptions::default() };
    let id = begun.id.as_str();
    let cancel = |who: Principal, options: ChangeOptions| {
        let operations = bench.operations.clone();
        async move { operations.cancel(&who, route, &options, id).await }
    };
    let denied = cancel(principal("bob", Role::Operator), yes.clone()).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PermissionDenied);
    let error = cancel(principal("alice", Role::Operator), ChangeOptions::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::ConfirmationMissing);
    assert_eq!(error.next[0].argv.join(" "), format!("opsctl operation cancel {id} --yes"));
    bench.audit.break_down(true);
    let error = cancel(principal("root", Role::Admin), yes.clone()).await.unwrap_err();
    assert_eq!(error.reason, Reason::AuditUnavailable);
    bench.audit.break_down(false);
    assert!(!bench.operations.get(id).await.unwrap().state.ended(), "none of that did anything");
    cancel(principal("root", Role::Admin), yes.clone()).await.unwrap();
    let ended = bench.ended(&begun).await;
    assert_eq!(ended.state, State::Cancelled);
    assert_eq!(ended.problem.unwrap().message, "service.restart was cancelled by root");
    assert_eq!(bench.audit.stages(id), ["intent", "intent", "result OK", "result CANCELLED"]);
    let again = cancel(principal("root", Role::Admin), yes).await.unwrap();
    assert_eq!(again.state, State::Cancelled, "what has ended is answered as it is");
}

#[tokio::test]
async fn progress_is_thinned_but_no_beginning_and_no_end_is_lost() {
    let bench = Bench::new();
    let clock = Arc::clone(&bench.clock);
    let task = Act::on("backup", move |run| {
        let clock = Arc::clone(&clock);
        Box::pin(async move {
            let mut phase = run.phase("dump", "");
            for done in 1..=1000 {
                clock.advance(Duration::from_millis(5));
                phase.progress(done, 1000, "documents");
            }
            phase.done("1000 documents");
            let mut phase = run.phase("verify", "");
            phase.text("reading");
            run.cancelled().cancelled().await;
            Outcome::succeeded(Vec::new())
        })
    });
    let begun = bench.start(ChangeOptions::default(), &task).await.unwrap();
    settle().await;
    let quiet = bench.journal.events(&begun.id, 0, 1000).await.unwrap();
    let texts = |events: &[Event]| {
        let text = |event: &Event| match &event.what {
            Happening::Phase(phase) => format!("{} {:?} {}", phase.name, phase.state, phase.text),
            other => format!("{other:?}"),
        };
        events.iter().map(text).collect::<Vec<_>>()
    };
    // 1000 steps of 5 ms are 5 s: 20 events of progress, a beginning, an end; then the beginning of verify.
    assert_eq!(quiet.len(), 20 + 2 + 1, "{:?}", texts(&quiet));
    assert!(texts(&quiet).contains(&"dump Done 1000 documents".to_owned()));
    assert_eq!(bench.operations.get(begun.id.as_str()).await.unwrap().phases[1].text, "reading");
    bench.clock.advance(Duration::from_millis(250));
    settle().await;
    let later = bench.journal.events(&begun.id, 23, 1000).await.unwrap();
    assert_eq!(texts(&later), ["verify Running reading"], "what was held back comes without a further word");
    assert!(quiet.iter().zip(1..).all(|(event, seq)| event.seq == seq));
}

#[tokio::test]
async fn events_wait_for_a_journal_that_refuses_them() {
    let bench = Bench::new();
    let journal = bench.journal.clone();
    let task = Act::on("a", move |run| {
        let journal = journal.clone();
        Box::pin(async move {
            journal.fail(crate::fakes::Fault::From(0));
            run.phase("stop", "").done("gone");
            assert_eq!(run.checkpoint("c", json!({})).await.unwrap_err().reason, Reason::StateUnavailable);
            journal.fail(crate::fakes::Fault::None);
            run.phase("start", "").done("pid 2");
            Outcome::succeeded(Vec::new())
        })
    });
    let ended = bench.done(&task).await;
    let events = bench.journal.events(&ended.id, 0, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_end_that_the_journal_never_takes_is_told_all_the_same() {
    let bench = Bench::on(&FakeJournal::default(), &Arc::default(), FakeClock::hasty(), &Arc::default());
    let journal = bench.journal.clone();
    let task = Act::on("a", move |_| {
        journal.fail(crate::fakes::Fault::From(0));
        Box::pin(async { Outcome::succeeded(Vec::new()) })
    });
    let ended = bench.done(&task).await;
    assert_eq!(bench.audit.stages(ended.id.as_str()), ["intent", "result OK"]);
    let mut watch = bench.operations.watch(ended.id.as_str(), 0).await.unwrap();
    assert!(matches!(watch.next().await, Some(Ok(Watched::Operation(whole))) if whole.state.ended()));
    assert_eq!(bench.operations.list(0, true).await.unwrap(), []);
}

#[tokio::test]
async fn ids_are_found_by_a_unique_part_and_near_ones_are_named() {
    let bench = Bench::new();
    let (a, b) = (bench.done(&Act::quick("a")).await, bench.done(&Act::quick("a")).await);
    assert_eq!(a.id.as_str(), "op-0000000001");
    assert_eq!(bench.operations.get("OP-0000000001").await.unwrap().id, a.id);
    assert_eq!(bench.operations.get("2").await.unwrap().id, b.id);
    let error = bench.operations.get("op-000").await.unwrap_err();
    assert_eq!(error.reason, Reason::InvalidArgument);
    let error = bench.operations.get("op-0000000009").await.unwrap_err();
    assert_eq!(error.reason, Reason::OperationNotFound);
    assert_eq!(error.evidence[0].text, format!("{}, {}", b.id, a.id));
    for hostile in ["", "%", "op-' OR 1=1 --", "../..", &"x".repeat(100)] {
        let error = bench.operations.get(hostile).await.unwrap_err();
        assert_eq!(error.reason, Reason::InvalidArgument, "{hostile}");
    }
}

#[tokio::test]
async fn a_shutdown_asks_for_safe_points_and_begins_nothing() {
    let bench = Bench::new();
    let begun = bench.start(ChangeOptions::default(), &Act::patient("a")).await.unwrap();
    let deaf = Act::on("b", |_| Box::pin(std::future::pending()));
    let stuck = bench.start(ChangeOptions::default(), &deaf).await.unwrap();
    let drain = bench.operations.shutdown(Duration::from_secs(15));
    let script = async {
        settle().await;
        let error = bench.start(ChangeOptions::default(), &Act::quick("c")).await.unwrap_err();
        assert_eq!(error.reason, Reason::ShuttingDown);
        bench.clock.advance(Duration::from_secs(15));
    };
    assert_eq!(tokio::join!(drain, script).0, [stuck.id]);
    let ended = bench.operations.get(begun.id.as_str()).await.unwrap();
    assert_eq!((ended.state, ended.problem.unwrap().reason), (State::Cancelled, Reason::Interrupted));
}

#[tokio::test]
async fn lines_of_a_log_are_only_shown_to_who_may_read_it() {
    let bench = Bench::new();
    let task = Act::on("backend", |_| {
        Box::pin(async {
            let problem = Error::new(Reason::StartFatal, "it did not start")
                .about("backend")
                .fact("exit", "3")
                .lines("stderr", "1 of 1", vec!["KeyError".into()]);
            Outcome::failed(State::Failed, problem, Vec::new())
        })
    });
    let ended = bench.done(&task).await;
    let lines = |who: &Principal| {
        let problem = ended.clone().shown_to(who).problem.unwrap();
        assert_eq!(problem.evidence[0].text, "3");
        problem.evidence[1].lines.len()
    };
    let mut viewer = principal("v", Role::Viewer);
    assert_eq!(lines(&viewer), 1);
    viewer.binding.services.insert(ServiceName::parse("frontend").unwrap());
    assert_eq!((lines(&viewer), lines(&principal("b", Role::Backup))), (0, 0));
}
