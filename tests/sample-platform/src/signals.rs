//! The signals that supervisord and people send.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Failure;

/// Resolves when the program is asked to end (SIGTERM, SIGINT).
///
/// The handlers are in place when this returns, not when it is first polled: a TERM that comes right after the
/// start is not lost.
pub(crate) fn termination() -> Result<impl Future<Output = ()>, Failure> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// SIGTERM as a stream of its own, for who ignores it.
pub(crate) fn term() -> Result<Signal, Failure> {
    Ok(signal(SignalKind::terminate())?)
}
