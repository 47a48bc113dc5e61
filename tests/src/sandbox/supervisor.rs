//! supervisord and the programs that it keeps alive.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::database::Database;
use super::layout::{Addresses, Layout};
use super::{Error, LogRotation, last_lines};
use crate::belongings::{MARK, Process};
use crate::parts::Parts;
use crate::patience::eventually;

/// How long supervisord may take to open its socket: Python starts slowly on a busy machine.
const SOCKET: Duration = Duration::from_secs(30);

/// Writes supervisord's configuration.
///
/// mongodb, backend and frontend start by themselves; the faulty programs only when they are asked to.
pub(super) fn configure(
    layout: &Layout,
    addresses: &Addresses,
    platform: &Path,
    database: &Database,
    rotation: &LogRotation,
) -> Result<(), Error> {
    let logs = layout.logs();
    let socket = layout.supervisor_socket();
    let mut text = format!(
        "[unix_http_server]\nfile={socket}\nchmod=0700\n\n\
         [supervisord]\nlogfile={log}\nlogfile_maxbytes=50MB\nlogfile_backups=10\nloglevel=info\n\
         pidfile={pid}\nnodaemon=true\nsilent=true\ndirectory={dir}\nidentifier=sandbox\n\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\n\
         [supervisorctl]\nserverurl=unix://{socket}\n",
        socket = escaped(&socket),
        log = escaped(&layout.supervisor_log()),
        pid = escaped(&layout.run().join("supervisord.pid")),
        dir = escaped(&layout.dir),
    );
    let platform = quoted(platform);
    let environment =
        format!("MONGODB_URI=\"{}\",DB_NAME=\"{}\"", percent(&database.uri), percent(&database.name));
    let backend = format!(
        "{platform} backend --listen {} --admin-listen {} --state {}",
        addresses.backend,
        addresses.admin,
        quoted(&layout.backend_state())
    );
    let frontend =
        format!("{platform} frontend --listen {} --api http://{}", addresses.frontend, addresses.backend);
    let faulty = |kind: &str, at: SocketAddr| format!("{platform} faulty {kind} --listen {at}");
    let programs = [
        Program::kept("mongodb", 10, database.command.clone()),
        Program { environment: Some(environment), ..Program::kept("backend", 20, backend) },
        Program::kept("frontend", 30, frontend),
        Program::on_demand("slow", faulty("slow", addresses.slow)),
        Program::on_demand("crash", format!("{platform} faulty crash")),
        Program::on_demand("flap", faulty("flap", addresses.flap)),
        Program { stopwaitsecs: 2, ..Program::on_demand("stubborn", faulty("stubborn", addresses.stubborn)) },
    ];
    for program in &programs {
        program.write(&mut text, &logs, rotation);
    }
    write_private(&layout.supervisor_config(), &text)
}

/// Starts supervisord, and waits until its socket answers.
pub(super) fn start(layout: &Layout, parts: &Parts) -> Result<(Child, Process), Error> {
    let said = layout.logs().join("supervisord.stderr");
    let stderr = File::create(&said).map_err(Error::doing("make supervisord's error log"))?;
    let mut command = Command::new(&parts.supervisord);
    command.arg("-n").arg("-c").arg(layout.supervisor_config());
    command.env(MARK, &layout.dir).current_dir(&layout.dir).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(Error::doing("start supervisord"))?;
    let mut ended = None;
    let up = eventually(SOCKET, "supervisord's socket", || {
        if let Ok(Some(status)) = child.try_wait() {
            ended = Some(status);
            return Ok(());
        }
        std::os::unix::net::UnixStream::connect(layout.supervisor_socket()).map(drop)
    });
    if let Some(status) = ended {
        let what = format!("supervisord ({status})");
        return Err(Error::Failed { what, evidence: last_lines(&said) });
    }
    up.map_err(|waited| Error::NotReady { waited, log: last_lines(&said) })?;
    let pid = i32::try_from(child.id()).unwrap_or_default();
    match Process::at(pid) {
        Some(process) => Ok((child, process)),
        None => Err(Error::Failed { what: "supervisord".to_owned(), evidence: last_lines(&said) }),
    }
}

/// The process that supervisord started last for a program, as its log says; `None` before the first.
pub(super) fn last_spawned(log: &Path, program: &str) -> Option<i32> {
    let text = fs::read_to_string(log).ok()?;
    let spawned = format!("spawned: '{program}' with pid ");
    text.lines().rev().find_map(|line| line.split_once(&spawned)?.1.trim().parse().ok())
}

/// What supervisord said of the program since it was to start last: `Some(true)` RUNNING, `Some(false)` FATAL.
pub(super) fn start_result(log: &Path, program: &str) -> Option<bool> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let running = format!("success: {program} entered RUNNING state");
    let fatal = format!("gave up: {program} entered FATAL state");
    let spawned = format!("spawned: '{program}' with pid ");
    text.lines().rev().find_map(|line| {
        let results = [(&running, Some(true)), (&fatal, Some(false)), (&spawned, None)];
        results.into_iter().find_map(|(words, result)| line.contains(words.as_str()).then_some(result))
    })?
}

/// One program under supervisord.
#[derive(Debug)]
struct Program {
    name: &'static str,
    command: String,
    priority: u16,
    autostart: bool,
    stopwaitsecs: u16,
    environment: Option<String>,
}

impl Program {
    fn kept(name: &'static str, priority: u16, command: String) -> Self {
        Self { name, command, priority, autostart: true, stopwaitsecs: 10, environment: None }
    }

    fn on_demand(name: &'static str, command: String) -> Self {
        Self { autostart: false, ..Self::kept(name, 99, command) }
    }

    fn write(&self, text: &mut String, logs: &Path, rotation: &LogRotation) {
        let Self { name, command, priority, autostart, stopwaitsecs, environment } = self;
        let LogRotation { max_bytes, backups } = rotation;
        let logs = escaped(logs);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n[program:{name}]\ncommand={command}\npriority={priority}\nautostart={autostart}\n\
             stopwaitsecs={stopwaitsecs}\n\
             stdout_logfile={logs}/{name}.out.log\nstdout_logfile_maxbytes={max_bytes}\n\
             stdout_logfile_backups={backups}\n\
             stderr_logfile={logs}/{name}.err.log\nstderr_logfile_maxbytes={max_bytes}\n\
             stderr_logfile_backups={backups}\n",
        );
        if let Some(environment) = environment {
            let _ = writeln!(text, "environment={environment}");
        }
    }
}

/// `%` begins an expansion in supervisord's configuration.
pub(super) fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// A path as one word of a command; [`Layout::make`] has refused what cannot be quoted.
pub(super) fn quoted(path: &Path) -> String {
    format!("\"{}\"", escaped(path))
}

fn escaped(path: &Path) -> String {
    percent(&path.to_string_lossy())
}

/// A file that only its owner reads, from its first byte.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(Error::doing(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_pid_and_state() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("supervisord.log");
        let write = |text: &str| fs::write(&log, text).unwrap();
        write(
            "2026-11-24 10:00:00,000 INFO spawned: 'backend' with pid 11\n\
             2026-11-24 10:00:01,001 INFO success: backend entered RUNNING state, process has stayed up\n",
        );
        assert_eq!(last_spawned(&log, "backend"), Some(11));
        assert_eq!(start_result(&log, "backend"), Some(true));
        write(
            "2026-11-24 10:00:01,001 INFO success: backend entered RUNNING state, process has stayed up\n\
             2026-11-24 10:00:02,000 INFO spawned: 'backend' with pid 12\n",
        );
        assert_eq!(last_spawned(&log, "backend"), Some(12));
        assert_eq!(start_result(&log, "backend"), None);
        assert_eq!(last_spawned(&log, "end"), None);
    }
}
