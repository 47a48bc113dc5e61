//! `cargo xtask test`: the parts, then every test.

use std::process::Stdio;
use std::time::Instant;

use ops_tests::{parts, sandbox};

use crate::Failure;
use crate::build::{cargo, everything};

pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let began = Instant::now();
    parts::ensure_all(&parts::to_stderr)?;
    sandbox::clear_leftovers()?;
    let binaries = everything()?;
    let mut tests = cargo();
    // All failures in one run, each with its line and without the way it came.
    tests.args(["test", "--workspace", "--no-fail-fast"]).args(arguments).env("RUST_BACKTRACE", "0");
    tests.env("OPS_PARTS_DIR", parts::folder()).env("OPS_BIN_DIR", binaries);
    // Most tests with a sandbox wait for supervisord, which counts in seconds: twice as many as cores.
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    tests.env("RUST_TEST_THREADS", (2 * cores).to_string());
    let output = tests.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        print!("{said}");
        return Err(format!("cargo test --workspace: {}", output.status).into());
    }
    let counts = Counts::of(&said);
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.ignored);
    eprintln!("test: ok in {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The sum of the closing lines of every test program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    fn of(said: &str) -> Self {
        let mut counts = Self::default();
        for line in said.lines().filter(|line| line.starts_with("test result: ")) {
            let mut words = line.split(' ').peekable();
            while let Some(word) = words.next() {
                let what = words.peek().map(|what| what.trim_end_matches(';'));
                match (word.parse::<u32>(), what) {
                    (Ok(n), Some("passed")) => counts.passed += n,
                    (Ok(n), Some("failed")) => counts.failed += n,
                    (Ok(n), Some("ignored")) => counts.ignored += n,
                    _ => {}
                }
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let said = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        assert_eq!(Counts::of(said), Counts { passed: 42, failed: 3, ignored: 1 });
    }
}
