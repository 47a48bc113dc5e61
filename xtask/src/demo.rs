//! `cargo xtask demo`: a real platform, operated through `opsctl` only; each step shows what it did and is checked.
//!
//! With `--exit` it ends after the tour, with exit code 0 only if every step showed what it should; otherwise
//! everything goes on running until Ctrl-C.

mod run;
mod tour;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use nix::sys::signal::{SigSet, Signal};
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
    let end = End::watch()?;
    parts::ensure_all(&parts::to_stderr)?;
    let binaries = Binaries::in_folder(&build::everything()?);
    let options = Options { dir: Some(folder()), binaries: Some(binaries), logs: LOGS, ..Options::default() };
    let sandbox = Sandbox::up(options)?;
    let failed = take_tour(&sandbox, &end);
    if stays && !end.asked() {
        println!("{}", by_hand(&sandbox));
        end.wait();
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
fn take_tour(sandbox: &Sandbox, end: &End) -> Vec<&'static str> {
    let mut show = Show::new(sandbox);
    let mut failed = Vec::new();
    for (number, step) in tour::STEPS.iter().enumerate() {
        if end.asked() {
            failed.push("interrupted");
            break;
        }
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

/// Ctrl-C, noticed between two steps instead of ending this process in the middle of one.
struct End {
    asked: Arc<AtomicBool>,
    told: mpsc::Receiver<()>,
}

impl End {
    /// Must come before any other thread is started: they inherit that the signals are held back.
    fn watch() -> Result<Self, Failure> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        let asked = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let flag = Arc::clone(&asked);
        std::thread::spawn(move || {
            // It fails for signals that do not exist only.
            let _ = signals.wait();
            flag.store(true, Ordering::Relaxed);
            // Nobody listens any more: then the demo is ending already.
            let _ = tell.send(());
        });
        Ok(Self { asked, told })
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    fn wait(&self) {
        // The sender lives as long as its thread, which ends by telling.
        let _ = self.told.recv();
    }
}
