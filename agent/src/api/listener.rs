//! The one TLS port: accept, handshake in the connection's own task, ALPN decides, every wait has an end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ops_trust::peer::{Peer, Side};
use ops_trust::tls::{Alpn, Fault};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::app::lifecycle::Lifecycle;
use crate::app::tls::TlsState;
use crate::config::Limits;

mod activity;
mod slots;

use activity::Activity;
use slots::{Slot, Slots};

/// After an error of accept: the first pause, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What a request knows of its connection; the layer reads it, handlers do not.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The socket's peer.
    pub peer: SocketAddr,
    /// Its certificate, which the handshake checked.
    pub certificate: Option<Arc<Peer>>,
    /// Against which CA.
    pub ca: [u8; 32],
    /// Cancelled when the connection must end and its streams with it.
    pub closing: CancellationToken,
}

/// Serves until the agent drains, then waits for what runs, at most `limits.drain`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<TlsState>,
    router: Router,
    limits: Limits,
    lifecycle: Lifecycle,
) {
    let server = Arc::new(Server {
        slots: Slots::new(&limits),
        handshakes: Semaphore::new(limits.handshakes),
        tls,
        router,
        lifecycle,
        cut: CancellationToken::new(),
        limits,
    });
    let tracker = TaskTracker::new();
    let mut pause = PAUSES.0;
    loop {
        let accepted = tokio::select! {
            () = server.lifecycle.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSES.0;
                let Some(slot) = server.slots.enter(peer.ip()) else {
                    tracing::debug!(%peer, "no room for another connection");
                    continue;
                };
                let server = Arc::clone(&server);
                tracker.spawn(async move { server.connection(stream, peer, slot).await });
            }
            Err(error) => {
                // Without file descriptors accept fails at once and again: a pause keeps the processor free.
                tracing::warn!(%error, pause = ?pause, "accept failed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
    drop(listener);
    tracker.close();
    if timeout(server.limits.drain, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "connections were cut at the end");
    }
    server.cut.cancel();
}

struct Server {
    slots: Arc<Slots>,
    handshakes: Semaphore,
    tls: Arc<TlsState>,
    router: Router,
    lifecycle: Lifecycle,
    cut: CancellationToken,
    limits: Limits,
}

impl Server {
    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, mut slot: Slot) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let tls = self.tls.current();
        let handshake = {
            let Ok(_pending) = self.handshakes.try_acquire() else {
                tracing::debug!(%peer, "too many handshakes at the same time");
                return;
            };
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.server));
            timeout(self.limits.handshake, acceptor.accept(stream)).await
        };
        let stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::info!(%peer, why = %Fault::find(&error).map_or_else(|| error.to_string(), |fault| fault.to_string()), "refused a handshake");
                return;
            }
            Err(_) => {
                tracing::debug!(%peer, "a handshake took too long");
                return;
            }
        };
        let (_, session) = stream.get_ref();
        let certificate = match session.peer_certificates().and_then(|all| all.first()) {
            None => None,
            Some(certificate) => match Peer::from_der(certificate, &tls.domain, Side::Client) {
                Ok(peer) => Some(Arc::new(peer)),
                Err(error) => {
                    tracing::warn!(%peer, why = %error, "a certificate passed the handshake and cannot be read");
                    return;
                }
            },
        };
        let identity = certificate.as_ref().map(|peer| peer.subject.to_string());
        if !slot.identify(identity) {
            tracing::debug!(%peer, "no room for another connection of this identity");
            return;
        }
        let http2 = match session.alpn_protocol() {
            Some(protocol) if protocol == Alpn::H2.wire() => true,
            Some(protocol) if protocol == Alpn::Http11.wire() => false,
            _ => return,
        };
        let closing = CancellationToken::new();
        let known = Connection { peer, certificate, ca: tls.ca_sha256, closing: closing.clone() };
        let activity = Arc::new(Activity::new());
        let io = TokioIo::new(stream);
        if http2 {
            let connection = self.http2().serve_connection(io, self.service(known, &activity));
            self.watch(connection, &activity, &closing).await;
        } else {
            let connection = self.http1().serve_connection(io, self.service(known, &activity));
            self.watch(connection, &activity, &closing).await;
        }
        drop(slot);
    }

    fn service(
        &self,
        known: Connection,
        activity: &Arc<Activity>,
    ) -> impl hyper::service::Service<
        Request<Incoming>,
        Response = http::Response<Body>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<> {
        let router = self.router.clone();
        let activity = Arc::clone(activity);
        service_fn(move |request: Request<Incoming>| {
            let running = activity.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(known.clone());
            let router = router.clone();
            async move {
                let response = router.oneshot(request).await?;
                Ok(response.map(|body| running.until_the_end_of(body)))
            }
        })
    }

    fn http1(&self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_read)
            .max_headers(self.limits.headers)
            .max_header_size(usize::try_from(self.limits.header_bytes).unwrap_or(usize::MAX))
            .half_close(false)
            .keep_alive(true);
        builder
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.concurrent_streams)
            .max_local_error_reset_streams(limits.local_error_resets)
            .max_pending_accept_reset_streams(limits.pending_accept_resets)
            .max_header_list_size(limits.header_bytes)
            .max_frame_size(limits.frame_bytes)
            .initial_stream_window_size(limits.stream_window_bytes)
            .initial_connection_window_size(limits.connection_window_bytes)
            .max_send_buf_size(limits.send_buffer_bytes)
            .keep_alive_interval(limits.keepalive)
            .keep_alive_timeout(limits.keepalive_timeout);
        builder
    }

    /// Drives a connection, and ends it: no first request, idle, old, the agent drains.
    async fn watch<C: Serve>(&self, connection: C, activity: &Activity, closing: &CancellationToken) {
        let mut connection = std::pin::pin!(connection);
        let reason = tokio::select! {
            () = connection.as_mut().done() => return,
            reason = self.end_of(activity) => reason,
        };
        tracing::debug!(reason, "ending a connection");
        connection.as_mut().graceful_shutdown();
        let streams_end = async {
            if reason == AGE {
                tokio::time::sleep(self.limits.connection_grace).await;
                closing.cancel();
            }
            std::future::pending::<()>().await;
        };
        let grace = match reason {
            AGE => self.limits.connection_grace * 2,
            DRAIN => self.limits.drain,
            // Nothing runs on it: it has nothing to end.
            _ => Duration::from_secs(1),
        };
        tokio::select! {
            () = connection.as_mut().done() => {}
            () = streams_end => {}
            () = tokio::time::sleep(grace) => {}
            () = self.cut.cancelled() => {}
        }
    }

    async fn end_of(&self, activity: &Activity) -> &'static str {
        let first = async {
            tokio::time::sleep(self.limits.first_request).await;
            if activity.requests() > 0 {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.lifecycle.draining() => DRAIN,
            () = first => "no request",
            () = activity.idle_for(self.limits.idle) => "idle",
            () = tokio::time::sleep(self.limits.connection_age) => AGE,
        }
    }
}

const AGE: &str = "age";
const DRAIN: &str = "drain";

/// What both versions of HTTP have in common here.
trait Serve {
    async fn done(self: std::pin::Pin<&mut Self>);
    fn graceful_shutdown(self: std::pin::Pin<&mut Self>);
}

type Tls = TokioIo<tokio_rustls::server::TlsStream<TcpStream>>;

macro_rules! serve {
    ($($module:ident: $connection:ty),+) => {$(
        impl<S> Serve for $connection
        where
            S: hyper::service::Service<
                    Request<Incoming>,
                    Response = http::Response<Body>,
                    Error = Infallible,
                    Future: Send + 'static,
                >,
        {
            async fn done(self: std::pin::Pin<&mut Self>) {
                if let Err(error) = self.await {
                    tracing::debug!(%error, "a connection ended badly");
                }
            }

            fn graceful_shutdown(self: std::pin::Pin<&mut Self>) {
                $module::Connection::graceful_shutdown(self);
            }
        }
    )+};
}

serve!(http1: http1::Connection<Tls, S>, http2: http2::Connection<Tls, S, TokioExecutor>);
