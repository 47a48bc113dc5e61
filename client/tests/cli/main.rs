//! opsctl as a person meets it: the real binary against a scripted agent that speaks real TLS and gRPC.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it cannot go on")]

mod answers;
mod connection;
mod docs;
mod documents;
mod local;
mod offline;
mod operations;
mod schema;
mod stand_in;
