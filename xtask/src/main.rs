//! The project's chores: demo, test, sandbox, ci.

fn main() {}
