use std::collections::BTreeSet;

use super::*;
use crate::access::{Binding, Credential, Permission, Principal, Role, Scope, authorize};
use crate::fakes::{FakeClock, FakeHost, FakeJournal, Temper};
use crate::ids::{ServiceName, Subject};
use crate::ports::service_manager::ProgramName;
use crate::ports::{DiskSpace, DiskUsage, HealthSource as _, Serving};
use crate::probe::Target;
use crate::service::{Check as Readiness, Definition, Ports, ReadinessRule};

struct Disks;

impl DiskSpace for Disks {
    fn usage(&self, path: &str) -> Result<DiskUsage, String> {
        match path.trim_start_matches('/').parse() {
            Ok(used_percent) => {
                Ok(DiskUsage { total: 100_000_000_000, available: 38_000_000_000, used_percent })
            }
            Err(_) => Err("permission denied".to_owned()),
        }
    }
}

fn viewer() -> Authorized {
    let principal = Principal {
        subject: Subject::parse("ana").unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: BTreeSet::from([Role::Viewer]), services: BTreeSet::new() },
        narrowed: None,
        expires_at: Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    };
    authorize(&principal, Permission::Status, Scope::None).unwrap()
}

fn services(programs: &[(&str, Temper, bool, Expected)]) -> (Arc<FakeHost>, Services) {
    let clock = FakeClock::hasty();
    let plain: Vec<_> = programs.iter().map(|(name, temper, up, _)| (*name, *temper, *up)).collect();
    let host = FakeHost::new(clock.clone(), &plain);
    let definitions = programs
        .iter()
        .map(|(name, _, _, expected)| Definition {
            name: ServiceName::parse(name).unwrap(),
            program: ProgramName::parse(name).unwrap(),
            after: Vec::new(),
            expected: *expected,
            protected: BTreeSet::new(),
            readiness: ReadinessRule::new(Readiness::Probe(Target::Tcp { address: (*name).to_owned() })),
        })
        .collect();
    let ports = Ports {
        manager: host.clone(),
        history: host.clone(),
        processes: host.clone(),
        prober: host.clone(),
        excerpts: host.clone(),
        journal: Arc::new(FakeJournal::default()),
        clock,
    };
    (host, Services::new(definitions, ports).unwrap())
}

const WELL: Temper = Temper::Stubborn;

async fn disk(path: &str) -> Check {
    DiskCheck::new(Arc::new(Disks), vec!["/10".to_owned(), path.to_owned()]).check(&viewer()).await
}

#[tokio::test]
async fn disks_are_judged_at_their_edges() {
    for (path, verdict) in [
        ("/84", Verdict::Ok),
        ("/85", Verdict::Warn),
        ("/89", Verdict::Warn),
        ("/90", Verdict::Fail),
        ("/secret", Verdict::Unknown),
    ] {
        assert_eq!(disk(path).await.verdict, verdict, "{path}");
    }
    assert_eq!(disk("/90").await.text, "/90 90% used, 38 GB free; /10 10% used, 38 GB free");
}

#[tokio::test]
async fn all_well_is_counted() {
    let (_, services) =
        services(&[("backend", WELL, true, Expected::Running), ("idle", WELL, false, Expected::Any)]);
    let disk = Arc::new(DiskCheck::new(Arc::new(Disks), vec!["/10".to_owned()]));
    let status = Health::new(services, vec![disk]).status(&viewer(), &[]).await.unwrap();
    assert_eq!(status.verdict, Verdict::Ok);
    assert_eq!(status.summary, "1 of 1 services ready, 1 of 1 checks ok");
    assert_eq!(status.services.len(), 1);
}

#[tokio::test]
async fn the_worst_comes_first_and_decides() {
    let (_, services) =
        services(&[("backend", WELL, true, Expected::Running), ("dead", WELL, false, Expected::Running)]);
    let disk: Arc<dyn CheckSource> = Arc::new(DiskCheck::new(Arc::new(Disks), vec!["/secret".to_owned()]));
    let health = Health::new(services, vec![disk]);
    let status = health.status(&viewer(), &[]).await.unwrap();
    assert_eq!(status.verdict, Verdict::Fail);
    assert_eq!(status.services[0].name, "dead");
    assert_eq!(status.summary, "dead is down (STOPPED), check disk is unknown");
    let one = health.status(&viewer(), &["backend".to_owned()]).await.unwrap();
    assert_eq!((one.verdict, one.checks.len()), (Verdict::Ok, 0));
    assert!(health.status(&viewer(), &["nonesuch".to_owned()]).await.is_err());
}

#[tokio::test]
async fn a_check_that_cannot_run_is_never_ok() {
    let (_, services) = services(&[("backend", WELL, true, Expected::Running)]);
    let disk = Arc::new(DiskCheck::new(Arc::new(Disks), vec!["/secret".to_owned()]));
    let status = Health::new(services, vec![disk]).status(&viewer(), &[]).await.unwrap();
    assert_eq!(status.verdict, Verdict::Unknown);
}

#[tokio::test]
async fn a_load_balancer_sees_what_serves() {
    let (host, services) =
        services(&[("backend", WELL, true, Expected::Running), ("idle", WELL, false, Expected::Any)]);
    let health = ServiceHealth::new(services, Subject::parse("agent/test").unwrap());
    let name = |text: &str| ServiceName::parse(text).unwrap();
    assert_eq!(health.serving(&name("backend")).await.unwrap(), Serving::Yes);
    assert_eq!(health.serving(&name("idle")).await.unwrap(), Serving::No);
    assert!(health.serving(&name("nonesuch")).await.is_err());
    host.manager_down(true);
    assert_eq!(health.changed(&name("backend"), Serving::Yes).await.unwrap(), Serving::Unknown);
}
