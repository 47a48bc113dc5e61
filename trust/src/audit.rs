//! The audit trail as pure code: what a line says, how lines chain, and how a chain is checked.
//!
//! A line is one JSON object and a newline. `prev` is the SHA-256 of the exact bytes of the line before, its newline
//! included. Line 0 carries `audit_root`, the public key of epoch 0. A checkpoint line is signed by its epoch's key, which
//! is then erased; it names the next epoch's public key. So whoever takes the machine later can add lines, but cannot
//! change what a checkpoint has covered, and whoever checks needs no secret.
//!
//! The file behind it is the agent's affair: it asks [`ChainWriter::prepare`] for bytes, writes and syncs them, and only
//! then calls [`ChainWriter::advance`].

mod chain;
mod record;
mod verify;

pub use chain::{ChainWriter, Epoch, Prepared, WriteError};
pub use record::{Checkpoint, Genesis, Hash, Line, MAX_LINE_BYTES, Moment, Record, Stage};
pub use verify::{Break, BreakReason, Report, Root, Seen, Verifier};

#[cfg(test)]
mod tests;
