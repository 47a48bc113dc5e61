//! Asking the outside a measured question.

use std::time::Duration;

use async_trait::async_trait;

use crate::probe::{Answer, Target};

/// HTTP, TCP, MongoDB.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Asks once, within the limit over everything. Never fails: how it went is in the answer.
    async fn ask(&self, target: &Target, limit: Duration) -> Answer;
}
