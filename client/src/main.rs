//! opsctl: the client on the operator's laptop and in CI.

fn main() {}
