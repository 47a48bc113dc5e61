//! `cargo xtask demo`: a real platform, operated through `opsctl` only; each step shows what it did and is checked.
//!
//! With `--exit` it ends after the tour, with exit code 0 only if every step showed what it should; otherwise
//! everything goes on running until Ctrl-C.

mod run;
mod tour;

use std::path::PathBuf;

use ops_tests::parts;
use ops_tests::sandbox::{Binaries, LogRotation, Options, Sandbox};

use crate::{Failure, build};
use run::Show;

/// Small, so that the tour can show a rotation.
const LOGS: LogRotation = LogRotation { max_bytes: 256 * 1024, backups: 5 };

/// Runs the tour.
pub(crate) fn run(arguments: &[&str]) -> Result<(), Failure> {
    let stays = match arguments {
        [] => true,
        ["--exit"] => false,
        other => return Err(format!("demo takes --exit, not {}", other.join(" ")).into()),
    };
    parts::ensure_all(&parts::to_stderr)?;
    let binaries = Binaries::in_folder(&build::programs()?);
    let options = Options { dir: Some(folder()), binaries: Some(binaries), logs: LOGS, ..Options::default() };
    let sandbox = Sandbox::up(options)?;
    let failed = take_tour(&sandbox);
    if stays {
        println!("{}", by_hand(&sandbox));
        // Ctrl-C ends this process, and the sandbox's keeper then ends everything else: no handler is needed, and none
        // of the programs inherits a signal that is held back.
        loop {
            std::thread::park();
        }
    }
    println!("\ntaking it all down");
    sandbox.down()?;
    match failed.as_slice() {
        [] => Ok(()),
        titles => Err(format!("not as it should be: {}", titles.join("; ")).into()),
    }
}

/// In the project's folder, whose `.gitignore` knows it.
fn folder() -> PathBuf {
    parts::workspace().join(".demo")
}

/// Takes every step, and answers the titles of those that did not show what they should.
fn take_tour(sandbox: &Sandbox) -> Vec<&'static str> {
    let mut show = Show::new(sandbox);
    let mut failed = Vec::new();
    for (number, step) in tour::STEPS.iter().enumerate() {
        println!("\n━━ {} of {} ━━ {}", number + 1, tour::STEPS.len(), step.title);
        match (step.take)(&mut show) {
            Ok(shown) => println!("✓ {shown}"),
            Err(error) => {
                println!("✗ {error}");
                failed.push(step.title);
            }
        }
    }
    let all = tour::STEPS.len();
    println!("\n{} of {all} steps showed what they should", all - failed.len().min(all));
    failed
}

fn by_hand(sandbox: &Sandbox) -> String {
    let description = sandbox.description();
    let exports: String =
        description.env.iter().map(|(name, value)| format!("  export {name}='{value}'\n")).collect();
    format!(
        "\neverything goes on running; in another terminal:\n\n{exports}\
         \x20 alias opsctl='{opsctl}'\n\
         \x20 opsctl status\n\
         \x20 opsctl log tail backend -f\n\
         \x20 opsctl service restart backend\n\
         \x20 opsctl --context viewer service restart backend\n\n\
         \x20 pages {pages}, faults: curl -X POST {faults}/fault/traceback\n\
         \x20 all of it is described in {dir}/sandbox.json and docs/sandbox.md\n\n\
         Ctrl-C takes it all down",
        opsctl = description.opsctl.display(),
        pages = description.platform.frontend_url,
        faults = description.platform.admin_url,
        dir = description.dir.display(),
    )
}
