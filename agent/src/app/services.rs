//! Services, probes and status, put together.

use std::sync::Arc;

use ops_domain::health::{CheckSource, DiskCheck};
use ops_domain::ports::service_manager::{ManagerError, Patience, Program, ProgramName};
use ops_domain::ports::{Clock, Journal, LogExcerpt, ServiceManager};
use ops_domain::probe::Probes;
use ops_domain::service::{Definition, Ports, Services};

use crate::adapters::disk_space::HostDisks;
use crate::adapters::prober::HostProber;
use crate::adapters::process_table::ProcTable;
use crate::adapters::supervisord::log::History;
use crate::adapters::supervisord::{Login, Supervisord};
use crate::config::{self, Config};

/// What [`build`] makes.
pub(super) struct Built {
    pub(super) services: Services,
    pub(super) manager: Arc<dyn ServiceManager>,
    pub(super) probes: Probes,
    pub(super) disk: Option<Arc<dyn CheckSource>>,
}

/// Follows supervisord's log from now on.
pub(super) fn build(
    config: &Config,
    excerpts: Arc<dyn LogExcerpt>,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
) -> Result<Built, config::Error> {
    let definitions = definitions(config)?;
    let prober = Arc::new(HostProber::default());
    let probes =
        Probes::new(config::probe::definitions(config, &definitions)?, prober.clone(), Arc::clone(&clock));
    let manager = manager(config)?;
    let ports = Ports {
        manager: Arc::clone(&manager),
        history: Arc::new(History::follow(
            config.supervisor.as_ref().and_then(|supervisor| supervisor.log.clone()),
            jiff::tz::TimeZone::system(),
        )),
        processes: Arc::new(ProcTable::new()),
        prober,
        excerpts,
        journal,
        clock,
    };
    let services =
        Services::new(definitions, ports).map_err(|error| config.error_at(&["service"], error.message))?;
    let paths: Vec<String> = config.disk.paths.iter().map(|path| path.display().to_string()).collect();
    let disk: Option<Arc<dyn CheckSource>> =
        if paths.is_empty() { None } else { Some(Arc::new(DiskCheck::new(Arc::new(HostDisks), paths))) };
    Ok(Built { services, manager, probes, disk })
}

/// Whether [`build`] would accept the configuration; begins nothing.
pub(super) fn check(config: &Config) -> Result<(), config::Error> {
    let definitions = definitions(config)?;
    config::probe::definitions(config, &definitions)?;
    manager(config).map(drop)
}

fn definitions(config: &Config) -> Result<Vec<Definition>, config::Error> {
    let database = match &config.mongodb {
        Some(mongodb) => first_host(&mongodb.uri(config)?),
        None => None,
    };
    config::service::definitions(config, database.as_deref())
}

fn manager(config: &Config) -> Result<Arc<dyn ServiceManager>, config::Error> {
    let Some(supervisor) = &config.supervisor else {
        if let Some(name) = config.service.keys().next() {
            let keys = ["service", name.as_str()];
            return Err(config.error_at(&keys, "a service needs [supervisor] socket = \"…\""));
        }
        return Ok(Arc::new(Nobody));
    };
    let login = supervisor.login(config)?.map(|(user, password)| Login { user, password });
    Ok(Arc::new(Supervisord::new(supervisor.socket.clone(), login)))
}

/// The first `host:port` of a `mongodb://` URI, without its credentials; `None` for `mongodb+srv://`, whose hosts only
/// DNS knows.
fn first_host(uri: &str) -> Option<String> {
    let rest = uri.strip_prefix("mongodb://")?;
    let authority = rest.split(['/', '?']).next()?;
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let host = hosts.split(',').next().filter(|host| !host.is_empty())?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    Some(if has_port { host.to_owned() } else { format!("{host}:27017") })
}

/// An agent without a supervisord: it has no services, and every question about them says so.
struct Nobody;

#[tonic::async_trait]
impl ServiceManager for Nobody {
    async fn version(&self) -> Result<String, ManagerError> {
        Ok(String::new())
    }

    async fn programs(&self) -> Result<Vec<Program>, ManagerError> {
        Ok(Vec::new())
    }

    async fn program(&self, name: &ProgramName) -> Result<Program, ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }

    async fn patience(&self) -> Result<std::collections::BTreeMap<ProgramName, Patience>, ManagerError> {
        Ok(std::collections::BTreeMap::new())
    }

    async fn start(&self, name: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }

    async fn stop(&self, name: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }

    async fn kill(&self, name: &ProgramName) -> Result<(), ManagerError> {
        Err(ManagerError::NoSuchProgram(name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::first_host;

    #[test]
    fn the_address_of_a_uri_is_its_first_host() {
        for (uri, host) in [
            ("mongodb://127.0.0.1:27018/test", Some("127.0.0.1:27018")),
            ("mongodb://u:p%40@db.example,other:1/x?y=z", Some("db.example:27017")),
            ("mongodb://[::1]:27017", Some("[::1]:27017")),
            ("mongodb+srv://cluster.example", None),
            ("mongodb:///x", None),
            ("", None),
        ] {
            assert_eq!(first_host(uri).as_deref(), host, "{uri}");
        }
    }
}
