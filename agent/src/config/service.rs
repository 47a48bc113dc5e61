//! `[service.NAME]`: the services, their order, their readiness, their protection.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_domain::ids::ServiceName;
use ops_domain::ports::service_manager::ProgramName;
use ops_domain::probe::Target;
use ops_domain::service::{Check, Definition, Expected, ReadinessRule, Verb};
use serde::{Deserialize, Serialize};

use super::{Config, Error, beneath, duration};
use crate::adapters::prober::question;

/// `[service.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// supervisord's program, `group:process`, or one name for both.
    pub program: ProgramName,
    /// Services that come up before it.
    #[serde(default)]
    pub after: Vec<ServiceName>,
    /// Whether it should run.
    #[serde(default)]
    pub expected: Expected,
    /// Verbs that need admin, a certificate and the typed name. Without it: stop, for the service called mongodb.
    #[serde(default)]
    pub protected: Option<BTreeSet<Verb>>,
    /// Its log files, stdout's first, then stderr's, where supervisord does not know them.
    #[serde(default)]
    pub logs: Vec<PathBuf>,
    /// How it is known to be ready.
    #[serde(default)]
    pub readiness: Readiness,
}

/// `[service.NAME.readiness]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// What is asked.
    #[serde(default)]
    pub kind: Kind,
    /// For http.
    #[serde(default)]
    pub url: Option<String>,
    /// For http: fields of the JSON body, as `services.database=healthy`.
    #[serde(default)]
    pub expect: Vec<String>,
    /// For https: the only CA certificates to trust, PEM. Without it: the system's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// For tcp and mongodb: `host:port`. mongodb without it: the first host of `[mongodb]`.
    #[serde(default)]
    pub address: Option<String>,
    /// For log: a regular expression that a line matches after the start.
    #[serde(default)]
    pub pattern: Option<String>,
    /// Passes in a row.
    #[serde(default = "passes")]
    pub passes: u32,
    /// Between two of them.
    #[serde(default = "interval", with = "duration")]
    pub interval: Duration,
    /// How long after RUNNING.
    #[serde(default = "timeout", with = "duration")]
    pub timeout: Duration,
}

/// What readiness asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// GET, 2xx.
    Http,
    /// A connection.
    Tcp,
    /// `hello` and `ping`.
    Mongodb,
    /// A line in its logs.
    Log,
    /// RUNNING is enough.
    #[default]
    None,
}

fn passes() -> u32 {
    3
}

fn interval() -> Duration {
    Duration::from_millis(250)
}

fn timeout() -> Duration {
    Duration::from_secs(60)
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            kind: Kind::None,
            url: None,
            expect: Vec::new(),
            ca: None,
            address: None,
            pattern: None,
            passes: passes(),
            interval: interval(),
            timeout: timeout(),
        }
    }
}

impl Service {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for log in &mut self.logs {
            beneath(folder, log);
        }
        if let Some(ca) = &mut self.readiness.ca {
            beneath(folder, ca);
        }
    }
}

/// Every service as the domain wants it, in the order in which they come up. `database` is the address that `[mongodb]`
/// names.
///
/// # Errors
/// What is wrong, with its line.
pub fn definitions(config: &Config, database: Option<&str>) -> Result<Vec<Definition>, Error> {
    let mut all = Vec::new();
    for (name, service) in &config.service {
        let protected = service.protected.clone().unwrap_or_else(|| {
            if name.as_str() == "mongodb" { BTreeSet::from([Verb::Stop]) } else { BTreeSet::new() }
        });
        all.push(Definition {
            name: name.clone(),
            program: service.program.clone(),
            after: service.after.clone(),
            expected: service.expected,
            protected,
            readiness: service.readiness.rule(config, name, database)?,
        });
    }
    ops_domain::service::ordered(all).map_err(|error| config.error_at(&["service"], error.message))
}

impl Readiness {
    fn rule(
        &self,
        config: &Config,
        name: &ServiceName,
        database: Option<&str>,
    ) -> Result<ReadinessRule, Error> {
        let keys = |key| ["service", name.as_str(), "readiness", key];
        let wrong = |key, message: String| config.error_at(&keys(key), message);
        if !(1..=100).contains(&self.passes) {
            return Err(wrong("passes", "1 to 100 passes in a row".to_owned()));
        }
        if self.interval < Duration::from_millis(25) || self.interval > Duration::from_secs(60) {
            return Err(wrong("interval", "25ms to 60s between two passes".to_owned()));
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(3600) {
            return Err(wrong("timeout", "up to 1h".to_owned()));
        }
        let address = || {
            let own = self.address.clone();
            own.ok_or_else(|| wrong("kind", "it needs address = \"host:port\"".to_owned()))
        };
        let check = match self.kind {
            Kind::None => Check::None,
            Kind::Log => {
                let pattern =
                    self.pattern.clone().ok_or_else(|| wrong("kind", "log needs a pattern".to_owned()))?;
                regex::bytes::Regex::new(&pattern).map_err(|error| wrong("pattern", error.to_string()))?;
                Check::Log { pattern }
            }
            Kind::Http => {
                let url = self.url.clone().ok_or_else(|| wrong("kind", "http needs a url".to_owned()))?;
                let ca = match &self.ca {
                    Some(path) => Some(ca_text(path).map_err(|message| wrong("ca", message))?),
                    None => None,
                };
                Check::Probe(Target::Http { url, expect: self.expect.clone(), ca })
            }
            Kind::Tcp => Check::Probe(Target::Tcp { address: address()? }),
            Kind::Mongodb => {
                let address = match (&self.address, database) {
                    (None, Some(database)) => database.to_owned(),
                    _ => address()?,
                };
                Check::Probe(Target::Mongodb { address })
            }
        };
        self.nothing_else(&check).map_err(|(key, message)| wrong(key, message))?;
        if let Check::Probe(target) = &check {
            let key = if self.url.is_some() { "url" } else { "address" };
            question(target, self.timeout).map_err(|message| wrong(key, message))?;
        }
        Ok(ReadinessRule { check, passes: self.passes, interval: self.interval, timeout: self.timeout })
    }

    /// A setting that the kind does not have is a mistake that nobody would see.
    fn nothing_else(&self, check: &Check) -> Result<(), (&'static str, String)> {
        let kind = match check {
            Check::Probe(target) => target.kind(),
            Check::Log { .. } => "log",
            Check::None => "none",
        };
        let given = [
            ("url", self.url.is_some(), &["http"][..]),
            ("expect", !self.expect.is_empty(), &["http"]),
            ("ca", self.ca.is_some(), &["http"]),
            ("address", self.address.is_some(), &["tcp", "mongodb"]),
            ("pattern", self.pattern.is_some(), &["log"]),
        ];
        match given.into_iter().find(|(_, given, kinds)| *given && !kinds.contains(&kind)) {
            Some((key, _, _)) => Err((key, format!("readiness of kind {kind} has no {key}"))),
            None => Ok(()),
        }
    }
}

/// CA certificates of a probe, checked.
pub(super) fn ca_text(path: &Path) -> Result<String, String> {
    let bytes = ops_trust::private_file::read(path, 1024 * 1024).map_err(|error| error.to_string())?;
    ops_probe::Roots::from_pem(&bytes).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not PEM".to_owned())
}

/// The services' section of a configuration.
pub type ServiceTable = BTreeMap<ServiceName, Service>;
