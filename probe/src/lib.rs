//! One measured question to the outside: HTTP, TCP, a closed port, a MongoDB ping; with phase timings and a distinct
//! reason for each way to fail. Used by opsd and, for `--from client`, by opsctl.
//!
//! A probe never follows redirects, never reads more than [`BODY_LIMIT`], never takes longer than its limit over all
//! phases together, and trusts only the certificates it is given (or the system's, for a public host).

mod expectation;
mod http;
mod mongodb;
mod sample;
mod stream;
mod target;
mod tls;

use std::time::{Duration, Instant};

pub use expectation::{BadExpectation, Expectation};
pub use sample::{Failure, Sample, Timings};
pub use target::{BadTarget, HttpTarget, SocketTarget, Target};
pub use tls::{BadRoots, Roots};

use sample::Attempt;

/// What is read of a body, and of any other answer, at most.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A question.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Whom to ask.
    pub target: Target,
    /// The limit over everything, DNS included.
    pub timeout: Duration,
    /// Fields that the JSON body of an HTTP answer must have.
    pub expect: Vec<Expectation>,
}

/// Asks once. Never fails: how it went is in the sample.
pub async fn run(probe: &Probe, roots: &Roots) -> Sample {
    let began = Instant::now();
    let mut attempt = Attempt::new(began, probe.timeout);
    let verdict = match &probe.target {
        Target::Http(target) => http::ask(target, &probe.expect, roots, &mut attempt).await,
        Target::Tcp(target) => stream::open(target, &mut attempt).await,
        Target::Closed(target) => stream::closed(target, &mut attempt).await,
        Target::Mongodb(target) => mongodb::ping(target, &mut attempt).await,
    };
    attempt.timings.total = began.elapsed();
    attempt.into_sample(&probe.target, verdict)
}
