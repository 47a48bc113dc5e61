//! The MongoDB server behind the platform: what is asked of it, and what can go wrong.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// One configured server, and the database on it that is operated. Clients are opened at the first question.
#[async_trait]
pub trait Database: Send + Sync {
    /// The database that is operated: `test_database`.
    fn name(&self) -> &str;

    /// Where it is, without user, password and options.
    fn uri(&self) -> &str;

    /// One round trip, at most 5 s.
    async fn ping(&self) -> Result<Ping, DatabaseError>;

    /// What the server is and can do; asked once a connection.
    async fn capabilities(&self) -> Result<Capabilities, DatabaseError>;

    /// The names of the databases that the credential can see.
    async fn databases(&self) -> Result<Vec<String>, DatabaseError>;

    /// What lies in `database`, sorted by name; `system.*` is left out.
    async fn collections(&self, database: &str) -> Result<Vec<Collection>, DatabaseError>;

    /// How many documents: counted one by one, or from metadata, which may be wrong after an unclean end.
    async fn count(&self, database: &str, collection: &str, estimated: bool) -> Result<u64, DatabaseError>;

    /// Sizes, as the server gives them.
    async fn stats(&self, database: &str) -> Result<Stats, DatabaseError>;
}

/// An answered ping.
#[derive(Clone, Debug, PartialEq)]
pub struct Ping {
    /// Who answered.
    pub server: Capabilities,
    /// Opening a TCP connection.
    pub connect: Duration,
    /// The round trip of the command alone.
    pub round_trip: Duration,
}

/// What kind of server it is. Decided by what it says, never by a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerKind {
    /// A MongoDB server.
    Mongod,
    /// A MongoDB router.
    Mongos,
    /// FerretDB 1.x.
    Ferretdb,
    /// Something else that speaks the protocol.
    Other,
}

impl fmt::Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerKind::Mongod => "mongod",
            ServerKind::Mongos => "mongos",
            ServerKind::Ferretdb => "FerretDB",
            ServerKind::Other => "other",
        })
    }
}

/// What the server is and can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What it is.
    pub kind: ServerKind,
    /// Its own version: `7.0.28`, `1.24.2`.
    pub version: String,
    /// `standalone`, `replica set NAME`, `sharded`.
    pub topology: String,
    /// A collection whose name holds a dot can be renamed (FerretDB: error 73).
    pub rename_dotted: bool,
    /// Indexes keep every option (FerretDB takes key, name and unique only).
    pub index_options: bool,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        // FerretDB built from its module, without its release files, says "unknown".
        if !self.version.is_empty() && self.version != "unknown" {
            write!(f, "{} ", self.version)?;
        }
        f.write_str(&self.topology)
    }
}

/// A collection and what belongs to it beside its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    /// Its name, any UTF-8.
    pub name: String,
    /// `collection`, `view`, `timeseries`.
    pub kind: String,
    /// The server's own id of it, hex; empty when it gives none.
    pub uuid: String,
    /// The options it was made with: one BSON document.
    pub options: Vec<u8>,
    /// Its indexes, that of `_id` among them.
    pub indexes: Vec<Index>,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// `user_id_1`.
    pub name: String,
    /// Its whole specification as listed: one BSON document.
    pub spec: Vec<u8>,
}

/// Sizes of a database, as the server gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How many collections.
    pub collections: u64,
    /// How many documents.
    pub objects: u64,
    /// Bytes of uncompressed documents.
    pub data_bytes: u64,
    /// Bytes on disk.
    pub storage_bytes: u64,
    /// How many indexes.
    pub indexes: u64,
    /// Bytes of indexes.
    pub index_bytes: u64,
    /// What this server does not say, each with why.
    pub missing: Vec<String>,
}

/// Why no connection came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Nobody listens.
    Refused,
    /// The name is not known.
    Dns,
    /// TLS did not come about.
    Tls,
    /// No answer in time.
    Timeout,
    /// It was connected, and the connection broke.
    Broken,
}

impl Unreachable {
    /// `connection refused`: for sentences.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Unreachable::Refused => "connection refused",
            Unreachable::Dns => "its name cannot be resolved",
            Unreachable::Tls => "TLS handshake failed",
            Unreachable::Timeout => "no answer in time",
            Unreachable::Broken => "the connection broke",
        }
    }
}

/// What went wrong with the server. Details are cut, and without credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// None is configured.
    #[error("no database is configured")]
    Unconfigured,
    /// It cannot be talked to.
    #[error("{uri}: {}: {detail}", cause.words())]
    Unreachable {
        /// Masked.
        uri: String,
        /// Why.
        cause: Unreachable,
        /// In the driver's words.
        detail: String,
    },
    /// It does not take the credential.
    #[error("{uri} refused the credential: {detail}")]
    Authentication {
        /// Masked.
        uri: String,
        /// In the server's words.
        detail: String,
    },
    /// It takes the credential, which lacks a right, or refused for another reason.
    #[error("{what}: {name} ({code}): {detail}")]
    Command {
        /// What was asked: `rename auction.users`.
        what: String,
        /// The protocol's error code.
        code: i32,
        /// Its name.
        name: String,
        /// In the server's words.
        detail: String,
    },
    /// It answers what is not the protocol.
    #[error("{what}: {detail}")]
    Protocol {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        detail: String,
    },
}

impl DatabaseError {
    /// The protocol's error code, if the server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self {
            DatabaseError::Command { code, .. } => Some(*code),
            _ => None,
        }
    }
}
