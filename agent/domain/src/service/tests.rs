use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::access::{Binding, Credential, Role};
use crate::fakes::{FakeClock, FakeHost, FakeJournal, RecordingRunSink, Temper};
use crate::ids::Subject;
use crate::operation::{Confirm, FieldValue, Outcome, PhaseState, State, Task};
use crate::ports::service_manager::ProgramName;
use crate::probe::Target;

struct World {
    host: Arc<FakeHost>,
    services: Services,
    sink: Arc<RecordingRunSink>,
}

const WELL: Temper = Temper::Well(Duration::from_millis(300));

fn definition(name: &str, after: &[&str], check: Check) -> Definition {
    Definition {
        name: ServiceName::parse(name).unwrap(),
        program: ProgramName::parse(name).unwrap(),
        after: after.iter().map(|name| ServiceName::parse(name).unwrap()).collect(),
        expected: Expected::Running,
        protected: if name == "mongodb" { BTreeSet::from([Verb::Stop]) } else { BTreeSet::new() },
        readiness: ReadinessRule::new(check),
    }
}

fn world(programs: &[(&str, Temper, bool)]) -> World {
    let clock = FakeClock::hasty();
    let host = FakeHost::new(clock.clone(), programs);
    let definitions = programs
        .iter()
        .enumerate()
        .map(|(number, (name, _, _))| {
            let after: Vec<&str> = if number == 0 { Vec::new() } else { vec![programs[number - 1].0] };
            definition(name, &after, Check::Probe(Target::Tcp { address: (*name).to_owned() }))
        })
        .collect();
    world_of(clock, host, definitions)
}

fn world_of(clock: Arc<FakeClock>, host: Arc<FakeHost>, definitions: Vec<Definition>) -> World {
    let ports = Ports {
        manager: host.clone(),
        history: host.clone(),
        processes: host.clone(),
        prober: host.clone(),
        excerpts: host.clone(),
        journal: Arc::new(FakeJournal::default()),
        clock: clock.clone(),
    };
    World { host, services: Services::new(definitions, ports).unwrap(), sink: RecordingRunSink::new(clock) }
}

fn principal(role: Role, services: &[&str]) -> Principal {
    Principal {
        subject: Subject::parse("ana").unwrap(),
        credential: Credential::Certificate,
        binding: Binding {
            roles: BTreeSet::from([role]),
            services: services.iter().map(|name| ServiceName::parse(name).unwrap()).collect(),
        },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    }
}

fn change(verb: Verb, names: &[&str]) -> Change {
    Change {
        verb,
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        all: names.is_empty(),
        wait: WaitFor::Ready,
        force: false,
    }
}

impl World {
    async fn task(&self, change: &Change) -> Arc<dyn Task> {
        self.services.change(&principal(Role::Admin, &[]), change).await.unwrap().1
    }

    async fn run(&self, change: &Change, time: u64) -> Outcome {
        let (run, _) = self.sink.run(Duration::from_secs(time));
        self.task(change).await.run(&run).await
    }

    async fn refused(&self, role: Role, scope: &[&str], change: &Change) -> Error {
        let error = self.services.change(&principal(role, scope), change).await.err().unwrap();
        assert!(self.host.asked().is_empty());
        error
    }
}

fn field(outcome: &Outcome, target: &str, name: &str) -> Option<i64> {
    let row = outcome.results.iter().find(|row| row.target == target).unwrap();
    row.fields.iter().find_map(|(field, value)| match value {
        FieldValue::Number(number) if field == name => Some(*number),
        _ => None,
    })
}

fn results(outcome: &Outcome) -> Vec<(&str, &str)> {
    outcome.results.iter().map(|row| (row.target.as_str(), row.result.as_str())).collect()
}

#[tokio::test]
async fn a_restart_proves_a_new_ready_process_and_measures_its_downtime() {
    let world = world(&[("backend", WELL, true)]);
    let outcome = world.run(&change(Verb::Restart, &["backend"]), 120).await;
    assert_eq!(outcome.state, State::Succeeded, "{:?}", outcome.problem);
    assert_eq!(results(&outcome), [("backend", "restarted")]);
    assert_eq!(
        (field(&outcome, "backend", "old_pid"), field(&outcome, "backend", "new_pid")),
        (Some(100), Some(101))
    );
    // It answers until it is gone, and is deaf for 300 ms after its start; exact to the sampling.
    let down = field(&outcome, "backend", "down_ms").unwrap();
    assert!((300..=400).contains(&down), "{down}");
    // RUNNING after 1 s, then 3 × 250 ms.
    let ready = field(&outcome, "backend", "ready_in_ms").unwrap();
    assert!((1_800..=2_300).contains(&ready), "{ready}");
    let phases: Vec<String> = world.sink.ended().into_iter().map(|(name, _)| name).collect();
    assert_eq!(phases, ["stop", "start", "ready"]);
    let texts: Vec<String> = world.sink.phases().into_iter().map(|phase| phase.text).collect();
    assert!(texts.contains(&"pid 100 gone, port backend closed".to_owned()), "{texts:?}");
    assert!(texts.contains(&"TCP backend connected, 3 of 3".to_owned()), "{texts:?}");
    let points: Vec<String> = world.sink.checkpoints().into_iter().map(|point| point.name).collect();
    assert_eq!(points, ["stopping", "starting", "done"]);
}

#[tokio::test]
async fn a_crash_at_once_is_watched_to_its_end_and_told_with_its_cause() {
    let world = world(&[("crash", Temper::Crash(3), false)]);
    let outcome = world.run(&change(Verb::Start, &["crash"]), 120).await;
    assert_eq!(outcome.state, State::Failed);
    let problem = outcome.problem.unwrap();
    assert_eq!(problem.reason, Reason::StartFatal);
    assert!(
        problem.message.starts_with("crash did not start: exit code 3, 4 tries in 6."),
        "{}",
        problem.message
    );
    let fact = |name: &str| problem.evidence.iter().find(|fact| fact.name == name).unwrap();
    assert_eq!(fact("exit").text, "exit code 3");
    assert_eq!(fact("stderr").text, "crash.err.log, 2 of 2 lines since the start");
    assert_eq!(fact("stderr").lines[1], "KeyError: 'JWT_SECRET_KEY'");
    assert_eq!(fact("probe").text, "connection refused");
    assert_eq!(problem.next[0].argv, ["opsctl", "service", "start", "crash"]);
    assert_eq!(world.sink.ended(), [("start".to_owned(), PhaseState::Failed)]);
}

#[tokio::test]
async fn what_dies_after_it_was_ready_is_flapping() {
    let world = world(&[("flap", Temper::Flap(Duration::from_millis(1500)), false)]);
    let problem = world.run(&change(Verb::Start, &["flap"]), 120).await.problem.unwrap();
    assert_eq!(problem.reason, Reason::Flapping);
    assert!(problem.message.contains("exit code 1"), "{}", problem.message);
}

#[tokio::test]
async fn what_never_answers_is_not_ready_and_left_running() {
    let world = world(&[("slow", Temper::Well(Duration::from_secs(500)), false)]);
    let outcome = world.run(&change(Verb::Start, &["slow"]), 300).await;
    let problem = outcome.problem.clone().unwrap();
    assert_eq!(problem.reason, Reason::NotReadyTimeout);
    assert_eq!(problem.message, "slow is not ready: 0 of 3 passes in 60.0 s; connection refused");
    assert_eq!(problem.effect, "slow is left running as pid 100");
    assert_eq!(field(&outcome, "slow", "new_pid"), Some(100));
}

#[tokio::test]
async fn the_operations_own_limit_is_a_readiness_timeout_too() {
    let world = world(&[("slow", Temper::Well(Duration::from_secs(500)), false)]);
    let problem = world.run(&change(Verb::Start, &["slow"]), 5).await.problem.unwrap();
    assert_eq!(problem.reason, Reason::NotReadyTimeout);
}

#[tokio::test]
async fn a_stubborn_program_is_stopped_by_the_manager_and_that_is_said() {
    let world = world(&[("stubborn", Temper::Stubborn, true)]);
    let outcome = world.run(&change(Verb::Stop, &["stubborn"]), 120).await;
    assert_eq!(results(&outcome), [("stubborn", "stopped")]);
    assert!(outcome.notes[0].contains("killed it after 10 s"), "{:?}", outcome.notes);
}

#[tokio::test]
async fn a_stop_that_has_less_time_fails_and_starts_no_second_copy() {
    let world = world(&[("stubborn", Temper::Stubborn, true)]);
    let problem = world.run(&change(Verb::Restart, &["stubborn"]), 3).await.problem.unwrap();
    assert_eq!(problem.reason, Reason::StopTimeout);
    assert_eq!(world.host.asked(), ["stop stubborn"]);
    assert_eq!(problem.next[0].argv, ["opsctl", "service", "stop", "stubborn", "--force"]);
}

#[tokio::test]
async fn force_kills_what_does_not_stop() {
    let world = world(&[("stubborn", Temper::Stubborn, true)]);
    let force = Change { force: true, ..change(Verb::Stop, &["stubborn"]) };
    let outcome = world.run(&force, 120).await;
    assert_eq!(outcome.state, State::Succeeded);
    assert_eq!(world.host.asked(), ["stop stubborn", "kill stubborn"]);
}

#[tokio::test]
async fn start_and_stop_are_idempotent() {
    let world = world(&[("backend", WELL, true), ("idle", WELL, false)]);
    let outcome = world.run(&change(Verb::Start, &["backend"]), 60).await;
    assert_eq!((outcome.state, results(&outcome)), (State::Succeeded, vec![("backend", "unchanged")]));
    let outcome = world.run(&change(Verb::Stop, &["idle"]), 60).await;
    assert_eq!((outcome.state, results(&outcome)), (State::Succeeded, vec![("idle", "unchanged")]));
    assert!(world.host.asked().is_empty());
}

#[tokio::test]
async fn a_restart_of_what_is_down_starts_it() {
    let world = world(&[("backend", WELL, false)]);
    let outcome = world.run(&change(Verb::Restart, &["backend"]), 60).await;
    assert_eq!(results(&outcome), [("backend", "started")]);
    assert_eq!(world.host.asked(), ["start backend"]);
}

#[tokio::test]
async fn all_go_in_order_and_no_further_than_the_first_that_fails() {
    let world =
        world(&[("mongodb", WELL, true), ("backend", Temper::Crash(1), true), ("frontend", WELL, true)]);
    let frontend = world.host.pid("frontend");
    let outcome = world.run(&change(Verb::Restart, &[]), 300).await;
    assert_eq!(outcome.state, State::Partial);
    assert_eq!(
        results(&outcome),
        [("mongodb", "restarted"), ("backend", "FAILED"), ("frontend", "untouched")]
    );
    assert_eq!(world.host.asked(), ["stop mongodb", "start mongodb", "stop backend", "start backend"]);
    assert_eq!(world.host.pid("frontend"), frontend);
    let problem = outcome.problem.unwrap();
    assert_eq!(problem.reason, Reason::RestartPartial);
    assert!(
        problem.message.starts_with("mongodb restarted; backend did not start: exit code 1"),
        "{problem}"
    );
    assert!(problem.message.ends_with("; frontend untouched"), "{problem}");
}

#[tokio::test]
async fn several_are_stopped_in_reverse() {
    let world = world(&[("mongodb", WELL, true), ("backend", WELL, true), ("frontend", WELL, true)]);
    let outcome = world.run(&change(Verb::Stop, &["backend", "frontend"]), 300).await;
    assert_eq!(outcome.state, State::Succeeded);
    assert_eq!(world.host.asked(), ["stop frontend", "stop backend"]);
}

#[tokio::test]
async fn a_cancel_before_a_service_leaves_it_untouched() {
    let world = world(&[("backend", WELL, true)]);
    let (run, cancel) = world.sink.run(Duration::from_secs(60));
    cancel.cancel();
    let outcome = world.task(&change(Verb::Restart, &["backend"])).await.run(&run).await;
    assert_eq!((outcome.state, results(&outcome)), (State::Cancelled, vec![("backend", "untouched")]));
    assert!(world.host.asked().is_empty());
}

#[tokio::test]
async fn a_cancel_in_the_middle_never_leaves_a_service_stopped() {
    let world = world(&[("slow", Temper::Well(Duration::from_secs(500)), true)]);
    let (run, cancel) = world.sink.run(Duration::from_secs(300));
    let task = world.task(&change(Verb::Restart, &["slow"])).await;
    let (outcome, ()) = tokio::join!(task.run(&run), async {
        while world.host.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert_eq!((outcome.state, results(&outcome)), (State::Cancelled, vec![("slow", "cancelled")]));
    assert!(world.host.pid("slow").is_some());
}

#[tokio::test]
async fn nothing_is_stopped_when_the_journal_does_not_take_it() {
    let world = world(&[("backend", WELL, true)]);
    world.sink.refuse_checkpoint("stopping");
    let problem = world.run(&change(Verb::Restart, &["backend"]), 60).await.problem.unwrap();
    assert_eq!((problem.reason, problem.effect.as_str()), (Reason::StateUnavailable, "nothing was done"));
    assert!(world.host.asked().is_empty());
}

#[tokio::test]
async fn a_manager_that_is_gone_is_told_with_what_is_known() {
    let world = world(&[("backend", WELL, true)]);
    world.host.manager_down(true);
    let problem = world.run(&change(Verb::Restart, &["backend"]), 60).await.problem.unwrap();
    assert_eq!(
        (problem.reason, problem.effect.as_str()),
        (Reason::SupervisorUnreachable, "nothing was done")
    );
}

#[tokio::test]
async fn rights_and_names_are_checked_before_anything_is_done() {
    let world = world(&[("mongodb", WELL, true), ("backend", WELL, true)]);
    let stop_mongodb = change(Verb::Stop, &["mongodb"]);
    assert_eq!(
        world.refused(Role::Viewer, &[], &change(Verb::Restart, &["backend"])).await.reason,
        Reason::PermissionDenied
    );
    let error = world.refused(Role::Operator, &[], &stop_mongodb).await;
    assert_eq!(error.reason, Reason::ProtectedService);
    assert!(error.message.contains("role admin"), "{error}");
    // The same answer for what exists and what does not, outside one's scope.
    for name in ["mongodb", "nonesuch"] {
        let error = world.refused(Role::Operator, &["backend"], &change(Verb::Restart, &[name])).await;
        assert_eq!(error.reason, Reason::PermissionDenied);
    }
    assert_eq!(
        world.refused(Role::Deployer, &["backend"], &change(Verb::Restart, &[])).await.reason,
        Reason::PermissionDenied
    );
    let error = world.refused(Role::Admin, &[], &change(Verb::Restart, &["bakend"])).await;
    assert_eq!(error.reason, Reason::ServiceNotFound);
    assert!(error.message.contains("did you mean backend?"), "{error}");
    for name in ["", "../x", "a b", "x\u{1b}[2J", &"x".repeat(10_000), "backend:*"] {
        let error = world.refused(Role::Admin, &[], &change(Verb::Restart, &[name])).await;
        assert_eq!(error.reason, Reason::InvalidArgument);
        assert!(error.message.len() < 400 && !error.message.contains('\u{1b}'), "{error}");
    }
}

#[tokio::test]
async fn what_must_be_said_depends_on_what_is_asked() {
    let world = world(&[("mongodb", WELL, true), ("backend", WELL, true)]);
    for (change, confirm) in [
        (change(Verb::Restart, &["backend"]), Confirm::None),
        (change(Verb::Start, &["backend"]), Confirm::None),
        (change(Verb::Stop, &["backend"]), Confirm::Ask),
        (change(Verb::Restart, &[]), Confirm::Ask),
        (change(Verb::Stop, &["mongodb"]), Confirm::Type("mongodb".into())),
    ] {
        assert_eq!(world.task(&change).await.plan().await.unwrap().confirm, confirm, "{change:?}");
    }
    assert!(world.host.asked().is_empty());
}

#[tokio::test]
async fn the_agent_never_touches_itself() {
    let world = world(&[("opsd", WELL, true)]);
    world.host.is_agent("opsd");
    for verb in [Verb::Stop, Verb::Restart] {
        let task = world.task(&change(verb, &["opsd"])).await;
        assert_eq!(task.plan().await.unwrap_err().reason, Reason::ProtectedService);
        let (run, _) = world.sink.run(Duration::from_secs(60));
        assert_eq!(task.run(&run).await.problem.unwrap().reason, Reason::ProtectedService);
    }
    assert!(world.host.asked().is_empty());
}

#[tokio::test]
async fn a_list_shows_all_and_a_scope_shows_its_own() {
    let clock = FakeClock::hasty();
    let programs = [("backend", WELL, true), ("crash", Temper::Crash(1), false), ("other", WELL, true)];
    let host = FakeHost::new(clock.clone(), &programs);
    let probe = |name: &str| Check::Probe(Target::Tcp { address: name.to_owned() });
    let definitions =
        vec![definition("backend", &[], probe("backend")), definition("crash", &[], probe("crash"))];
    let world = world_of(clock, host, definitions);
    let list = async |services: &[&str]| {
        let viewer = principal(Role::Viewer, services);
        let authorized =
            crate::access::authorize(&viewer, Permission::ServiceRead, crate::access::Scope::None).unwrap();
        world.services.list(&authorized).await.unwrap().services
    };
    let all = list(&[]).await;
    let names: Vec<(&str, bool, bool)> =
        all.iter().map(|s| (s.name.as_str(), s.managed, s.is_ok())).collect();
    assert_eq!(names, [("backend", true, true), ("crash", true, false), ("other", false, true)]);
    assert_eq!(all[0].readiness.verdict, Ready::Yes);
    assert_eq!(all[1].stderr.len(), 2);
    assert_eq!(list(&["backend"]).await.len(), 1);

    world.host.forget_history();
    assert_eq!(list(&[]).await[0].restarts_24h, None);
}

#[tokio::test]
async fn a_watch_tells_everything_once_and_then_what_changed() {
    let world = world(&[("backend", WELL, true), ("frontend", WELL, true)]);
    let viewer = principal(Role::Viewer, &[]);
    let authorized =
        crate::access::authorize(&viewer, Permission::ServiceRead, crate::access::Scope::None).unwrap();
    let mut watch = world.services.watch(&authorized, Vec::new()).await.unwrap();
    assert_eq!(watch.next().await.unwrap().services.len(), 2);
    let restart = change(Verb::Restart, &["frontend"]);
    let (outcome, told) = tokio::join!(world.run(&restart, 60), watch.next());
    assert_eq!(outcome.state, State::Succeeded);
    let told: Vec<String> = told.unwrap().services.into_iter().map(|service| service.name).collect();
    assert_eq!(told, ["frontend"]);
    assert!(world.services.watch(&authorized, vec!["nonesuch".into()]).await.is_err());
}
