//! The tests that cross crates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

mod access;
mod agent;
mod audit;
mod authz_matrix;
mod backup;
mod certs_example;
mod contracts;
mod credentials;
mod database;
mod in_process;
mod layers;
mod listener;
mod log;
mod operation;
mod opsctl;
mod pki;
mod probe;
mod reasons;
mod roles;
mod running;
mod sandbox;
mod service;
mod supervisord;
