//! opsd: the agent on the host. Parse → config → telemetry → build → serve → signal → drain.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use ops_agent::app::{App, BuildError};
use ops_agent::config::{self, Config};
use ops_agent::init::{self, InitArgs};
use ops_agent::telemetry::{self, LogFormat};
use tokio::signal::unix::{SignalKind, signal};

/// `EX_CONFIG` of sysexits.h: a supervisor need not try again.
const CONFIG: u8 = 78;

#[derive(Parser)]
#[command(name = "opsd", about = "The agent on the host: answers opsctl and curl over mutual TLS", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM; SIGHUP applies policy and certificates anew
    Run {
        #[command(flatten)]
        place: Place,
        /// What to log: error, warn, info, debug, or a filter such as info,ops_agent=debug
        #[arg(long, env = "OPSD_LOG", default_value = "info")]
        log_level: String,
        /// How log lines look
        #[arg(long, value_enum, default_value_t)]
        log_format: LogFormat,
    },
    /// Make configuration, a small CA, keys, and the first admin's bundle
    Init(InitArgs),
    /// Say whether the agent would start with this configuration
    CheckConfig {
        #[command(flatten)]
        place: Place,
    },
    /// Print the configuration with every default; it holds no secrets
    ShowConfig {
        #[command(flatten)]
        place: Place,
    },
    /// Print the version
    Version,
}

#[derive(Args)]
struct Place {
    /// The configuration [default: /etc/opsd/opsd.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    config: Option<PathBuf>,
    /// Take etc/opsd/opsd.toml beneath DIR, as opsd init --root DIR made it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Place {
    fn file(&self) -> PathBuf {
        match (&self.config, &self.root) {
            (Some(file), _) => file.clone(),
            (None, Some(root)) => root.join("etc/opsd/opsd.toml"),
            (None, None) => PathBuf::from(config::DEFAULT_FILE),
        }
    }

    fn read(&self) -> Result<Config, BuildError> {
        let file = self.file();
        // Paths in messages and in `agent info` mean the same from every folder.
        let file = std::path::absolute(&file).unwrap_or(file);
        Ok(Config::read(&file)?)
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { place, log_level, log_format } => run(&place, &log_level, log_format),
        Command::Init(args) => return init(&args),
        Command::CheckConfig { place } => check(&place),
        Command::ShowConfig { place } => place.read().map(|config| print(&config.show())),
        Command::Version => {
            print(&format!("opsd {}\n", env!("CARGO_PKG_VERSION")));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &BuildError) -> ExitCode {
    complain(&error.to_string());
    match error {
        BuildError::Config(_) => ExitCode::from(CONFIG),
        BuildError::Machine(_) => ExitCode::FAILURE,
    }
}

fn check(place: &Place) -> Result<(), BuildError> {
    let config = place.read()?;
    App::check(&config)?;
    print(&format!("{}: good\n", config.source.path.display()));
    Ok(())
}

fn init(args: &InitArgs) -> ExitCode {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    match init::run(args, &host, jiff::Timestamp::now()) {
        Ok(report) => {
            print(&report.text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(place: &Place, level: &str, format: LogFormat) -> Result<(), BuildError> {
    let config = place.read()?;
    telemetry::init(level, format).map_err(BuildError::Machine)?;
    let machine = |error: std::io::Error| BuildError::Machine(error.to_string());
    // Libraries that are told of no provider of their own take this one. It can only be there already.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().min(4)))
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(machine)?;
    let outcome = runtime.block_on(serve(config));
    // What still runs blocks nobody: its journal says where it was.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    outcome
}

async fn serve(config: Config) -> Result<(), BuildError> {
    let machine = |error: std::io::Error| BuildError::Machine(error.to_string());
    let mut terminate = signal(SignalKind::terminate()).map_err(machine)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(machine)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(machine)?;
    let app = App::build(config)?;
    app.recover().await?;
    let listener = app.bind().await?;
    let address = listener.local_addr().map_err(machine)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), agent = %app.agent.id(), %address, "serving");
    let lifecycle = app.lifecycle.clone();
    let mut serving = tokio::spawn(Arc::clone(&app).serve(listener));
    loop {
        tokio::select! {
            ended = &mut serving => {
                return ended.map_err(|error| BuildError::Machine(format!("the listener failed: {error}")));
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&app).await,
        }
    }
    tracing::info!("shutting down; a second signal ends it at once");
    lifecycle.drain();
    tokio::select! {
        _ = serving => tracing::info!("ended"),
        _ = terminate.recv() => tracing::warn!("ended at once"),
        _ = interrupt.recv() => tracing::warn!("ended at once"),
    }
    Ok(())
}

async fn reload(app: &Arc<App>) {
    match app.agent.reload_on_signal().await {
        Ok(reloaded) => tracing::info!(changes = ?reloaded.changes, "reloaded"),
        Err(error) => tracing::error!(%error, effect = %error.effect, "not reloaded, the old ones hold"),
    }
}

fn print(text: &str) {
    // A closed pipe is no failure of ours.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "opsd: {}", text.replace('\n', " ")));
}
