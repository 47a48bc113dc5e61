//! The outside world: one file a port. Nothing in here knows the api or the wire.

pub mod audit_file;
pub mod catalog_file;
pub mod clock;
pub mod disk_space;
pub mod entropy;
pub mod log_file;
pub mod mongodb;
pub mod policy_file;
pub mod prober;
pub mod process;
pub mod process_table;
pub mod state_db;
pub mod store_dir;
pub mod supervisord;
pub mod token_key;
