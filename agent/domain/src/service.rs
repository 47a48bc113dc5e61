//! Services: programs that a service manager keeps alive, with an order, a readiness and rules.
//!
//! State is always the manager's own answer of this moment. When to ask, exit codes and the last day come from the
//! manager's history.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;

use crate::access::{Authorized, Permission, Principal};
use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::near::near_names;
use crate::operation::Operation;
use crate::ports::process_table::ProcessStart;
use crate::ports::service_history::Transition;
use crate::ports::service_manager::{Program, ProgramState};
use crate::ports::{Clock, Journal, LogExcerpt, Prober, ProcessTable, ServiceHistory, ServiceManager};
use crate::probe::Answer;

mod change;
mod definition;
mod failure;
mod observer;
mod recovery;
mod task;
mod view;
mod watch;
mod worker;

pub use change::{Change, WaitFor};
pub use definition::{Check, Definition, Expected, Readiness as ReadinessRule, Verb, ordered};
pub use recovery::ServiceRecovery;
pub use view::{Listing, Readiness, Ready, Service};
pub use watch::ServiceWatch;

/// How long a readiness sample is shared.
const SHARED: Duration = Duration::from_secs(2);
/// Of a readiness sample that someone waits for.
const SAMPLE: Duration = Duration::from_secs(2);
/// Operations looked through for the last change.
const OPERATIONS: u32 = 200;
const STDERR_LINES: usize = 20;

/// What services work on.
#[derive(Clone)]
pub struct Ports {
    /// Who keeps the programs alive.
    pub manager: Arc<dyn ServiceManager>,
    /// What happened before.
    pub history: Arc<dyn ServiceHistory>,
    /// What the kernel knows.
    pub processes: Arc<dyn ProcessTable>,
    /// Who asks for readiness.
    pub prober: Arc<dyn Prober>,
    /// Last lines of logs.
    pub excerpts: Arc<dyn LogExcerpt>,
    /// Who changed what.
    pub journal: Arc<dyn Journal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// All services of this agent. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    inner: Arc<Inner>,
}

struct Inner {
    definitions: Vec<Definition>,
    ports: Ports,
    samples: HashMap<ServiceName, tokio::sync::Mutex<Option<Sampled>>>,
    loads: Mutex<HashMap<u32, Load>>,
}

struct Sampled {
    at: Duration,
    pid: Option<u32>,
    answer: Answer,
}

struct Load {
    start: ProcessStart,
    cpu: Duration,
    at: Duration,
}

impl Services {
    /// These services, on these ports.
    ///
    /// # Errors
    /// `CONFIG_INVALID`: as [`ordered`].
    pub fn new(definitions: Vec<Definition>, ports: Ports) -> Result<Self> {
        let definitions = ordered(definitions)?;
        let samples =
            definitions.iter().map(|service| (service.name.clone(), tokio::sync::Mutex::new(None))).collect();
        Ok(Self { inner: Arc::new(Inner { definitions, ports, samples, loads: Mutex::default() }) })
    }

    /// What the configuration says, in the order in which they come up.
    #[must_use]
    pub fn definitions(&self) -> &[Definition] {
        &self.inner.definitions
    }

    /// All that the caller's scope covers: as configured, then the unmanaged, sorted.
    ///
    /// # Errors
    /// `SUPERVISOR_UNREACHABLE`, `SUPERVISOR_BAD_REPLY`.
    pub async fn list(&self, authorized: &Authorized) -> Result<Listing> {
        let inner = &self.inner;
        let principal = authorized.principal();
        let at = inner.ports.clock.now();
        let programs = inner.ports.manager.programs().await?;
        let supervisor_version = inner.ports.manager.version().await?;
        let history_missing = inner.ports.history.missing().unwrap_or_default();
        let operations = inner.operations().await;
        let managed = inner.definitions.iter().filter(|service| principal.covers(&service.name));
        let mut services = join_all(managed.map(|service| {
            let program = programs.iter().find(|program| program.name == service.program);
            inner.service(service, program, &operations, principal)
        }))
        .await;
        if principal.binding.services.is_empty() {
            let mut unmanaged: Vec<Service> =
                inner.unmanaged(&programs).map(|program| inner.read_only(program)).collect();
            unmanaged.sort_by(|one, other| one.name.cmp(&other.name));
            services.append(&mut unmanaged);
        }
        Ok(Listing { services, at, supervisor_version, history_missing })
    }

    /// One, managed or not, by its name.
    ///
    /// # Errors
    /// `SERVICE_NOT_FOUND` with near names, and as [`Services::list`].
    pub async fn find(&self, authorized: &Authorized, name: &str) -> Result<Service> {
        self.one(authorized.principal(), name).await
    }

    pub(crate) async fn pause(&self, length: Duration) {
        self.inner.ports.clock.sleep(length).await;
    }

    pub(crate) async fn one(&self, principal: &Principal, name: &str) -> Result<Service> {
        let inner = &self.inner;
        let programs = inner.ports.manager.programs().await?;
        let managed = inner.definitions.iter().find(|service| service.name.as_str() == name);
        if let Some(service) = managed.filter(|service| principal.covers(&service.name)) {
            let program = programs.iter().find(|program| program.name == service.program);
            return Ok(inner.service(service, program, &inner.operations().await, principal).await);
        }
        if principal.binding.services.is_empty()
            && let Some(program) = inner
                .unmanaged(&programs)
                .find(|program| program.name.as_str() == name || program.name.short() == name)
        {
            return Ok(inner.read_only(program));
        }
        let visible = inner.definitions.iter().filter(|service| principal.covers(&service.name));
        Err(not_found(name, &visible.map(|service| service.name.as_str()).collect::<Vec<_>>()))
    }
}

fn not_found(name: &str, known: &[&str]) -> Error {
    let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    Error::new(Reason::ServiceNotFound, format!("no service '{shown}'; {}", near_names(name, known)))
        .about(shown)
        .effect("nothing was done")
        .next(&["opsctl", "service", "list"])
}

impl Inner {
    fn unmanaged<'a>(&self, programs: &'a [Program]) -> impl Iterator<Item = &'a Program> {
        programs
            .iter()
            .filter(|program| self.definitions.iter().all(|service| service.program != program.name))
    }

    async fn operations(&self) -> Vec<Operation> {
        // Who changed a service last is worth less than its state: without a journal the state is shown alone.
        self.ports.journal.list(OPERATIONS, false).await.unwrap_or_default()
    }

    async fn service(
        &self,
        definition: &Definition,
        program: Option<&Program>,
        operations: &[Operation],
        principal: &Principal,
    ) -> Service {
        let Some(program) = program else { return absent(definition) };
        let mut service = self.read_only(program);
        definition.name.as_str().clone_into(&mut service.name);
        service.managed = true;
        service.expected = definition.expected;
        service.protected.clone_from(&definition.protected);
        service.after.clone_from(&definition.after);
        service.readiness = self.readiness(definition, program).await;
        self.last_change(&mut service, operations);
        let may_read = principal.has(Permission::LogRead) && principal.covers(&definition.name);
        if may_read && !service.is_ok() {
            let path = program.stderr_log.as_deref().or(program.stdout_log.as_deref());
            if let Some(path) = path
                && let Ok(excerpt) = self.ports.excerpts.since(path, None, STDERR_LINES).await
            {
                service.stderr = excerpt.lines;
            }
        }
        service
    }

    fn read_only(&self, program: &Program) -> Service {
        let all = self.ports.history.transitions(program.name.process());
        let known = self.ports.history.missing().is_none();
        let restarts_24h = known.then(|| view::restarts(&all, self.ports.clock.now()));
        let exit = view::last_exit(&all).or_else(|| exit_of(program));
        let transitions: Vec<Transition> = all.into_iter().rev().take(20).collect();
        let mut service = Service {
            name: program.name.short().to_owned(),
            program: program.name.clone(),
            state: program.state,
            pid: program.pid,
            started_at: program.pid.and(program.started_at),
            readiness: Readiness {
                verdict: Ready::Unknown,
                text: "not managed: it has no section in opsd.toml".to_owned(),
                age: Duration::ZERO,
            },
            restarts_24h,
            exit,
            spawn_error: program.spawn_error.clone(),
            cpu_percent: None,
            memory_bytes: None,
            transitions,
            last_change: String::new(),
            last_change_at: None,
            managed: false,
            expected: Expected::Any,
            protected: std::collections::BTreeSet::new(),
            after: Vec::new(),
            stderr: Vec::new(),
        };
        self.load(&mut service);
        service
    }

    /// Processor and memory, from the kernel.
    fn load(&self, service: &mut Service) {
        let Some(pid) = service.pid else { return };
        let Some(process) = self.ports.processes.process(pid) else { return };
        let now = self.ports.clock.monotonic();
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.retain(|_, load| now.saturating_sub(load.at) < Duration::from_secs(3600));
        let before = loads.get(&pid).filter(|load| load.start == process.start);
        let share = |cpu: Duration, over: Duration| cpu.as_secs_f64() / over.as_secs_f64() * 100.0;
        let lived = self.ports.clock.now().duration_since(process.started_at);
        service.cpu_percent = match before {
            Some(load) if now.saturating_sub(load.at) >= Duration::from_millis(500) => {
                Some(share(process.cpu.saturating_sub(load.cpu), now.saturating_sub(load.at)))
            }
            _ => Duration::try_from(lived)
                .ok()
                .filter(|lived| !lived.is_zero())
                .map(|lived| share(process.cpu, lived)),
        };
        service.memory_bytes = Some(process.memory_bytes);
        service.started_at = Some(process.started_at);
        let fresh = before.is_none_or(|load| now.saturating_sub(load.at) >= Duration::from_millis(500));
        if fresh {
            loads.insert(pid, Load { start: process.start, cpu: process.cpu, at: now });
        }
    }

    async fn readiness(&self, definition: &Definition, program: &Program) -> Readiness {
        let said = |verdict, text: String| Readiness { verdict, text, age: Duration::ZERO };
        if program.state != ProgramState::Running {
            let needed = definition.expected == Expected::Running || !program.state.is_down();
            let verdict = if needed { Ready::No } else { Ready::NotExpected };
            return said(verdict, format!("not asked: {}", program.state.name()));
        }
        let target = match &definition.readiness.check {
            Check::None => return said(Ready::Yes, "RUNNING; no readiness is configured".to_owned()),
            Check::Log { .. } => {
                return said(Ready::Yes, "RUNNING; its line is awaited at starts only".to_owned());
            }
            Check::Probe(target) => target,
        };
        let Some(shared) = self.samples.get(&definition.name) else {
            return said(Ready::Unknown, "not asked".to_owned());
        };
        // Who comes while it is asked waits for that answer.
        let mut shared = shared.lock().await;
        let now = self.ports.clock.monotonic();
        let fresh = shared
            .as_ref()
            .is_some_and(|sampled| sampled.pid == program.pid && now.saturating_sub(sampled.at) < SHARED);
        if !fresh {
            let answer = self.ports.prober.ask(target, SAMPLE).await;
            *shared = Some(Sampled { at: self.ports.clock.monotonic(), pid: program.pid, answer });
        }
        let Some(sampled) = shared.as_ref() else { return said(Ready::Unknown, "not asked".to_owned()) };
        Readiness {
            verdict: if sampled.answer.passed() { Ready::Yes } else { Ready::No },
            text: sampled.answer.text.clone(),
            age: self.ports.clock.monotonic().saturating_sub(sampled.at),
        }
    }

    fn last_change(&self, service: &mut Service, operations: &[Operation]) {
        let by_hand = operations.iter().find_map(|operation| {
            let verb = [Verb::Start, Verb::Stop, Verb::Restart]
                .into_iter()
                .find(|verb| verb.kind() == operation.kind)?;
            let row = operation.results.iter().find(|row| row.target == service.name)?;
            let did = match row.result.as_str() {
                "unchanged" | "untouched" => return None,
                result if result == verb.done() || result == Verb::Start.done() => result.to_owned(),
                _ => format!("{} failed", verb.name()),
            };
            Some((operation.finished_at?, format!("{did} by {}, {}", operation.subject, operation.id)))
        });
        let by_itself = service
            .transitions
            .first()
            .map(|newest| (newest.at, service.end()))
            .filter(|(_, end)| !end.is_empty());
        let newest = match (by_hand, by_itself) {
            (Some(hand), Some(itself)) if itself.0 > hand.0 => Some(itself),
            (Some(hand), _) => Some(hand),
            (None, itself) => itself,
        };
        if let Some((at, text)) = newest {
            (service.last_change_at, service.last_change) = (Some(at), text);
        }
    }
}

/// Configured here and unknown there.
fn absent(definition: &Definition) -> Service {
    Service {
        name: definition.name.to_string(),
        program: definition.program.clone(),
        state: ProgramState::Unknown,
        pid: None,
        started_at: None,
        readiness: Readiness {
            verdict: Ready::No,
            text: format!("supervisord has no program {}", definition.program),
            age: Duration::ZERO,
        },
        restarts_24h: None,
        exit: None,
        spawn_error: String::new(),
        cpu_percent: None,
        memory_bytes: None,
        transitions: Vec::new(),
        last_change: String::new(),
        last_change_at: None,
        managed: true,
        expected: definition.expected,
        protected: definition.protected.clone(),
        after: definition.after.clone(),
        stderr: Vec::new(),
    }
}

/// What supervisord itself still knows of an end: a code after EXITED, and that there was a signal.
fn exit_of(program: &Program) -> Option<crate::ports::service_history::Exit> {
    use crate::ports::service_history::Exit;
    (program.state == ProgramState::Exited).then(|| match program.exit_status {
        -1 => Exit::Signal("a signal".to_owned()),
        code => Exit::Code(code),
    })
}

type Patiences =
    BTreeMap<crate::ports::service_manager::ProgramName, crate::ports::service_manager::Patience>;

#[cfg(test)]
mod tests;
