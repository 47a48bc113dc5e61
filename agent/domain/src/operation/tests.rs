use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::access::{Authorized, Binding, Credential, Role, Scope, authorize};
use crate::error::Reason;
use crate::fakes::{FakeAuditLog, FakeClock, FakeEntropy, FakeJournal};
use crate::ports::Journal as _;

mod changes;
mod crash;
mod running;

const ROUTE: &str = "ops.v1.ServiceService/RestartServices";

type Work = Box<dyn Fn(Run) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// A restart of one service that does what the test says.
struct Act {
    target: String,
    confirm: Confirm,
    preconditions: Mutex<Value>,
    runs: AtomicUsize,
    work: Work,
}

impl Act {
    fn on(
        target: &str,
        work: impl Fn(Run) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::confirmed_by(Confirm::None, target, work)
    }

    fn confirmed_by(
        confirm: Confirm,
        target: &str,
        work: impl Fn(Run) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            target: target.to_owned(),
            confirm,
            preconditions: Mutex::new(json!({ "pid": 1 })),
            runs: AtomicUsize::new(0),
            work: Box::new(work),
        })
    }

    /// Ends at once, well.
    fn quick(target: &str) -> Arc<Self> {
        Self::on(target, |_| Box::pin(async { Outcome::succeeded(Vec::new()) }))
    }

    /// Runs until it is cancelled.
    fn patient(target: &str) -> Arc<Self> {
        Self::on(target, |run| {
            Box::pin(async move {
                let mut phase = run.phase("ready", "");
                phase.progress(1, 4, "probes");
                run.cancelled().cancelled().await;
                phase.failed("stopped");
                Outcome { state: State::Cancelled, results: Vec::new(), problem: None, notes: Vec::new() }
            })
        })
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Task for Act {
    fn kind(&self) -> &'static str {
        "service.restart"
    }

    fn targets(&self) -> Vec<String> {
        vec![self.target.clone()]
    }

    fn locks(&self) -> Vec<String> {
        vec![format!("service/{}", self.target)]
    }

    fn parameters(&self) -> Value {
        json!({ "services": [self.target] })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(120)
    }

    async fn plan(&self) -> Result<Plan> {
        Ok(Plan {
            confirm: self.confirm.clone(),
            steps: vec![PlanStep { phase: "stop".into(), text: "stop it".into(), estimate_ms: 0 }],
            facts: Vec::new(),
            if_it_fails: "it stays down".into(),
            preconditions: self.preconditions.lock().unwrap().clone(),
        })
    }

    async fn run(&self, run: &Run) -> Outcome {
        self.runs.fetch_add(1, Ordering::SeqCst);
        (self.work)(run.clone()).await
    }
}

/// An engine on fakes.
struct Bench {
    operations: Operations,
    journal: FakeJournal,
    audit: Arc<FakeAuditLog>,
    clock: Arc<FakeClock>,
}

impl Bench {
    fn new() -> Self {
        Self::on(&FakeJournal::default(), &Arc::default(), FakeClock::new(), &Arc::default())
    }

    fn on(
        journal: &FakeJournal,
        audit: &Arc<FakeAuditLog>,
        clock: Arc<FakeClock>,
        entropy: &Arc<FakeEntropy>,
    ) -> Self {
        let ports = Ports {
            journal: Arc::new(journal.clone()),
            audit: Arc::<FakeAuditLog>::clone(audit),
            clock: Arc::<FakeClock>::clone(&clock),
            entropy: Arc::<FakeEntropy>::clone(entropy),
        };
        let agent = Subject::parse("agent/test").unwrap();
        let operations = Operations::new(ports, agent, Limits::default());
        Self { operations, journal: journal.clone(), audit: Arc::clone(audit), clock }
    }

    async fn start(&self, options: ChangeOptions, task: &Arc<Act>) -> Result<Operation> {
        self.start_as("alice", options, task).await
    }

    async fn start_as(&self, who: &str, options: ChangeOptions, task: &Arc<Act>) -> Result<Operation> {
        let task: Arc<dyn Task> = Arc::<Act>::clone(task);
        match self.operations.start(&caller(who), ROUTE, options, task).await? {
            Started::Operation(operation) => Ok(operation),
            Started::Plan(plan) => panic!("only planned: {plan:?}"),
        }
    }

    async fn plan(&self, who: &str, task: &Arc<Act>) -> Planned {
        let options = ChangeOptions { plan: true, ..ChangeOptions::default() };
        let task: Arc<dyn Task> = Arc::<Act>::clone(task);
        match self.operations.start(&caller(who), ROUTE, options, task).await.unwrap() {
            Started::Plan(plan) => plan,
            Started::Operation(operation) => panic!("it runs: {operation:?}"),
        }
    }

    async fn ended(&self, operation: &Operation) -> Operation {
        let wait = self.operations.wait(operation.id.as_str(), Duration::from_secs(100_000));
        let ended = wait.await.unwrap();
        assert!(ended.state.ended(), "{ended:?}");
        ended
    }

    async fn done(&self, task: &Arc<Act>) -> Operation {
        let operation = self.start(ChangeOptions::default(), task).await.unwrap();
        self.ended(&operation).await
    }
}

fn principal(who: &str, role: Role) -> Principal {
    Principal {
        subject: Subject::parse(who).unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: BTreeSet::from([role]), services: BTreeSet::new() },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: "ab".into(),
        peer: "192.0.2.1:5".into(),
        request_id: "r1".into(),
    }
}

fn caller(who: &str) -> Authorized {
    authorize(&principal(who, Role::Operator), Permission::ServiceRestart, Scope::None).unwrap()
}

fn key(key: &str) -> ChangeOptions {
    ChangeOptions { idempotency_key: key.into(), ..ChangeOptions::default() }
}

/// Lets every task of this runtime do what it can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
