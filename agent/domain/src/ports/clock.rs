//! The one place that time comes from.

use std::time::Duration;

use jiff::Timestamp;

/// Wall time for people, monotonic time for lengths.
pub trait Clock: Send + Sync {
    /// Now, UTC.
    fn now(&self) -> Timestamp;

    /// Since an arbitrary fixed moment; never goes back, whatever the wall clock does.
    fn monotonic(&self) -> Duration;
}
