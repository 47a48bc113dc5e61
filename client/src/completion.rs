//! What the shell asks while one types. Names come from the agent, within a short deadline; whatever fails there is no
//! suggestion, and no message into the middle of a command line.
//!
//! An argument that names a service takes `#[arg(add = ArgValueCompleter::new(completion::services))]`.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::CompleteEnv;
use ops_proto::v1::backup_service_client::BackupServiceClient;
use ops_proto::v1::operation_service_client::OperationServiceClient;
use ops_proto::v1::probe_service_client::ProbeServiceClient;
use ops_proto::v1::service_service_client::ServiceServiceClient;
use ops_proto::v1::{ListBackupsRequest, ListOperationsRequest, ListProbesRequest, ListServicesRequest};

use crate::cli::{Cli, Global};
use crate::connection::Connection;
use crate::context::{Choice, Environment, Store};
use crate::error::Result;
use crate::session::Session;

/// The variable by which the shell's script calls opsctl.
pub(crate) const VARIABLE: &str = "OPSCTL_COMPLETE";
/// A person waits with a finger on the key.
const DEADLINE: Duration = Duration::from_millis(800);

/// Answers the shell, when it is the shell that called. True: opsctl has nothing else to do.
pub(crate) fn answer(argv: &[OsString]) -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty() || shell == "0") {
        return false;
    }
    let folder = std::env::current_dir().ok();
    let completed =
        CompleteEnv::with_factory(Cli::command).var(VARIABLE).try_complete(argv, folder.as_deref());
    completed.unwrap_or(true)
}

/// Names of services.
#[must_use]
pub fn services(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, |connection| async move {
        let mut client = ServiceServiceClient::new(connection);
        let answer = client.list_services(ListServicesRequest {}).await?.into_inner();
        Ok(answer.services.into_iter().map(|service| service.name).collect())
    })
}

/// Ids of backups.
#[must_use]
pub fn backups(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, |connection| async move {
        let mut client = BackupServiceClient::new(connection);
        let answer = client.list_backups(ListBackupsRequest::default()).await?.into_inner();
        Ok(answer.backups.into_iter().map(|backup| backup.id).collect())
    })
}

/// Ids of operations, newest first.
#[must_use]
pub fn operations(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, |connection| async move {
        let mut client = OperationServiceClient::new(connection);
        let answer = client.list_operations(ListOperationsRequest::default()).await?.into_inner();
        Ok(answer.operations.into_iter().map(|operation| operation.id).collect())
    })
}

/// Names of probes.
#[must_use]
pub fn probes(typed: &OsStr) -> Vec<CompletionCandidate> {
    candidates(typed, |connection| async move {
        let mut client = ProbeServiceClient::new(connection);
        let answer = client.list_probes(ListProbesRequest {}).await?.into_inner();
        Ok(answer.probes.into_iter().map(|probe| probe.name).collect())
    })
}

/// Names of contexts, from the configuration.
#[must_use]
pub fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let names = Store::open(&Choice::default(), &Environment::capture())
        .map(|store| store.contexts().keys().cloned().collect())
        .unwrap_or_default();
    matching(typed, names)
}

fn candidates<F>(typed: &OsStr, ask: impl FnOnce(Connection) -> F) -> Vec<CompletionCandidate>
where
    F: Future<Output = Result<Vec<String>>>,
{
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let global = global(std::env::args_os());
    let names = runtime.block_on(async {
        let session = Session::new(Global { quiet: true, ..global }, Vec::new(), false);
        let asking = async { ask(session.connect().await?).await };
        tokio::time::timeout(DEADLINE, asking).await.ok().and_then(Result::ok).unwrap_or_default()
    });
    runtime.shutdown_background();
    matching(typed, names)
}

/// The context and host that stand on the line already.
fn global(words: impl Iterator<Item = OsString>) -> Global {
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let value = |flag: &str| {
        words.iter().enumerate().find_map(|(index, word)| match word.strip_prefix(flag) {
            Some("") => words.get(index + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        })
    };
    Global { context: value("--context"), host: value("--host"), ..Global::default() }
}

fn matching(typed: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    // What an agent says goes into a command line: plain names only.
    let plain =
        |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.:/".contains(letter));
    names
        .into_iter()
        .filter(|name| name.starts_with(typed.as_ref()) && plain(name))
        .map(CompletionCandidate::new)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};

    use super::{global, matching};

    #[test]
    fn the_context_on_the_line_is_the_one_that_is_asked() {
        let words = ["opsctl", "--", "opsctl", "--context", "prod", "--host=h:1", "service", "get", ""];
        let global = global(words.into_iter().map(OsString::from));
        assert_eq!((global.context.as_deref(), global.host.as_deref()), (Some("prod"), Some("h:1")));
    }

    #[test]
    fn only_plain_names_reach_the_shell() {
        let names = ["backend", "back$(reboot)", "frontend"].map(str::to_owned).to_vec();
        let found = matching(OsStr::new("back"), names);
        assert_eq!(found.iter().map(|c| c.get_value()).collect::<Vec<_>>(), ["backend"]);
    }
}
