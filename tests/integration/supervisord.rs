//! What our adapter relies on, asked of a real supervisord.

use std::time::Duration;

use jiff::tz::TimeZone;
use ops_agent::adapters::supervisord::Supervisord;
use ops_agent::adapters::supervisord::log::History;
use ops_domain::ports::service_history::{Change, Exit};
use ops_domain::ports::service_manager::{ManagerError, ProgramName, ProgramState};
use ops_domain::ports::{ServiceHistory as _, ServiceManager as _};
use ops_tests::sandbox::{Options, Sandbox};

fn name(text: &str) -> ProgramName {
    ProgramName::parse(text).unwrap()
}

/// Waits until the program is in this state.
async fn until(supervisord: &Supervisord, program: &str, state: ProgramState) {
    let reached = async {
        while supervisord.program(&name(program)).await.unwrap().state != state {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(30), reached).await;
    assert!(reached.is_ok(), "{program} did not become {state:?}");
}

#[tokio::test]
async fn the_facts_that_restarts_are_built_on() {
    let options = Options { seeded: false, with_agent: false, ..Options::default() };
    let sandbox = Sandbox::up(options).unwrap_or_else(|error| panic!("{error}"));
    let supervisord = Supervisord::new(sandbox.description().supervisor.socket.clone(), None);
    let history = History::follow(Some(sandbox.supervisor_log()), TimeZone::system());

    assert_eq!(supervisord.version().await.unwrap(), "4.3.0");
    let programs = supervisord.programs().await.unwrap();
    assert!(programs.iter().any(|program| program.name == name("backend") && program.pid.is_some()));
    let patience = supervisord.patience().await.unwrap();
    assert_eq!(patience[&name("stubborn")].stop, Duration::from_secs(2));

    let unknown = supervisord.program(&name("nonesuch")).await.unwrap_err();
    assert_eq!(unknown, ManagerError::NoSuchProgram(name("nonesuch")));
    assert_eq!(supervisord.start(&name("backend")).await, Err(ManagerError::AlreadyStarted));
    assert_eq!(supervisord.stop(&name("crash")).await, Err(ManagerError::NotRunning));

    // While it is STOPPING a start is answered well and lost, and a stop is refused.
    supervisord.start(&name("stubborn")).await.unwrap();
    until(&supervisord, "stubborn", ProgramState::Running).await;
    supervisord.stop(&name("stubborn")).await.unwrap();
    assert_eq!(supervisord.program(&name("stubborn")).await.unwrap().state, ProgramState::Stopping);
    assert_eq!(supervisord.start(&name("stubborn")).await, Ok(()));
    assert_eq!(supervisord.stop(&name("stubborn")).await, Err(ManagerError::NotRunning));
    until(&supervisord, "stubborn", ProgramState::Stopped).await;

    // It goes on trying after the first failure, and only its log knows the exit code.
    supervisord.start(&name("crash")).await.unwrap();
    until(&supervisord, "crash", ProgramState::Fatal).await;
    assert_eq!(supervisord.program(&name("crash")).await.unwrap().exit_status, 0);
    let mut changes = history.changes();
    let told = async {
        while !history.transitions("crash").iter().any(|t| t.change == Change::Fatal) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    let exited = Change::Exited { exit: Exit::Code(3), expected: false };
    assert_eq!(history.transitions("crash").iter().filter(|t| t.change == exited).count(), 4);
    assert!(
        history.transitions("stubborn").iter().any(|t| matches!(t.change, Change::Killing { .. })),
        "{:?}",
        history.transitions("stubborn")
    );
    sandbox.down().unwrap();
}
