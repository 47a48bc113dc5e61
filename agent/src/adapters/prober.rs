//! Probes, asked with ops-probe.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ops_domain::ports::Prober;
use ops_domain::probe::{Answer, Failure, Target};
use ops_probe::{Expectation, HttpTarget, Probe, Roots, SocketTarget};

/// Asks from this host.
#[derive(Debug, Default)]
pub struct HostProber {
    /// Parsed once for each CA text: a probe in a loop would parse its certificates 40 times a second.
    roots: Mutex<HashMap<Option<String>, Roots>>,
}

impl HostProber {
    fn roots(&self, ca: Option<&String>) -> Result<Roots, String> {
        let mut known = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = known.get(&ca.cloned()) {
            return Ok(roots.clone());
        }
        let roots = match ca {
            Some(pem) => Roots::from_pem(pem.as_bytes()).map_err(|error| error.to_string())?,
            None => Roots::system(),
        };
        known.insert(ca.cloned(), roots.clone());
        Ok(roots)
    }
}

/// What a target asks, as ops-probe puts it.
///
/// # Errors
/// A target or an expectation that does not parse; the configuration refuses such.
pub fn question(target: &Target, timeout: Duration) -> Result<Probe, String> {
    let socket = |address: &str| SocketTarget::parse(address).map_err(|error| error.to_string());
    let mut expected = Vec::new();
    let target = match target {
        Target::Http { url, expect, .. } => {
            for text in expect {
                expected.push(Expectation::parse(text).map_err(|error| error.to_string())?);
            }
            ops_probe::Target::Http(HttpTarget::parse(url).map_err(|error| error.to_string())?)
        }
        Target::Tcp { address } => ops_probe::Target::Tcp(socket(address)?),
        Target::Closed { address } => ops_probe::Target::Closed(socket(address)?),
        Target::Mongodb { address } => ops_probe::Target::Mongodb(socket(address)?),
    };
    Ok(Probe { target, timeout, expect: expected })
}

#[async_trait]
impl Prober for HostProber {
    async fn ask(&self, target: &Target, limit: Duration) -> Answer {
        let ca = if let Target::Http { ca, .. } = target { ca.as_ref() } else { None };
        let asked = question(target, limit).and_then(|probe| Ok((probe, self.roots(ca)?)));
        let (probe, roots) = match asked {
            Ok(asked) => asked,
            Err(why) => return unasked(why),
        };
        let sample = ops_probe::run(&probe, &roots).await;
        Answer {
            failure: sample.failure.map(failure),
            text: sample.text,
            status: sample.status,
            dns: sample.timings.dns,
            connect: sample.timings.connect,
            tls: sample.timings.tls,
            first_byte: sample.timings.first_byte,
            total: sample.timings.total,
            certificate_days: sample.certificate_days,
            address: sample.address.map(|address| address.to_string()),
        }
    }
}

fn unasked(why: String) -> Answer {
    Answer {
        failure: Some(Failure::Protocol),
        text: why,
        status: None,
        dns: None,
        connect: None,
        tls: None,
        first_byte: None,
        total: Duration::ZERO,
        certificate_days: None,
        address: None,
    }
}

const fn failure(failure: ops_probe::Failure) -> Failure {
    match failure {
        ops_probe::Failure::Dns => Failure::Dns,
        ops_probe::Failure::Connect => Failure::Connect,
        ops_probe::Failure::Tls => Failure::Tls,
        ops_probe::Failure::Timeout => Failure::Timeout,
        ops_probe::Failure::Status => Failure::Status,
        ops_probe::Failure::Body => Failure::Body,
        ops_probe::Failure::Protocol => Failure::Protocol,
        ops_probe::Failure::Database => Failure::Database,
    }
}
