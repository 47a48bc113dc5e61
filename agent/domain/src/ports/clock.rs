//! The one place that time comes from.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use jiff::Timestamp;

/// Wall time for people, monotonic time for lengths.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Timestamp;

    /// Since an arbitrary fixed moment; never goes back, whatever the wall clock does.
    fn monotonic(&self) -> Duration;

    /// Ends once this much monotonic time is over.
    fn sleep(&self, length: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(length))
    }
}
