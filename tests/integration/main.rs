//! The tests that cross crates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

mod certs_example;
mod contracts;
mod credentials;
mod pki;
mod roles;
mod sandbox;
