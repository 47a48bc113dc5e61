//! A small auction platform with fault switches: what the tests and the demo operate.

fn main() {}
