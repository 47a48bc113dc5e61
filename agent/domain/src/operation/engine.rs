//! The one engine for everything that changes something.
//!
//! In this order: options → idempotency → plan → confirmation → locks → audit intent → journal → run → journal →
//! audit result → locks. What comes before the intent changes nothing; what comes after it does not depend on the
//! caller's connection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::access::{Authorized, Permission, Principal, Scope, authorize};
use crate::error::{Error, Reason, Result};
use crate::ids::{OperationId, Subject};
use crate::operation::live::{Cause, Live};
use crate::operation::locks::{Held, Locks, Take};
use crate::operation::options::{confirmed, plan_digest, request_digest};
use crate::operation::plans::{LIFE, Plans, Reserved, stale};
use crate::operation::{ChangeOptions, Operation, Planned, Run, RunSink, Started, State, Task};
use crate::ports::journal::{IdempotencyKey, Recorded};
use crate::ports::{AuditEntry, AuditLog, Clock, Entropy, Journal};

mod drive;

/// How long an idempotency key names its operation.
const KEY_LIFE: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// What the engine works on.
#[derive(Clone)]
pub struct Ports {
    /// Where operations are remembered.
    pub journal: Arc<dyn Journal>,
    /// Where it is written down who did what.
    pub audit: Arc<dyn AuditLog>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for ids.
    pub entropy: Arc<dyn Entropy>,
}

/// The engine's own limits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many operations may run at once; one more is `OVERLOADED`.
    pub running: usize,
    /// How long an operation that does not end at its deadline may take to reach a safe point before it is given up.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running: 64, grace: Duration::from_secs(600) }
    }
}

/// All operations of this agent. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(super) engine: Arc<Engine>,
}

pub(super) struct Engine {
    pub(super) ports: Ports,
    pub(super) agent: Subject,
    pub(super) limits: Limits,
    running: Mutex<BTreeMap<OperationId, Arc<Live>>>,
    pub(super) locks: Locks<Holder>,
    keys: Locks<()>,
    plans: Plans,
    settling: tokio::sync::Mutex<()>,
    ended: Notify,
    closing: AtomicBool,
}

/// Who holds a lock.
#[derive(Clone)]
pub(super) struct Holder {
    pub(super) id: OperationId,
    pub(super) kind: String,
    pub(super) subject: Subject,
    pub(super) since: jiff::Timestamp,
}

/// An operation that is about to run, and all that must outlive it.
pub(super) struct Beginning {
    pub(super) recorded: Recorded,
    pub(super) timeout: Duration,
    pub(super) held: Vec<Held<Holder>>,
}

impl Operations {
    /// An engine without operations. [`Operations::recover`] comes before the first [`Operations::start`].
    #[must_use]
    pub fn new(ports: Ports, agent: Subject, limits: Limits) -> Self {
        Self {
            engine: Arc::new(Engine {
                ports,
                agent,
                limits,
                running: Mutex::default(),
                locks: Locks::new(),
                keys: Locks::new(),
                plans: Plans::default(),
                settling: tokio::sync::Mutex::default(),
                ended: Notify::new(),
                closing: AtomicBool::new(false),
            }),
        }
    }

    /// Plans the task, or begins it and returns while it runs. `route` is the rpc's name without its first slash.
    ///
    /// # Errors
    /// Nothing was done: `INVALID_ARGUMENT`, `IDEMPOTENCY_CONFLICT`, `PLAN_STALE`, `CONFIRMATION_MISSING`, `LOCKED`,
    /// `AUDIT_UNAVAILABLE`, `STATE_UNAVAILABLE`, `OVERLOADED`, `SHUTTING_DOWN`, or what the task's plan says.
    pub async fn start(
        &self,
        authorized: &Authorized,
        route: &str,
        options: ChangeOptions,
        task: Arc<dyn Task>,
    ) -> Result<Started> {
        options.check()?;
        let engine = &self.engine;
        engine.open()?;
        let subject = &authorized.principal().subject;
        if options.plan {
            return engine.plan(subject, route, &*task).await.map(Started::Plan);
        }
        let key = (!options.idempotency_key.is_empty()).then(|| IdempotencyKey {
            key: format!("{route} {}", options.idempotency_key),
            request_digest: request_digest(route, &*task),
        });
        let _one_at_a_time = match &key {
            Some(key) => Some(engine.keys.taken(&format!("{subject} {}", key.key), ()).await),
            None => None,
        };
        if let Some(known) = engine.known(subject, key.as_ref(), &options.idempotency_key).await? {
            return Ok(Started::Operation(known));
        }
        let reserved = match options.plan_id.as_str() {
            "" => None,
            id => Some(engine.plans.reserve(id, subject, engine.ports.clock.monotonic())?),
        };
        engine.agree(route, &options, &*task, reserved.as_ref()).await?;
        let id = engine.new_id()?;
        let mut locks = task.locks();
        locks.sort();
        locks.dedup();
        let holder = Holder {
            id: id.clone(),
            kind: task.kind().to_owned(),
            subject: subject.clone(),
            since: engine.ports.clock.now(),
        };
        let (held, waited) = engine.lock(&locks, &holder, options.lock_timeout).await?;
        if waited {
            // What was agreed on may have changed while another operation worked on the same targets.
            engine.agree(route, &options, &*task, reserved.as_ref()).await?;
        }
        engine.open()?;
        if let Some(reserved) = reserved {
            reserved.spend();
        }
        let recorded = engine.record(id, authorized, route, &options, &*task, locks);
        let timeout = options.timeout.unwrap_or_else(|| task.timeout());
        let beginning = Beginning { recorded, timeout, held };
        let engine = Arc::clone(engine);
        // Detached: from the intent on, a caller that goes away must not leave half of this undone.
        tokio::spawn(async move { engine.begin(beginning, key, task).await })
            .await
            .unwrap_or_else(|_| Err(internal("the operation could not be begun")))
            .map(Started::Operation)
    }

    /// Asks an operation to stop at its next safe point: the caller's own, or anyone's with `operation.cancel-any`.
    /// What has ended already is answered as it is.
    ///
    /// # Errors
    /// `OPERATION_NOT_FOUND`, `PERMISSION_DENIED`, `CONFIRMATION_MISSING`, `AUDIT_UNAVAILABLE`.
    pub async fn cancel(
        &self,
        principal: &Principal,
        route: &str,
        options: &ChangeOptions,
        part: &str,
    ) -> Result<Operation> {
        options.check()?;
        let operation = self.get(part).await?;
        let own = operation.subject == principal.subject;
        let permission = if own { Permission::OperationCancelOwn } else { Permission::OperationCancelAny };
        let authorized = authorize(principal, permission, Scope::None)?;
        let engine = &self.engine;
        let live = engine.live(&operation.id);
        let Some(live) = live.filter(|_| !operation.state.ended() && !options.plan) else {
            return Ok(operation);
        };
        let id = operation.id.as_str();
        if !options.confirmed && options.confirm.is_empty() {
            return Err(Error::new(
                Reason::ConfirmationMissing,
                format!("cancelling {} {id} needs a yes", operation.kind),
            )
            .about(id)
            .next(&["opsctl", "operation", "cancel", id, "--yes"])
            .effect("nothing was done"));
        }
        engine.settle().await?;
        let intent = AuditEntry {
            target: id.to_owned(),
            params: serde_json::json!({ "operation": operation.kind, "targets": operation.targets }),
            reason: options.reason.clone(),
            operation_id: id.to_owned(),
            ..intent(&authorized, route)
        };
        engine.ports.audit.append(intent.clone()).await?;
        live.note(format!("{} asks it to stop at its next safe point", principal.subject.short()));
        live.stop(Cause::Asked(principal.subject.clone()));
        let result = AuditEntry { stage: "result".to_owned(), outcome: "OK".to_owned(), ..intent };
        if let Err(error) = engine.ports.audit.append(result).await {
            tracing::error!(operation = id, %error, "a cancel's result is not in the audit trail");
        }
        Ok(live.operation())
    }

    /// No more operations are begun; those that run are asked to stop at a safe point and given `drain`. What is left
    /// then is the next start's to recover; it is returned.
    pub async fn shutdown(&self, drain: Duration) -> Vec<OperationId> {
        let engine = &self.engine;
        engine.closing.store(true, Ordering::SeqCst);
        for live in engine.running().values() {
            live.stop(Cause::Shutdown);
        }
        let mut end = engine.ports.clock.sleep(drain);
        loop {
            let ended = engine.ended.notified();
            let left: Vec<_> = engine.running().keys().cloned().collect();
            if left.is_empty() {
                return left;
            }
            tokio::select! {
                () = ended => {}
                () = &mut end => return left,
            }
        }
    }
}

impl Engine {
    fn open(&self) -> Result<()> {
        if self.closing.load(Ordering::SeqCst) {
            return Err(Error::new(Reason::ShuttingDown, "the agent is shutting down")
                .retryable()
                .effect("nothing was done"));
        }
        if self.running().len() >= self.limits.running {
            return Err(Error::new(
                Reason::Overloaded,
                format!("{} operations run already", self.limits.running),
            )
            .next(&["opsctl", "operation", "list", "--running"])
            .retryable()
            .effect("nothing was done"));
        }
        Ok(())
    }

    async fn plan(&self, subject: &Subject, route: &str, task: &dyn Task) -> Result<Planned> {
        let plan = task.plan().await?;
        let plan_id = format!("plan-{}", self.random(26)?);
        let digest = plan_digest(route, task, &plan.preconditions);
        self.plans.keep(&plan_id, subject, &digest, self.ports.clock.monotonic());
        let life = jiff::SignedDuration::try_from(LIFE).unwrap_or_default();
        Ok(Planned {
            plan_id,
            digest,
            expires_at: self.ports.clock.now() + life,
            kind: task.kind().to_owned(),
            targets: task.targets(),
            plan,
        })
    }

    /// The operation that this key names already.
    async fn known(
        &self,
        subject: &Subject,
        key: Option<&IdempotencyKey>,
        shown: &str,
    ) -> Result<Option<Operation>> {
        let Some(key) = key else { return Ok(None) };
        let since = self.ports.clock.now() - KEY_LIFE;
        let Some((id, digest)) = self.ports.journal.by_idempotency_key(subject, &key.key, since).await?
        else {
            return Ok(None);
        };
        if digest != key.request_digest {
            return Err(Error::new(
                Reason::IdempotencyConflict,
                format!("the key {shown} stands for another request: {id}"),
            )
            .about(&id)
            .next(&["opsctl", "operation", "get", id.as_str()])
            .effect("nothing was done"));
        }
        self.find(&id).await
    }

    /// Plans afresh, and holds it against what was shown and what was said.
    async fn agree(
        &self,
        route: &str,
        options: &ChangeOptions,
        task: &dyn Task,
        reserved: Option<&Reserved<'_>>,
    ) -> Result<()> {
        let plan = task.plan().await?;
        let digest = plan_digest(route, task, &plan.preconditions);
        if reserved.is_some_and(|reserved| reserved.digest() != digest) {
            return Err(stale("things have changed since this plan was made; plan again"));
        }
        if !options.plan_digest.is_empty() && !options.plan_digest.eq_ignore_ascii_case(&digest) {
            return Err(stale("a plan made now is not the plan of this digest").fact("digest", digest));
        }
        confirmed(&plan.confirm, options, task)
    }

    /// All of the locks, in their order; whether it had to wait for one.
    async fn lock(
        &self,
        names: &[String],
        holder: &Holder,
        wait: Duration,
    ) -> Result<(Vec<Held<Holder>>, bool)> {
        let (mut held, mut waited) = (Vec::new(), false);
        let mut end = self.ports.clock.sleep(wait);
        for name in names {
            match self.locks.take(name, holder.clone()) {
                Take::Now(lock) => held.push(lock),
                Take::Later(_) if wait.is_zero() => return Err(self.locked(name)),
                Take::Later(turn) => {
                    waited = true;
                    tokio::select! {
                        lock = turn => held.extend(lock),
                        () = &mut end => return Err(self.locked(name)),
                    }
                }
            }
        }
        Ok((held, waited))
    }

    fn locked(&self, name: &str) -> Error {
        let target = name.replacen('/', " ", 1);
        let error = Error::new(Reason::Locked, format!("{target} is locked by another operation"))
            .about(name.split_once('/').map_or(name, |(_, target)| target))
            .retryable()
            .effect("nothing was done");
        let Some(holder) = self.locks.holder(name) else { return error };
        let progress = self.live(&holder.id).map(|live| live.operation().progress()).unwrap_or_default();
        let progress = if progress.is_empty() { progress } else { format!(", {progress}") };
        let (kind, by) = (&holder.kind, holder.subject.short());
        let since = holder.since.strftime("%H:%M:%SZ");
        Error { message: format!("{target} is locked: {kind} by {by} since {since}{progress}"), ..error }
            .fact(
                "holder",
                format!("{}, {kind} by {} since {}{progress}", holder.id, holder.subject, holder.since),
            )
            .next(&["opsctl", "operation", "wait", holder.id.as_str()])
    }

    fn record(
        &self,
        id: OperationId,
        authorized: &Authorized,
        route: &str,
        options: &ChangeOptions,
        task: &dyn Task,
        locks: Vec<String>,
    ) -> Recorded {
        let parameters = task.parameters();
        let intent = AuditEntry {
            target: task.targets().join(","),
            params: parameters.clone(),
            reason: options.reason.clone(),
            operation_id: id.to_string(),
            ..intent(authorized, route)
        };
        let operation = Operation {
            id,
            kind: task.kind().to_owned(),
            targets: task.targets(),
            subject: authorized.principal().subject.clone(),
            reason: options.reason.clone(),
            state: State::Running,
            created_at: self.ports.clock.now(),
            finished_at: None,
            phases: Vec::new(),
            results: Vec::new(),
            problem: None,
            notes: Vec::new(),
            last_seq: 0,
        };
        Recorded { operation, parameters, locks, intent, checkpoints: Vec::new() }
    }

    async fn begin(
        self: Arc<Self>,
        beginning: Beginning,
        key: Option<IdempotencyKey>,
        task: Arc<dyn Task>,
    ) -> Result<Operation> {
        let recorded = &beginning.recorded;
        let operation = recorded.operation.clone();
        self.settle().await?;
        let abandoned = AuditEntry { stage: "abandoned".to_owned(), ..recorded.intent.clone() };
        self.ports.journal.prepare(&operation.id, &abandoned).await?;
        let begun = match self.ports.audit.append(recorded.intent.clone()).await {
            Ok(()) => self.ports.journal.insert(recorded, key.as_ref()).await,
            refused => refused,
        };
        if let Err(error) = begun {
            // Owed also when the intent was refused: it may still have reached the disk, late.
            if let Err(error) = self.ports.journal.abandon(&operation.id).await {
                tracing::warn!(operation = %operation.id, %error, "the next start abandons it");
            }
            return Err(error.effect("nothing was done"));
        }
        let live = self.go_live(operation.clone());
        let run = self.run(&live, beginning.timeout);
        let work = async move { task.run(&run).await };
        let agent = None;
        tokio::spawn(Arc::clone(&self).drive(live, beginning, work, agent));
        Ok(operation)
    }

    /// Tells the audit trail what it is owed.
    pub(super) async fn settle(&self) -> Result<()> {
        let _once = self.settling.lock().await;
        for owed in self.ports.journal.owed().await? {
            self.ports.audit.append(owed.entry).await?;
            self.ports.journal.settled(owed.number).await?;
        }
        Ok(())
    }

    pub(super) fn go_live(&self, operation: Operation) -> Arc<Live> {
        let id = operation.id.clone();
        let live = Live::new(operation, Arc::clone(&self.ports.clock), Arc::clone(&self.ports.journal));
        self.running().insert(id, Arc::clone(&live));
        live
    }

    pub(super) fn run(&self, live: &Arc<Live>, timeout: Duration) -> Run {
        let sink: Arc<dyn RunSink> = Arc::<Live>::clone(live);
        let deadline = self.ports.clock.monotonic() + timeout;
        Run::new(live.operation().id, sink, live.switch().clone(), deadline)
    }

    pub(super) fn live(&self, id: &OperationId) -> Option<Arc<Live>> {
        self.running().get(id).cloned()
    }

    pub(super) fn running(&self) -> MutexGuard<'_, BTreeMap<OperationId, Arc<Live>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn new_id(&self) -> Result<OperationId> {
        OperationId::parse(&format!("op-{}", self.random(10)?))
    }

    /// So many letters of Crockford's base 32, five bits each.
    fn random(&self, letters: usize) -> Result<String> {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = vec![0; letters];
        self.ports.entropy.fill(&mut bytes)?;
        Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
    }
}

fn intent(authorized: &Authorized, route: &str) -> AuditEntry {
    let principal = authorized.principal();
    AuditEntry {
        stage: "intent".to_owned(),
        subject: principal.subject.to_string(),
        roles: principal.binding.roles.iter().map(|role| role.name().to_owned()).collect(),
        route: route.to_owned(),
        rule: authorized.permission().name().to_owned(),
        decision: "allowed".to_owned(),
        request_id: principal.request_id.clone(),
        peer: principal.peer.clone(),
        certificate_sha256: principal.certificate_sha256.clone(),
        ..AuditEntry::default()
    }
}

pub(super) fn internal(message: impl Into<String>) -> Error {
    Error::new(Reason::Internal, message)
}
