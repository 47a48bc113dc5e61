//! The steps of the tour, in order. Each answers in one sentence what it has shown.

mod backup;
mod door;
mod log;

use super::run::{Fault, Show};

/// One step.
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) take: fn(&mut Show<'_>) -> Result<String, Fault>,
}

/// The tour.
pub(super) const STEPS: &[Step] = &[
    Step { title: "the state of everything", take: status },
    Step { title: "a restart, proven", take: restart },
    Step { title: "a service that dies at once", take: crash },
    Step { title: "logs, across a rotation", take: log::follow },
    Step { title: "a backup", take: backup::create },
    Step { title: "documents destroyed", take: backup::destroy },
    Step { title: "the restore, proven", take: backup::restore },
    Step { title: "who did what, verified", take: audit },
    Step { title: "the same over REST, with a token", take: door::rest },
    Step { title: "the same over gRPC health, with a certificate", take: door::health },
    Step { title: "who may not", take: refused },
];

fn status(show: &mut Show<'_>) -> Result<String, Fault> {
    let words = ["3 of 3 services ready", "mongodb", "backend", "frontend"];
    show.opsctl(&["status"])?.exits(0)?.says(&words)?;
    Ok("every service runs and is ready".to_owned())
}

fn restart(show: &mut Show<'_>) -> Result<String, Fault> {
    let before = show.sandbox.process("backend").map(|process| process.pid);
    let seen = show.opsctl(&["service", "restart", "backend", "--reason", "the tour"])?;
    let seen = seen.exits(0)?.says(&["restarted", "ready"])?;
    let operation = seen.word("op-").ok_or("it does not name its operation")?;
    let after = show.sandbox.process("backend").map(|process| process.pid);
    if before == after {
        return Err(format!("the process is still {before:?}"));
    }
    show.opsctl(&["operation", "get", &operation])?.exits(0)?.says(&[&operation, "restart"])?;
    Ok("a new process, ready by its own probe, its downtime measured, its report kept".to_owned())
}

fn crash(show: &mut Show<'_>) -> Result<String, Fault> {
    let seen = show.opsctl(&["service", "start", "crash"])?;
    seen.exits(1)?.says(&["exit code 3", "KeyError: 'JWT_SECRET_KEY'"])?;
    Ok("the exit code and the last words of the program, and opsctl fails".to_owned())
}

fn audit(show: &mut Show<'_>) -> Result<String, Fault> {
    let seen = show.opsctl_as("auditor", &["audit", "list", "-n", "20"])?;
    seen.exits(0)?.says(&["user/operator", "user/admin", "backend"])?;
    show.opsctl_as("auditor", &["audit", "verify"])?.exits(0)?;
    Ok("every change is in the trail, and nothing in it was altered".to_owned())
}

fn refused(show: &mut Show<'_>) -> Result<String, Fault> {
    let before = show.sandbox.process("backend");
    let seen = show.opsctl_as("viewer", &["service", "restart", "backend"])?;
    seen.exits(4)?.says(&["viewer", "needs role"])?;
    if before != show.sandbox.process("backend") {
        return Err("the backend was restarted all the same".to_owned());
    }
    Ok("a viewer may not restart, and is told which role may".to_owned())
}
