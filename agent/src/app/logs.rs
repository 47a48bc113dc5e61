//! Logs, put together: places from the configuration, a key for cursors from the state.

use std::sync::Arc;

use ops_domain::log::{CursorKey, Logged, Logs, Places, Ports};
use ops_domain::ports::{Entropy, ServiceManager};

use super::BuildError;
use crate::config::Config;

/// Signs cursors, so that they outlive the process. Whoever has it learns nothing but that cursors are genuine.
const KEY_FILE: &str = "log_cursor.key";

pub(super) fn build(
    config: &Config,
    ports: Ports,
    manager: Arc<dyn ServiceManager>,
    entropy: &dyn Entropy,
) -> Result<Arc<Logs>, BuildError> {
    let services = config
        .service
        .iter()
        .map(|(name, service)| Logged {
            service: name.clone(),
            program: service.program.clone(),
            out: service.logs.first().cloned(),
            err: service.logs.get(1).cloned(),
        })
        .collect();
    Ok(Arc::new(Logs::new(ports, Places::new(services, manager), key(config, entropy)?)))
}

fn key(config: &Config, entropy: &dyn Entropy) -> Result<CursorKey, BuildError> {
    let path = config.state.dir.join(KEY_FILE);
    let wrong = |why: String| BuildError::Machine(format!("{}: {why}", path.display()));
    if path.exists() {
        let bytes =
            ops_trust::private_file::read_private(&path, 64).map_err(|error| wrong(error.to_string()))?;
        let bytes = bytes.try_into().map_err(|_| {
            wrong("it is damaged; remove it, and cursors of before are not taken any more".to_owned())
        })?;
        return Ok(CursorKey::new(bytes));
    }
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes).map_err(|error| wrong(error.message))?;
    ops_trust::private_file::create(&path, &bytes).map_err(|error| wrong(error.to_string()))?;
    Ok(CursorKey::new(bytes))
}
