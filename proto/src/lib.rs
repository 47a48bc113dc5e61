//! The contract between opsd and opsctl: messages, services, descriptor set, JSON documents.
//!
//! Nothing in here decides anything. `v1` is generated from `ops/v1/*.proto` and committed, so that a build needs no
//! protoc; `tests/drift.rs` holds the two together.

pub mod json;
pub mod log;
pub mod reasons;
mod rpc;

pub use rpc::Rpc;

/// `ops.v1`: every message and service.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod v1 {
    include!("generated/ops.v1.rs");
}

/// The encoded `FileDescriptorSet` of everything above, for reflection and for [`json`].
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
