//! Between the domain's values and the wire's, one way each. A feature's own conversions are in its own file.

use std::time::Duration;

use jiff::Timestamp;
use ops_domain::access::Credential;
use ops_domain::ids::{ServiceName, Subject};
use ops_domain::operation::ChangeOptions;
use ops_domain::{Error, Evidence, Next, Reason, Result};
use ops_proto::v1;

pub mod access;
pub mod agent;
pub mod audit;
pub mod backup;
pub mod database;
pub mod log;
pub mod operation;
pub mod probe;
pub mod service;
pub mod status;

/// Longest reason of a change, in bytes.
pub const REASON_BYTES: usize = 500;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES: usize = 128;
/// Most names in one request.
pub const NAMES: usize = 1_000;

/// A moment.
#[must_use]
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    // jiff counts back from the next whole second before 1970, protobuf counts on from the one before.
    let (mut seconds, mut nanos) = (at.as_second(), at.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    prost_types::Timestamp { seconds, nanos }
}

/// A moment that came in.
///
/// # Errors
/// `INVALID_ARGUMENT` outside the years -9999 to 9999, and for nanoseconds that are none.
pub fn from_timestamp(at: &prost_types::Timestamp, field: &str) -> Result<Timestamp> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return Err(invalid(format!("{field} is not a time: its nanoseconds are out of range")));
    }
    Timestamp::new(at.seconds, at.nanos)
        .map_err(|_| invalid(format!("{field} is not a time: it is out of range")))
}

/// Milliseconds; 0 means that nothing was said.
#[must_use]
pub fn milliseconds(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}

/// A length in whole milliseconds.
#[must_use]
pub fn in_milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The names of services.
///
/// # Errors
/// `INVALID_ARGUMENT` for the first that is no name, and for more than [`NAMES`].
pub fn services(names: &[String]) -> Result<Vec<ServiceName>> {
    if names.len() > NAMES {
        return Err(invalid(format!("{} names, at most {NAMES} are taken", names.len())));
    }
    names.iter().map(|name| ServiceName::parse(name)).collect()
}

/// A subject; empty means that nobody was named.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub fn subject(text: &str) -> Result<Option<Subject>> {
    if text.is_empty() { Ok(None) } else { Subject::parse(text).map(Some) }
}

/// How a change is to be made.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is too long.
pub fn change_options(options: Option<v1::ChangeOptions>) -> Result<ChangeOptions> {
    let options = options.unwrap_or_default();
    bounded("reason", &options.reason, REASON_BYTES)?;
    bounded("idempotency_key", &options.idempotency_key, KEY_BYTES)?;
    bounded("confirm", &options.confirm, REASON_BYTES)?;
    bounded("plan_id", &options.plan_id, KEY_BYTES)?;
    bounded("plan_digest", &options.plan_digest, KEY_BYTES)?;
    Ok(ChangeOptions {
        plan: options.plan,
        plan_id: options.plan_id,
        plan_digest: options.plan_digest,
        confirm: options.confirm,
        confirmed: options.confirmed,
        reason: options.reason,
        idempotency_key: options.idempotency_key,
        timeout: milliseconds(options.timeout_ms),
        lock_timeout: Duration::from_millis(options.lock_timeout_ms),
    })
}

/// What went wrong.
#[must_use]
pub fn problem(error: &Error) -> v1::Problem {
    v1::Problem {
        reason: reason(error.reason) as i32,
        message: error.message.clone(),
        target: error.target.clone(),
        evidence: error.evidence.iter().map(evidence).collect(),
        next: error.next.iter().map(next).collect(),
        retryable: error.retryable,
        effect: error.effect.clone(),
    }
}

/// A fact.
#[must_use]
pub fn evidence(evidence: &Evidence) -> v1::Evidence {
    v1::Evidence { name: evidence.name.clone(), text: evidence.text.clone(), lines: evidence.lines.clone() }
}

/// How a caller proved who it is.
#[must_use]
pub const fn credential(credential: Credential) -> v1::CredentialKind {
    match credential {
        Credential::Certificate => v1::CredentialKind::Certificate,
        Credential::Token => v1::CredentialKind::Token,
        Credential::Both => v1::CredentialKind::Both,
    }
}

fn next(next: &Next) -> v1::NextCommand {
    v1::NextCommand { argv: next.argv.clone(), note: next.note.clone() }
}

fn reason(reason: Reason) -> v1::ErrorReason {
    let name = format!("ERROR_REASON_{}", reason.name());
    v1::ErrorReason::from_str_name(&name).unwrap_or(v1::ErrorReason::Unspecified)
}

fn bounded(field: &str, text: &str, most: usize) -> Result<()> {
    if text.len() > most {
        return Err(invalid(format!("{field} has {} bytes, at most {most} are taken", text.len())));
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(Reason::InvalidArgument, message).effect("nothing was done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_the_domain_is_one_of_the_contract() {
        for known in Reason::ALL {
            assert_ne!(reason(*known), v1::ErrorReason::Unspecified, "{known}");
        }
    }

    #[test]
    fn times_come_back_as_they_went() {
        for (second, nano) in [(0, 0), (-1, -500_000_000), (1_700_000_000, 1), (253_402_207_200, 0)] {
            let at = Timestamp::new(second, nano).unwrap();
            assert_eq!(from_timestamp(&timestamp(at), "since").unwrap(), at);
        }
        for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
            assert!(from_timestamp(&prost_types::Timestamp { seconds, nanos }, "since").is_err());
        }
    }

    #[test]
    fn long_words_are_refused() {
        let options = v1::ChangeOptions { reason: "x".repeat(REASON_BYTES + 1), ..Default::default() };
        assert_eq!(change_options(Some(options)).unwrap_err().reason, Reason::InvalidArgument);
    }
}
