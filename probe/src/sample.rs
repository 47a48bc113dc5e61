//! What came of a probe.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::target::Target;

/// How a probe failed; each has its own cause and its own remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The name has no address.
    Dns,
    /// No connection: refused, unreachable; or, for a port that should be closed, a connection.
    Connect,
    /// A connection, but no TLS session: certificate, name, version.
    Tls,
    /// The limit passed; the sample's text says in which phase.
    Timeout,
    /// An HTTP answer with another status than 2xx.
    Status,
    /// The body is not as expected.
    Body,
    /// What answered does not speak the protocol.
    Protocol,
    /// The database answered, with an error.
    Database,
}

/// How long each phase took; `None`: not reached, or there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// The name's addresses; none for a literal address.
    pub dns: Option<Duration>,
    /// The TCP handshake.
    pub connect: Option<Duration>,
    /// The TLS handshake.
    pub tls: Option<Duration>,
    /// From the request's first byte to the answer's head.
    pub first_byte: Option<Duration>,
    /// Everything.
    pub total: Duration,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `None`: it passed.
    pub failure: Option<Failure>,
    /// One line: "GET /api/health 200 in 6 ms"; control characters are escaped.
    pub text: String,
    /// The HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long.
    pub timings: Timings,
    /// Whole days left of the server's certificate, negative when it is over.
    pub certificate_days: Option<i64>,
    /// Whom it was connected to.
    pub address: Option<SocketAddr>,
}

impl Sample {
    /// Whether it passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failure.is_none()
    }
}

/// What is known while a probe runs: it survives the phase that fails.
pub(crate) struct Attempt {
    pub(crate) timings: Timings,
    pub(crate) status: Option<u16>,
    pub(crate) certificate_days: Option<i64>,
    pub(crate) address: Option<SocketAddr>,
    began: Instant,
    limit: Duration,
}

/// `Ok` with what to say, or why not and what to say.
pub(crate) type Verdict = Result<String, (Failure, String)>;

impl Attempt {
    pub(crate) fn new(began: Instant, limit: Duration) -> Self {
        let (timings, status, certificate_days, address) = (Timings::default(), None, None, None);
        Self { timings, status, certificate_days, address, began, limit }
    }

    /// Runs one phase under what is left of the limit; gives its value and its length.
    pub(crate) async fn phase<T>(
        &self,
        doing: &str,
        work: impl Future<Output = T>,
    ) -> Result<(T, Duration), (Failure, String)> {
        let phase_began = Instant::now();
        let left = self.limit.saturating_sub(self.began.elapsed());
        match tokio::time::timeout(left, work).await {
            Ok(value) => Ok((value, phase_began.elapsed())),
            Err(_) => Err((Failure::Timeout, format!("no answer in {} ({doing})", shown(self.limit)))),
        }
    }

    pub(crate) fn into_sample(self, target: &Target, verdict: Verdict) -> Sample {
        let (failure, text) = match verdict {
            Ok(text) => (None, text),
            Err((failure, text)) => (Some(failure), format!("{target}: {text}")),
        };
        Sample {
            failure,
            text: printable(&text),
            status: self.status,
            timings: self.timings,
            certificate_days: self.certificate_days,
            address: self.address,
        }
    }
}

/// `6 ms`, `2.0 s`.
pub(crate) fn shown(length: Duration) -> String {
    if length < Duration::from_secs(1) {
        format!("{} ms", length.as_millis())
    } else {
        format!("{:.1} s", length.as_secs_f64())
    }
}

/// What comes from the other side may hold anything; a sample's text is one line.
fn printable(text: &str) -> String {
    const LONGEST: usize = 500;
    let mut line = String::new();
    for letter in text.chars() {
        if line.len() >= LONGEST {
            line.push('…');
            break;
        }
        if letter.is_control() { line.extend(letter.escape_default()) } else { line.push(letter) }
    }
    line
}
