//! A real platform in a folder: supervisord that keeps a MongoDB server and the sample platform, and the agent.
//!
//! A sandbox has its own ports, sockets and data; any number of them stand side by side. Every process in it
//! carries the sandbox's mark ([`crate::belongings`]), so that nothing is left behind: not when the sandbox is
//! dropped, not when a test ends by panic, and not when its owner is killed, for then a keeper sees the end of
//! its pipe.

mod agent;
mod binaries;
mod control;
mod database;
mod description;
mod error;
mod faults;
mod layout;
mod supervisor;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

pub use agent::ROLES;
pub use binaries::Binaries;
pub use control::Output;
pub use description::{Agent, Description, Identity, Mongodb, Platform, Supervisor};
pub use error::Error;

use crate::belongings::{self, Process};
use crate::http::{self, Answer};
use crate::parts::{self, Parts, Progress};
use crate::patience::eventually;
use agent::AgentFiles;
use database::Database;
use description::Processes;
use layout::{Addresses, Layout};

/// The programs that start by themselves, in the order in which they depend on each other.
pub const KEPT: [&str; 3] = ["mongodb", "backend", "frontend"];
/// The programs that misbehave; they start only when they are asked to.
pub const FAULTY: [&str; 4] = ["slow", "crash", "flap", "stubborn"];

/// How long the platform may take until it is healthy.
const HEALTHY: Duration = Duration::from_secs(60);
/// How long an orderly end may take before what is left is killed.
const ORDERLY: Duration = Duration::from_secs(30);
/// Lines of a log that an error shows.
const EVIDENCE_LINES: usize = 15;

/// What kind of sandbox.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its folder: empty, missing, or a former sandbox's; `None` for one of its own that goes when it goes.
    pub dir: Option<PathBuf>,
    /// Our programs; `None` for [`Binaries::current`].
    pub binaries: Option<Binaries>,
    /// Whether it has an agent, and an identity and a context for each of [`ROLES`].
    pub with_agent: bool,
    /// Added to the agent's configuration: TOML that begins with a section of its own, `[limits]`.
    pub agent_config: String,
    /// Whether `test_database` gets the seed's documents.
    pub seeded: bool,
    /// When the programs' logs are rotated by supervisord.
    pub logs: LogRotation,
    /// Whether it outlives its owner, until [`down`].
    pub detached: bool,
}

/// Rotation of the programs' logs: supervisord's own defaults unless a test wants to see one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// Bytes of a file before it is rotated.
    pub max_bytes: u64,
    /// Rotated files that are kept.
    pub backups: u32,
}

impl Default for Options {
    fn default() -> Self {
        let logs = LogRotation { max_bytes: 50 * 1024 * 1024, backups: 10 };
        Self {
            dir: None,
            binaries: None,
            with_agent: true,
            agent_config: String::new(),
            seeded: true,
            logs,
            detached: false,
        }
    }
}

/// A platform that stands.
#[derive(Debug)]
pub struct Sandbox {
    layout: Layout,
    addresses: Addresses,
    parts: Parts,
    binaries: Binaries,
    database: Database,
    supervisord: Process,
    /// For its exit status; `None` after it was waited for.
    supervisord_child: Option<Child>,
    agent_files: AgentFiles,
    agent: Option<Process>,
    agent_child: Option<Child>,
    /// Ends everything when this process is killed; `None` when detached.
    keeper: Option<Child>,
    description: Description,
    temporary: bool,
    detached: bool,
    cleared: bool,
}

impl Sandbox {
    /// Starts it, and waits until supervisord calls its programs RUNNING and the platform is healthy.
    ///
    /// # Errors
    /// [`Error`] with the log lines that tell why. Nothing is left running then.
    pub fn up(options: Options) -> Result<Self, Error> {
        Self::up_telling(options, &parts::to_stderr)
    }

    /// As [`Sandbox::up`], with a place of its own for the progress of missing parts.
    ///
    /// # Errors
    /// As [`Sandbox::up`].
    pub fn up_telling(options: Options, progress: Progress<'_>) -> Result<Self, Error> {
        let parts = parts::ensure(progress)?;
        let binaries = options.binaries.clone().map_or_else(Binaries::current, Ok)?;
        let temporary = options.dir.is_none();
        let layout = Layout::make(&options.dir.clone().unwrap_or_else(own_folder))?;
        let standing = Self::stand(&options, parts, binaries, layout.clone(), temporary);
        if standing.is_err() {
            // What went wrong is told; that it cannot be cleared away as well would hide it.
            let _ = belongings::kill_all(&layout.dir);
            let _ = remove_sockets(&layout.dir, &layout.sockets);
        }
        standing
    }

    fn stand(
        options: &Options,
        parts: Parts,
        binaries: Binaries,
        layout: Layout,
        temporary: bool,
    ) -> Result<Self, Error> {
        let addresses = Addresses::free()?;
        let platform = &binaries.sample_platform;
        let database = Database::of(&parts, &layout, &addresses, platform)?;
        let in_place = options.seeded && database.prepare(&parts, &layout, platform)?;
        supervisor::configure(&layout, &addresses, platform, &database, &options.logs)?;
        let keeper = if options.detached { None } else { Some(start_keeper(platform, &layout)?) };
        let (child, supervisord) = supervisor::start(&layout, &parts)?;
        let description = describe(&layout, &addresses, &parts, &binaries, &database, supervisord);
        let mut sandbox = Self {
            addresses,
            parts,
            binaries,
            database,
            supervisord,
            supervisord_child: Some(child),
            agent_files: AgentFiles::of(&layout),
            agent: None,
            agent_child: None,
            layout,
            keeper,
            description,
            temporary,
            detached: options.detached,
            cleared: false,
        };
        sandbox.database.wait_until_it_answers(&sandbox.layout)?;
        if options.seeded && !in_place {
            sandbox.database.seed(&sandbox.binaries.sample_platform)?;
        }
        sandbox.wait_until_healthy()?;
        if options.with_agent {
            sandbox.make_agent(&options.agent_config)?;
        }
        sandbox.description.write()?;
        Ok(sandbox)
    }

    /// What it is, as other programs are told.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.layout.dir
    }

    /// The stdout log of a program.
    pub fn stdout_log(&self, program: &str) -> PathBuf {
        self.layout.logs().join(format!("{program}.out.log"))
    }

    /// The stderr log of a program.
    pub fn stderr_log(&self, program: &str) -> PathBuf {
        self.layout.logs().join(format!("{program}.err.log"))
    }

    /// supervisord's own log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.layout.supervisor_log()
    }

    /// Where a program of the sandbox listens; `crash` listens nowhere.
    pub fn address(&self, program: &str) -> Option<SocketAddr> {
        let at = &self.addresses;
        let known = [
            ("mongodb", at.mongodb),
            ("backend", at.backend),
            ("frontend", at.frontend),
            ("slow", at.slow),
            ("flap", at.flap),
            ("stubborn", at.stubborn),
            ("opsd", at.agent),
        ];
        known.into_iter().find_map(|(name, address)| (name == program).then_some(address))
    }

    /// supervisord's process.
    pub fn supervisord(&self) -> Process {
        self.supervisord
    }

    /// The process that supervisord started last for a program, when it is alive.
    pub fn process(&self, program: &str) -> Option<Process> {
        Process::at(supervisor::last_spawned(&self.supervisor_log(), program)?)
    }

    /// Waits until mongodb, backend and frontend are RUNNING, the API healthy and the pages there.
    ///
    /// # Errors
    /// After a minute, with the end of the log that should tell why.
    pub fn wait_until_healthy(&self) -> Result<(), Error> {
        for program in KEPT {
            let log = self.supervisor_log();
            let runs = self.wait_for(&format!("{program} RUNNING"), program, || {
                supervisor::start_result(&log, program).ok_or("supervisord has not said so")
            })?;
            if !runs {
                return Err(Error::Failed {
                    what: format!("starting {program}"),
                    evidence: last_lines(&log),
                });
            }
        }
        for (program, address, path) in
            [("backend", self.addresses.backend, "/api/health"), ("frontend", self.addresses.frontend, "/")]
        {
            self.wait_for(&format!("200 from {program}"), program, || match http::get(address, path) {
                Ok(Answer { status: 200, .. }) => Ok(()),
                Ok(other) => Err(other.body),
                Err(error) => Err(error.to_string()),
            })?;
        }
        Ok(())
    }

    /// Runs the stock `supervisorctl`.
    ///
    /// # Errors
    /// When it cannot be started; its own failures are in the output.
    pub fn supervisorctl(&self, arguments: &[&str]) -> Result<process::Output, Error> {
        let mut command = Command::new(&self.parts.supervisorctl);
        command.arg("-c").arg(self.layout.supervisor_config()).args(arguments).stdin(Stdio::null());
        command.output().map_err(Error::doing("start supervisorctl"))
    }

    /// Ends it in order, as a host that shuts down; what does not end is killed.
    ///
    /// # Errors
    /// When something cannot be ended or removed.
    pub fn down(mut self) -> Result<(), Error> {
        remove_databases(&self.description);
        let children = [self.agent_child.take(), self.supervisord_child.take()];
        end_in_order(&self.description.processes, children)?;
        self.clear()
    }

    fn make_agent(&mut self, more: &str) -> Result<(), Error> {
        let files = self.agent_files.clone();
        files.make(&self.layout, &self.addresses, &self.binaries, &self.database, more)?;
        let contexts = files.contexts.to_string_lossy().into_owned();
        self.description.env = BTreeMap::from([
            ("OPSCTL_CONFIG".to_owned(), contexts),
            ("OPSCTL_CONTEXT".to_owned(), ROLES[0].to_owned()),
        ]);
        self.description.identities = files.identities();
        self.description.ca = Some(files.ca());
        self.start_agent()
    }

    fn wait_for<T, E: std::fmt::Display>(
        &self,
        what: &str,
        program: &str,
        attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Error> {
        eventually(HEALTHY, what, attempt)
            .map_err(|waited| Error::NotReady { waited, log: last_lines(&self.stderr_log(program)) })
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.cleared = true;
        belongings::kill_all(&self.layout.dir).map_err(Error::doing("end the sandbox"))?;
        for mut child in [self.supervisord_child.take(), self.agent_child.take()].into_iter().flatten() {
            child.wait().map_err(Error::doing("wait for an end"))?;
        }
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().map_err(Error::doing("wait for the keeper's end"))?;
        }
        remove_sockets(&self.layout.dir, &self.layout.sockets)?;
        if self.temporary && !std::thread::panicking() {
            fs::remove_dir_all(&self.layout.dir).map_err(Error::doing("remove the sandbox's folder"))?;
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    /// At once, without an orderly end. After a panic the folder stays, for its logs.
    fn drop(&mut self) {
        if self.detached || self.cleared {
            return;
        }
        remove_databases(&self.description);
        if let Err(error) = self.clear() {
            parts::to_stderr(&error.to_string());
        }
    }
}

/// Ends the sandbox in `dir`, whoever started it. Does nothing when it is down already.
///
/// # Errors
/// When something cannot be ended.
pub fn down(dir: &Path) -> Result<(), Error> {
    let dir = std::path::absolute(dir).map_err(Error::doing("find the sandbox's folder"))?;
    if let Some(description) = Description::read(&dir)? {
        remove_databases(&description);
        end_in_order(&description.processes, [None, None])?;
        remove_sockets(&dir, &description.sockets)?;
    }
    belongings::kill_all(&dir).map_err(Error::doing("end the sandbox"))?;
    Description::remove(&dir)
}

/// What cannot be dropped, because the server is away, is told and left there.
fn remove_databases(description: &Description) {
    let Mongodb { uri, database, kind } = &description.mongodb;
    let folder = description.opsd.parent().unwrap_or(Path::new("."));
    let platform = Binaries::in_folder(folder).sample_platform;
    if let Err(error) = database::remove(kind, uri, database, &platform) {
        parts::to_stderr(&format!("{database} is left on the given server: {error}"));
    }
}

/// The agent first, as it calls the others; then supervisord, which ends its programs.
fn end_in_order(processes: &Processes, children: [Option<Child>; 2]) -> Result<(), Error> {
    let in_order = [processes.agent, Some(processes.supervisord)];
    for (process, mut child) in in_order.into_iter().zip(children) {
        let Some(process) = process else { continue };
        process.signal(Signal::SIGTERM).map_err(Error::doing(format!("end pid {}", process.pid)))?;
        // Too late is no failure: what is left is killed.
        let _ = eventually(ORDERLY, "its end", || {
            if let Some(child) = &mut child {
                let _ = child.try_wait();
            }
            if process.is_alive() { Err("still there") } else { Ok(()) }
        });
    }
    Ok(())
}

/// A process whose only task is to see this one end.
fn start_keeper(platform: &Path, layout: &Layout) -> Result<Child, Error> {
    let mut keeper = Command::new(platform);
    keeper.arg("keeper").arg("--dir").arg(&layout.dir).arg("--sockets").arg(&layout.sockets);
    keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    keeper.spawn().map_err(Error::doing(format!("start {}", platform.display())))
}

fn describe(
    layout: &Layout,
    addresses: &Addresses,
    parts: &Parts,
    binaries: &Binaries,
    database: &Database,
    supervisord: Process,
) -> Description {
    let url = |address: SocketAddr| format!("http://{address}");
    Description {
        dir: layout.dir.clone(),
        opsctl: binaries.opsctl.clone(),
        opsd: binaries.opsd.clone(),
        env: Default::default(),
        agent: None,
        supervisor: Supervisor {
            pid: supervisord.pid,
            config: layout.supervisor_config(),
            supervisorctl: parts.supervisorctl.clone(),
            socket: layout.supervisor_socket(),
        },
        mongodb: Mongodb {
            uri: database.uri.clone(),
            database: database.name.clone(),
            kind: database.kind.to_owned(),
        },
        platform: Platform {
            backend_url: url(addresses.backend),
            frontend_url: url(addresses.frontend),
            admin_url: url(addresses.admin),
        },
        identities: Default::default(),
        ca: None,
        tools: parts::tools(),
        processes: Processes { supervisord, agent: None },
        sockets: layout.sockets.clone(),
    }
}

/// Removes the folders that failed or killed tests left for their logs.
///
/// # Errors
/// When one cannot be removed.
pub fn clear_leftovers() -> Result<(), Error> {
    let Ok(folders) = fs::read_dir(own_folders()) else {
        return Ok(());
    };
    for folder in folders.filter_map(Result::ok) {
        let name = folder.file_name();
        let owner = name.to_str().and_then(|name| name.split_once('-')?.0.parse().ok());
        if owner.is_some_and(|pid| Process::at(pid).is_none()) {
            let path = folder.path();
            fs::remove_dir_all(&path).map_err(Error::doing(format!("remove {}", path.display())))?;
        }
    }
    Ok(())
}

/// A folder that no other sandbox of this machine has, named after its owner.
fn own_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    own_folders().join(format!("{}-{number}", process::id()))
}

fn own_folders() -> PathBuf {
    parts::folder().join("run")
}

fn remove_sockets(dir: &Path, sockets: &Path) -> Result<(), Error> {
    if sockets.starts_with(dir) {
        return Ok(());
    }
    match fs::remove_dir_all(sockets) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::doing("remove the folder of the sockets")(error))
        }
        _ => Ok(()),
    }
}

/// The end of a log, for an error.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(EVIDENCE_LINES)..).unwrap_or_default().join("\n")
}
