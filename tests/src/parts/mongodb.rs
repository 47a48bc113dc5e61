//! Which MongoDB server the sandbox runs on.

use std::path::PathBuf;

use super::go::{FERRETDB, Toolchain};
use super::run::on_path;
use super::store::Store;
use super::{Error, Progress};

/// [`MongoServer::kind`] of a server that somebody else runs.
pub const GIVEN: &str = "given";

/// A MongoDB server, in the order in which they are preferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MongoServer {
    /// `OPS_TEST_MONGODB_URI` names one that runs already; only databases of our own names are touched there.
    Given {
        /// The connection string; may hold a password.
        uri: String,
    },
    /// `mongod` of this machine.
    Mongod {
        /// The program.
        program: PathBuf,
    },
    /// FerretDB with SQLite, built from `tests/ferretdb`.
    Ferretdb {
        /// The program.
        program: PathBuf,
    },
}

impl MongoServer {
    /// One word for it: `given`, `mongod` or `ferretdb`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Given { .. } => GIVEN,
            Self::Mongod { .. } => "mongod",
            Self::Ferretdb { .. } => "ferretdb",
        }
    }
}

/// The server, when nothing has to be built for it.
pub(super) fn present(store: &Store) -> Option<MongoServer> {
    given_or_installed().or_else(|| {
        FERRETDB.present(store).map(|path| MongoServer::Ferretdb { program: path.join("ferretdb") })
    })
}

/// The server, built when there is no other.
pub(super) fn ensure(store: &Store, progress: Progress<'_>) -> Result<MongoServer, Error> {
    if let Some(server) = present(store) {
        return Ok(server);
    }
    let path = Toolchain::locate(store, progress)?.ensure(store, &FERRETDB, progress)?;
    Ok(MongoServer::Ferretdb { program: path.join("ferretdb") })
}

fn given_or_installed() -> Option<MongoServer> {
    match std::env::var("OPS_TEST_MONGODB_URI") {
        Ok(uri) if !uri.is_empty() => Some(MongoServer::Given { uri }),
        _ => on_path("mongod").map(|program| MongoServer::Mongod { program }),
    }
}
