//! `[probe.NAME]`: questions that may be asked by name. Each service's readiness is one too, under the service's name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ops_domain::ids::ProbeName;
use ops_domain::probe::{Definition, Target};
use ops_domain::service::Check;
use serde::{Deserialize, Serialize};

use super::service::ca_text;
use super::{Config, Error, beneath, duration};
use crate::adapters::prober::question;

/// `[probe.NAME]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked.
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
    /// For tcp, closed and mongodb: `host:port`.
    #[serde(default)]
    pub address: Option<String>,
    /// Over everything.
    #[serde(default = "timeout", with = "duration")]
    pub timeout: Duration,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// GET, 2xx.
    Http,
    /// A connection.
    Tcp,
    /// No connection.
    Closed,
    /// `hello` and `ping`.
    Mongodb,
}

/// The probes' section of a configuration.
pub type ProbeTable = BTreeMap<ProbeName, Probe>;

/// Of a probe: longer than this and the call that asks it would end first.
const LONGEST: Duration = Duration::from_secs(10);

fn timeout() -> Duration {
    Duration::from_secs(5)
}

impl Probe {
    pub(super) fn resolve(&mut self, folder: &Path) {
        if let Some(ca) = &mut self.ca {
            beneath(folder, ca);
        }
    }

    fn target(&self) -> Result<Target, (&'static str, String)> {
        let missing = |key: &str| ("kind", format!("it needs {key}"));
        let address = || self.address.clone().ok_or_else(|| missing("address = \"host:port\""));
        let target = match self.kind {
            Kind::Http => {
                let ca = match &self.ca {
                    Some(path) => Some(ca_text(path).map_err(|message| ("ca", message))?),
                    None => None,
                };
                let url = self.url.clone().ok_or_else(|| missing("a url"))?;
                Target::Http { url, expect: self.expect.clone(), ca }
            }
            Kind::Tcp => Target::Tcp { address: address()? },
            Kind::Closed => Target::Closed { address: address()? },
            Kind::Mongodb => Target::Mongodb { address: address()? },
        };
        let (http, socket) = (matches!(self.kind, Kind::Http), self.address.is_some());
        let other = self.url.is_some() || !self.expect.is_empty() || self.ca.is_some();
        if http && socket || !http && other {
            let key = if http { "address" } else { "kind" };
            return Err((key, "url, expect and ca are for http, address is for the others".to_owned()));
        }
        let key = if http { "url" } else { "address" };
        question(&target, self.timeout).map_err(|message| (key, message))?;
        Ok(target)
    }
}

/// The configured probes, then the readiness of each service.
///
/// # Errors
/// What is wrong, with its line.
pub fn definitions(
    config: &Config,
    services: &[ops_domain::service::Definition],
) -> Result<Vec<Definition>, Error> {
    let mut all = Vec::new();
    for (name, probe) in &config.probe {
        let wrong = |key, message: String| config.error_at(&["probe", name.as_str(), key], message);
        if services.iter().any(|service| service.name.as_str() == name.as_str()) {
            return Err(wrong(
                "kind",
                format!("the readiness of service {name} is a probe of that name already"),
            ));
        }
        if probe.timeout.is_zero() || probe.timeout > LONGEST {
            return Err(wrong("timeout", "up to 10s".to_owned()));
        }
        let target = probe.target().map_err(|(key, message)| wrong(key, message))?;
        all.push(Definition { name: name.clone(), target, service: None, timeout: probe.timeout });
    }
    for service in services {
        if let Check::Probe(target) = &service.readiness.check
            && let Ok(name) = ProbeName::parse(service.name.as_str())
        {
            let (target, service) = (target.clone(), Some(service.name.clone()));
            all.push(Definition { name, target, service, timeout: timeout() });
        }
    }
    Ok(all)
}
