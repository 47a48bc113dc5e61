//! The sandbox of real parts, and the tests that cross crates.
//!
//! [`parts`] gets the parts that are not ours (supervisord, a MongoDB server, stock clients) into the
//! project's own folder; [`sandbox`] starts them together with the sample platform and the agent. Both are
//! plain blocking code on the standard library, so that `cargo xtask` builds in seconds.

pub mod belongings;
pub mod http;
pub mod parts;
pub mod patience;
pub mod sandbox;
