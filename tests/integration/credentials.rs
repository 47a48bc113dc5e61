//! Who is let in: an agent of its own, asked over TLS with certificates and tokens that are good, expired, foreign, self-made,
//! forged, or of two people. After each refusal the agent still serves, and the audit trail is whole.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ops_tests::patience::eventually;
use ops_tests::sandbox::Binaries;
use ops_trust::ca::{Authority, CaCertificate, CaFolder};
use ops_trust::key::{PrivateKeyPem, SigningKey};
use ops_trust::leaf::Leaf;
use ops_trust::subject::Subject;
use ops_trust::tls::{Alpn, Fault, Identity, SystemClock, client_config};
use ops_trust::token::{Claims, Confirmation, Signer};
use rustls::pki_types::ServerName;

const SOON: Duration = Duration::from_secs(30);
const DAY: SignedDuration = SignedDuration::from_hours(24);

struct Bench {
    dir: tempfile::TempDir,
    binaries: Binaries,
    address: SocketAddr,
    agent: Child,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

impl Bench {
    fn new() -> Self {
        let binaries = Binaries::current().unwrap_or_else(|error| panic!("{error}"));
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let root = dir.path().join("host");
        let mut init = Command::new(&binaries.opsd);
        init.arg("init").arg("--root").arg(&root).args(["--id", "one", "--admin", "ana", "--listen"]);
        assert!(init.arg(address.to_string()).stdin(Stdio::null()).output().unwrap().status.success());
        let log = std::fs::File::create(dir.path().join("opsd.log")).unwrap();
        let mut run = Command::new(&binaries.opsd);
        run.arg("run").arg("--root").arg(&root).stdin(Stdio::null());
        let agent = run.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let bench = Self { dir, binaries, address, agent };
        eventually(SOON, "the agent's port", || TcpStream::connect(address)).unwrap();
        assert!(bench.opsctl(&["context", "import", "host/etc/opsd/admin.bundle.toml"]).status.success());
        bench
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.dir.path().join("host/etc/opsd").join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("opsd.log")).unwrap()
    }

    fn opsctl(&self, arguments: &[&str]) -> Output {
        self.opsctl_with(arguments, &[])
    }

    fn opsctl_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = Command::new(&self.binaries.opsctl);
        command.args(arguments).current_dir(self.dir.path()).env_clear().stdin(Stdio::null());
        command.env("OPSCTL_CONFIG", self.dir.path().join("laptop/config.toml"));
        command.envs(environment.iter().copied()).output().unwrap()
    }

    fn ca(&self) -> CaFolder {
        CaFolder::open(&self.etc("ca")).unwrap()
    }

    /// A certificate of the agent's own CA, as if it had been signed then.
    fn identity(&self, subject: &str, then: Timestamp) -> (Identity, String, PrivateKeyPem) {
        let leaf = Leaf::new(subject.parse().unwrap(), Vec::new(), None).unwrap();
        let (issued, key) = self.ca().issue(&leaf, then).unwrap();
        (Identity::from_pem(&issued.certificate_pem, &key).unwrap(), issued.certificate_pem, key)
    }

    fn signer(&self) -> Signer {
        Signer::new(SigningKey::from_pem(&std::fs::read(self.etc("token.key")).unwrap()).unwrap())
    }

    /// `GET path` over TLS: status and body, or why TLS failed.
    fn get(&self, path: &str, identity: Option<&Identity>, headers: &[&str]) -> Result<(u16, String), Fault> {
        let ca = CaCertificate::from_pem(&std::fs::read_to_string(self.etc("ca.pem")).unwrap()).unwrap();
        let config = client_config(&ca, identity, &[Alpn::Http11], Arc::new(SystemClock)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(SOON)).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        let mut answer = Vec::new();
        let talked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
        // A server need not say goodbye; an answer is an answer.
        if let (Err(error), true) = (talked, answer.is_empty()) {
            return Err(Fault::find(&error).unwrap_or(Fault::Other(error.to_string())));
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Ok((status, text))
    }

    /// The invariants: the admin is served, and the trail is whole.
    fn still_serves(&self) {
        let whoami = self.opsctl(&["access", "whoami", "-o", "json"]);
        assert!(whoami.status.success(), "{whoami:?}\n{}", self.log());
        let verified = self.opsctl(&["audit", "verify"]);
        assert!(verified.status.success(), "{verified:?}");
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

fn agent() -> Subject {
    "agent/one".parse().unwrap()
}

fn said(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The context's certificate and key become others.
fn put(folder: &Path, certificate: &str, key: &PrivateKeyPem) {
    ops_trust::private_file::replace(&folder.join("cert.pem"), certificate.as_bytes()).unwrap();
    ops_trust::private_file::replace(&folder.join("key.pem"), key.expose().as_bytes()).unwrap();
}

#[test]
fn certificates_that_are_not_ours_never_get_past_the_handshake() {
    let bench = Bench::new();
    let now = Timestamp::now();
    let (good, ..) = bench.identity("user/ana", now);
    assert_eq!(bench.get("/v1/whoami", Some(&good), &[]).unwrap().0, 200);
    let (expired, ..) = bench.identity("user/ana", now - DAY * 91);
    let (early, ..) = bench.identity("user/ana", now + DAY);
    for identity in [&expired, &early] {
        assert_eq!(bench.get("/v1/whoami", Some(identity), &[]), Err(Fault::OursExpired));
    }
    let rogue = Authority::generate(now).unwrap();
    let leaf = Leaf::new("user/ana".parse().unwrap(), Vec::new(), None).unwrap();
    let (issued, key) = rogue.issue(&leaf, now).unwrap();
    let foreign = Identity::from_pem(&issued.certificate_pem, &key).unwrap();
    assert_eq!(bench.get("/v1/whoami", Some(&foreign), &[]), Err(Fault::OursUnknownCa));
    // The CA's own certificate and the agent's as a caller's.
    let read = |name: &str| std::fs::read_to_string(bench.etc(name)).unwrap();
    for (certificate, key) in [("ca/ca.pem", "ca/ca.key"), ("agent.pem", "agent.key")] {
        let identity = Identity::from_pem(&read(certificate), &PrivateKeyPem::new(read(key))).unwrap();
        let refused = bench.get("/v1/whoami", Some(&identity), &[]);
        assert!(matches!(refused, Err(Fault::OursRefused { .. })), "{certificate}: {refused:?}");
    }
    let log = bench.log();
    assert!(log.contains("expired") && log.contains("not signed by our CA"), "{log}");
    bench.still_serves();
}

#[test]
fn opsctl_tells_an_ended_certificate_from_a_foreign_agent() {
    let bench = Bench::new();
    let folder = bench.dir.path().join("laptop/contexts/one");
    let (_, certificate, key) = bench.identity("user/ana", Timestamp::now() - DAY * 91);
    put(&folder, &certificate, &key);
    let text = said(&bench.opsctl(&["access", "whoami"]), 4);
    assert!(text.contains("CREDENTIAL_EXPIRED") && text.contains("opsctl pki renew ana"), "{text}");

    let (_, certificate, key) = bench.identity("user/ana", Timestamp::now());
    put(&folder, &certificate, &key);
    let other = Bench::new();
    let host = format!("127.0.0.1:{}", other.address.port());
    let text = said(&bench.opsctl(&["access", "whoami", "--host", &host]), 3);
    assert!(text.contains("AGENT_UNTRUSTED"), "{text}");
    bench.still_serves();
    other.still_serves();
}

#[test]
fn without_a_credential_only_liveness_answers() {
    let bench = Bench::new();
    assert_eq!(bench.get("/healthz", None, &[]).unwrap().0, 200);
    for path in ["/v1/whoami", "/v1/agent", "/v1/audit", "/v1/nothing"] {
        let (status, body) = bench.get(path, None, &[]).unwrap();
        assert!([401, 404].contains(&status), "{path}: {body}");
        assert!(!body.contains("agent/one"), "{path}: {body}");
    }
    bench.still_serves();
}

#[test]
fn tokens_are_taken_only_when_everything_about_them_is_right() {
    let bench = Bench::new();
    let now = Timestamp::now();
    let ana: Subject = "user/ana".parse().unwrap();
    let ten = SignedDuration::from_mins(10);
    let claims = |then| Claims::new(&agent(), ana.clone(), ten, then).unwrap();
    let token = |claims: &Claims| bench.signer().sign(claims).unwrap();
    let ask = |token: &str| bench.get("/v1/whoami", None, &[&bearer(token)]).unwrap();
    let good = token(&claims(now));
    assert_eq!(ask(&good).0, 200);
    let expired = token(&claims(now - SignedDuration::from_mins(11)));
    let (status, body) = ask(&expired);
    assert!(status == 401 && body.contains("CREDENTIAL_EXPIRED"), "{body}");
    let elsewhere = Claims { aud: "agent/two".into(), ..claims(now) };
    let foreign = Claims { iss: "agent/two".into(), ..claims(now) };
    let own_key = Signer::new(SigningKey::generate().unwrap()).sign(&claims(now)).unwrap();
    let (head, rest) = good.split_once('.').unwrap();
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    let cut = &good[..good.len() - 1];
    for (what, token) in [
        ("for another agent", token(&elsewhere)),
        ("of another issuer", token(&foreign)),
        ("from tomorrow", token(&claims(now + DAY))),
        ("of another key", own_key),
        ("unsigned", unsigned),
        ("cut", cut.to_owned()),
        ("without its header", rest.to_owned()),
        ("doubled", format!("{head}.{good}")),
        ("too long", "a".repeat(5000)),
    ] {
        let (status, body) = ask(&token);
        assert!(status == 401 && body.contains("CREDENTIAL_INVALID"), "{what}: {body}");
    }
    bench.still_serves();
}

#[test]
fn a_header_is_read_whole_or_not_at_all_and_guessing_is_slowed_down() {
    let bench = Bench::new();
    let claims =
        Claims::new(&agent(), "user/ana".parse().unwrap(), SignedDuration::from_mins(10), Timestamp::now());
    let good = bench.signer().sign(&claims.unwrap()).unwrap();
    for headers in [
        vec!["authorization: Bearer".to_owned()],
        vec!["authorization: ".to_owned()],
        vec![format!("authorization: Basic {good}")],
        vec![bearer(&good), bearer(&good)],
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let (status, body) = bench.get("/v1/whoami", None, &headers).unwrap();
        assert_eq!(status, 401, "{headers:?}: {body}");
    }
    let trusting = ["x-forwarded-client-cert: user/ana", "x-role: admin", "peer: user/ana"];
    assert_eq!(bench.get("/v1/whoami", None, &trusting).unwrap().0, 401);
    // Ten failures a minute of one address; after that its guesses are not even looked at.
    let mut answers = (0..12).map(|_| bench.get("/v1/whoami", None, &[&bearer("a.b.c")]).unwrap().0);
    assert!(answers.any(|status| status == 429));
    // A certificate of the same address is let in all the same.
    bench.still_serves();
}

#[test]
fn certificate_and_token_must_agree() {
    let bench = Bench::new();
    let now = Timestamp::now();
    let ana: Subject = "user/ana".parse().unwrap();
    let ((own, own_pem, _), (again, ..), (bob, ..)) =
        (bench.identity("user/ana", now), bench.identity("user/ana", now), bench.identity("user/bob", now));
    let mut claims = Claims::new(&agent(), ana, SignedDuration::from_mins(10), now).unwrap();
    let token = |claims: &Claims| bearer(&bench.signer().sign(claims).unwrap());
    let plain = token(&claims);
    assert_eq!(bench.get("/v1/whoami", Some(&own), &[&plain]).unwrap().0, 200);
    let domain = bench.ca().certificate().domain().clone();
    let der = {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(own_pem.as_bytes()).unwrap()
    };
    let peer = ops_trust::peer::Peer::from_der(&der, &domain, ops_trust::peer::Side::Client).unwrap();
    claims.cnf = Some(Confirmation { x5t_s256: peer.x5t_s256() });
    let bound = token(&claims);
    assert_eq!(bench.get("/v1/whoami", Some(&own), &[&bound]).unwrap().0, 200);
    for (what, identity, token) in [
        ("ana's token with bob's certificate", Some(&bob), &plain),
        ("a stolen bound token alone", None, &bound),
        ("a bound token with another certificate of ana's", Some(&again), &bound),
    ] {
        let (status, body) = bench.get("/v1/whoami", identity, &[token]).unwrap();
        assert!(status == 401 && body.contains("BINDING_MISMATCH"), "{what}: {body}");
    }
    bench.still_serves();
}

#[test]
fn a_token_mints_no_token_and_reaches_nothing_that_is_admins_alone() {
    let bench = Bench::new();
    let minted = bench.opsctl(&["access", "token", "create", "-q"]);
    assert!(minted.status.success(), "{minted:?}");
    let token = String::from_utf8(minted.stdout).unwrap();
    let environment = [("OPSCTL_TOKEN", token.trim())];
    assert!(bench.opsctl_with(&["access", "whoami"], &environment).status.success());
    for arguments in [vec!["access", "token", "create"], vec!["agent", "reload"], vec!["audit", "list"]] {
        let text = said(&bench.opsctl_with(&arguments, &environment), 4);
        assert!(text.contains("CERTIFICATE_REQUIRED"), "{arguments:?}: {text}");
    }
    assert!(!bench.log().contains(token.trim()));
    bench.still_serves();
}

#[test]
fn a_role_taken_away_is_gone_after_the_reload_and_a_bad_policy_changes_nothing() {
    let bench = Bench::new();
    let policy = bench.etc("policy.toml");
    let issued = bench.opsctl(&["pki", "issue", "bob", "--role", "viewer", "--ca", "host/etc/opsd/ca"]);
    ops_trust::private_file::create(&bench.dir.path().join("bob.toml"), &issued.stdout).unwrap();
    assert!(bench.opsctl(&["context", "import", "bob.toml", "--name", "bob"]).status.success());
    let bob = || bench.opsctl(&["--context", "bob", "agent", "info"]);
    assert_eq!(bob().status.code(), Some(4), "bound only after the reload");
    assert!(bench.opsctl(&["agent", "reload"]).status.success());
    assert_eq!(bob().status.code(), Some(0));
    let good = std::fs::read_to_string(&policy).unwrap();
    std::fs::write(&policy, "garbage").unwrap();
    let text = said(&bench.opsctl(&["agent", "reload"]), 6);
    assert!(text.contains("policy.toml:1"), "{text}");
    assert_eq!(bob().status.code(), Some(0), "the old policy holds");
    let without = good.split("\n[subject.\"user/bob\"]").next().unwrap();
    std::fs::write(&policy, without).unwrap();
    assert!(bench.opsctl(&["agent", "reload"]).status.success());
    assert_eq!(bob().status.code(), Some(4));
    bench.still_serves();
}
