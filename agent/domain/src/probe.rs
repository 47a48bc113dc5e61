//! Probes: one measured question to the outside. Only what is configured is ever asked.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::error::{Error, Reason, Result};
use crate::ids::{ProbeName, ServiceName};
use crate::near::near_names;
use crate::ports::{Clock, Prober};

/// Whom to ask, and how; checked when the configuration was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// GET and a 2xx answer whose JSON body is as expected.
    Http {
        /// `http` or `https`, no credentials.
        url: String,
        /// `services.database=healthy`.
        expect: Vec<String>,
        /// The only CA certificates to trust, PEM; `None`: the system's.
        ca: Option<String>,
    },
    /// A connection.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// No connection: refused.
    Closed {
        /// `host:port`.
        address: String,
    },
    /// `hello` and `ping`, without credentials.
    Mongodb {
        /// `host:port`.
        address: String,
    },
}

impl Target {
    /// One word: http, tcp, closed, mongodb.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Target::Http { .. } => "http",
            Target::Tcp { .. } => "tcp",
            Target::Closed { .. } => "closed",
            Target::Mongodb { .. } => "mongodb",
        }
    }

    /// URL or `host:port`.
    #[must_use]
    pub fn place(&self) -> &str {
        match self {
            Target::Http { url, .. } => url,
            Target::Tcp { address } | Target::Closed { address } | Target::Mongodb { address } => address,
        }
    }

    /// `host:port`, whatever the kind.
    #[must_use]
    pub fn socket(&self) -> Option<String> {
        let Target::Http { url, .. } = self else { return Some(self.place().to_owned()) };
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let port =
            authority.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
        Some(match port {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:{}", if scheme == "https" { 443 } else { 80 }),
        })
    }
}

/// A probe that may be run by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: ProbeName,
    /// Whom to ask.
    pub target: Target,
    /// The service whose readiness it is.
    pub service: Option<ServiceName>,
    /// The limit over everything.
    pub timeout: Duration,
}

/// How a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The name has no address.
    Dns,
    /// No connection.
    Connect,
    /// No TLS session.
    Tls,
    /// The limit passed.
    Timeout,
    /// Another HTTP status than 2xx.
    Status,
    /// The body is not as expected.
    Body,
    /// What answers does not speak the protocol.
    Protocol,
    /// The database answered with an error.
    Database,
    /// The line has not come.
    Log,
}

/// What came of asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None`: it passed.
    pub failure: Option<Failure>,
    /// One line: "GET /api/health 200 in 6 ms".
    pub text: String,
    /// The HTTP status.
    pub status: Option<u16>,
    /// Resolving the name.
    pub dns: Option<Duration>,
    /// Connecting.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request to the answer's head.
    pub first_byte: Option<Duration>,
    /// Everything.
    pub total: Duration,
    /// Whole days left of the server's certificate.
    pub certificate_days: Option<i64>,
    /// Whom it was connected to.
    pub address: Option<String>,
}

impl Answer {
    /// Whether it passed.
    #[must_use]
    pub const fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// An answer, and when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// What.
    pub answer: Answer,
}

/// The probes by name.
pub struct Probes {
    definitions: Vec<Definition>,
    prober: Arc<dyn Prober>,
    clock: Arc<dyn Clock>,
}

/// At most so many samples a call.
pub const MOST_SAMPLES: u32 = 100;

impl Probes {
    /// `definitions` in the order in which they are listed.
    #[must_use]
    pub fn new(definitions: Vec<Definition>, prober: Arc<dyn Prober>, clock: Arc<dyn Clock>) -> Self {
        Self { definitions, prober, clock }
    }

    /// All.
    #[must_use]
    pub fn list(&self) -> &[Definition] {
        &self.definitions
    }

    /// One.
    ///
    /// # Errors
    /// `PROBE_NOT_FOUND`, with near names.
    pub fn find(&self, name: &ProbeName) -> Result<&Definition> {
        self.definitions.iter().find(|probe| probe.name == *name).ok_or_else(|| {
            let known: Vec<&str> = self.definitions.iter().map(|probe| probe.name.as_str()).collect();
            Error::new(
                Reason::ProbeNotFound,
                format!("no probe '{name}'; {}", near_names(name.as_str(), &known)),
            )
            .about(name)
            .next(&["opsctl", "probe", "list"])
        })
    }

    /// Asks `count` times, one after the other.
    ///
    /// # Errors
    /// `PROBE_NOT_FOUND`; `INVALID_ARGUMENT` for a count over [`MOST_SAMPLES`].
    pub async fn run(&self, name: &ProbeName, count: u32) -> Result<(&Definition, Vec<Sample>)> {
        let probe = self.find(name)?;
        if count > MOST_SAMPLES {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!("{count} samples are too many: 1 to {MOST_SAMPLES} at once"),
            )
            .effect("nothing was done"));
        }
        let mut samples = Vec::new();
        for _ in 0..count.max(1) {
            let at = self.clock.now();
            samples.push(Sample { at, answer: self.prober.ask(&probe.target, probe.timeout).await });
        }
        Ok((probe, samples))
    }
}
