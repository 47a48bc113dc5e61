//! opsd: the agent on the host.

fn main() {}
