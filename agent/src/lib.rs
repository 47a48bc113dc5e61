//! opsd: the agent on the host.

pub mod adapters;
pub mod init;
