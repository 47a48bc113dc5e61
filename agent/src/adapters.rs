//! The outside world: one file a port. Nothing in here knows the api or the wire.

pub mod mongodb;
