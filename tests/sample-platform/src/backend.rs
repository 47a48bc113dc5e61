//! The platform's API.
//!
//! Public port: `GET /api/health` (pings the database on each request), `/api/auctions`, `/api/leagues`,
//! `/api/sports`, `/api/bids`, `POST /api/bids`. Access log on stdout as uvicorn writes it, start-up lines,
//! warnings and tracebacks on stderr.
//!
//! Admin port, the fault switches (`POST`, all answer 202 and a line of text; see [`faults`]):
//!
//! | switch | effect |
//! | --- | --- |
//! | `/fault/health-status?code=503` | `/api/health` answers that code, until reset |
//! | `/fault/latency?ms=800` | each public request waits that long before it is looked at, until reset |
//! | `/fault/traceback?error=KeyError: 'x'&count=1` | tracebacks on stderr, now |
//! | `/fault/log?lines=1000&stream=stdout&text=load` | numbered lines, now |
//! | `/fault/exit?code=1` | ends the process |
//! | `/fault/crash-on-start` | the next starts end at once with exit code 3, until the file is gone |
//! | `/fault/never-ready` | `/api/health` answers 503, also after a restart, until the file is gone |
//! | `/fault/reset` | everything as it was; removes both files |
//!
//! The two that outlive the process are files of that name in the state folder: whoever cannot reach the admin
//! port, because the process is gone, removes the file.

mod access_log;
mod api;
mod database;
mod faults;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::{Failure, complain, signals};
use database::Database;
use faults::Faults;

/// How long requests under way get at the end.
const DRAIN: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the API listens.
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the fault switches listen.
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: SocketAddr,
    /// The folder of faults that outlive the process.
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    #[command(flatten)]
    database: crate::seed::Target,
}

/// What the handlers share.
#[derive(Debug, Clone)]
struct Platform {
    database: Database,
    faults: Arc<Faults>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let ended = signals::termination()?;
    let (faults, mut exit) = Faults::load(arguments.state)?;
    if faults.crashes_on_start() {
        return Ok(faults::crash_on_start());
    }
    complain(&format!(
        "INFO:     Started server process [{}]\nINFO:     Waiting for application startup.",
        std::process::id()
    ));
    let faults = Arc::new(faults);
    let platform =
        Platform { database: Database::open(&arguments.database).await?, faults: Arc::clone(&faults) };
    let public = TcpListener::bind(arguments.listen).await?;
    let admin = TcpListener::bind(arguments.admin_listen).await?;
    complain(&format!(
        "INFO:     Application startup complete.\nINFO:     Uvicorn running on http://{} (Press CTRL+C to quit)",
        arguments.listen
    ));

    let (stop, stopping) = watch::channel(false);
    let servers = async {
        tokio::join!(
            serve(public, public_router(platform), stopping.clone()),
            serve(admin, faults::router(faults), stopping)
        )
    };
    tokio::pin!(servers);
    let code = tokio::select! {
        () = ended => 0,
        code = exit.recv() => code.unwrap_or(0),
        (public, admin) = &mut servers => return public.and(admin).map(|()| ExitCode::FAILURE),
    };
    complain("INFO:     Shutting down");
    stop.send_replace(true);
    // Who still talks after that is cut off, as uvicorn does it.
    let _ = tokio::time::timeout(DRAIN, servers).await;
    complain(&format!("INFO:     Finished server process [{}]", std::process::id()));
    Ok(ExitCode::from(code))
}

fn public_router(platform: Platform) -> Router {
    let faults = Arc::clone(&platform.faults);
    api::router(platform)
        .layer(middleware::from_fn_with_state(faults, faults::delay))
        .layer(middleware::from_fn(access_log::write))
}

async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            // The sender's end is the end of the process.
            let _ = stopping.wait_for(|stop| *stop).await;
        })
        .await?;
    Ok(())
}
