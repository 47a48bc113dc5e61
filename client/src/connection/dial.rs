//! One TLS connection to the first address that answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ops_proto::v1::ErrorReason;
use ops_trust::tls::Fault;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::CONNECT_TIMEOUT;
use crate::error::{Error, Result};
use crate::output::io_words;

/// How long one address of a name is waited for before the next is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where to, and what is trusted there.
pub(super) struct Road {
    pub(super) addresses: Vec<String>,
    pub(super) server_name: String,
    pub(super) config: Arc<ClientConfig>,
}

impl Road {
    /// Tries the addresses in order. What is said is about the first one; the others are facts.
    pub(super) async fn dial(&self) -> Result<TlsStream<TcpStream>> {
        let mut failed: Option<Error> = None;
        for address in &self.addresses {
            match self.dial_one(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failed = Some(match failed {
                        None => error,
                        Some(first) => {
                            let text = error.problem().message.replace("{agent}", address);
                            first.fact("also", text)
                        }
                    });
                }
            }
        }
        Err(failed.unwrap_or_else(|| Error::new(ErrorReason::ContextInvalid, "the context has no address")))
    }

    async fn dial_one(&self, address: &str) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.server_name.clone()).map_err(|_| {
            Error::new(ErrorReason::ContextInvalid, format!("{} cannot name a server", self.server_name))
        })?;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let resolved = timeout_at(deadline, lookup_host(address))
            .await
            .map_err(|_| no_answer(&format!("its name is not resolved in {}", seconds())))?
            .map_err(|error| no_answer(&format!("its name cannot be resolved: {}", io_words(&error))))?;
        let stream = race(resolved.collect(), deadline).await?;
        // Small calls; each one waits for its answer.
        let _ = stream.set_nodelay(true);
        let connector = TlsConnector::from(Arc::clone(&self.config));
        match timeout_at(deadline, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(match Fault::find(&error) {
                Some(fault) => fault.into(),
                None if error.kind() == io::ErrorKind::UnexpectedEof => {
                    no_answer("it hung up during the TLS handshake")
                }
                None => no_answer(&format!("TLS: {}", io_words(&error))),
            }),
            Err(_) => Err(no_answer(&format!("TCP answers, TLS does not in {}", seconds()))),
        }
    }
}

/// The first of these addresses that takes a connection.
async fn race(addresses: Vec<SocketAddr>, deadline: Instant) -> Result<TcpStream> {
    let mut waiting = addresses.iter().copied();
    let mut trying = FuturesUnordered::new();
    let mut last: Option<(SocketAddr, io::Error)> = None;
    let mut next_at = Instant::now();
    let start = |address: SocketAddr| async move {
        TcpStream::connect(address).await.map_err(|error| (address, error))
    };
    loop {
        if Instant::now() >= next_at || trying.is_empty() {
            match waiting.next() {
                Some(address) => {
                    trying.push(start(address));
                    next_at = Instant::now() + NEXT_ADDRESS;
                }
                None if trying.is_empty() => break,
                None => next_at = deadline,
            }
        }
        tokio::select! {
            Some(ended) = trying.next() => match ended {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            },
            () = tokio::time::sleep_until(next_at.min(deadline)) => {
                if Instant::now() >= deadline {
                    let tried: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
                    let cause = format!("TCP connect timed out after {} ({})", seconds(), tried.join(", "));
                    return Err(no_answer(&cause));
                }
            }
        }
    }
    Err(match last {
        Some((address, error)) => no_answer(&format!("{} ({})", io_words(&error), address.ip())),
        None => no_answer("its name has no address"),
    })
}

fn no_answer(cause: &str) -> Error {
    Error::connection(ErrorReason::AgentUnreachable, format!("no answer from {{agent}}: {cause}"))
}

fn seconds() -> String {
    format!("{:.1} s", CONNECT_TIMEOUT.as_secs_f64())
}
