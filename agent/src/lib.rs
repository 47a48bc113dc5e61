//! opsd: the agent on the host.

pub mod adapters;
pub mod api;
pub mod app;
pub mod config;
pub mod init;
pub mod telemetry;
