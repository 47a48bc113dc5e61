use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use jiff::Timestamp;
use ops_trust::bundle::{AgentInfo, Bundle};
use ops_trust::key::{PrivateKeyPem, SigningKey};
use ops_trust::leaf::{self, Leaf};
use ops_trust::policy;
use ops_trust::tls::Identity;

use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn later() -> Timestamp {
    now() + jiff::SignedDuration::from_hours(24 * 80)
}

/// What `opsd init` leaves on a host: the CA's folder, the agent's files and the policy beside it.
struct House {
    dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { dir: tempfile::tempdir().unwrap() };
        let ca = CaFolder::create(&house.ca(), now()).unwrap();
        let hosts = vec!["auction-1.example.net".parse().unwrap()];
        let leaf = Leaf::new("agent/auction-1".parse().unwrap(), hosts, None).unwrap();
        let (issued, key) = ca.issue(&leaf, now()).unwrap();
        ops_trust::private_file::create(&house.path("agent.key"), key.expose().as_bytes()).unwrap();
        let policy = "# ours\n[subject.\"user/admin\"]\nroles = [\"admin\"]\n";
        for (name, text) in [("agent.pem", issued.certificate_pem.as_str()), ("policy.toml", policy)] {
            ops_trust::private_file::create_public(&house.path(name), text.as_bytes()).unwrap();
        }
        let agent = AgentInfo {
            id: "agent/auction-1".parse().unwrap(),
            addresses: vec!["auction-1.example.net:7443".into()],
            server_name: "auction-1.example.net".into(),
            ca: ca.certificate().pem().to_owned(),
            audit_root: SigningKey::generate().unwrap().public(),
        };
        ca.put_agent(&agent).unwrap();
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.path("ca")
    }

    fn policy(&self) -> String {
        fs::read_to_string(self.path("policy.toml")).unwrap()
    }

    fn issue(&self, what: &Issue) -> std::result::Result<Outcome, Fault> {
        issue::issue(&self.ca(), what, now())
    }
}

fn named(name: &str) -> Issue {
    Issue { name: name.into(), ..Issue::default() }
}

fn operator(name: &str) -> Issue {
    Issue { roles: vec!["operator".into()], ..named(name) }
}

fn bundle(outcome: &Outcome) -> Bundle {
    match &outcome.product {
        Product::Bundle(text) => Bundle::parse(text).unwrap(),
        other => panic!("no bundle: {other:?}"),
    }
}

#[test]
fn issuing_prints_a_whole_bundle_and_writes_the_binding() {
    let house = House::new();
    let what = Issue { services: vec!["backend".into()], ..operator("ana") };
    let outcome = house.issue(&what).unwrap();
    let bundle = bundle(&outcome);
    bundle.check_time(now()).unwrap();
    assert_eq!(bundle.agent.id.to_string(), "agent/auction-1");
    assert_eq!(bundle.identity.unwrap().subject.to_string(), "user/ana");
    assert_eq!(outcome.binding, Binding::Written(house.path("policy.toml")));
    let text = house.policy();
    assert!(text.starts_with("# ours\n"), "{text}");
    let found = policy::find(&text, &"user/ana".parse().unwrap()).unwrap().unwrap();
    assert_eq!((found.roles, found.services), (vec!["operator".to_owned()], vec!["backend".to_owned()]));
    let mode = fs::metadata(house.path("policy.toml")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o644, "the agent could not read its policy any more");
    let again = house.issue(&what).unwrap();
    assert!(matches!(again.binding, Binding::Unchanged(_)));
    assert_eq!(house.policy(), text);
}

#[test]
fn without_a_policy_the_lines_are_told() {
    let house = House::new();
    fs::remove_file(house.path("policy.toml")).unwrap();
    let outcome = house.issue(&operator("service/ci")).unwrap();
    let expected = "[subject.\"service/ci\"]\nroles = [\"operator\"]\n";
    assert_eq!(outcome.binding, Binding::ToAdd(expected.into()));
    assert!(!house.path("policy.toml").exists());
}

#[test]
fn bad_input_signs_nothing_and_changes_nothing() {
    let house = House::new();
    let before = (house.policy(), CaFolder::open(&house.ca()).unwrap().issued().unwrap());
    let refuse = |what: Issue| house.issue(&what).expect_err("it was accepted");
    for name in ["", "../x", "a b", "root/x", "user/", "-x", &"a".repeat(65)] {
        assert!(matches!(refuse(operator(name)), Fault::Subject(_)), "{name:?}");
    }
    assert!(matches!(refuse(Issue { roles: vec!["god".into()], ..named("ana") }), Fault::Policy(_)));
    assert!(matches!(refuse(Issue { services: vec!["a\"b".into()], ..operator("ana") }), Fault::Policy(_)));
    assert!(matches!(refuse(Issue { days: Some(399), ..operator("ana") }), Fault::Leaf(_)));
    assert!(matches!(refuse(Issue { days: Some(0), ..operator("ana") }), Fault::Leaf(_)));
    assert!(matches!(refuse(operator("admin")), Fault::PolicyFile { .. }));
    assert!(matches!(
        refuse(Issue { agent: Some("x".into()), ..operator("ana") }),
        Fault::UnknownAgent { .. }
    ));
    assert!(matches!(refuse(Issue { csr: Some(house.path("none")), ..operator("ana") }), Fault::File(_)));
    assert!(matches!(
        refuse(Issue { csr: Some(house.path("policy.toml")), ..operator("ana") }),
        Fault::Leaf(_)
    ));
    assert!(matches!(refuse(Issue { addresses: vec!["a:1".into()], ..operator("ana") }), Fault::Flag { .. }));
    assert!(matches!(refuse(operator("agent/x")), Fault::Flag { .. }));
    assert!(matches!(refuse(named("agent/x")), Fault::AgentNeedsRequest));
    fs::write(house.path("policy.toml"), "garbage").unwrap();
    assert!(matches!(refuse(operator("ana")), Fault::PolicyFile { .. }));
    fs::write(house.path("policy.toml"), &before.0).unwrap();
    assert_eq!((house.policy(), CaFolder::open(&house.ca()).unwrap().issued().unwrap()), before);
}

#[test]
fn a_request_gives_a_bundle_without_key() {
    let house = House::new();
    let (request, key) = leaf::new_csr(&"user/ana".parse().unwrap(), &[]).unwrap();
    fs::write(house.path("ana.csr"), request).unwrap();
    let outcome = house.issue(&Issue { csr: Some(house.path("ana.csr")), ..operator("ana") }).unwrap();
    let identity = bundle(&outcome).identity.unwrap();
    assert_eq!(identity.key, None);
    Identity::from_pem(&identity.cert, &key).unwrap();
}

#[test]
fn a_request_cannot_choose_its_name() {
    let house = House::new();
    let hosts = ["evil.example".parse().unwrap()];
    let (request, _) = leaf::new_csr(&"user/admin".parse().unwrap(), &hosts).unwrap();
    fs::write(house.path("eve.csr"), request).unwrap();
    let outcome = house.issue(&Issue { csr: Some(house.path("eve.csr")), ..operator("eve") }).unwrap();
    assert_eq!(bundle(&outcome).identity.unwrap().subject.to_string(), "user/eve");
}

#[test]
fn renewing_keeps_roles_and_needs_a_former_certificate() {
    let house = House::new();
    house.issue(&operator("ana")).unwrap();
    let text = house.policy();
    let outcome = issue::renew(&house.ca(), &named("ana"), later()).unwrap();
    assert_eq!(outcome.issued.not_after, later() + jiff::SignedDuration::from_hours(24 * 90));
    assert!(matches!(outcome.binding, Binding::Unchanged(_)));
    assert_eq!(house.policy(), text);
    let error = issue::renew(&house.ca(), &named("anna"), later()).unwrap_err();
    assert_eq!(error.to_string(), "user/anna never had a certificate of this CA; did you mean user/ana?");
    assert_eq!(Error::from(error).exit(), Exit::NotFound);
}

#[test]
fn an_agent_is_renewed_in_place_with_its_own_key() {
    let house = House::new();
    let before = fs::read_to_string(house.path("agent.pem")).unwrap();
    let outcome = issue::renew(&house.ca(), &named("agent/auction-1"), later()).unwrap();
    assert!(matches!(outcome.product, Product::InPlace(_)));
    let after = fs::read_to_string(house.path("agent.pem")).unwrap();
    assert_ne!(before, after);
    let key = PrivateKeyPem::new(fs::read_to_string(house.path("agent.key")).unwrap());
    let ca = CaFolder::open(&house.ca()).unwrap();
    let peer = Identity::from_pem(&after, &key)
        .unwrap()
        .verify(ca.certificate(), ops_trust::peer::Side::Server, later())
        .unwrap();
    assert_eq!(peer.subject.to_string(), "agent/auction-1");
}

#[test]
fn a_team_ca_knows_agents_by_their_requests() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("ca");
    CaFolder::create(&folder, now()).unwrap();
    assert!(matches!(issue::issue(&folder, &operator("ana"), now()), Err(Fault::NoAgent)));
    let csr = dir.path().join("agent.csr");
    for name in ["one", "two"] {
        let hosts = [format!("{name}.example").parse().unwrap()];
        let (request, _) = leaf::new_csr(&format!("agent/{name}").parse().unwrap(), &hosts).unwrap();
        fs::write(&csr, request).unwrap();
        let mut what = Issue { csr: Some(csr.clone()), ..named(&format!("agent/{name}")) };
        assert!(matches!(issue::issue(&folder, &what, now()), Err(Fault::AgentNeedsAddress)));
        what.addresses = vec![format!("{name}.example:7443")];
        what.audit_root = Some(SigningKey::generate().unwrap().public());
        let outcome = issue::issue(&folder, &what, now()).unwrap();
        assert!(matches!(outcome.product, Product::Certificate(_)));
    }
    assert!(matches!(issue::issue(&folder, &operator("ana"), now()), Err(Fault::WhichAgent { .. })));
    let two = Issue { agent: Some("two".into()), ..operator("ana") };
    let agent = bundle(&issue::issue(&folder, &two, now()).unwrap()).agent;
    assert_eq!(
        (agent.server_name.as_str(), agent.addresses[0].as_str()),
        ("two.example", "two.example:7443")
    );
}
