//! The rules of opsd: services, operations, access, logs, backups; no wire, no I/O, no wall clock.
//!
//! A feature is one file here, and one port under [`ports`] for what it needs from outside.

pub mod access;
pub mod audit;
pub mod backup;
pub mod database;
pub mod error;
#[cfg(feature = "test-util")]
pub mod fakes;
pub mod health;
pub mod ids;
pub mod log;
pub mod near;
pub mod operation;
pub mod ports;
pub mod probe;
pub mod service;

pub use error::{Error, Evidence, Next, Reason, Result};
