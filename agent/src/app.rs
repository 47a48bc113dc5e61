//! The composition root: the one file that knows both sides. It builds adapters, hands them to the domain's services,
//! and those to the api.

use std::net::SocketAddr;
use std::sync::Arc;

use ops_domain::access::token::Tokens;
use ops_domain::audit::Audit;
use ops_domain::backup::{self, Backups};
use ops_domain::database::DatabaseService;
use ops_domain::health::{BackupCheck, CheckSource, DatabaseCheck, Health, ServiceHealth};
use ops_domain::log::excerpt::Excerpts;
use ops_domain::log::{Logs, Ports as LogPorts};
use ops_domain::operation::{Limits, Operations, Ports, Recovery};
use ops_domain::ports::database::Database;
use ops_domain::ports::{AuditLog, Clock, Entropy, HealthSource, Journal, PolicySource, TokenSigner};
use ops_domain::probe::Probes;
use ops_domain::service::{ServiceRecovery, Services};
use ops_trust::key::SigningKey;
use ops_trust::subject::{Kind, Subject};
use ops_trust::token::{KeySet, Signer, TrustedKey};
use tokio::net::TcpListener;

use crate::adapters::audit_file::{AuditFile, Settings};
use crate::adapters::catalog_file::CatalogFile;
use crate::adapters::clock::SystemClock;
use crate::adapters::entropy::SystemEntropy;
use crate::adapters::log_file::LogFiles;
use crate::adapters::mongodb::MongoDb;
use crate::adapters::policy_file::PolicyFile;
use crate::adapters::process::StateLock;
use crate::adapters::state_db::StateDb;
use crate::adapters::store_dir::StoreDir;
use crate::adapters::token_key::TokenKey;
use crate::api;
use crate::config::{self, Config};

pub mod agent;
pub mod lifecycle;
mod logs;
mod services;
pub mod tls;

use agent::Agent;
use lifecycle::Lifecycle;
use tls::TlsState;

/// How long operations are remembered after their end.
const HISTORY: jiff::SignedDuration = jiff::SignedDuration::from_hours(90 * 24);

/// The agent, put together: one field a feature.
pub struct App {
    /// What it was configured to be.
    pub config: Arc<Config>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Writing down.
    pub audit_log: Arc<dyn AuditLog>,
    /// Reading what was written down.
    pub audit: Arc<Audit>,
    /// Who may do what.
    pub policy: Arc<dyn PolicySource>,
    /// Minting tokens.
    pub tokens: Arc<Tokens>,
    /// The keys that tokens are checked with; `None`: none are taken.
    pub token_keys: Option<KeySet>,
    /// Certificates.
    pub tls: Arc<TlsState>,
    /// Everything that changes something.
    pub operations: Operations,
    /// What a start does about operations that another process began; one a feature.
    pub recoveries: Vec<Arc<dyn Recovery>>,
    /// Where operations are remembered.
    pub journal: Arc<dyn Journal>,
    /// The agent itself.
    pub agent: Arc<Agent>,
    /// The database, where one is configured.
    pub database: Option<Arc<dyn Database>>,
    /// Questions about it.
    pub databases: DatabaseService,
    /// Backups and restores.
    pub backups: Backups,
    /// What runs, and changing it.
    pub services: Services,
    /// Questions by name.
    pub probes: Arc<Probes>,
    /// What the services write.
    pub logs: Arc<Logs>,
    /// Everything in one answer.
    pub health: Arc<Health>,
    /// The health of services, for `grpc.health.v1`.
    pub health_source: Arc<dyn HealthSource>,
    /// Up, ready, about to end.
    pub lifecycle: Lifecycle,
    // Given back last.
    _lock: StateLock,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The configuration, or a file that it names, is wrong or unsafe.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The machine refuses: the state is in use, the port is taken.
    #[error("{0}")]
    Machine(String),
}

impl App {
    /// Builds everything; nothing listens yet.
    ///
    /// # Errors
    /// The configuration is wrong, or the state is another agent's.
    pub fn build(config: Config) -> Result<Arc<Self>, BuildError> {
        let config = Arc::new(config);
        let lock =
            StateLock::take(&config.state.dir).map_err(|error| BuildError::Machine(error.to_string()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
        let lifecycle = Lifecycle::default();
        let id = config.agent.subject().map_err(|error| config.error_at(&["agent", "id"], error.message))?;
        let policy = Arc::new(PolicyFile::open(&config.agent.policy)?);
        let tls = Arc::new(TlsState::open(&config, clock.now())?);
        let (signer, token_keys) = token_keys(&config, id.as_str())?;
        let trail = AuditFile::open(&config.audit.dir, id.as_str(), audit_settings(&config))
            .map_err(|error| config.error_at(&["audit", "dir"], error.to_string()))?;
        let (reader, root) = (Arc::new(trail.reader()), trail.root().to_string());
        let audit_log: Arc<dyn AuditLog> = Arc::new(trail);
        let audit = Arc::new(Audit::new(Arc::clone(&audit_log), reader));
        let current: Arc<dyn PolicySource> = Arc::clone(&policy) as _;
        let tokens =
            Arc::new(Tokens::new(signer, Arc::clone(&current), Arc::clone(&audit_log), Arc::clone(&clock)));
        let journal: Arc<dyn Journal> = Arc::new(
            StateDb::open(&config.state.dir, clock.now())
                .map_err(|error| BuildError::Machine(error.to_string()))?,
        );
        let ports = Ports {
            journal: Arc::clone(&journal),
            audit: Arc::clone(&audit_log),
            clock: Arc::clone(&clock),
            entropy: Arc::clone(&entropy),
        };
        let operations = Operations::new(ports, id.clone(), Limits::default());
        let server = match &config.mongodb {
            Some(mongodb) => Some(Arc::new(mongodb.server(&config)?)),
            None => None,
        };
        let backups = backups(&config, id.as_str(), server.clone())?;
        let database = server.map(|server| server as Arc<dyn Database>);
        let databases = DatabaseService::new(database.clone(), Arc::clone(&clock));
        let files = Arc::new(LogFiles::new(config.log.folders.clone()));
        let built = services::build(
            &config,
            Arc::new(Excerpts::new(Arc::clone(&files) as _)),
            Arc::clone(&journal),
            Arc::clone(&clock),
        )?;
        let log_ports = LogPorts { files, audit: Arc::clone(&audit_log), clock: Arc::clone(&clock) };
        let logs = logs::build(&config, log_ports, built.manager, entropy.as_ref())?;
        let mut checks: Vec<Arc<dyn CheckSource>> = Vec::new();
        if let Some(database) = &database {
            checks.push(Arc::new(DatabaseCheck::new(Arc::clone(database))));
        }
        if config.backup.is_some() {
            checks.push(Arc::new(BackupCheck::new(Arc::new(backups.clone()), Arc::clone(&clock))));
        }
        checks.extend(built.disk);
        let services = built.services;
        let recoveries: Vec<Arc<dyn Recovery>> =
            vec![Arc::new(ServiceRecovery::new(services.clone())), backups.recovery()];
        let health_source = Arc::new(ServiceHealth::new(services.clone(), id.clone()));
        let agent = Arc::new(Agent {
            config: Arc::clone(&config),
            id,
            policy,
            tls: Arc::clone(&tls),
            audit_log: Arc::clone(&audit_log),
            audit_root: root,
            clock: Arc::clone(&clock),
            started: clock.monotonic(),
            operations: operations.clone(),
        });
        Ok(Arc::new(Self {
            clock,
            entropy,
            audit_log,
            audit,
            policy: current,
            tokens,
            token_keys,
            tls,
            operations,
            recoveries,
            journal,
            agent,
            database,
            databases,
            backups,
            health: Arc::new(Health::new(services.clone(), checks)),
            services,
            probes: Arc::new(built.probes),
            logs,
            health_source,
            lifecycle,
            config,
            _lock: lock,
        }))
    }

    /// Whether [`App::build`] would accept the configuration and the files that it names; takes nothing, makes nothing.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(config: &Config) -> Result<(), BuildError> {
        let id = config.agent.subject().map_err(|error| config.error_at(&["agent", "id"], error.message))?;
        PolicyFile::open(&config.agent.policy)?;
        TlsState::open(config, SystemClock::new().now())?;
        token_keys(config, id.as_str())?;
        if let Some(mongodb) = &config.mongodb {
            mongodb.server(config)?;
        }
        services::check(config)?;
        Ok(())
    }

    /// Takes up what another process began and did not end: its locks are held when this returns, so it comes before
    /// [`App::bind`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn recover(&self) -> Result<(), BuildError> {
        let machine = |error: ops_domain::Error| BuildError::Machine(error.to_string());
        for id in self.operations.recover(&self.recoveries).await.map_err(machine)? {
            tracing::warn!(operation = %id, "it was interrupted; its recovery runs");
        }
        match self.backups.sweep().await {
            Ok(removed) => {
                for id in removed {
                    tracing::warn!(backup = %id, "what an interrupted backup had written was removed");
                }
            }
            Err(error) => tracing::warn!(%error, "the backup folder was not looked through"),
        }
        let old = self.clock.now() - HISTORY;
        let forgotten = self.journal.forget(old).await.map_err(machine)?;
        tracing::debug!(forgotten, "operations that ended long ago");
        Ok(())
    }

    /// Binds the port.
    ///
    /// # Errors
    /// It is taken, or not ours to take.
    pub async fn bind(&self) -> Result<TcpListener, BuildError> {
        let address: SocketAddr = self.config.listen.address;
        TcpListener::bind(address)
            .await
            .map_err(|error| BuildError::Machine(format!("cannot listen on {address}: {error}")))
    }

    /// Serves until [`Lifecycle::drain`], then until what runs has ended or the time for it is over.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let router = api::router(&self);
        self.lifecycle.set_ready();
        let serving = api::listener::serve(
            listener,
            Arc::clone(&self.tls),
            router,
            self.config.limits.clone(),
            self.lifecycle.clone(),
        );
        let operations = async {
            self.lifecycle.draining().await;
            self.logs.close();
            self.operations.shutdown(self.config.limits.drain).await
        };
        let ((), left) = tokio::join!(serving, operations);
        for id in left {
            tracing::warn!(operation = %id, "it has reached no safe point; the next start recovers it");
        }
    }
}

fn backups(config: &Config, id: &str, server: Option<Arc<MongoDb>>) -> Result<Backups, config::Error> {
    let store = match &config.backup {
        Some(backup) => {
            let store = StoreDir::new(backup.dir.clone(), backup.reserve_bytes);
            store.prepare().map_err(|error| config.error_at(&["backup", "dir"], error.to_string()))?;
            Some(Arc::new(store) as _)
        }
        None => None,
    };
    let ports = backup::Ports {
        database: server.clone().map(|server| server as _),
        dump: server.map(|server| server as _),
        store,
        catalog: Arc::new(CatalogFile::new(config.state.dir.join("backups.jsonl"))),
    };
    Ok(Backups::new(ports, id.trim_start_matches("agent/"), env!("CARGO_PKG_VERSION")))
}

fn audit_settings(config: &Config) -> Settings {
    let audit = &config.audit;
    Settings {
        write_timeout: audit.write_timeout,
        checkpoint_after_change: audit.checkpoint_after_change,
        checkpoint_after: audit.checkpoint_after,
        checkpoint_records: audit.checkpoint_records,
        access_bytes: audit.access_bytes,
    }
}

fn token_keys(config: &Config, id: &str) -> Result<(Arc<dyn TokenSigner>, Option<KeySet>), config::Error> {
    let wrong = |message: String| config.error_at(&["token", "key"], message);
    let name = id.trim_start_matches("agent/");
    let agent = Subject::new(Kind::Agent, name).map_err(|error| wrong(error.to_string()))?;
    let Some(token) = &config.token else { return Ok((Arc::new(TokenKey::new(agent, None)), None)) };
    let pem = ops_trust::private_file::read_private(&token.key, 16 * 1024)
        .map_err(|error| wrong(error.to_string()))?;
    let key =
        SigningKey::from_pem(&pem).map_err(|error| wrong(format!("{}: {error}", token.key.display())))?;
    let signer = Signer::new(key);
    let mut keys = KeySet::new(&agent);
    keys.insert(&agent.to_string(), signer.kid(), TrustedKey::own(&signer.public()));
    Ok((Arc::new(TokenKey::new(agent, Some(signer))), Some(keys)))
}
