//! What an answer holds until it is over, and what ends a stream: its credential, a lost right, the agent, its length.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use ops_domain::access::{Permission, Principal};
use ops_domain::ports::{Clock, PolicySource};
use ops_domain::{Error, Reason};
use tokio_util::sync::CancellationToken;

use super::room::Place;
use super::shutting_down;
use crate::api::error;
use crate::app::lifecycle::Lifecycle;

/// How soon a stream learns of what changed: the promise for revocation is one second.
const LOOK: Duration = Duration::from_millis(500);

/// What a stream must keep being allowed.
pub(super) struct Ending {
    pub(super) permission: Option<Permission>,
    pub(super) principal: Principal,
    pub(super) policy: Arc<dyn PolicySource>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) lifecycle: Lifecycle,
    pub(super) closing: CancellationToken,
    pub(super) longest: Duration,
}

impl Ending {
    /// Resolves when the stream must end, with why.
    async fn wait(self) -> Error {
        let end = self.clock.monotonic().saturating_add(self.longest);
        let mut generation = self.policy.current().generation;
        loop {
            tokio::select! {
                () = self.lifecycle.draining() => return shutting_down().effect("go on from the last cursor"),
                () = self.closing.cancelled() => return aged("this connection has reached its age"),
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.clock.now() > self.principal.expires_at {
                return Error::new(
                    Reason::CredentialExpired,
                    "the credential expired while the stream was open",
                )
                .effect("go on from the last cursor with a new one");
            }
            if self.clock.monotonic() >= end {
                return aged("this stream has reached its longest length");
            }
            let policy = self.policy.current();
            if policy.generation != generation {
                generation = policy.generation;
                let mut principal = self.principal.clone();
                principal.binding = policy.bindings.get(&principal.subject).cloned().unwrap_or_default();
                let kept = !principal.binding.roles.is_empty()
                    && principal.binding.services == self.principal.binding.services
                    && self.permission.is_none_or(|permission| principal.has(permission));
                if !kept {
                    return Error::new(
                        Reason::PermissionDenied,
                        "the policy was changed while the stream was open",
                    );
                }
            }
        }
    }
}

fn aged(message: &str) -> Error {
    Error::new(Reason::ShuttingDown, message).retryable().effect("call again and go on from the last cursor")
}

/// A body that gives its place free when it is dropped, ends when it must, and turns a panic into a status.
pub(super) struct Guarded {
    inner: Body,
    ending: Option<Pin<Box<dyn Future<Output = Error> + Send>>>,
    over: bool,
    _place: Place,
}

impl Guarded {
    pub(super) fn wrap(response: Response, place: Place, ending: Option<Ending>) -> Response {
        response.map(|inner| {
            let ending = ending.map(|ending| Box::pin(ending.wait()) as _);
            Body::new(Self { inner, ending, over: false, _place: place })
        })
    }

    fn end(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.over = true;
        // What it still held is given back now, not when the client has read the trailers.
        self.inner = Body::empty();
        self.ending = None;
        let (parts, ()) = error::status(error).into_http::<()>().into_parts();
        let mut trailers = parts.headers;
        trailers.remove(CONTENT_TYPE);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(ending) = &mut this.ending
            && let Poll::Ready(error) = ending.as_mut().poll(context)
        {
            return this.end(error);
        }
        let polled =
            std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.inner).poll_frame(context)));
        match polled {
            Ok(polled) => {
                this.over = matches!(polled, Poll::Ready(None));
                polled
            }
            Err(_) => {
                tracing::error!("a stream panicked");
                let message = "the agent failed on this stream; its log says more";
                this.end(Error::new(Reason::Internal, message))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.ending.is_none() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        if self.ending.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}
