//! Probes as they go over the wire.

use std::time::Duration;

use ops_domain::probe::{Definition, Failure, Sample, Target};
use ops_proto::v1;

use super::{in_milliseconds, timestamp};

/// The list.
#[must_use]
pub fn list(probes: &[Definition]) -> v1::ListProbesResponse {
    v1::ListProbesResponse { probes: probes.iter().map(probe).collect() }
}

/// Answers.
#[must_use]
pub fn ran(definition: &Definition, samples: &[Sample]) -> v1::RunProbeResponse {
    v1::RunProbeResponse { probe: Some(probe(definition)), samples: samples.iter().map(sample).collect() }
}

fn probe(probe: &Definition) -> v1::Probe {
    let (expect, ca) = match &probe.target {
        Target::Http { expect, ca, .. } => (expect.clone(), ca.clone().unwrap_or_default()),
        _ => (Vec::new(), String::new()),
    };
    v1::Probe {
        name: probe.name.to_string(),
        kind: probe.target.kind().to_owned(),
        target: probe.target.place().to_owned(),
        service: probe.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        timeout_ms: in_milliseconds(probe.timeout),
        expect,
        ca,
    }
}

fn sample(sample: &Sample) -> v1::ProbeSample {
    let answer = &sample.answer;
    let milliseconds = |length: Duration| length.as_secs_f64() * 1000.0;
    v1::ProbeSample {
        at: Some(timestamp(sample.at)),
        verdict: if answer.passed() { v1::ProbeVerdict::Ok } else { v1::ProbeVerdict::Fail } as i32,
        failure: answer.failure.map_or(v1::ProbeFailure::None, failure) as i32,
        text: answer.text.clone(),
        status: answer.status.unwrap_or_default().into(),
        dns_ms: answer.dns.map(milliseconds),
        connect_ms: answer.connect.map(milliseconds),
        tls_ms: answer.tls.map(milliseconds),
        first_byte_ms: answer.first_byte.map(milliseconds),
        total_ms: milliseconds(answer.total),
        certificate_days: answer.certificate_days,
        address: answer.address.clone().unwrap_or_default(),
    }
}

const fn failure(failure: Failure) -> v1::ProbeFailure {
    match failure {
        Failure::Dns => v1::ProbeFailure::Dns,
        Failure::Connect => v1::ProbeFailure::Connect,
        Failure::Tls => v1::ProbeFailure::Tls,
        Failure::Timeout => v1::ProbeFailure::Timeout,
        Failure::Status => v1::ProbeFailure::Status,
        Failure::Body => v1::ProbeFailure::Body,
        Failure::Protocol => v1::ProbeFailure::Protocol,
        Failure::Database => v1::ProbeFailure::Database,
        Failure::Log => v1::ProbeFailure::Log,
    }
}
