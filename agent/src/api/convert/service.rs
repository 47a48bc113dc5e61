//! Services as they go over the wire.

use ops_domain::ports::service_history::{Exit, Transition};
use ops_domain::ports::service_manager::ProgramState;
use ops_domain::service::{Change, Listing, Ready, Service, Verb, WaitFor};
use ops_proto::v1;

use super::{in_milliseconds, timestamp};

/// Transitions of each service in a list.
const LISTED: usize = 5;
/// Transitions of one service.
const SHOWN: usize = 20;

/// All of them.
#[must_use]
pub fn listing(listing: &Listing) -> v1::ListServicesResponse {
    v1::ListServicesResponse {
        services: listing.services.iter().map(|listed| with(listed, LISTED)).collect(),
        at: Some(timestamp(listing.at)),
        supervisor_version: listing.supervisor_version.clone(),
        history_missing: listing.history_missing.clone(),
    }
}

/// Those that changed.
#[must_use]
pub fn watched(listing: &Listing) -> v1::WatchServicesResponse {
    v1::WatchServicesResponse {
        services: listing.services.iter().map(|listed| with(listed, LISTED)).collect(),
        at: Some(timestamp(listing.at)),
    }
}

/// One, in a list.
#[must_use]
pub fn listed(service: &Service) -> v1::Service {
    with(service, LISTED)
}

/// One, whole.
#[must_use]
pub fn service(service: &Service) -> v1::Service {
    with(service, SHOWN)
}

/// What is asked for.
#[must_use]
pub fn change(verb: Verb, names: Vec<String>, all: bool, wait: i32, force: bool) -> Change {
    let wait = match v1::WaitFor::try_from(wait) {
        Ok(v1::WaitFor::Running) => WaitFor::Running,
        Ok(v1::WaitFor::None) => WaitFor::None,
        _ => WaitFor::Ready,
    };
    Change { verb, names, all, wait, force }
}

fn with(service: &Service, most: usize) -> v1::Service {
    let (exit_code, exit_signal) = match &service.exit {
        Some(Exit::Code(code)) => (Some(*code), String::new()),
        Some(Exit::Signal(name)) => (None, name.clone()),
        None => (None, String::new()),
    };
    v1::Service {
        name: service.name.clone(),
        program: service.program.to_string(),
        state: state(service.state) as i32,
        pid: service.pid.unwrap_or_default(),
        started_at: service.started_at.map(timestamp),
        readiness: readiness(service.readiness.verdict) as i32,
        readiness_text: service.readiness.text.clone(),
        readiness_age_ms: in_milliseconds(service.readiness.age),
        restarts_24h: service.restarts_24h,
        exit_code,
        exit_signal,
        spawn_error: service.spawn_error.clone(),
        cpu_percent: service.cpu_percent,
        memory_bytes: service.memory_bytes,
        transitions: service.transitions.iter().take(most).map(transition).collect(),
        last_change: service.last_change.clone(),
        last_change_at: service.last_change_at.map(timestamp),
        managed: service.managed,
        expected: service.expected.name().to_owned(),
        protected: service.protected.iter().map(|verb| verb.name().to_owned()).collect(),
        after: service.after.iter().map(ToString::to_string).collect(),
        stderr: service.stderr.clone(),
        ok: service.is_ok(),
    }
}

fn transition(transition: &Transition) -> v1::Transition {
    v1::Transition {
        at: Some(timestamp(transition.at)),
        event: transition.change.word().to_owned(),
        text: transition.change.text(),
    }
}

const fn state(state: ProgramState) -> v1::ServiceState {
    match state {
        ProgramState::Stopped => v1::ServiceState::Stopped,
        ProgramState::Starting => v1::ServiceState::Starting,
        ProgramState::Running => v1::ServiceState::Running,
        ProgramState::Backoff => v1::ServiceState::Backoff,
        ProgramState::Stopping => v1::ServiceState::Stopping,
        ProgramState::Exited => v1::ServiceState::Exited,
        ProgramState::Fatal => v1::ServiceState::Fatal,
        ProgramState::Unknown => v1::ServiceState::Unknown,
    }
}

const fn readiness(ready: Ready) -> v1::Readiness {
    match ready {
        Ready::Yes => v1::Readiness::Ready,
        Ready::No => v1::Readiness::NotReady,
        Ready::Unknown => v1::Readiness::Unknown,
        Ready::NotExpected => v1::Readiness::NotExpected,
    }
}
