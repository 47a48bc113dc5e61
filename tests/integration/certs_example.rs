//! `certs-example/README.md`: its openssl commands make certificates that both sides take.

use std::process::Command;

use ops_trust::ca::CaCertificate;
use ops_trust::key::PrivateKeyPem;
use ops_trust::peer::Side;
use ops_trust::tls::Identity;

#[test]
fn the_openssl_commands_make_what_we_take() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("SKIPPED: no openssl on PATH");
        return;
    }
    let text = include_str!("../../certs-example/README.md");
    let script = text.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ran = Command::new("sh").args(["-euc", script]).current_dir(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let ca = CaCertificate::from_pem(&read("ca.pem")).unwrap();
    let now = jiff::Timestamp::now();
    for (name, side, subject) in
        [("agent", Side::Server, "agent/auction-1"), ("ana", Side::Client, "user/ana")]
    {
        let key = PrivateKeyPem::new(read(&format!("{name}.key")));
        let identity = Identity::from_pem(&read(&format!("{name}.pem")), &key).unwrap();
        assert_eq!(identity.verify(&ca, side, now).unwrap().subject.to_string(), subject);
    }
}

#[test]
fn no_private_key_lies_in_the_repository() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let listed = Command::new("git")
        .args(["-C", root, "grep", "-lE", "^-----BEGIN [A-Z ]*PRIVATE KEY-----$"])
        .output();
    // Exit 1 is git's "nothing found"; without git or a repository there is nothing to look through.
    if let Ok(listed) = listed
        && listed.status.code() == Some(0)
    {
        panic!("private keys in: {}", String::from_utf8_lossy(&listed.stdout));
    }
}
