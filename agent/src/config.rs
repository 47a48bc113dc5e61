//! The agent's configuration: one section a file, strict, every error with file, line and fix.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

pub mod agent;
pub mod audit;
pub mod backup;
pub mod disk;
pub mod duration;
pub mod limits;
pub mod listen;
pub mod log;
pub mod mongodb;
pub mod probe;
mod safety;
pub mod service;
pub mod state;
pub mod supervisor;
pub mod tls;
pub mod token;

pub use agent::Agent;
pub use audit::Audit;
pub use backup::Backup;
pub use disk::Disk;
pub use limits::Limits;
pub use listen::Listen;
pub use log::Log;
pub use mongodb::Mongodb;
pub use safety::{private_file, trusted_file};
pub use state::State;
pub use supervisor::Supervisor;
pub use tls::Tls;
pub use token::Token;

/// Longest configuration or policy file, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where the configuration lies when nobody says otherwise; `--root DIR` goes before it.
pub const DEFAULT_FILE: &str = "/etc/opsd/opsd.toml";

/// Everything that `opsd.toml` says. Relative paths in it begin at the file's own folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it was read from.
    #[serde(skip)]
    pub source: Source,
    /// Who this agent is.
    pub agent: Agent,
    /// Where it listens.
    pub listen: Listen,
    /// Its certificate.
    pub tls: Tls,
    /// Where it remembers.
    pub state: State,
    /// Its key for tokens.
    #[serde(default)]
    pub token: Option<Token>,
    /// The audit trail.
    #[serde(default)]
    pub audit: Audit,
    /// Where logs may be read.
    #[serde(default)]
    pub log: Log,
    /// Who keeps the programs alive.
    #[serde(default)]
    pub supervisor: Option<Supervisor>,
    /// The services.
    #[serde(default)]
    pub service: service::ServiceTable,
    /// Questions that may be asked by name.
    #[serde(default)]
    pub probe: probe::ProbeTable,
    /// The database.
    #[serde(default)]
    pub mongodb: Option<Mongodb>,
    /// The backups.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// The filesystems whose space is watched.
    #[serde(default)]
    pub disk: Disk,
    /// Every limit.
    #[serde(default)]
    pub limits: Limits,
}

/// The file behind a configuration, to say in which line something stands.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    text: String,
}

/// What is wrong with a configuration, on one line: file, line, fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file that is wrong.
    pub path: PathBuf,
    /// The line in it, from 1; 0: the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.replace('\n', " ");
        if self.line == 0 {
            write!(f, "{}: {message}", self.path.display())
        } else {
            write!(f, "{}:{}: {message}", self.path.display(), self.line)
        }
    }
}

impl std::error::Error for Error {}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let whole = |message: String| Error { path: path.to_owned(), line: 0, message };
        let bytes = ops_trust::private_file::read(path, MAX_FILE_BYTES).map_err(|error| match error {
            ops_trust::private_file::Error::Io { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                whole("there is no such file; run: opsd init".to_owned())
            }
            ops_trust::private_file::Error::Io { source, .. } => whole(source.to_string()),
            other => whole(other.to_string()),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| whole("it is not UTF-8".to_owned()))?;
        Self::parse(path, text)
    }

    /// Reads and checks a text that stands in `path`.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(path: &Path, text: String) -> Result<Self, Error> {
        let mut config: Config = toml::from_str(&text).map_err(|error| from_toml(path, &text, &error))?;
        config.source = Source { path: path.to_owned(), text };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        config.resolve(&folder);
        config.check()?;
        Ok(config)
    }

    /// An error about the value at `keys`: `["tls", "key"]`.
    #[must_use]
    pub fn error_at(&self, keys: &[&str], message: impl Into<String>) -> Error {
        Error { path: self.source.path.clone(), line: self.source.line_of(keys), message: message.into() }
    }

    /// As TOML, defaults filled in. It holds no secrets, only the names of their files.
    #[must_use]
    pub fn show(&self) -> String {
        toml::to_string_pretty(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    fn resolve(&mut self, folder: &Path) {
        self.agent.resolve(folder);
        self.tls.resolve(folder);
        self.state.resolve(folder);
        if let Some(token) = &mut self.token {
            token.resolve(folder);
        }
        self.audit.resolve(folder, &self.state.dir);
        self.log.resolve(folder);
        self.disk.resolve(folder);
        if let Some(supervisor) = &mut self.supervisor {
            supervisor.resolve(folder);
        }
        if let Some(backup) = &mut self.backup {
            backup.resolve(folder);
        }
        if let Some(mongodb) = &mut self.mongodb {
            mongodb.resolve(folder);
        }
        for service in self.service.values_mut() {
            service.resolve(folder);
        }
        for probe in self.probe.values_mut() {
            probe.resolve(folder);
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.agent.check(self)?;
        self.tls.check(self)?;
        self.state.check(self)?;
        if let Some(token) = &self.token {
            token.check(self)?;
        }
        self.log.check(self)?;
        if let Some(supervisor) = &self.supervisor {
            supervisor.check(self)?;
        }
        self.limits.check(self)
    }
}

impl Source {
    /// The line of a value, from 1; that of the nearest table around it when the value is not there; 0: none at all.
    #[must_use]
    pub fn line_of(&self, keys: &[&str]) -> usize {
        let Ok(document) = toml::de::DeTable::parse(&self.text) else { return 0 };
        let mut table = document.get_ref();
        let mut found = None;
        for key in keys {
            let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == key) else { break };
            found = Some(name.span().start);
            match value.get_ref() {
                toml::de::DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        found.map_or(0, |at| line_at(&self.text, at))
    }
}

/// `path` itself, or beneath `folder` when it is relative; without `..` in it, because people read it.
pub(crate) fn beneath(folder: &Path, path: &mut PathBuf) {
    if path.is_absolute() {
        return;
    }
    // Only where the folder has no symlinks in it is its parent what its name says.
    let mut whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            other => whole.push(other),
        }
    }
    *path = whole;
}

/// A parser's error as ours: its line, and its words without the excerpt.
pub(crate) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(0, |span| line_at(text, span.start));
    Error { path: path.to_owned(), line, message: error.message().trim().replace('\n', ", ") }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
