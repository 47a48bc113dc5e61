use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::ports::log_excerpt::{Excerpt, LogMark};
use crate::ports::process_table::{Process, ProcessStart};
use crate::ports::service_history::{Change, Exit, Transition};
use crate::ports::service_manager::{ManagerError, Patience, Program, ProgramName, ProgramState};
use crate::ports::{Clock, LogExcerpt, Prober, ProcessTable, ServiceHistory, ServiceManager};
use crate::probe::{Answer, Failure, Target};

/// How a program of [`FakeHost`] behaves. All have a startsecs of 1 s, 3 retries, a stopwaitsecs of 10 s.
#[derive(Clone, Copy, Debug)]
pub enum Temper {
    /// Answers so long after its start; stops in 100 ms.
    Well(Duration),
    /// Ends at once with this code.
    Crash(i32),
    /// Answers at once, and ends so long after each start with code 1; is started again.
    Flap(Duration),
    /// Answers at once, and stops only when killed.
    Stubborn,
}

/// A host in memory: manager, its history, processes, probes and logs, on one clock. The probe of a service is TCP to
/// an address that is its program's process name.
pub struct FakeHost {
    clock: Arc<dyn Clock>,
    state: Mutex<Host>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Host {
    programs: BTreeMap<ProgramName, Simulated>,
    asked: Vec<String>,
    next_pid: u32,
    down: bool,
    own_pid: u32,
    without_history: bool,
}

struct Simulated {
    temper: Temper,
    state: ProgramState,
    pid: Option<u32>,
    started: Duration,
    /// It has been up since long before the clock began.
    old: bool,
    tries: u32,
    due: Option<(Duration, Step)>,
    history: Vec<Transition>,
}

#[derive(Clone, Copy)]
enum Step {
    Up,
    End,
    Again,
    Stopped { killed: bool },
}

const START: Duration = Duration::from_secs(1);
const STOP: Duration = Duration::from_secs(10);

impl FakeHost {
    /// Programs of this temper; those that are `true` run.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, programs: &[(&str, Temper, bool)]) -> Arc<Self> {
        let host = Self { clock, state: Mutex::default(), changes: watch::Sender::new(0) };
        host.host().next_pid = 100;
        for (name, temper, running) in programs {
            // Names of tests keep their rule.
            let Ok(name) = ProgramName::parse(name) else { continue };
            let simulated = Simulated {
                temper: *temper,
                state: ProgramState::Stopped,
                pid: None,
                started: Duration::ZERO,
                old: false,
                tries: 0,
                due: None,
                history: Vec::new(),
            };
            let mut state = host.host();
            state.programs.insert(name.clone(), simulated);
            if *running {
                state.spawn(&name, &*host.clock);
                if let Some(program) = state.programs.get_mut(&name) {
                    (program.state, program.old, program.due) = (ProgramState::Running, true, None);
                }
            }
        }
        Arc::new(host)
    }

    /// Every start, stop and kill that was asked for: `stop backend`.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.host().asked.clone()
    }

    /// The manager answers no more, or again.
    pub fn manager_down(&self, down: bool) {
        self.host().down = down;
    }

    /// There is no readable log.
    pub fn forget_history(&self) {
        self.host().without_history = true;
    }

    /// The agent itself is this program.
    pub fn is_agent(&self, program: &str) {
        let pid = self.pid(program);
        self.host().own_pid = pid.unwrap_or_default();
    }

    /// Its process now.
    #[must_use]
    pub fn pid(&self, program: &str) -> Option<u32> {
        let name = ProgramName::parse(program).ok()?;
        self.host().programs.get(&name)?.pid
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.settle(&*self.clock) {
            self.changes.send_modify(|version| *version += 1);
        }
        state
    }

    fn up(&self) -> Result<MutexGuard<'_, Host>, ManagerError> {
        let state = self.host();
        if state.down {
            let (place, why, hint) =
                ("/run/fake.sock".into(), "there is no such socket".into(), "start it".into());
            return Err(ManagerError::Unreachable { place, why, hint });
        }
        Ok(state)
    }
}

impl Host {
    fn spawn(&mut self, name: &ProgramName, clock: &dyn Clock) {
        let pid = self.next_pid;
        self.next_pid += 1;
        let Some(program) = self.programs.get_mut(name) else { return };
        (program.state, program.pid, program.started) =
            (ProgramState::Starting, Some(pid), clock.monotonic());
        program.tries += 1;
        program.old = false;
        let step = if matches!(program.temper, Temper::Crash(_)) {
            (Duration::ZERO, Step::End)
        } else {
            (START, Step::Up)
        };
        program.due = Some((clock.monotonic() + step.0, step.1));
        program.history.push(Transition { at: clock.now(), change: Change::Spawned { pid } });
    }

    /// Does all that is due. Whether anything was.
    fn settle(&mut self, clock: &dyn Clock) -> bool {
        let mut changed = false;
        let names: Vec<ProgramName> = self.programs.keys().cloned().collect();
        for name in names {
            while let Some(program) = self.programs.get_mut(&name)
                && let Some((at, step)) = program.due
                && at <= clock.monotonic()
            {
                program.due = None;
                changed = true;
                self.step(&name, step, clock);
            }
        }
        changed
    }

    fn step(&mut self, name: &ProgramName, step: Step, clock: &dyn Clock) {
        let Some(program) = self.programs.get_mut(name) else { return };
        let (now, at) = (clock.monotonic(), clock.now());
        let mut happened = |change| program.history.push(Transition { at, change });
        match step {
            Step::Up => {
                happened(Change::Running);
                (program.state, program.tries) = (ProgramState::Running, 0);
                if let Temper::Flap(after) = program.temper {
                    program.due = Some((program.started + after, Step::End));
                }
            }
            Step::End => {
                let code = if let Temper::Crash(code) = program.temper { code } else { 1 };
                happened(Change::Exited { exit: Exit::Code(code), expected: false });
                program.pid = None;
                if program.tries > 3 {
                    happened(Change::Fatal);
                    program.state = ProgramState::Fatal;
                } else {
                    program.state = ProgramState::Backoff;
                    let pause = Duration::from_secs(program.tries.into());
                    program.due = Some((now + pause, Step::Again));
                }
            }
            Step::Again => self.spawn(name, clock),
            Step::Stopped { killed } => {
                let signal = if killed { "SIGKILL" } else { "SIGTERM" };
                if killed && let Some(pid) = program.pid {
                    happened(Change::Killing { pid });
                }
                happened(Change::Stopped { exit: Exit::Signal(signal.into()) });
                (program.state, program.pid, program.tries) = (ProgramState::Stopped, None, 0);
            }
        }
    }
}

#[async_trait]
impl ServiceManager for FakeHost {
    async fn version(&self) -> Result<String, ManagerError> {
        self.up().map(|_| "4.3.0".to_owned())
    }

    async fn programs(&self) -> Result<Vec<Program>, ManagerError> {
        let state = self.up()?;
        Ok(state.programs.iter().map(|(name, program)| told(name, program, &*self.clock)).collect())
    }

    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError> {
        let state = self.up()?;
        let program = state.programs.get(name).ok_or_else(|| ManagerError::NoSuchProgram(name.clone()))?;
        Ok(told(name, program, &*self.clock))
    }

    async fn patience(&self) -> Result<BTreeMap<ProgramName, Patience>, ManagerError> {
        let state = self.up()?;
        let patience = Patience { start: START, retries: 3, stop: STOP };
        Ok(state.programs.keys().map(|name| (name.clone(), patience)).collect())
    }

    async fn start(&self, name: &ProgramName) -> Result<(), ManagerError> {
        let mut state = self.up()?;
        state.asked.push(format!("start {}", name.short()));
        let program = state.programs.get(name).ok_or_else(|| ManagerError::NoSuchProgram(name.clone()))?;
        match program.state {
            state if state.is_down() => {}
            ProgramState::Stopping => return Ok(()),
            _ => return Err(ManagerError::AlreadyStarted),
        }
        state.spawn(name, &*self.clock);
        Ok(())
    }

    async fn stop(&self, name: &ProgramName) -> Result<(), ManagerError> {
        let mut state = self.up()?;
        state.asked.push(format!("stop {}", name.short()));
        let now = self.clock.monotonic();
        let program =
            state.programs.get_mut(name).ok_or_else(|| ManagerError::NoSuchProgram(name.clone()))?;
        if program.state.is_down() || program.state == ProgramState::Stopping {
            return Err(ManagerError::NotRunning);
        }
        program.state = ProgramState::Stopping;
        program.due = Some(match program.temper {
            Temper::Stubborn => (now + STOP, Step::Stopped { killed: true }),
            _ => (now + Duration::from_millis(100), Step::Stopped { killed: false }),
        });
        Ok(())
    }

    async fn kill(&self, name: &ProgramName) -> Result<(), ManagerError> {
        let mut state = self.up()?;
        state.asked.push(format!("kill {}", name.short()));
        let now = self.clock.monotonic();
        let program =
            state.programs.get_mut(name).ok_or_else(|| ManagerError::NoSuchProgram(name.clone()))?;
        program.due = Some((now, Step::Stopped { killed: true }));
        Ok(())
    }
}

fn told(name: &ProgramName, program: &Simulated, clock: &dyn Clock) -> Program {
    let ago = clock.monotonic().saturating_sub(program.started);
    let started = jiff::SignedDuration::try_from(ago).ok().and_then(|ago| clock.now().checked_sub(ago).ok());
    Program {
        name: name.clone(),
        state: program.state,
        pid: program.pid,
        started_at: program.pid.and(started),
        stopped_at: None,
        exit_status: 0,
        spawn_error: String::new(),
        stdout_log: Some(format!("/logs/{}.out.log", name.process())),
        stderr_log: Some(format!("/logs/{}.err.log", name.process())),
    }
}

impl ServiceHistory for FakeHost {
    fn transitions(&self, process: &str) -> Vec<Transition> {
        let state = self.host();
        let found = state.programs.iter().find(|(name, _)| name.process() == process);
        found
            .filter(|_| !state.without_history)
            .map(|(_, program)| program.history.clone())
            .unwrap_or_default()
    }

    fn missing(&self) -> Option<String> {
        self.host().without_history.then(|| "permission denied".to_owned())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl ProcessTable for FakeHost {
    fn process(&self, pid: u32) -> Option<Process> {
        let state = self.host();
        let program = state.programs.values().find(|program| program.pid == Some(pid))?;
        Some(Process {
            start: ProcessStart {
                boot_id: "boot".into(),
                ticks: u64::try_from(program.started.as_millis()).ok()?,
            },
            started_at: self.clock.now(),
            memory_bytes: 1 << 20,
            cpu: Duration::ZERO,
        })
    }

    fn own_pid(&self) -> u32 {
        self.host().own_pid
    }
}

#[async_trait]
impl Prober for FakeHost {
    async fn ask(&self, target: &Target, _limit: Duration) -> Answer {
        let closed = matches!(target, Target::Closed { .. });
        let up = {
            let state = self.host();
            let program = state.programs.iter().find(|(name, _)| name.process() == target.place());
            program.is_some_and(|(_, program)| {
                let lived = self.clock.monotonic().saturating_sub(program.started);
                let answers = match program.temper {
                    Temper::Well(after) => program.old || lived >= after,
                    Temper::Crash(_) => false,
                    Temper::Flap(_) | Temper::Stubborn => true,
                };
                program.pid.is_some() && answers
            })
        };
        let passed = up != closed;
        let text =
            if up { format!("TCP {} connected", target.place()) } else { "connection refused".to_owned() };
        Answer {
            failure: (!passed).then_some(Failure::Connect),
            text,
            status: None,
            dns: None,
            connect: None,
            tls: None,
            first_byte: None,
            total: Duration::from_millis(1),
            certificate_days: None,
            address: None,
        }
    }
}

#[async_trait]
impl LogExcerpt for FakeHost {
    async fn mark(&self, _path: &str) -> Option<LogMark> {
        Some(LogMark { file: (1, 1), length: 0 })
    }

    async fn since(&self, path: &str, _mark: Option<&LogMark>, _lines: usize) -> Result<Excerpt, String> {
        let lines = vec![format!("last words in {path}"), "KeyError: 'JWT_SECRET_KEY'".to_owned()];
        Ok(Excerpt { total: Some(2), lines })
    }

    async fn contains(&self, path: &str, _mark: Option<&LogMark>, pattern: &str) -> Result<bool, String> {
        Ok(path.contains(pattern))
    }
}
