use ops_proto::v1::{Readiness, ServiceState, Transition};

use super::*;
use crate::cli::Global;
use crate::output::{Color, Format};

const NOW: i64 = 1_795_000_000;

fn before(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW - seconds, nanos: 0 })
}

fn session() -> Session {
    let global = Global { color: Color::Never, utc: true, output: Format::Table, ..Global::default() };
    Session::new(global, Vec::new(), false)
}

fn failing() -> GetStatusResponse {
    GetStatusResponse {
        verdict: Verdict::Fail.into(),
        summary: "backend is down since 11:03:40 (3 min)".into(),
        services: vec![
            Service {
                name: "backend".into(),
                state: ServiceState::Fatal.into(),
                readiness: Readiness::NotReady.into(),
                restarts_24h: Some(4),
                exit_code: Some(3),
                transitions: vec![Transition { at: before(180), event: "fatal".into(), text: String::new() }],
                stderr: ["one", "two", "three \x1b[31mred", "four"].map(String::from).to_vec(),
                managed: true,
                ..Service::default()
            },
            Service {
                name: "frontend".into(),
                state: ServiceState::Running.into(),
                readiness: Readiness::Ready.into(),
                started_at: before(200_000),
                restarts_24h: Some(0),
                last_change: "restarted by service/ci-deploy, op-7k2m9q".into(),
                last_change_at: before(200_000),
                ok: true,
                managed: true,
                ..Service::default()
            },
        ],
        checks: vec![Check {
            name: "database".into(),
            verdict: Verdict::Ok.into(),
            text: "ping 2 ms".into(),
        }],
        subject: "user/ana".into(),
        roles: vec!["operator".into()],
        at: before(0),
    }
}

#[test]
fn the_cause_is_on_the_screen_and_nothing_is_guessed() {
    let text = body(&failing(), &session());
    // The clock of this machine goes on; ages are checked where `now` is given.
    let table = output_of(&service_table(&failing().services, Timestamp::from_second(NOW).unwrap()));
    assert_eq!(
        table,
        "\
SERVICE   STATE    READY  UP  RESTARTS/24H  LAST CHANGE
backend   FATAL    no     -   4             exit code 3, fatal 3m ago
frontend  running  yes    2d  0             restarted 2d ago by service/ci-deploy, op-7k2m9q
"
    );
    assert!(text.starts_with("FAILING  backend is down since 11:03:40 (3 min)\n\nSERVICE "), "{text}");
    assert!(text.contains("\nCHECK     VERDICT  FACTS\ndatabase  ok       ping 2 ms\n"), "{text}");
    assert!(
        text.ends_with("\nbackend stderr, last 3 lines (11:03:40Z)\n| two\n| three \\x1b[31mred\n| four\n"),
        "{text}"
    );
}

#[test]
fn who_is_asking_stands_above() {
    assert_eq!(header(&failing(), &session()), "ana (operator)  11:06:40 UTC");
}

#[test]
fn next_is_about_the_worst() {
    let next = next(&failing());
    assert_eq!(next[0].argv.join(" "), "opsctl log tail backend --stream err -n 50");
}

fn output_of(table: &Table) -> String {
    table.render(false, None, crate::output::Paint::Plain)
}
