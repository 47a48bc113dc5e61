use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::ports::Entropy;

/// Counts, five bits a byte: every buffer is another one, and each run of a test sees the same.
#[derive(Debug, Default)]
pub struct FakeEntropy(AtomicU64);

impl Entropy for FakeEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        let count = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        for (index, byte) in buffer.iter_mut().rev().enumerate() {
            let shift = u32::try_from(index * 5).unwrap_or(u32::MAX);
            *byte = count.checked_shr(shift).map_or(0, |count| count.to_le_bytes()[0] & 31);
        }
        Ok(())
    }
}
