//! The agent of a sandbox: made by `opsd init`, configured for the sandbox's programs, called through `opsctl`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::database::Database;
use super::layout::{Addresses, Layout};
use super::{Binaries, Error, FAULTY, Identity, KEPT, last_lines};
use crate::belongings::{MARK, Process};
use crate::patience::eventually;

/// The roles; each has an identity and a context of its name.
pub const ROLES: [&str; 6] = ["admin", "operator", "deployer", "viewer", "backup", "auditor"];

/// How long the agent may take until its port answers.
const PORT: Duration = Duration::from_secs(30);

/// What a backup leaves free. How full the machine is that a test runs on is not what is tested, so space is not judged.
const RESERVE_BYTES: u64 = 16 * 1024 * 1024;

/// Where the agent's files lie.
#[derive(Debug, Clone)]
pub(super) struct AgentFiles {
    root: PathBuf,
    /// opsctl's configuration, with a context for each role.
    pub(super) contexts: PathBuf,
}

impl AgentFiles {
    pub(super) fn of(layout: &Layout) -> Self {
        Self { root: layout.dir.join("agent"), contexts: layout.dir.join("opsctl/config.toml") }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.etc().join("opsd.toml")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("var/lib/opsd")
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.state().join("audit/trail.jsonl")
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.etc().join("ca.pem")
    }

    pub(super) fn identities(&self) -> BTreeMap<String, Identity> {
        let contexts = self.contexts.with_file_name("contexts");
        let identity = |role: &str| Identity {
            context: role.to_owned(),
            cert: contexts.join(role).join("cert.pem"),
            key: contexts.join(role).join("key.pem"),
        };
        ROLES.iter().map(|role| ((*role).to_owned(), identity(role))).collect()
    }

    /// Makes everything that the agent and its callers need; `more` is added to its configuration.
    pub(super) fn make(
        &self,
        layout: &Layout,
        addresses: &Addresses,
        binaries: &Binaries,
        database: &Database,
        more: &str,
    ) -> Result<(), Error> {
        let mut init = Command::new(&binaries.opsd);
        init.arg("init").arg("--root").arg(&self.root).args(["--id", "sandbox", "--admin", "admin"]);
        run(init.arg("--listen").arg(addresses.agent.to_string()))?;

        super::supervisor::write_private(&self.etc().join("mongodb.uri"), &database.uri)?;
        let made = fs::read_to_string(self.config()).map_err(Error::doing("read opsd.toml"))?;
        let text = format!("{made}{}{more}", sections(layout, addresses, database));
        fs::write(self.config(), text).map_err(Error::doing("write opsd.toml"))?;

        self.import("admin", &self.etc().join("admin.bundle.toml"), binaries)?;
        for role in ROLES.iter().filter(|role| **role != "admin") {
            let mut issue = Command::new(&binaries.opsctl);
            issue.args(["pki", "issue", role, "--role", role, "--ca"]).arg(self.etc().join("ca"));
            let bundle = layout.run().join(format!("{role}.bundle.toml"));
            super::supervisor::write_private(&bundle, &run(&mut issue)?)?;
            self.import(role, &bundle, binaries)?;
        }
        Ok(())
    }

    /// Starts the agent, and waits until its port answers.
    pub(super) fn start(
        &self,
        layout: &Layout,
        addresses: &Addresses,
        binaries: &Binaries,
    ) -> Result<(Child, Process), Error> {
        let log = agent_log(layout);
        let told = || File::options().append(true).create(true).open(&log);
        let (stdout, stderr) = told()
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(Error::doing("make the agent's log"))?;
        let mut command = Command::new(&binaries.opsd);
        command.arg("run").arg("--root").arg(&self.root).env(MARK, &layout.dir).process_group(0);
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().map_err(Error::doing("start opsd"))?;
        let ended =
            |status| Error::Failed { what: format!("opsd run ({status})"), evidence: last_lines(&log) };
        let mut early = None;
        let up = eventually(PORT, "the agent's port", || match child.try_wait() {
            Ok(Some(status)) => {
                early = Some(status);
                Ok(())
            }
            _ => TcpStream::connect_timeout(&addresses.agent, Duration::from_secs(1)).map(drop),
        });
        if let Some(status) = early {
            return Err(ended(status));
        }
        up.map_err(|waited| Error::NotReady { waited, log: last_lines(&log) })?;
        let process = Process::at(i32::try_from(child.id()).unwrap_or_default());
        let process = process.ok_or_else(|| ended(Default::default()))?;
        Ok((child, process))
    }

    fn etc(&self) -> PathBuf {
        self.root.join("etc/opsd")
    }

    fn import(&self, role: &str, bundle: &Path, binaries: &Binaries) -> Result<(), Error> {
        let mut import = Command::new(&binaries.opsctl);
        import.args(["context", "import", "--name", role]).arg(bundle);
        run(import.env("OPSCTL_CONFIG", &self.contexts))?;
        fs::remove_file(bundle).map_err(Error::doing(format!("remove {}", bundle.display())))
    }
}

/// What the agent says: both its streams.
pub(super) fn agent_log(layout: &Layout) -> PathBuf {
    layout.dir.join("opsd.log")
}

fn run(command: &mut Command) -> Result<String, Error> {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let what = words.join(std::ffi::OsStr::new(" ")).to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(Error::doing(what.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Failed { what, evidence: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// What `opsd init` cannot know: the platform.
fn sections(layout: &Layout, addresses: &Addresses, database: &Database) -> String {
    let mut text = format!(
        "\n[supervisor]\nsocket = {}\nlog = {}\n\
         \n[mongodb]\nuri = {{ file = \"mongodb.uri\" }}\ndatabase = {}\n\
         \n[backup]\ndir = {}\nreserve_bytes = {RESERVE_BYTES}\n\
         \n[disk]\npaths = []\n\
         \n[log]\nfolders = [{}]\n",
        string(&layout.supervisor_socket()),
        string(&layout.supervisor_log()),
        string(Path::new(&database.name)),
        string(&layout.dir.join("backups")),
        string(&layout.logs()),
    );
    let http =
        |address: SocketAddr, path: &str| format!("kind = \"http\"\nurl = \"http://{address}{path}\"\n");
    let none = || "kind = \"none\"\n".to_owned();
    for (n, name) in KEPT.iter().chain(&FAULTY).enumerate() {
        let readiness = match *name {
            "mongodb" => "kind = \"mongodb\"\n".to_owned(),
            "backend" => http(addresses.backend, "/api/health"),
            "frontend" => http(addresses.frontend, "/"),
            "slow" => http(addresses.slow, "/"),
            "flap" => http(addresses.flap, "/"),
            "stubborn" => http(addresses.stubborn, "/"),
            _ => none(),
        };
        // Writing to a string does not fail.
        let _ = write!(text, "\n[service.{name}]\nprogram = \"{name}\"\n");
        match KEPT.get(n) {
            Some(_) if n > 0 => {
                let _ = writeln!(text, "after = [\"{}\"]", KEPT[n - 1]);
            }
            Some(_) => {}
            None => text.push_str("expected = \"any\"\n"),
        }
        let _ = write!(text, "\n[service.{name}.readiness]\n{readiness}");
    }
    text
}

/// A path as a TOML string; [`Layout::make`] has refused quotes and backslashes.
fn string(path: &Path) -> String {
    format!("\"{}\"", path.display())
}
