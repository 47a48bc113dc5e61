//! What the configuration says about a service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::ports::service_manager::ProgramName;
use crate::probe::Target;

/// A service: a program with an order, a readiness and rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name here.
    pub name: ServiceName,
    /// Its name there.
    pub program: ProgramName,
    /// Services that come up before it.
    pub after: Vec<ServiceName>,
    /// Whether it should run.
    pub expected: Expected,
    /// Verbs that need admin, a certificate and the typed name.
    pub protected: BTreeSet<Verb>,
    /// How it is known to be ready.
    pub readiness: Readiness,
}

/// Whether a service should run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// Yes; only such services are in `--all`.
    #[default]
    Running,
    /// No.
    Stopped,
    /// Either is well.
    Any,
}

impl Expected {
    /// `running`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Expected::Running => "running",
            Expected::Stopped => "stopped",
            Expected::Any => "any",
        }
    }
}

/// What can be done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Bring it up.
    Start,
    /// Take it down.
    Stop,
    /// A new process.
    Restart,
}

impl Verb {
    /// `restart`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }

    /// `service.restart`.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Verb::Start => "service.start",
            Verb::Stop => "service.stop",
            Verb::Restart => "service.restart",
        }
    }

    /// `restarted`.
    #[must_use]
    pub const fn done(self) -> &'static str {
        match self {
            Verb::Start => "started",
            Verb::Stop => "stopped",
            Verb::Restart => "restarted",
        }
    }
}

/// How a service is known to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What is asked.
    pub check: Check,
    /// How many passes in a row.
    pub passes: u32,
    /// Between two of them.
    pub interval: Duration,
    /// How long after RUNNING it may take.
    pub timeout: Duration,
}

/// What readiness asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A probe.
    Probe(Target),
    /// A line in its logs after a start, once.
    Log {
        /// A regular expression.
        pattern: String,
    },
    /// Nothing: RUNNING is all that is asked.
    None,
}

impl Readiness {
    /// 3 passes, 250 ms apart, within 60 s.
    #[must_use]
    pub fn new(check: Check) -> Self {
        Self { check, passes: 3, interval: Duration::from_millis(250), timeout: Duration::from_secs(60) }
    }

    /// One word: http, tcp, mongodb, log, none.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match &self.check {
            Check::Probe(target) => target.kind(),
            Check::Log { .. } => "log",
            Check::None => "none",
        }
    }
}

/// The services in the order in which they come up: each after those it names, else as configured.
///
/// # Errors
/// `CONFIG_INVALID`: two of one name or of one program, an `after` that names nothing, a circle.
pub fn ordered(definitions: Vec<Definition>) -> Result<Vec<Definition>> {
    let invalid = |text: String| Error::new(Reason::ConfigInvalid, text);
    let mut names = BTreeSet::new();
    let mut programs: BTreeMap<&ProgramName, &ServiceName> = BTreeMap::new();
    for service in &definitions {
        if !names.insert(service.name.clone()) {
            return Err(invalid(format!("two services are called {}", service.name)));
        }
        if let Some(other) = programs.insert(&service.program, &service.name) {
            return Err(invalid(format!(
                "{other} and {} are the same program, {}",
                service.name, service.program
            )));
        }
    }
    for service in &definitions {
        if let Some(unknown) = service.after.iter().find(|name| !names.contains(*name)) {
            return Err(invalid(format!("{} comes after {unknown}, which is no service", service.name)));
        }
    }
    let mut left = definitions;
    let mut placed = BTreeSet::new();
    let mut order = Vec::new();
    while !left.is_empty() {
        let Some(next) =
            left.iter().position(|service| service.after.iter().all(|name| placed.contains(name)))
        else {
            let circle: Vec<&str> = left.iter().map(|service| service.name.as_str()).collect();
            return Err(invalid(format!("`after` goes round in a circle among {}", circle.join(", "))));
        };
        let service = left.remove(next);
        placed.insert(service.name.clone());
        order.push(service);
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service(name: &str, after: &[&str]) -> Definition {
        Definition {
            name: ServiceName::parse(name).unwrap(),
            program: ProgramName::parse(name).unwrap(),
            after: after.iter().map(|name| ServiceName::parse(name).unwrap()).collect(),
            expected: Expected::Running,
            protected: BTreeSet::new(),
            readiness: Readiness::new(Check::None),
        }
    }

    fn names(order: &[Definition]) -> Vec<&str> {
        order.iter().map(|service| service.name.as_str()).collect()
    }

    #[test]
    fn each_comes_after_what_it_needs() {
        let order = ordered(vec![
            service("frontend", &["backend"]),
            service("backend", &["mongodb"]),
            service("mongodb", &[]),
        ]);
        assert_eq!(names(&order.unwrap()), ["mongodb", "backend", "frontend"]);
    }

    #[test]
    fn circles_twins_and_strangers_are_told() {
        let says = |services| ordered(services).unwrap_err().message;
        assert!(
            says(vec![service("a", &["b"]), service("b", &["a"]), service("c", &[])])
                .contains("circle among a, b")
        );
        assert!(says(vec![service("a", &["a"])]).contains("circle"));
        assert!(says(vec![service("a", &["x"])]).contains("after x, which is no service"));
        assert!(says(vec![service("a", &[]), service("a", &[])]).contains("two services are called a"));
        let twin = Definition { program: ProgramName::parse("a").unwrap(), ..service("b", &[]) };
        assert!(says(vec![service("a", &[]), twin]).contains("same program"));
    }

    proptest! {
        /// Whatever the arrows, as long as they point to earlier numbers: every service is there once, after all its own.
        #[test]
        fn any_order_without_a_circle_is_kept(
            arrows in proptest::collection::vec(proptest::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
            shuffle in any::<u64>(),
        ) {
            let mut services: Vec<Definition> = arrows.iter().enumerate().map(|(number, to)| {
                let after: Vec<String> =
                    if number == 0 { Vec::new() } else { to.iter().map(|index| format!("s{}", index.index(number))).collect() };
                service(&format!("s{number}"), &after.iter().map(String::as_str).collect::<Vec<_>>())
            }).collect();
            let length = services.len();
            for at in 0..length {
                services.swap(at, usize::try_from(shuffle.rotate_left(u32::try_from(at).unwrap()) % length as u64).unwrap());
            }
            let order = ordered(services.clone()).unwrap();
            prop_assert_eq!(order.len(), length);
            for (at, service) in order.iter().enumerate() {
                for needed in &service.after {
                    let before = order.iter().position(|other| other.name == *needed).unwrap();
                    prop_assert!(before < at);
                }
            }
            prop_assert_eq!(ordered(services).unwrap(), order);
        }
    }
}
