//! Whether the agent is up, and the word that it is about to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// Shared by all who must know.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    ready: Arc<AtomicBool>,
    draining: CancellationToken,
}

impl Lifecycle {
    /// It serves from now on.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// It serves, and is not about to end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_draining()
    }

    /// It is about to end: no new calls, streams end.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Whether it is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Resolves when it is about to end.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }
}
