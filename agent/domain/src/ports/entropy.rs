//! The one place that chance comes from.

use crate::error::Result;

/// Bytes that nobody can guess.
pub trait Entropy: Send + Sync {
    /// Fills the whole buffer.
    ///
    /// # Errors
    /// `INTERNAL`: the kernel gave none, so nothing that needs them may go on.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;
}
