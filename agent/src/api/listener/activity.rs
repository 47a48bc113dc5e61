//! What happens on a connection: requests so far, those that run, and since when none does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::sync::watch;

pub(super) struct Activity {
    requests: AtomicU64,
    running: watch::Sender<usize>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self { requests: AtomicU64::new(0), running: watch::Sender::new(0) }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.running.send_modify(|running| *running += 1);
        Running(Arc::clone(self))
    }

    /// Resolves when nothing has run for so long.
    pub(super) async fn idle_for(&self, long: Duration) {
        let mut running = self.running.subscribe();
        loop {
            // The sender lives in `self`, so neither wait can fail.
            drop(running.wait_for(|running| *running == 0).await);
            if tokio::time::timeout(long, running.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request that runs, until its answer is over.
pub(super) struct Running(Arc<Activity>);

impl Running {
    pub(super) fn until_the_end_of(self, body: Body) -> Body {
        Body::new(Held { body, _running: self })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.send_modify(|running| *running -= 1);
    }
}

struct Held {
    body: Body,
    _running: Running,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_counts_from_the_end_of_the_last_answer() {
        let activity = Arc::new(Activity::new());
        let minute = Duration::from_secs(60);
        let running = activity.begin();
        assert!(tokio::time::timeout(minute * 10, activity.idle_for(minute)).await.is_err());
        drop(running);
        let start = tokio::time::Instant::now();
        activity.idle_for(minute).await;
        assert!(start.elapsed() >= minute && start.elapsed() < minute * 2);
    }
}
