//! The sandbox's database: its server, its name, and its data.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::layout::{Addresses, Layout};
use super::supervisor::quoted;
use super::{Error, last_lines};
use crate::belongings::Process;
use crate::parts::{self, GIVEN, MongoServer, Parts};
use crate::patience::eventually;

/// The playbook's name for it.
const NAME: &str = "test_database";
/// How long a server may take until it answers.
const ANSWERS: Duration = Duration::from_secs(60);

/// The database of one sandbox.
#[derive(Debug, Clone)]
pub(super) struct Database {
    /// `given`, `mongod` or `ferretdb`.
    pub(super) kind: &'static str,
    /// How the platform and the agent reach it; may hold a password.
    pub(super) uri: String,
    pub(super) name: String,
    /// What supervisord runs.
    pub(super) command: String,
    address: SocketAddr,
}

impl Database {
    pub(super) fn of(
        parts: &Parts,
        layout: &Layout,
        addresses: &Addresses,
        platform: &Path,
    ) -> Result<Self, Error> {
        let address = addresses.mongodb;
        let kind = parts.mongodb.kind();
        let uri = format!("mongodb://{address}/");
        let (uri, name, command) = match &parts.mongodb {
            MongoServer::Ferretdb { program } => {
                let dir = quoted(&layout.database());
                (uri, NAME.to_owned(), format!("{} --listen {address} --dir {dir}", quoted(program)))
            }
            MongoServer::Mongod { program } => {
                let (dir, port) = (quoted(&layout.database()), address.port());
                let command = format!(
                    "{} --bind_ip 127.0.0.1 --port {port} --nounixsocket --dbpath {dir}",
                    quoted(program)
                );
                (uri, NAME.to_owned(), command)
            }
            MongoServer::Given { uri } => {
                let given = Given::parse(uri)?;
                // Whoever else uses that server has other names.
                let name = format!("ops_test_{}_{}", std::process::id(), address.port());
                let command = format!("{} relay --listen {address} --to {}", quoted(platform), given.server);
                (given.behind(address), name, command)
            }
        };
        Ok(Self { kind, uri, name, command, address })
    }

    /// Puts data in place that was seeded before; `false` when it has to be seeded through the server.
    pub(super) fn prepare(&self, parts: &Parts, layout: &Layout, platform: &Path) -> Result<bool, Error> {
        let MongoServer::Ferretdb { program } = &parts.mongodb else {
            return Ok(false);
        };
        copy_files(&seeded(program, platform)?, &layout.database())?;
        Ok(true)
    }

    pub(super) fn wait_until_it_answers(&self, layout: &Layout) -> Result<(), Error> {
        wait_for_port(self.address, &layout.logs().join("mongodb.err.log"))
    }

    pub(super) fn seed(&self, platform: &Path) -> Result<(), Error> {
        seed(platform, &self.uri, &self.name)
    }
}

/// Drops what a sandbox made on a server that is not its own; whatever is its own goes with its folder.
pub(super) fn remove(kind: &str, uri: &str, name: &str, platform: &Path) -> Result<(), Error> {
    if kind != GIVEN {
        return Ok(());
    }
    run_seed(platform, uri, name, &["--remove"])
}

/// FerretDB's files after seeding: made once, copied into each sandbox.
fn seeded(ferretdb: &Path, platform: &Path) -> Result<PathBuf, Error> {
    let sources = parts::workspace().join("tests/sample-platform/src");
    let mut made_from = vec![ferretdb.as_os_str().as_encoded_bytes().to_vec()];
    for source in ["seed.rs", "seed/collections.rs", "seed/numbers.rs"] {
        let source = sources.join(source);
        made_from.push(fs::read(&source).map_err(Error::doing(format!("read {}", source.display())))?);
    }
    let made_from: Vec<&[u8]> = made_from.iter().map(Vec::as_slice).collect();
    parts::keep("seeded", &made_from, &parts::to_stderr, |into| seed_into(ferretdb, platform, into))
}

fn seed_into(ferretdb: &Path, platform: &Path, into: &Path) -> Result<(), Error> {
    let address = Addresses::free()?.mongodb;
    let log = into.with_extension("log");
    let stderr = fs::File::create(&log).map_err(Error::doing("make FerretDB's log"))?;
    let mut command = Command::new(ferretdb);
    command.arg("--listen").arg(address.to_string()).arg("--dir").arg(into);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut server = command.spawn().map_err(Error::doing("start FerretDB"))?;
    let done =
        wait_for_port(address, &log).and_then(|()| seed(platform, &format!("mongodb://{address}/"), NAME));
    if let Some(process) = Process::at(i32::try_from(server.id()).unwrap_or_default()) {
        process.signal(Signal::SIGTERM).map_err(Error::doing("end FerretDB"))?;
    }
    server.wait().map_err(Error::doing("wait for FerretDB's end"))?;
    done
}

fn seed(platform: &Path, uri: &str, name: &str) -> Result<(), Error> {
    run_seed(platform, uri, name, &[])
}

fn run_seed(platform: &Path, uri: &str, name: &str, arguments: &[&str]) -> Result<(), Error> {
    let mut command = Command::new(platform);
    command.arg("seed").args(arguments).env("MONGODB_URI", uri).env("DB_NAME", name).stdin(Stdio::null());
    let output = command.output().map_err(Error::doing("start the seeding"))?;
    if output.status.success() {
        return Ok(());
    }
    let evidence = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { what: "seeding the database".to_owned(), evidence })
}

fn wait_for_port(address: SocketAddr, log: &Path) -> Result<(), Error> {
    eventually(ANSWERS, &format!("the database server on {address}"), || {
        TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop)
    })
    .map_err(|waited| Error::NotReady { waited, log: last_lines(log) })
}

fn copy_files(from: &Path, to: &Path) -> Result<(), Error> {
    let copy = || -> std::io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if entry.file_type()?.is_file() && !hidden {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(Error::doing("copy the seeded database"))
}

/// A server that somebody else runs: `mongodb://[user:password@]host[:port]/[database][?options]`.
#[derive(Debug, PartialEq, Eq)]
struct Given<'a> {
    /// With its `@`, or empty.
    credentials: &'a str,
    server: String,
    /// Without `?`, or empty.
    options: &'a str,
}

impl<'a> Given<'a> {
    fn parse(uri: &'a str) -> Result<Self, Error> {
        let unusable = || Error::Failed {
            what: "OPS_TEST_MONGODB_URI".to_owned(),
            evidence: "it must be mongodb://[user:password@]host[:port]/[?options], with one host".to_owned(),
        };
        let rest = uri.strip_prefix("mongodb://").ok_or_else(unusable)?;
        let (authority, tail) = rest.split_once('/').unwrap_or((rest, ""));
        let options = tail.split_once('?').map_or("", |(_, options)| options);
        let host_at = authority.rfind('@').map_or(0, |at| at + 1);
        let (credentials, host) = authority.split_at(host_at);
        if host.is_empty() || host.contains(',') || host.contains(char::is_whitespace) {
            return Err(unusable());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let server = if has_port { host.to_owned() } else { format!("{host}:27017") };
        Ok(Self { credentials, server, options })
    }

    /// The same server behind a relay on `address`: asked directly, or the driver would go around the relay.
    fn behind(&self, address: SocketAddr) -> String {
        let others = self.options.split('&').filter(|option| {
            let name = option.split('=').next().unwrap_or_default().to_ascii_lowercase();
            !option.is_empty() && name != "directconnection" && name != "replicaset"
        });
        let options: Vec<&str> = others.chain(["directConnection=true"]).collect();
        format!("mongodb://{}{address}/?{}", self.credentials, options.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_server_is_asked_through_the_relay_only() {
        let relay = SocketAddr::from(([127, 0, 0, 1], 20_000));
        let behind = |uri| Given::parse(uri).map(|given| (given.server.clone(), given.behind(relay)));
        let uri = "mongodb://ann:p%40ss@db.example:27018/admin?replicaSet=rs0&authSource=admin";
        assert_eq!(
            behind(uri).unwrap(),
            (
                "db.example:27018".to_owned(),
                "mongodb://ann:p%40ss@127.0.0.1:20000/?authSource=admin&directConnection=true".to_owned()
            )
        );
        let (server, uri) = behind("mongodb://localhost").unwrap();
        assert_eq!(server, "localhost:27017");
        assert_eq!(uri, "mongodb://127.0.0.1:20000/?directConnection=true");
    }

    #[test]
    fn what_cannot_be_relayed_is_refused() {
        for uri in ["mongodb+srv://db.example/", "mongodb://a,b/", "mongodb:///", "postgres://db/"] {
            assert!(Given::parse(uri).is_err(), "{uri}");
        }
    }
}
