//! Where the policy of this moment comes from.

use std::sync::Arc;

use crate::access::Policy;

/// The policy in force.
pub trait PolicySource: Send + Sync {
    /// The policy that holds now.
    fn current(&self) -> Arc<Policy>;
}
