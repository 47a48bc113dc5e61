use jiff::SignedDuration;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose as Eku, IsCa, Issuer, KeyPair, SanType,
};

use super::*;
use crate::ca::Authority;
use crate::leaf::{self, Leaf};

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

fn der(pem: &str) -> CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn alice(ca: &Authority) -> CertificateDer<'static> {
    let leaf = Leaf::new("user/alice".parse().unwrap(), vec![], None).unwrap();
    der(&ca.issue(&leaf, now()).unwrap().0.certificate_pem)
}

/// A certificate signed by our CA's true key, but with whatever is asked for: what a careless or bribed CA would sign.
fn odd(ca: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let subject: Subject = "user/alice".parse().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&subject.uri(ca.certificate().domain()))];
    params.extended_key_usages = vec![Eku::ClientAuth];
    leaf::set_life(&mut params, now().as_second() - 60, now().as_second() + 60).unwrap();
    change(&mut params);
    let key = KeyPair::from_pem(ca.key_pem().expose()).unwrap();
    let issuer = Issuer::from_ca_cert_der(ca.certificate().der(), key).unwrap();
    params.signed_by(&leaf::new_key().unwrap(), &issuer).unwrap().der().clone()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn refusal(ca: &Authority, certificate: &CertificateDer<'_>) -> PeerError {
    verify(ca.certificate(), certificate, Side::Client, now()).expect_err("it was accepted")
}

#[test]
fn our_own_certificate_names_its_subject() {
    let ca = Authority::generate(now()).unwrap();
    let certificate = alice(&ca);
    let peer = verify(ca.certificate(), &certificate, Side::Client, now()).unwrap();
    assert_eq!(peer.subject.to_string(), "user/alice");
    assert_eq!(peer.uri, format!("spiffe://{}/user/alice", ca.certificate().domain()));
    assert_eq!(peer.not_after, now() + days(90));
    assert_eq!((peer.serial.len(), peer.cert_sha256_hex().len(), peer.x5t_s256().len()), (32, 64, 43));
    assert!(peer.check_time(now() + days(90)).is_ok());
    assert!(matches!(peer.check_time(now() + days(91)), Err(PeerError::Expired { .. })));
}

#[test]
fn expired_and_not_yet_valid_are_told_apart() {
    let ca = Authority::generate(now()).unwrap();
    let certificate = alice(&ca);
    let at = |t| verify(ca.certificate(), &certificate, Side::Client, t).unwrap_err();
    assert_eq!(at(now() + days(91)), PeerError::Expired { not_after: now() + days(90) });
    assert!(matches!(at(now() - days(1)), PeerError::NotYetValid { .. }));
}

#[test]
fn self_signed_is_refused() {
    let ca = Authority::generate(now()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&format!("spiffe://{}/user/alice", ca.certificate().domain()))];
    params.extended_key_usages = vec![Eku::ClientAuth];
    let own = params.self_signed(&leaf::new_key().unwrap()).unwrap();
    assert_eq!(refusal(&ca, own.der()), PeerError::UnknownCa);
}

#[test]
fn a_rogue_ca_with_the_same_name_is_refused() {
    let ca = Authority::generate(now()).unwrap();
    let domain = ca.certificate().domain();
    let mut root = CertificateParams::default();
    root.distinguished_name = leaf::name(&format!("CA of {domain}"));
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let rogue = Issuer::new(root, leaf::new_key().unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&format!("spiffe://{domain}/user/alice"))];
    params.extended_key_usages = vec![Eku::ClientAuth];
    let forged = params.signed_by(&leaf::new_key().unwrap(), &rogue).unwrap();
    assert_eq!(refusal(&ca, forged.der()), PeerError::UnknownCa);
}

#[test]
fn the_key_usage_has_to_be_there_and_the_right_one() {
    let ca = Authority::generate(now()).unwrap();
    for usages in [vec![], vec![Eku::ServerAuth], vec![Eku::CodeSigning]] {
        let certificate = odd(&ca, |p| p.extended_key_usages = usages);
        assert_eq!(refusal(&ca, &certificate), PeerError::Usage("clientAuth"));
    }
    assert!(verify(ca.certificate(), &odd(&ca, |_| ()), Side::Client, now()).is_ok());
}

#[test]
fn exactly_one_uri_of_our_domain() {
    let ca = Authority::generate(now()).unwrap();
    let own = format!("spiffe://{}/user/alice", ca.certificate().domain());
    let with = |names: Vec<SanType>| refusal(&ca, &odd(&ca, |p| p.subject_alt_names = names));
    assert_eq!(with(vec![uri(&own), uri(&own.replace("alice", "bob"))]), PeerError::SeveralUris);
    assert_eq!(with(vec![]), PeerError::NoUri);
    assert_eq!(with(vec![SanType::DnsName("alice".try_into().unwrap())]), PeerError::NoUri);
    let other = Authority::generate(now()).unwrap();
    for foreign in [
        format!("spiffe://{}/user/alice", other.certificate().domain()),
        own.replace("spiffe:", "https:"),
        format!("{own}/admin"),
        own.replace("/user/", "/root/"),
    ] {
        assert!(matches!(with(vec![uri(&foreign)]), PeerError::Subject(_)), "{foreign}");
    }
}

#[test]
fn an_agent_is_no_caller_and_a_caller_no_agent() {
    let ca = Authority::generate(now()).unwrap();
    let own = |kind: &str| uri(&format!("spiffe://{}/{kind}/x", ca.certificate().domain()));
    let both = |kind| {
        odd(&ca, |p| {
            p.subject_alt_names = vec![own(kind)];
            p.extended_key_usages = vec![Eku::ClientAuth, Eku::ServerAuth];
        })
    };
    assert!(matches!(refusal(&ca, &both("agent")), PeerError::Kind { .. }));
    let served = verify(ca.certificate(), &both("user"), Side::Server, now());
    assert!(matches!(served, Err(PeerError::Kind { .. })));
}

#[test]
fn the_ca_itself_is_no_leaf() {
    let ca = Authority::generate(now()).unwrap();
    assert!(verify(ca.certificate(), ca.certificate().der(), Side::Client, now()).is_err());
    let sub_ca = odd(&ca, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(refusal(&ca, &sub_ca), PeerError::Other(_)));
}

#[test]
fn a_chain_is_refused_unless_it_is_our_ca() {
    let ca = Authority::generate(now()).unwrap();
    let (certificate, rules) = (alice(&ca), Rules::new(ca.certificate(), Side::Client).unwrap());
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now().as_second() as u64));
    let with = |chain: &[CertificateDer<'_>]| rules.check(&certificate, chain, time);
    let own = ca.certificate().der().clone();
    assert!(with(std::slice::from_ref(&own)).is_ok());
    assert_eq!(with(&vec![own; 100]), Err(PeerError::LongChain { count: 100 }));
    let other = Authority::generate(now()).unwrap();
    assert_eq!(with(&[other.certificate().der().clone()]), Err(PeerError::LongChain { count: 1 }));
}

#[test]
fn garbage_is_refused() {
    let ca = Authority::generate(now()).unwrap();
    let good = alice(&ca);
    for length in [0, 1, 10, good.len() - 1] {
        let cut = CertificateDer::from(good[..length].to_vec());
        assert!(verify(ca.certificate(), &cut, Side::Client, now()).is_err(), "{length} bytes");
    }
    for at in 0..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        let flipped = CertificateDer::from(bytes);
        assert!(verify(ca.certificate(), &flipped, Side::Client, now()).is_err(), "byte {at}");
    }
}
