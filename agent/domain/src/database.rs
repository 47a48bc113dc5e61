//! The database: is it there, what is it, how much is in it.

use std::sync::Arc;
use std::time::Duration;

use crate::access::Authorized;
use crate::error::{Error, Reason, Result};
use crate::ports::Clock;
use crate::ports::database::{Database, DatabaseError, Ping, Stats, Unreachable};

/// Questions about the configured database.
pub struct DatabaseService {
    port: Option<Arc<dyn Database>>,
    clock: Arc<dyn Clock>,
}

/// A collection's count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The collection.
    pub collection: String,
    /// How many documents.
    pub documents: u64,
    /// From metadata.
    pub estimated: bool,
    /// How long it took.
    pub took: Duration,
}

impl DatabaseService {
    /// `None`: none is configured, and every question says so.
    #[must_use]
    pub fn new(port: Option<Arc<dyn Database>>, clock: Arc<dyn Clock>) -> Self {
        Self { port, clock }
    }

    /// Its name and its masked address, if one is configured.
    #[must_use]
    pub fn configured(&self) -> Option<(&str, &str)> {
        self.port.as_deref().map(|port| (port.name(), port.uri()))
    }

    /// One round trip.
    ///
    /// # Errors
    /// `DATABASE_UNREACHABLE`, `DATABASE_AUTHENTICATION`, `DATABASE_FAILED`, `DATABASE_UNCONFIGURED`.
    pub async fn ping(&self, _authorized: &Authorized) -> Result<Ping> {
        Ok(self.port()?.ping().await?)
    }

    /// Counts of these collections, or of all.
    ///
    /// # Errors
    /// As [`DatabaseService::ping`], and `COLLECTION_NOT_FOUND` with near names before anything is counted.
    pub async fn count(
        &self,
        _authorized: &Authorized,
        wanted: &[String],
        estimated: bool,
    ) -> Result<Vec<Count>> {
        let port = self.port()?;
        let known: Vec<String> =
            port.collections(port.name()).await?.into_iter().map(|collection| collection.name).collect();
        if let Some(missing) = wanted.iter().find(|name| !known.contains(name)) {
            return Err(not_found(port.name(), missing, &known));
        }
        let names = if wanted.is_empty() { &known } else { wanted };
        let mut counts = Vec::with_capacity(names.len());
        for name in names {
            let began = self.clock.monotonic();
            let documents = port.count(port.name(), name, estimated).await?;
            let took = self.clock.monotonic().saturating_sub(began);
            counts.push(Count { collection: name.clone(), documents, estimated, took });
        }
        Ok(counts)
    }

    /// Sizes.
    ///
    /// # Errors
    /// As [`DatabaseService::ping`].
    pub async fn stats(&self, _authorized: &Authorized) -> Result<Stats> {
        let port = self.port()?;
        Ok(port.stats(port.name()).await?)
    }

    fn port(&self) -> Result<&Arc<dyn Database>> {
        self.port.as_ref().ok_or_else(|| DatabaseError::Unconfigured.into())
    }
}

fn not_found(database: &str, missing: &str, known: &[String]) -> Error {
    let shown: String = missing.chars().take(120).flat_map(char::escape_debug).collect();
    let error =
        Error::new(Reason::CollectionNotFound, format!("there is no collection \"{shown}\" in {database}"))
            .about(shown);
    let error = if known.is_empty() { error } else { error.lines("collections", "", known.to_vec()) };
    error.next(&["opsctl", "db", "count"]).effect("nothing was done")
}

impl From<DatabaseError> for Error {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Unconfigured => Error::new(
                Reason::DatabaseUnconfigured,
                "this agent has no database: [mongodb] is not configured",
            ),
            DatabaseError::Unreachable { uri, cause, detail } => {
                let error = Error::new(
                    Reason::DatabaseUnreachable,
                    format!("the database at {uri} cannot be reached: {}", cause.words()),
                )
                .about(&uri)
                .fact("cause", cause_name(cause))
                .fact("driver", detail)
                .next(&["opsctl", "db", "ping"]);
                if matches!(cause, Unreachable::Dns | Unreachable::Tls) { error } else { error.retryable() }
            }
            DatabaseError::Authentication { uri, detail } => Error::new(
                Reason::DatabaseAuthentication,
                format!("the database at {uri} refused the agent's credential"),
            )
            .about(uri)
            .fact("server", detail),
            DatabaseError::Command { what, code, name, detail } => {
                Error::new(Reason::DatabaseFailed, format!("the database refused: {what}"))
                    .fact("code", if name.is_empty() { code.to_string() } else { format!("{code} {name}") })
                    .fact("server", detail)
            }
            DatabaseError::Protocol { what, detail } => {
                Error::new(Reason::DatabaseFailed, format!("the database's answer is not usable: {what}"))
                    .fact("answer", detail)
            }
        }
    }
}

const fn cause_name(cause: Unreachable) -> &'static str {
    match cause {
        Unreachable::Refused => "refused",
        Unreachable::Dns => "dns",
        Unreachable::Tls => "tls",
        Unreachable::Timeout => "timeout",
        Unreachable::Broken => "broken",
    }
}
