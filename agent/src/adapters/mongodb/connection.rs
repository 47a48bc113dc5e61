//! One client, opened at the first question, closed when nobody asked for a while.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use ops_domain::ports::database::{Capabilities, DatabaseError, ServerKind, Unreachable};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::address::Address;
use super::failure::{failure, io_cause, line};

/// A client that nobody used for so long is closed.
const IDLE: Duration = Duration::from_secs(300);
/// Opening a TCP connection.
const KNOCK_LIMIT: Duration = Duration::from_secs(3);
/// `hello` and `buildInfo`, server selection included.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// The way to the server.
pub(super) struct Connection {
    address: Address,
    idle: Duration,
    open: Arc<Mutex<Option<Open>>>,
}

struct Open {
    client: Client,
    capabilities: Arc<Capabilities>,
    used: Instant,
    /// Held by every lease: a client in use is not idle.
    in_use: Arc<()>,
}

/// A client in use.
#[derive(Clone)]
pub(super) struct Lease {
    /// The driver's handle.
    pub(super) client: Client,
    /// What the server is.
    pub(super) capabilities: Arc<Capabilities>,
    _in_use: Arc<()>,
}

impl Connection {
    pub(super) fn new(address: Address) -> Self {
        Self::with_idle(address, IDLE)
    }

    pub(super) fn with_idle(address: Address, idle: Duration) -> Self {
        Self { address, idle, open: Arc::default() }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) async fn is_open(&self) -> bool {
        self.open.lock().await.is_some()
    }

    /// Opens a TCP connection to the first host that takes one, and lets it go: how long that took, or why not.
    pub(super) async fn knock(&self) -> Result<Duration, DatabaseError> {
        let mut refusal = None;
        for (host, port) in self.address.hosts() {
            let began = Instant::now();
            let unreachable = |cause, detail| DatabaseError::Unreachable {
                uri: self.address.masked().to_owned(),
                cause,
                detail,
            };
            let addresses = match timeout(KNOCK_LIMIT, tokio::net::lookup_host((host.as_str(), port))).await {
                Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
                Ok(Err(error)) => {
                    refusal = Some(unreachable(Unreachable::Dns, line(error)));
                    continue;
                }
                Err(_) => {
                    refusal = Some(unreachable(Unreachable::Dns, "the resolver does not answer".to_owned()));
                    continue;
                }
            };
            match timeout(KNOCK_LIMIT, TcpStream::connect(&*addresses)).await {
                Ok(Ok(_)) => return Ok(began.elapsed()),
                Ok(Err(error)) => refusal = Some(unreachable(io_cause(&error), line(error))),
                Err(_) => {
                    let detail = format!("no TCP connection to {host}:{port} in 3 s");
                    refusal = Some(unreachable(Unreachable::Timeout, detail));
                }
            }
        }
        // Only unix sockets: there is nothing to knock at, the driver will tell.
        refusal.map_or(Ok(Duration::ZERO), Err)
    }

    /// The client, opened if need be. Callers that come meanwhile wait for the same opening.
    pub(super) async fn lease(&self) -> Result<Lease, DatabaseError> {
        let mut open = self.open.lock().await;
        if let Some(open) = open.as_mut() {
            open.used = Instant::now();
            return Ok(open.lease());
        }
        self.knock().await?;
        let client = Client::with_options(self.address.options())
            .map_err(|error| failure(self.address.masked(), "open a client", &error))?;
        let capabilities = match probe(&self.address, &client).await {
            Ok(capabilities) => Arc::new(capabilities),
            Err(error) => {
                tokio::spawn(client.shutdown().immediate(true).into_future());
                return Err(error);
            }
        };
        let opened = Open { client, capabilities, used: Instant::now(), in_use: Arc::new(()) };
        let lease = opened.lease();
        *open = Some(opened);
        tokio::spawn(close_when_idle(Arc::clone(&self.open), self.idle));
        Ok(lease)
    }
}

impl Open {
    fn lease(&self) -> Lease {
        Lease {
            client: self.client.clone(),
            capabilities: Arc::clone(&self.capabilities),
            _in_use: Arc::clone(&self.in_use),
        }
    }
}

async fn close_when_idle(slot: Arc<Mutex<Option<Open>>>, idle: Duration) {
    let mut left = idle;
    loop {
        tokio::time::sleep(left).await;
        let mut open = slot.lock().await;
        let Some(current) = open.as_mut() else { return };
        if Arc::strong_count(&current.in_use) > 1 {
            current.used = Instant::now();
        }
        left = idle.saturating_sub(current.used.elapsed());
        if left.is_zero() {
            if let Some(closed) = open.take() {
                drop(open);
                closed.client.shutdown().immediate(true).await;
            }
            return;
        }
    }
}

/// Runs a driver's future in a task of its own, and waits for it at most `limit`.
pub(super) async fn run<T: Send + 'static>(
    address: &Address,
    what: String,
    limit: Duration,
    future: impl Future<Output = mongodb::error::Result<T>> + Send + 'static,
) -> Result<T, DatabaseError> {
    match timeout(limit, tokio::spawn(future)).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(failure(address.masked(), &what, &error)),
        Ok(Err(panicked)) => Err(DatabaseError::Protocol { what, detail: line(panicked) }),
        Err(_) => Err(DatabaseError::Unreachable {
            uri: address.masked().to_owned(),
            cause: Unreachable::Timeout,
            detail: format!("{what}: no answer in {} s", limit.as_secs()),
        }),
    }
}

async fn probe(address: &Address, client: &Client) -> Result<Capabilities, DatabaseError> {
    let admin = client.database("admin");
    let again = admin.clone();
    let hello =
        run(
            address,
            "hello".to_owned(),
            PROBE_LIMIT,
            async move { admin.run_command(doc! { "hello": 1 }).await },
        )
        .await?;
    let build = run(address, "buildInfo".to_owned(), PROBE_LIMIT, async move {
        again.run_command(doc! { "buildInfo": 1 }).await
    })
    .await?;
    Ok(judge(&hello, &build))
}

/// What a server is, by what it says of itself.
fn judge(hello: &Document, build: &Document) -> Capabilities {
    let text = |document: &Document, name: &str| document.get_str(name).unwrap_or_default().to_owned();
    let ferretdb = build.get_str("ferretdbVersion").ok();
    let kind = if ferretdb.is_some() {
        ServerKind::Ferretdb
    } else if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        ServerKind::Mongos
    } else if build.contains_key("storageEngines") || build.contains_key("allocator") {
        ServerKind::Mongod
    } else {
        ServerKind::Other
    };
    // A set name proves nothing on FerretDB: it can be set without any replication.
    let set = hello.get_str("setName").ok().filter(|_| kind == ServerKind::Mongod);
    let topology = match (kind, set) {
        (ServerKind::Mongos, _) => "sharded".to_owned(),
        (_, Some(name)) => format!("replica set {name}"),
        _ => "standalone".to_owned(),
    };
    let version =
        ferretdb.map_or_else(|| text(build, "version"), |version| version.trim_start_matches('v').to_owned());
    let whole = matches!(kind, ServerKind::Mongod | ServerKind::Mongos);
    Capabilities { kind, version, topology, rename_dotted: whole, index_options: whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_what_it_says() {
        let mongod = judge(
            &doc! { "setName": "rs0" },
            &doc! { "version": "7.0.28", "storageEngines": ["wiredTiger"] },
        );
        assert_eq!(mongod.to_string(), "mongod 7.0.28 replica set rs0");
        let ferretdb = judge(
            &doc! { "setName": "rs0" },
            &doc! { "version": "7.0.42", "ferretdbVersion": "v1.24.2", "storageEngines": [] },
        );
        assert_eq!(ferretdb.to_string(), "FerretDB 1.24.2 standalone");
        assert!(!ferretdb.rename_dotted && !ferretdb.index_options);
        let nameless = judge(&doc! {}, &doc! { "ferretdbVersion": "unknown" });
        assert_eq!(nameless.to_string(), "FerretDB standalone");
        let mongos = judge(&doc! { "msg": "isdbgrid" }, &doc! { "version": "8.0.1" });
        assert_eq!(mongos.to_string(), "mongos 8.0.1 sharded");
        assert_eq!(judge(&doc! {}, &doc! {}).kind, ServerKind::Other);
    }
}
