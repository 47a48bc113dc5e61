//! The sandbox of real parts, and the tests that cross crates.
