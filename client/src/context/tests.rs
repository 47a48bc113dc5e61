use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ops_trust::bundle::{AgentInfo, Bundle, BundleIdentity};
use ops_trust::ca::Authority;
use ops_trust::key::SigningKey;
use ops_trust::leaf::Leaf;

use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

struct House {
    ca: Authority,
    root: SigningKey,
}

impl House {
    fn new() -> Self {
        Self { ca: Authority::generate(now()).unwrap(), root: SigningKey::generate().unwrap() }
    }

    fn bundle(&self, subject: &str) -> Bundle {
        let subject: Subject = subject.parse().unwrap();
        let (issued, key) = self.ca.issue(&Leaf::new(subject.clone(), vec![], None).unwrap(), now()).unwrap();
        let agent = AgentInfo {
            id: "agent/auction-1".parse().unwrap(),
            addresses: vec!["auction-1.example.net:7443".into()],
            server_name: "auction-1.example.net".into(),
            ca: self.ca.certificate().pem().to_owned(),
            audit_root: self.root.public(),
        };
        Bundle::new(agent, Some(BundleIdentity { subject, cert: issued.certificate_pem, key: Some(key) }))
    }
}

fn config(dir: &Path) -> Environment {
    Environment::of([("OPSCTL_CONFIG", dir.join("opsctl/config.toml").to_str().unwrap())])
}

fn with(dir: &Path, more: &[(&'static str, &str)]) -> Environment {
    let mut environment = config(dir);
    environment.add(more);
    environment
}

fn store(dir: &Path) -> Store {
    Store::open(&Choice::default(), &config(dir)).unwrap()
}

fn flag(name: &str) -> Choice {
    Choice { context: Some(name.into()), ..Choice::default() }
}

#[test]
fn an_import_makes_files_that_curl_takes_and_no_secret_in_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = House::new().bundle("user/alice");
    let imported = store(dir.path()).import(&bundle, None, None, false).unwrap();
    assert_eq!((imported.name.as_str(), imported.renewed, imported.current), ("auction-1", false, true));
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        let mode = fs::metadata(imported.folder.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{file}");
    }
    assert_eq!(fs::metadata(&imported.folder).unwrap().permissions().mode() & 0o7777, 0o700);
    let text = fs::read_to_string(dir.path().join("opsctl/config.toml")).unwrap();
    assert!(!text.contains("PRIVATE") && text.contains("user/alice"), "{text}");
    let target = resolve(&Choice::default(), &config(dir.path())).unwrap();
    assert_eq!(target.context.as_deref(), Some("auction-1"));
    assert_eq!((target.origin.clone(), target.host()), (Origin::Current, "auction-1.example.net"));
    assert_eq!(target.peer.as_ref().unwrap().subject.to_string(), "user/alice");
    assert_eq!(target.lifetime(now()), Lifetime::Good);
    let day = |n: i64| now() + SignedDuration::from_hours(24 * n);
    assert!(matches!(target.lifetime(day(77)), Lifetime::Ending { .. }));
    assert!(matches!(target.lifetime(day(91)), Lifetime::Ended { .. }));
}

#[test]
fn a_renewal_keeps_the_name_and_another_subject_gets_another() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let mut store = store(dir.path());
    store.import(&house.bundle("user/alice"), None, Some("prod"), false).unwrap();
    let before = fs::read(store.folder("prod").join("cert.pem")).unwrap();
    let renewed = store.import(&house.bundle("user/alice"), None, None, false).unwrap();
    assert_eq!((renewed.name.as_str(), renewed.renewed), ("prod", true));
    assert_ne!(fs::read(store.folder("prod").join("cert.pem")).unwrap(), before);
    let bob = store.import(&house.bundle("user/bob"), None, None, false).unwrap();
    assert_eq!((bob.name.as_str(), bob.current), ("auction-1", false));
    let eve = store.import(&house.bundle("user/eve"), None, None, true).unwrap();
    assert_eq!((eve.name.as_str(), eve.current), ("auction-1-eve", true));
    let taken = store.import(&house.bundle("user/eve"), None, Some("prod"), false);
    assert!(matches!(taken, Err(Error::Taken { .. })));
    assert_eq!(self::store(dir.path()).contexts().len(), 3);
}

#[test]
fn imports_at_the_same_time_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let bundles: Vec<Bundle> = (0..8).map(|n| house.bundle(&format!("user/u{n}"))).collect();
    std::thread::scope(|scope| {
        for (n, bundle) in bundles.iter().enumerate() {
            // Each with the empty configuration in hand that it found.
            let mut store = store(dir.path());
            scope.spawn(move || store.import(bundle, None, Some(&format!("c{n}")), false).unwrap());
        }
    });
    assert_eq!(store(dir.path()).contexts().len(), 8);
}

#[test]
fn hostile_names_make_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = House::new().bundle("user/alice");
    for name in ["", "..", "../x", "a/b", "-x", "a\n", &"a".repeat(65)] {
        let refused = store(dir.path()).import(&bundle, None, Some(name), false);
        assert!(matches!(refused, Err(Error::Name { .. })), "{name:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_bundle_without_key_needs_one_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let mut bundle = house.bundle("user/alice");
    let key = bundle.identity.as_mut().unwrap().key.take();
    assert!(matches!(store(dir.path()).import(&bundle, None, None, false), Err(Error::NoKey)));
    let other = house.bundle("user/alice").identity.unwrap().key;
    assert!(matches!(store(dir.path()).import(&bundle, other, None, false), Err(Error::Bundle { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    store(dir.path()).import(&bundle, key, None, false).unwrap();
}

#[test]
fn removing_deletes_the_key_and_leaves_no_current() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.import(&House::new().bundle("user/alice"), None, Some("prod"), false).unwrap();
    store.remove("prod").unwrap();
    assert!(!store.folder("prod").exists());
    assert!(matches!(resolve(&Choice::default(), &config(dir.path())), Err(Error::NoContext)));
    assert!(matches!(store.remove("prod"), Err(Error::Unknown { .. })));
}

#[test]
fn a_near_name_is_suggested() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.import(&House::new().bundle("user/alice"), None, Some("prod-admin"), false).unwrap();
    let error = store.select("prod-amdin").unwrap_err().to_string();
    assert_eq!(error, "no context `prod-amdin`; did you mean `prod-admin`?");
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let mut store = store(dir.path());
    for name in ["one", "two", "three"] {
        store.import(&house.bundle(&format!("user/{name}")), None, Some(name), false).unwrap();
    }
    let environment = with(dir.path(), &[("OPSCTL_CONTEXT", "two")]);
    let name =
        |choice: &Choice, environment: &Environment| resolve(choice, environment).unwrap().context.unwrap();
    assert_eq!(name(&Choice::default(), &config(dir.path())), "one");
    assert_eq!(name(&Choice::default(), &environment), "two");
    assert_eq!(name(&flag("three"), &environment), "three");
    let error = resolve(&flag("four"), &environment).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. }));
}

#[test]
fn a_bundle_in_the_environment_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let text = House::new().bundle("service/ci-deploy").to_toml().unwrap();
    let target = resolve(&Choice::default(), &Environment::of([("OPSCTL_BUNDLE", text.as_str())])).unwrap();
    assert_eq!(target.peer.unwrap().subject.to_string(), "service/ci-deploy");
    let path = dir.path().join("bundle.toml");
    ops_trust::private_file::create(&path, text.as_bytes()).unwrap();
    let environment = Environment::of([("OPSCTL_BUNDLE", path.to_str().unwrap())]);
    assert!(resolve(&Choice::default(), &environment).unwrap().identity.is_some());
    let both = with(dir.path(), &[("OPSCTL_BUNDLE", text.as_str()), ("OPSCTL_CONTEXT", "x")]);
    assert!(matches!(resolve(&Choice::default(), &both), Err(Error::Both { .. })));
    let broken = Environment::of([("OPSCTL_BUNDLE", "version = 1\nS3CR3T")]);
    let error = resolve(&Choice::default(), &broken).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("S3CR3T"), "{error:?}");
}

#[test]
fn a_bare_host_needs_a_ca_and_carries_its_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::new();
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, house.ca.certificate().pem()).unwrap();
    let host =
        |host: &'static str| Environment::of([("OPSCTL_HOST", host), ("OPSCTL_CA", ca.to_str().unwrap())]);
    for (given, address, name) in [
        ("a.example", "a.example:7443", "a.example"),
        ("a.example:1", "a.example:1", "a.example"),
        ("127.0.0.1", "127.0.0.1:7443", "127.0.0.1"),
        ("::1", "[::1]:7443", "::1"),
        ("[::1]:9", "[::1]:9", "::1"),
    ] {
        let target = resolve(&Choice::default(), &host(given)).unwrap();
        assert_eq!((target.addresses[0].as_str(), target.server_name.as_str()), (address, name));
    }
    for bad in ["https://a", "a b", "a:0", "a:x", "a:1:2"] {
        assert!(matches!(resolve(&Choice::default(), &host(bad)), Err(Error::Variable { .. })), "{bad}");
    }
    let alone = Environment::of([("OPSCTL_HOST", "a.example")]);
    assert!(matches!(resolve(&Choice::default(), &alone), Err(Error::NoCa { .. })));
}

#[test]
fn a_token_replaces_the_certificate_unless_it_is_bound() {
    use base64::Engine;
    let dir = tempfile::tempdir().unwrap();
    store(dir.path()).import(&House::new().bundle("user/alice"), None, None, false).unwrap();
    let token = |claims: &str| {
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part("{}"), part(claims))
    };
    let plain = with(dir.path(), &[("OPSCTL_TOKEN", &token("{}"))]);
    let target = resolve(&Choice::default(), &plain).unwrap();
    assert!(target.identity.is_none() && target.peer.is_none() && target.token.is_some());
    assert!(!format!("{target:?}{plain:?}").contains(&token("{}")));
    let bound = with(dir.path(), &[("OPSCTL_TOKEN", &token(r#"{"cnf":{}}"#))]);
    assert!(resolve(&Choice::default(), &bound).unwrap().identity.is_some());
    let file = dir.path().join("token");
    fs::write(&file, format!("{}\n", token("{}"))).unwrap();
    let file = file.to_str().unwrap();
    let from_file = resolve(&Choice::default(), &with(dir.path(), &[("OPSCTL_TOKEN_FILE", file)])).unwrap();
    assert_eq!(from_file.token.unwrap().expose(), token("{}"));
    let both = with(dir.path(), &[("OPSCTL_TOKEN", "a.b.c"), ("OPSCTL_TOKEN_FILE", file)]);
    assert!(matches!(resolve(&Choice::default(), &both), Err(Error::Both { .. })));
    for bad in ["S3CR3T", "a.b", "a.b.c d", "a.b.c\nd.e.f", &"a".repeat(5000)] {
        let error = resolve(&Choice::default(), &with(dir.path(), &[("OPSCTL_TOKEN", bad)])).unwrap_err();
        assert!(!error.to_string().contains(bad), "{error}");
    }
}

#[test]
fn broken_configurations_are_named_by_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let open = |text: &str| {
        fs::write(&path, text).unwrap();
        Store::open_file(&path).expect_err("it was accepted").to_string()
    };
    assert!(open("version = 1\ncurrent = 3\n").contains("config.toml: line 2"));
    assert!(open("version = 2\n").contains("version 2"));
    assert!(open("version = 1\nmore = 1\n").contains("line 2"));
    assert!(open("\u{0}").contains("config.toml"));
    let context =
        "agent = 'agent/a'\nserver_name = 'a'\naudit_root = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\n";
    assert!(
        open(&format!("version = 1\n[contexts.'../x']\naddresses = ['a:1']\n{context}")).contains("../x")
    );
    assert!(open(&format!("version = 1\n[contexts.a]\naddresses = []\n{context}")).contains("addresses"));
    assert!(open(&format!("version = 1\n[contexts.a]\naddresses = ['a']\n{context}")).contains("host:port"));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let imported = store(dir.path()).import(&House::new().bundle("user/alice"), None, None, false).unwrap();
    let key = imported.folder.join("key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = resolve(&Choice::default(), &config(dir.path())).unwrap_err().to_string();
    assert!(error.contains("chmod 0600"), "{error}");
}

#[test]
fn without_anything_the_way_to_a_context_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Environment::of([("HOME", dir.path().to_str().unwrap())]);
    assert!(resolve(&Choice::default(), &nothing).unwrap_err().is_missing());
    assert!(resolve(&Choice::default(), &Environment::default()).unwrap_err().is_missing());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_seen_checkpoint_is_kept_per_agent() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let house = House::new();
    store.import(&house.bundle("user/alice"), None, Some("a"), false).unwrap();
    store.import(&house.bundle("user/bob"), None, Some("b"), false).unwrap();
    let seen_by = |name| {
        let target = resolve(&flag(name), &config(dir.path())).unwrap();
        SeenStore::of(&store, &target).unwrap()
    };
    assert_eq!(seen_by("a").load().unwrap(), None);
    let seen = ops_trust::audit::Seen {
        seq: 7,
        hash: ops_trust::audit::Hash::of(b"line"),
        epoch: 2,
        key: house.root.public(),
    };
    seen_by("a").save(&seen).unwrap();
    assert_eq!(seen_by("b").load().unwrap(), Some(seen));
}
