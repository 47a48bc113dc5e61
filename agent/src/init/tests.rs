use std::os::unix::fs::PermissionsExt;

use ops_trust::peer::{self, Side};
use ops_trust::tls::Identity;

use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn args(root: &Path) -> InitArgs {
    InitArgs {
        root: Some(root.to_owned()),
        listen: "127.0.0.1:7443".parse().unwrap(),
        server_names: Vec::new(),
        id: None,
        admin: "admin".into(),
        csr: false,
        detect: false,
        supervisor_config: None,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn pem(path: &Path) -> rustls_pki_types::CertificateDer<'static> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn everything_fits_together_and_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(&args(dir.path()), "auction-1.example.net", now()).unwrap();
    let etc = dir.path().join("etc/opsd");
    for key in
        ["agent.key", "token.key", "admin.bundle.toml", "ca/ca.key", "../../var/lib/opsd/audit/epoch-0.key"]
    {
        assert_eq!(mode(&etc.join(key)), 0o600, "{key}");
    }
    assert_eq!((mode(&etc.join("ca")), mode(&dir.path().join("var/lib/opsd"))), (0o700, 0o700));
    let ca = CaFolder::read_certificate(&etc.join("ca")).unwrap();
    let agent = peer::verify(&ca, &pem(&etc.join("agent.pem")), Side::Server, now()).unwrap();
    assert_eq!((agent.subject, report.agent.to_string()), (report.agent.clone(), "agent/auction-1".into()));
    let key = fs::read_to_string(etc.join("agent.key")).unwrap();
    let certificate = fs::read_to_string(etc.join("agent.pem")).unwrap();
    Identity::from_pem(&certificate, &ops_trust::key::PrivateKeyPem::new(key)).unwrap();
    let bundle = Bundle::parse(&fs::read_to_string(report.bundle.unwrap()).unwrap()).unwrap();
    bundle.check_time(now()).unwrap();
    assert_eq!(bundle.agent.audit_root, report.audit_root);
    assert_eq!(
        (bundle.agent.addresses, bundle.agent.server_name),
        (vec!["127.0.0.1:7443".to_owned()], "localhost".into())
    );
    let epoch =
        SigningKey::from_pem(&fs::read(dir.path().join("var/lib/opsd/audit/epoch-0.key")).unwrap()).unwrap();
    assert_eq!(epoch.public(), report.audit_root);
    let admin: Subject = "user/admin".parse().unwrap();
    let policy = fs::read_to_string(etc.join("policy.toml")).unwrap();
    assert_eq!(policy::find(&policy, &admin).unwrap().unwrap().roles, ["admin"]);
    assert_eq!(CaFolder::open(&etc.join("ca")).unwrap().agents().unwrap().len(), 1);
}

#[test]
fn a_second_init_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    run(&args(dir.path()), "host", now()).unwrap();
    let snapshot = |()| {
        let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        let mut folders = vec![dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    files.push((path.clone(), fs::read(path).unwrap()))
                }
            }
        }
        files.sort();
        files
    };
    let before = snapshot(());
    let error = run(&args(dir.path()), "host", now()).unwrap_err();
    assert!(matches!(error, InitError::Exists { .. }), "{error}");
    assert_eq!(snapshot(()), before);
    // One file that is left of a former init is enough.
    fs::remove_file(dir.path().join("etc/opsd/opsd.toml")).unwrap();
    assert!(matches!(run(&args(dir.path()), "host", now()), Err(InitError::Exists { .. })));
    assert!(!dir.path().join("etc/opsd/opsd.toml").exists());
}

#[test]
fn a_failed_init_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    // A file where a folder should come.
    fs::create_dir_all(dir.path().join("var/lib")).unwrap();
    fs::write(dir.path().join("var/lib/opsd"), "").unwrap();
    assert!(matches!(run(&args(dir.path()), "host", now()), Err(InitError::File(_))));
    assert!(!dir.path().join("etc").exists());
}

#[test]
fn names_and_addresses_follow_from_the_flags() {
    let facts = |listen: &str, names: &[&str], host: &str| {
        let server_names = names.iter().map(|name| name.parse().unwrap()).collect();
        let args = InitArgs { listen: listen.parse().unwrap(), server_names, ..args(Path::new("x")) };
        Facts::of(&args, host).unwrap()
    };
    let open = facts("0.0.0.0:7443", &["auction-1.example.net", "203.0.113.10"], "box");
    assert_eq!(open.addresses, ["auction-1.example.net:7443", "203.0.113.10:7443"]);
    assert_eq!((open.server_name.as_str(), open.agent.name()), ("auction-1.example.net", "auction-1"));
    let default = facts("[::]:1", &[], "box.lan");
    assert_eq!((default.addresses, default.agent.name()), (vec!["box.lan:1".to_owned()], "box"));
    assert!(default.hosts.contains(&"127.0.0.1".parse().unwrap()));
    let one = facts("192.0.2.1:7443", &["a.example"], "box");
    assert_eq!((one.addresses[0].as_str(), one.server_name.as_str()), ("192.0.2.1:7443", "a.example"));
    assert!(one.hosts.contains(&"192.0.2.1".parse().unwrap()));
    assert!(matches!(
        Facts::of(&args(Path::new("x")), "not a host"),
        Err(InitError::Name { flag: "--id", .. })
    ));
}

#[test]
fn bad_input_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let refuse = |change: &dyn Fn(&mut InitArgs)| {
        let mut args = args(dir.path());
        change(&mut args);
        let error = run(&args, "host", now()).expect_err("it was accepted");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{error}");
        error
    };
    assert!(matches!(refuse(&|a| a.listen.set_port(0)), InitError::Port { .. }));
    assert!(matches!(refuse(&|a| a.admin = "../x".into()), InitError::Name { flag: "--admin", .. }));
    assert!(matches!(refuse(&|a| a.id = Some("a b".into())), InitError::Name { flag: "--id", .. }));
    let missing = |a: &mut InitArgs| {
        a.detect = true;
        a.supervisor_config = Some("/nonexistent/supervisord.conf".into());
    };
    assert!(matches!(refuse(&missing), InitError::Detect { .. }));
}

#[test]
fn a_request_leads_to_a_certificate_of_a_ca_elsewhere() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let report = run(&InitArgs { csr: true, ..args(dir.path()) }, "host", now()).unwrap();
    let etc = dir.path().join("etc/opsd");
    assert!(!etc.join("ca").exists() && !etc.join("agent.pem").exists() && report.bundle.is_none());
    let request = fs::read_to_string(report.request.unwrap()).unwrap();
    let csr = leaf::Csr::from_pem(&request).unwrap();
    let ca = CaFolder::create(&elsewhere.path().join("ca"), now()).unwrap();
    let leaf = Leaf::new(report.agent, csr.hosts().to_vec(), None).unwrap();
    let issued = ca.issue_csr(&leaf, &csr, now()).unwrap();
    let key = fs::read_to_string(etc.join("agent.key")).unwrap();
    Identity::from_pem(&issued.certificate_pem, &ops_trust::key::PrivateKeyPem::new(key))
        .unwrap()
        .verify(ca.certificate(), Side::Server, now())
        .unwrap();
    assert!(report.text.contains("opsctl pki issue agent/host --csr"), "{}", report.text);
}

#[test]
fn detection_writes_sections_and_prints_rights() {
    let dir = tempfile::tempdir().unwrap();
    let conf = dir.path().join("supervisord.conf");
    fs::create_dir(dir.path().join("conf.d")).unwrap();
    fs::write(&conf, "[unix_http_server]\nfile=/run/s.sock\n[include]\nfiles = conf.d/*.conf\n").unwrap();
    fs::write(
        dir.path().join("conf.d/a.conf"),
        "[program:backend]\ncommand=x\nstdout_logfile=/var/log/b.log\nstderr_logfile=/nonexistent/b.log\n",
    )
    .unwrap();
    fs::write(dir.path().join("conf.d/a.conf.bak"), "garbage").unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let report =
        run(&InitArgs { detect: true, supervisor_config: Some(conf), ..args(&root) }, "host", now()).unwrap();
    crate::config::Config::read(&report.config).unwrap();
    let config: toml::Table = toml::from_str(&fs::read_to_string(report.config).unwrap()).unwrap();
    assert_eq!(config["service"]["backend"]["program"].as_str(), Some("backend:backend"));
    assert!(report.text.contains("setfacl -m u:opsd:r /var/log/b.log"), "{}", report.text);
}
