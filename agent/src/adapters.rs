//! The outside world: one file a port. Nothing in here knows the api or the wire.

pub mod mongodb;
pub mod prober;
pub mod process_table;
pub mod state_db;
pub mod supervisord;
