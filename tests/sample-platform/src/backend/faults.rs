//! The fault switches; `backend`'s documentation has the table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{Failure, complain, say};

/// The exit code of a start that dies at once.
const CRASH: u8 = 3;
/// Lines that one request may ask for.
const MOST_LINES: u32 = 1_000_000;

/// The faults that are switched on.
#[derive(Debug)]
pub(super) struct Faults {
    state: PathBuf,
    /// 0: the true answer.
    health_status: AtomicU16,
    latency_ms: AtomicU64,
    exit: mpsc::Sender<u8>,
}

impl Faults {
    /// With the receiver that is told the exit code when the process is to end.
    pub(super) fn load(state: PathBuf) -> Result<(Self, mpsc::Receiver<u8>), Failure> {
        std::fs::create_dir_all(&state)?;
        let (exit, told) = mpsc::channel(1);
        let faults = Self { state, health_status: AtomicU16::new(0), latency_ms: AtomicU64::new(0), exit };
        Ok((faults, told))
    }

    pub(super) fn crashes_on_start(&self) -> bool {
        self.crash_on_start_file().exists()
    }

    pub(super) fn never_ready(&self) -> bool {
        self.never_ready_file().exists()
    }

    pub(super) fn health_status(&self) -> Option<StatusCode> {
        StatusCode::from_u16(self.health_status.load(Ordering::Relaxed)).ok()
    }

    fn crash_on_start_file(&self) -> PathBuf {
        self.state.join("crash-on-start")
    }

    fn never_ready_file(&self) -> PathBuf {
        self.state.join("never-ready")
    }
}

/// What a start says that dies at once.
pub(super) fn crash_on_start() -> ExitCode {
    traceback("KeyError: 'JWT_SECRET_KEY'");
    ExitCode::from(CRASH)
}

/// A Python traceback on stderr that ends with `error`.
pub(super) fn traceback(error: &str) {
    complain(&format!(
        "Traceback (most recent call last):\n  \
           File \"/app/backend/server.py\", line 41, in <module>\n    \
             app = create_app()\n  \
           File \"/app/backend/auction/bids.py\", line 120, in settle\n    \
             raise\n{error}"
    ));
}

/// Holds each request up as long as the switch says.
pub(super) async fn delay(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    let latency = faults.latency_ms.load(Ordering::Relaxed);
    if latency > 0 {
        tokio::time::sleep(Duration::from_millis(latency)).await;
    }
    next.run(request).await
}

/// The admin port.
pub(super) fn router(faults: Arc<Faults>) -> Router {
    Router::new()
        .route("/fault/health-status", post(set_health_status))
        .route("/fault/latency", post(set_latency))
        .route("/fault/exit", post(exit))
        .route("/fault/traceback", post(write_traceback))
        .route("/fault/crash-on-start", post(set_crash_on_start))
        .route("/fault/never-ready", post(set_never_ready))
        .route("/fault/log", post(write_log))
        .route("/fault/reset", post(reset))
        .with_state(faults)
}

type Answer = (StatusCode, String);

#[derive(Debug, Deserialize)]
struct Code {
    code: u16,
}

async fn set_health_status(State(faults): State<Arc<Faults>>, Query(Code { code }): Query<Code>) -> Answer {
    if !(200..600).contains(&code) {
        return (StatusCode::BAD_REQUEST, format!("{code} is no status of an answer (200-599)\n"));
    }
    faults.health_status.store(code, Ordering::Relaxed);
    accepted(format!("/api/health answers {code}"))
}

#[derive(Debug, Deserialize)]
struct Latency {
    ms: u64,
}

async fn set_latency(State(faults): State<Arc<Faults>>, Query(Latency { ms }): Query<Latency>) -> Answer {
    faults.latency_ms.store(ms, Ordering::Relaxed);
    accepted(format!("each request waits {ms} ms"))
}

#[derive(Debug, Deserialize)]
struct Exit {
    code: u8,
}

async fn exit(State(faults): State<Arc<Faults>>, Query(Exit { code }): Query<Exit>) -> Answer {
    // Full means that an earlier request ends the process already.
    let _ = faults.exit.try_send(code);
    accepted(format!("ending with exit code {code}"))
}

#[derive(Debug, Deserialize)]
struct Traceback {
    error: Option<String>,
    count: Option<u32>,
}

async fn write_traceback(Query(query): Query<Traceback>) -> Answer {
    let error = query.error.as_deref().unwrap_or("KeyError: 'league_id'");
    let count = query.count.unwrap_or(1).min(MOST_LINES);
    (0..count).for_each(|_| traceback(error));
    accepted(format!("{count} tracebacks written"))
}

#[derive(Debug, Deserialize)]
struct Log {
    lines: u32,
    stream: Option<Stream>,
    text: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stream {
    Stdout,
    Stderr,
}

async fn write_log(Query(query): Query<Log>) -> Answer {
    let text = query.text.as_deref().unwrap_or("load");
    let lines = query.lines.min(MOST_LINES);
    let write = match query.stream.unwrap_or(Stream::Stdout) {
        Stream::Stdout => say,
        Stream::Stderr => complain,
    };
    (1..=lines).for_each(|line| write(&format!("INFO     auction.{text}: line {line} of {lines}")));
    accepted(format!("{lines} lines written"))
}

async fn set_crash_on_start(State(faults): State<Arc<Faults>>) -> Answer {
    switch_on(&faults.crash_on_start_file(), "the next starts end with exit code 3")
}

async fn set_never_ready(State(faults): State<Arc<Faults>>) -> Answer {
    switch_on(&faults.never_ready_file(), "/api/health answers 503, also after a restart")
}

async fn reset(State(faults): State<Arc<Faults>>) -> Answer {
    faults.health_status.store(0, Ordering::Relaxed);
    faults.latency_ms.store(0, Ordering::Relaxed);
    for file in [faults.crash_on_start_file(), faults.never_ready_file()] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return broken(&file, &error),
            _ => {}
        }
    }
    accepted("no faults".to_owned())
}

fn switch_on(file: &Path, told: &str) -> Answer {
    match std::fs::write(file, "") {
        Ok(()) => accepted(told.to_owned()),
        Err(error) => broken(file, &error),
    }
}

fn accepted(told: String) -> Answer {
    (StatusCode::ACCEPTED, told + "\n")
}

fn broken(file: &Path, error: &std::io::Error) -> Answer {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}\n", file.display()))
}
