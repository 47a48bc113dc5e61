//! Programs that misbehave in one way each.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::{Failure, complain, say, signals};

/// How long `slow` takes until its port answers.
const SLOW: Duration = Duration::from_secs(3);
/// How long `flap` lives: past supervisord's `startsecs` of one second, so that it was RUNNING.
const FLAP: Duration = Duration::from_millis(1500);
/// The exit code of `crash`.
const CRASH: u8 = 3;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Kind {
    /// Its port answers three seconds after the start.
    Slow(Listen),
    /// Ends at once with exit code 3, and says why on stderr.
    Crash,
    /// Is ready at once and dies 1.5 seconds later with exit code 1.
    Flap(Listen),
    /// Ignores SIGTERM.
    Stubborn(Listen),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Listen {
    /// Where `GET /` answers 200.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(crate) async fn run(kind: Kind) -> Result<ExitCode, Failure> {
    match kind {
        Kind::Slow(at) => slow(at.listen).await,
        Kind::Crash => Ok(crash()),
        Kind::Flap(at) => flap(at.listen).await,
        Kind::Stubborn(at) => stubborn(at.listen).await,
    }
}

async fn slow(listen: SocketAddr) -> Result<ExitCode, Failure> {
    let ended = signals::termination()?;
    say("slow: warming up for 3 s");
    let serving = async {
        tokio::time::sleep(SLOW).await;
        serve("slow", listen).await
    };
    tokio::select! {
        () = ended => Ok(ExitCode::SUCCESS),
        served = serving => served,
    }
}

fn crash() -> ExitCode {
    complain(
        "Traceback (most recent call last):\n  \
           File \"/app/crash/server.py\", line 12, in <module>\n    \
             key = os.environ[\"JWT_SECRET_KEY\"]\n  \
           File \"<frozen os>\", line 685, in __getitem__\n\
         KeyError: 'JWT_SECRET_KEY'",
    );
    ExitCode::from(CRASH)
}

async fn flap(listen: SocketAddr) -> Result<ExitCode, Failure> {
    let ended = signals::termination()?;
    let dying = async {
        let _ = tokio::time::timeout(FLAP, serve("flap", listen)).await;
        complain("ERROR    flap.worker: lost the event loop, giving up\nRuntimeError: event loop is closed");
    };
    tokio::select! {
        () = ended => Ok(ExitCode::SUCCESS),
        () = dying => Ok(ExitCode::FAILURE),
    }
}

async fn stubborn(listen: SocketAddr) -> Result<ExitCode, Failure> {
    let mut term = signals::term()?;
    let ignoring = async {
        while term.recv().await.is_some() {
            complain("WARNING  stubborn: SIGTERM received, carrying on");
        }
    };
    let (served, ()) = tokio::join!(serve("stubborn", listen), ignoring);
    served
}

async fn serve(name: &str, listen: SocketAddr) -> Result<ExitCode, Failure> {
    let listener = TcpListener::bind(listen).await?;
    say(&format!("{name}: listening on {listen}"));
    let router = Router::new().route("/", get(|| async { "ok\n" }));
    axum::serve(listener, router).await?;
    Ok(ExitCode::SUCCESS)
}
