//! The cryptographic library's random numbers, seeded by the kernel.

use ops_domain::ports::Entropy;
use ops_domain::{Error, Reason, Result};

/// Numbers that nobody can guess.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        aws_lc_rs::rand::fill(buffer).map_err(|_| {
            Error::new(Reason::Internal, "the kernel gave no random numbers").effect("nothing was done")
        })
    }
}
