use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn agent() -> Subject {
    "agent/auction-1".parse().unwrap()
}

fn ci() -> Subject {
    "service/ci-deploy".parse().unwrap()
}

struct Bench {
    signer: Signer,
    keys: KeySet,
}

impl Bench {
    fn new() -> Self {
        let signer = Signer::new(SigningKey::generate().unwrap());
        let mut keys = KeySet::new(&agent());
        keys.insert("agent/auction-1", signer.kid(), TrustedKey::own(&signer.public()));
        Self { signer, keys }
    }

    fn header(&self) -> Value {
        json!({"alg": "EdDSA", "typ": TYPE, "kid": self.signer.kid()})
    }

    /// Signs any two texts with the true key.
    fn raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.signer.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn refuse(&self, header: &Value, claims: &Value) -> Error {
        self.keys.verify(&self.raw(&header.to_string(), &claims.to_string()), now()).expect_err("accepted")
    }
}

fn good() -> Value {
    serde_json::to_value(Claims::new(&agent(), ci(), DEFAULT_LIFE, now()).unwrap()).unwrap()
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = good();
    claims[key] = value;
    claims
}

#[test]
fn a_token_round_trips() {
    let bench = Bench::new();
    let mut claims = Claims::new(&agent(), ci(), DEFAULT_LIFE, now()).unwrap();
    claims.ops_narrow = Some(vec!["service.restart".into()]);
    let token = bench.signer.sign(&claims).unwrap();
    assert_eq!(bench.keys.verify(&token, now()).unwrap(), claims);
}

#[test]
fn clocks_may_differ_by_thirty_seconds() {
    let bench = Bench::new();
    let token = bench.signer.sign(&Claims::new(&agent(), ci(), DEFAULT_LIFE, now()).unwrap()).unwrap();
    assert!(bench.keys.verify(&token, at(629)).is_ok());
    assert_eq!(bench.keys.verify(&token, at(631)), Err(Error::Expired));
    assert!(bench.keys.verify(&token, at(-29)).is_ok());
    assert_eq!(bench.keys.verify(&token, at(-31)), Err(Error::NotYetValid));
}

#[test]
fn every_claim_is_required_and_typed() {
    let bench = Bench::new();
    for claim in ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(claim);
        assert_eq!(bench.refuse(&bench.header(), &claims), Error::Malformed, "{claim} missing");
        for wrong in [json!(null), json!({}), json!([1]), json!(1.5), json!(true)] {
            assert_eq!(bench.refuse(&bench.header(), &with(claim, wrong)), Error::Malformed, "{claim}");
        }
    }
    for claim in ["iat", "nbf", "exp"] {
        assert_eq!(bench.refuse(&bench.header(), &with(claim, json!("1"))), Error::Malformed);
        assert_eq!(bench.refuse(&bench.header(), &with(claim, json!(u64::MAX))), Error::Malformed);
    }
    assert_eq!(bench.refuse(&bench.header(), &with("aud", json!(["agent/auction-1"]))), Error::Malformed);
    assert_eq!(bench.refuse(&bench.header(), &with("sub", json!("root"))), Error::Malformed);
    assert_eq!(bench.refuse(&bench.header(), &with("jti", json!(""))), Error::Malformed);
}

#[test]
fn a_claim_given_twice_is_refused() {
    let bench = Bench::new();
    let twice = good().to_string().replacen('{', "{\"sub\":\"user/alice\",", 1);
    let token = bench.raw(&bench.header().to_string(), &twice);
    assert_eq!(bench.keys.verify(&token, now()), Err(Error::Malformed));
    let header = bench.header().to_string().replacen('{', "{\"alg\":\"EdDSA\",", 1);
    assert_eq!(bench.keys.verify(&bench.raw(&header, &good().to_string()), now()), Err(Error::Malformed));
}

#[test]
fn contradicting_and_endless_lives_are_refused() {
    let bench = Bench::new();
    let second = now().as_second();
    for (claim, value) in [
        ("exp", second + 3601),
        ("exp", second),
        ("exp", i64::MAX),
        ("iat", i64::MIN),
        ("nbf", second - 3600),
    ] {
        assert_eq!(bench.refuse(&bench.header(), &with(claim, json!(value))), Error::Life, "{claim}={value}");
    }
    assert_eq!(bench.refuse(&bench.header(), &with("nbf", json!(second + 100))), Error::NotYetValid);
    assert!(Claims::new(&agent(), ci(), SignedDuration::from_secs(3601), now()).is_err());
    assert!(Claims::new(&agent(), ci(), SignedDuration::ZERO, now()).is_err());
}

#[test]
fn the_header_decides_nothing() {
    let bench = Bench::new();
    let with = |key: &str, value: Value| {
        let mut header = bench.header();
        header[key] = value;
        bench.refuse(&header, &good())
    };
    for parameter in ["jku", "x5u", "jwk", "x5c", "crit", "x5t", "b64"] {
        assert_eq!(with(parameter, json!("https://evil.example/keys")), Error::Malformed, "{parameter}");
    }
    for algorithm in ["none", "HS256", "RS256", "ES256", "eddsa", ""] {
        assert_eq!(with("alg", json!(algorithm)), Error::WrongAlgorithm, "{algorithm}");
    }
    for typ in ["JWT", "at+jwt", "", "OPS+JWT"] {
        assert_eq!(with("typ", json!(typ)), Error::WrongType, "{typ}");
    }
    for kid in ["", "../../etc/passwd", "other"] {
        assert_eq!(with("kid", json!(kid)), Error::UnknownKey, "{kid}");
    }
    for missing in ["alg", "typ", "kid"] {
        let mut header = bench.header();
        header.as_object_mut().unwrap().remove(missing);
        assert_eq!(bench.refuse(&header, &good()), Error::Malformed, "{missing} missing");
    }
}

#[test]
fn issuer_audience_and_subject_are_the_keys() {
    let bench = Bench::new();
    assert_eq!(bench.refuse(&bench.header(), &with("iss", json!("agent/other"))), Error::UnknownKey);
    assert_eq!(bench.refuse(&bench.header(), &with("aud", json!("agent/other"))), Error::WrongAudience);
    let agents = with("sub", json!("agent/auction-1"));
    assert_eq!(bench.refuse(&bench.header(), &agents), Error::SubjectNotAllowed);
    let mut keys = KeySet::new(&agent());
    let only = TrustedKey {
        subjects: SubjectRule::Only(vec!["service/other".parse().unwrap()]),
        ..TrustedKey::own(&bench.signer.public())
    };
    keys.insert("agent/auction-1", bench.signer.kid(), only);
    let token = bench.raw(&bench.header().to_string(), &good().to_string());
    assert_eq!(keys.verify(&token, now()), Err(Error::SubjectNotAllowed));
}

#[test]
fn a_key_of_somebody_else_is_refused() {
    let (bench, mut other) = (Bench::new(), Bench::new());
    other.signer.kid = bench.signer.kid().to_owned();
    let token = other.raw(&other.header().to_string(), &good().to_string());
    assert_eq!(bench.keys.verify(&token, now()), Err(Error::BadSignature));
    let signed = bench.raw(&bench.header().to_string(), &good().to_string());
    let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
    assert_eq!(bench.keys.verify(&unsigned, now()), Err(Error::BadSignature));
}

#[test]
fn an_external_issuer_with_rs256_fits_in() {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public = aws_lc_rs::signature::KeyPair::public_key(&pair);
    let mut keys = KeySet::new(&agent());
    let trusted = TrustedKey {
        algorithm: Algorithm::RS256,
        key: DecodingKey::from_rsa_der(public.as_ref()),
        max_life: SignedDuration::from_mins(5),
        subjects: SubjectRule::Only(vec![ci()]),
    };
    keys.insert("https://ci.example", "k1", trusted);
    let sign = |claims: &Value| {
        let header = json!({"alg": "RS256", "typ": TYPE, "kid": "k1"}).to_string();
        let message =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        // The pair in PKCS#8 is PKCS#1 behind a fixed prelude of 26 bytes at this size.
        let key = EncodingKey::from_rsa_der(&private.as_ref()[26..]);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::RS256).unwrap();
        format!("{message}.{signature}")
    };
    let mut claims = with("iss", json!("https://ci.example"));
    assert_eq!(keys.verify(&sign(&claims), now()), Err(Error::Life));
    claims["exp"] = json!(now().as_second() + 300);
    assert_eq!(keys.verify(&sign(&claims), now()).unwrap().sub, ci());
}

#[test]
fn a_bound_token_needs_its_certificate() {
    use crate::ca::Authority;
    use crate::leaf::Leaf;
    use crate::peer::{Peer, Side};
    let ca = Authority::generate(now()).unwrap();
    let peer = |subject: &str| {
        use rustls::pki_types::pem::PemObject;
        let leaf = Leaf::new(subject.parse().unwrap(), vec![], None).unwrap();
        let pem = ca.issue(&leaf, now()).unwrap().0.certificate_pem;
        let der = rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        Peer::from_der(&der, ca.certificate().domain(), Side::Client).unwrap()
    };
    let (own, again, bob) = (peer("service/ci-deploy"), peer("service/ci-deploy"), peer("user/bob"));
    let mut claims = Claims::new(&agent(), ci(), DEFAULT_LIFE, now()).unwrap();
    assert!(claims.check_binding(None).is_ok());
    assert!(claims.check_binding(Some(&own)).is_ok());
    assert_eq!(claims.check_binding(Some(&bob)), Err(Error::BindingMismatch));
    claims.cnf = Some(Confirmation { x5t_s256: own.x5t_s256() });
    assert!(claims.check_binding(Some(&own)).is_ok());
    assert_eq!(claims.check_binding(None), Err(Error::BindingMismatch));
    assert_eq!(claims.check_binding(Some(&again)), Err(Error::BindingMismatch));
}

#[test]
fn shapes_that_are_no_token_are_refused() {
    let bench = Bench::new();
    let token = bench.raw(&bench.header().to_string(), &good().to_string());
    for bad in ["", ".", "..", "...", "a.b", "a.b.c", &format!("{token}."), &format!("x.{token}")] {
        assert!(bench.keys.verify(bad, now()).is_err(), "{bad}");
    }
    assert_eq!(bench.keys.verify(&"a".repeat(MAX_BYTES + 1), now()), Err(Error::TooLong));
    let mut narrow = good();
    narrow["ops_narrow"] = json!(vec!["x"; MAX_NARROW + 1]);
    assert_eq!(bench.refuse(&bench.header(), &narrow), Error::Malformed);
}

proptest! {
    #[test]
    fn no_changed_byte_passes(at in 0usize..4096, to in any::<u8>()) {
        let bench = Bench::new();
        let token = bench.raw(&bench.header().to_string(), &good().to_string());
        let mut bytes = token.clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        prop_assert!(bench.keys.verify(&changed, now()).is_err());
    }

    #[test]
    fn garbage_never_panics(text in "\\PC{0,200}") {
        prop_assert!(Bench::new().keys.verify(&text, now()).is_err());
    }
}
