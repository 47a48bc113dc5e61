//! One name for every rpc.

include!("generated/rpc.rs");
