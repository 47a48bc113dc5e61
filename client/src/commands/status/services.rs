//! The table of services, for `status` and `service list`.

use jiff::Timestamp;
use ops_proto::v1::{Readiness, Service, ServiceState};

use crate::output::{Cell, Table, Tone, ago, duration, memory, percent, timestamp};

/// One row a service, in the given order; facts that nobody has have no column.
#[must_use]
pub fn table(services: &[Service], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "SERVICE",
        "STATE",
        "READY",
        "UP",
        "RESTARTS/24H",
        "CPU",
        "MEM",
        "+PID",
        "+PROGRAM",
        "+EXPECTED",
        "LAST CHANGE",
    ]);
    for service in services {
        table.row([
            service.name.clone().into(),
            state(service),
            ready(service),
            up(service, now),
            service.restarts_24h.map_or_else(Cell::none, |count| count.to_string().into()),
            service.cpu_percent.map_or_else(Cell::none, |value| percent(value).into()),
            service.memory_bytes.map_or_else(Cell::none, |bytes| memory(bytes).into()),
            if service.pid == 0 { Cell::none() } else { service.pid.to_string().into() },
            service.program.clone().into(),
            if service.managed { service.expected.clone().into() } else { "unmanaged".into() },
            last_change(service, now).into(),
        ]);
    }
    table
}

fn state(service: &Service) -> Cell {
    let (word, is_bad) = match service.state() {
        ServiceState::Running => ("running", false),
        ServiceState::Starting => ("starting", false),
        ServiceState::Stopping => ("stopping", false),
        ServiceState::Stopped => ("stopped", !service.ok),
        ServiceState::Exited if service.ok => ("exited", false),
        ServiceState::Exited => ("EXITED", true),
        ServiceState::Backoff => ("BACKOFF", true),
        ServiceState::Fatal => ("FATAL", true),
        ServiceState::Unknown | ServiceState::Unspecified => ("UNKNOWN", true),
    };
    Cell::new(word, if is_bad { Tone::Bad } else { Tone::Normal })
}

fn ready(service: &Service) -> Cell {
    match service.readiness() {
        Readiness::Ready => "yes".into(),
        Readiness::NotReady => Cell::new("no", Tone::Bad),
        Readiness::Unknown => Cell::new("unknown", Tone::Warn),
        Readiness::NotExpected | Readiness::Unspecified => Cell::none(),
    }
}

fn up(service: &Service, now: Timestamp) -> Cell {
    let started = service.started_at.as_ref().and_then(timestamp);
    match (service.state(), started) {
        (ServiceState::Running | ServiceState::Starting, Some(at)) => {
            duration(now.as_second().saturating_sub(at.as_second()).unsigned_abs()).into()
        }
        _ => Cell::none(),
    }
}

/// Of what is well: who changed it last. Of what is not: why, and since when.
fn last_change(service: &Service, now: Timestamp) -> String {
    if service.ok {
        let at = service.last_change_at.as_ref().and_then(timestamp).map(|at| ago(at, now));
        return match (service.last_change.split_once(" by "), at) {
            (Some((did, by)), Some(at)) => format!("{did} {at} by {by}"),
            (None, Some(at)) if !service.last_change.is_empty() => format!("{} {at}", service.last_change),
            _ => service.last_change.clone(),
        };
    }
    let mut facts = Vec::new();
    if matches!(service.state(), ServiceState::Running | ServiceState::Starting) {
        facts.push(service.readiness_text.clone());
    } else if !service.spawn_error.is_empty() {
        facts.push(service.spawn_error.clone());
    } else if !service.exit_signal.is_empty() {
        facts.push(format!("killed by {}", service.exit_signal));
    } else if let Some(code) = service.exit_code {
        facts.push(format!("exit code {code}"));
    }
    if let Some(last) = service.transitions.first() {
        let at = last.at.as_ref().and_then(timestamp).map(|at| format!(" {}", ago(at, now)));
        facts.push(format!("{}{}", last.event, at.unwrap_or_default()));
    }
    facts.retain(|fact| !fact.is_empty());
    facts.join(", ")
}
