use std::io::{Read, Write};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::ca::Authority;
use crate::leaf::Leaf;

#[derive(Debug)]
struct At(Timestamp);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.as_second() as u64)))
    }
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn later() -> Timestamp {
    now() + jiff::SignedDuration::from_hours(24 * 100)
}

fn identity(ca: &Authority, subject: &str) -> Identity {
    let subject: crate::subject::Subject = subject.parse().unwrap();
    let hosts = match subject.kind() {
        crate::subject::Kind::Agent => vec!["agent.example".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        _ => vec![],
    };
    let (issued, key) = ca.issue(&Leaf::new(subject, hosts, None).unwrap(), now()).unwrap();
    Identity::from_pem(&issued.certificate_pem, &key).unwrap()
}

fn server(ca: &Authority, clock: Timestamp) -> ServerConfig {
    let identity = ServerIdentity::new(&identity(ca, "agent/a"), ca.certificate(), now()).unwrap();
    server_config(ca.certificate(), identity, Arc::new(At(clock))).unwrap()
}

fn client(ca: &Authority, who: Option<&Identity>, clock: Timestamp) -> ClientConfig {
    client_config(ca.certificate(), who, &[Alpn::H2], Arc::new(At(clock))).unwrap()
}

/// Runs a handshake and one byte each way in memory; the first error of each side.
fn talk(
    client: ClientConfig,
    server: ServerConfig,
    name: &str,
) -> (Result<(), rustls::Error>, Result<Option<CertificateDer<'static>>, rustls::Error>) {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let (mut ours, mut theirs) = (Ok(()), Ok(()));
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() && theirs.is_ok() {
            server.read_tls(&mut wire).unwrap();
            theirs = server.process_new_packets().map(|_| ());
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() && ours.is_ok() {
            client.read_tls(&mut wire).unwrap();
            ours = client.process_new_packets().map(|_| ());
        }
    }
    if ours.is_ok() && theirs.is_ok() {
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        client.writer().write_all(b"x").unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        let mut byte = [0];
        server.reader().read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
    let shown = server.peer_certificates().and_then(|all| all.first()).map(|c| c.clone().into_owned());
    (ours, theirs.map(|()| shown))
}

fn faults(
    (ours, theirs): (Result<(), rustls::Error>, Result<Option<CertificateDer<'static>>, rustls::Error>),
) -> (Option<Fault>, Option<Fault>) {
    let fault = |e: rustls::Error| Fault::from_rustls(&e);
    (ours.err().map(fault), theirs.err().map(fault))
}

#[test]
fn a_caller_with_and_without_a_certificate_connects() {
    let ca = Authority::generate(now()).unwrap();
    let alice = identity(&ca, "user/alice");
    let (ours, theirs) = talk(client(&ca, Some(&alice), now()), server(&ca, now()), "agent.example");
    ours.unwrap();
    let shown = theirs.unwrap().expect("a certificate");
    let peer = Peer::from_der(&shown, ca.certificate().domain(), Side::Client).unwrap();
    assert_eq!(peer.subject.to_string(), "user/alice");
    let (ours, theirs) = talk(client(&ca, None, now()), server(&ca, now()), "127.0.0.1");
    ours.unwrap();
    assert_eq!(theirs.unwrap(), None);
}

#[test]
fn an_expired_caller_is_told_apart_on_both_sides() {
    let ca = Authority::generate(now()).unwrap();
    let alice = identity(&ca, "user/alice");
    let (ours, theirs) =
        faults(talk(client(&ca, Some(&alice), later()), server(&ca, later()), "agent.example"));
    assert_eq!(ours, Some(Fault::OursExpired));
    assert_eq!(ours.unwrap().party(), Party::Ours);
    assert!(matches!(theirs, Some(Fault::Refused(PeerError::Expired { .. }))), "{theirs:?}");
}

#[test]
fn a_foreign_caller_is_told_apart_on_both_sides() {
    let (ca, other) = (Authority::generate(now()).unwrap(), Authority::generate(now()).unwrap());
    let alice = identity(&other, "user/alice");
    let (ours, theirs) = faults(talk(client(&ca, Some(&alice), now()), server(&ca, now()), "agent.example"));
    assert_eq!(ours, Some(Fault::OursUnknownCa));
    assert_eq!(theirs, Some(Fault::Refused(PeerError::UnknownCa)));
}

#[test]
fn an_agent_of_another_ca_is_refused() {
    let (ca, other) = (Authority::generate(now()).unwrap(), Authority::generate(now()).unwrap());
    let (ours, theirs) = faults(talk(client(&ca, None, now()), server(&other, now()), "agent.example"));
    assert_eq!(ours, Some(Fault::Refused(PeerError::UnknownCa)));
    assert_eq!(ours.unwrap().party(), Party::Theirs);
    assert_eq!(theirs, Some(Fault::OursUnknownCa));
}

#[test]
fn an_agent_under_another_name_is_refused_and_both_names_are_told() {
    let ca = Authority::generate(now()).unwrap();
    let (ours, _) = faults(talk(client(&ca, None, now()), server(&ca, now()), "other.example"));
    let text = ours.clone().unwrap().to_string();
    assert!(matches!(ours, Some(Fault::Refused(PeerError::Name { .. }))), "{ours:?}");
    assert!(text.contains("other.example") && text.contains("agent.example, 127.0.0.1"), "{text}");
}

#[test]
fn an_expired_agent_is_refused() {
    let ca = Authority::generate(now()).unwrap();
    let late = now() + jiff::SignedDuration::from_hours(24 * 400);
    let (ours, theirs) = faults(talk(client(&ca, None, late), server(&ca, late), "agent.example"));
    assert!(matches!(ours, Some(Fault::Refused(PeerError::Expired { .. }))), "{ours:?}");
    assert_eq!(theirs, Some(Fault::OursExpired));
}

#[test]
fn a_server_that_demands_a_certificate_is_understood() {
    #[derive(Debug)]
    struct Mandatory(ClientVerifier);
    impl rustls::server::danger::ClientCertVerifier for Mandatory {
        fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
            self.0.root_hint_subjects()
        }
        fn verify_client_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            others: &[CertificateDer<'_>],
            now: UnixTime,
        ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
            self.0.verify_client_cert(end_entity, others, now)
        }
        fn verify_tls12_signature(
            &self,
            m: &[u8],
            c: &CertificateDer<'_>,
            d: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls12_signature(m, c, d)
        }
        fn verify_tls13_signature(
            &self,
            m: &[u8],
            c: &CertificateDer<'_>,
            d: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            self.0.verify_tls13_signature(m, c, d)
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }
    let ca = Authority::generate(now()).unwrap();
    let resolver = ServerIdentity::new(&identity(&ca, "agent/a"), ca.certificate(), now()).unwrap();
    let server = ServerConfig::builder_with_details(provider(), Arc::new(At(now())))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Mandatory(ClientVerifier::new(ca.certificate()).unwrap())))
        .with_cert_resolver(resolver);
    let (ours, theirs) = faults(talk(client(&ca, None, now()), server, "agent.example"));
    assert_eq!(ours, Some(Fault::CertificateRequired));
    assert_eq!(theirs, Some(Fault::CertificateRequired));
}

#[test]
fn plain_text_is_not_tls() {
    let ca = Authority::generate(now()).unwrap();
    let name = ServerName::try_from("agent.example").unwrap();
    let mut client = ClientConnection::new(Arc::new(client(&ca, None, now())), name).unwrap();
    client.read_tls(&mut b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()).unwrap();
    let error = client.process_new_packets().unwrap_err();
    assert_eq!(Fault::from_rustls(&error), Fault::NotTls);
}

#[test]
fn a_fault_is_found_inside_other_errors() {
    let inner = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired);
    let io = std::io::Error::new(std::io::ErrorKind::InvalidData, inner);
    let outer = std::io::Error::other(io);
    assert_eq!(Fault::find(&outer), Some(Fault::CertificateRequired));
    assert_eq!(Fault::find(&std::io::Error::other("nothing of ours")), None);
}

#[test]
fn a_bad_identity_is_never_swapped_in() {
    let (ca, other) = (Authority::generate(now()).unwrap(), Authority::generate(now()).unwrap());
    let served = ServerIdentity::new(&identity(&ca, "agent/a"), ca.certificate(), now()).unwrap();
    let before = Arc::clone(&served.current.read().unwrap());
    let late = now() + jiff::SignedDuration::from_hours(24 * 400);
    assert!(served.swap(&identity(&other, "agent/a"), ca.certificate(), now()).is_err());
    assert!(served.swap(&identity(&ca, "user/alice"), ca.certificate(), now()).is_err());
    assert!(served.swap(&identity(&ca, "agent/a"), ca.certificate(), late).is_err());
    assert!(Arc::ptr_eq(&before, &served.current.read().unwrap()));
    served.swap(&identity(&ca, "agent/b"), ca.certificate(), now()).unwrap();
    assert!(!Arc::ptr_eq(&before, &served.current.read().unwrap()));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let ca = Authority::generate(now()).unwrap();
    let leaf = Leaf::new("user/alice".parse().unwrap(), vec![], None).unwrap();
    let (one, _) = ca.issue(&leaf, now()).unwrap();
    let (_, two) = ca.issue(&leaf, now()).unwrap();
    assert!(matches!(Identity::from_pem(&one.certificate_pem, &two), Err(Error::KeyOfAnother)));
    let garbage = PrivateKeyPem::new("garbage".into());
    assert!(matches!(Identity::from_pem(&one.certificate_pem, &garbage), Err(Error::Key)));
    assert!(matches!(Identity::from_pem("garbage", &two), Err(Error::Certificate)));
}

#[test]
fn nothing_resumes_and_nothing_is_early() {
    let ca = Authority::generate(now()).unwrap();
    let config = server(&ca, now());
    assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
    assert!(!config.session_storage.can_cache());
    assert!(!client(&ca, None, now()).enable_early_data);
}
