//! The CA's folder: `ca.pem`, `ca.key` (0600), `issued.jsonl` (one line a certificate, written before it is handed out),
//! `agents/NAME.toml` (where each agent is reached, for the bundles of its callers).

use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Authority, CaCertificate, Error, Issued};
use crate::bundle::AgentInfo;
use crate::key::{PrivateKeyPem, PublicKey};
use crate::leaf::{Csr, Leaf};
use crate::private_file;
use crate::subject::Subject;

const MAX_KEY_BYTES: u64 = 16 * 1024;
const MAX_AGENT_BYTES: u64 = 16 * 1024;
const MAX_ISSUED_BYTES: u64 = 16 * 1024 * 1024;

/// An open CA folder.
#[derive(Debug)]
pub struct CaFolder {
    path: PathBuf,
    authority: Authority,
}

/// One line of the folder's list of certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedRecord {
    /// The certificate's serial number, 32 hex digits.
    pub serial: String,
    /// Whom it names.
    pub subject: Subject,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
    /// SHA-256 of its DER bytes, 64 hex digits.
    pub sha256: String,
    /// Its host names; agents only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentRecord {
    id: Subject,
    addresses: Vec<String>,
    server_name: String,
    audit_root: PublicKey,
}

impl CaFolder {
    /// Makes the folder (0700) and a new CA in it. Refuses when the folder is there already.
    pub fn create(path: &Path, now: Timestamp) -> Result<Self, Error> {
        private_file::create_dir(path)?;
        let authority = Authority::generate(now)?;
        private_file::create(&path.join("ca.key"), authority.key_pem().expose().as_bytes())?;
        private_file::create_public(&path.join("ca.pem"), authority.certificate().pem().as_bytes())?;
        Ok(Self { path: path.to_owned(), authority })
    }

    /// Opens a folder that [`CaFolder::create`] made; refuses one that others may read.
    pub fn open(path: &Path) -> Result<Self, Error> {
        private_file::check_private(path, 0o700)?;
        let key = private_file::read_private(&path.join("ca.key"), MAX_KEY_BYTES)?;
        let key = PrivateKeyPem::new(String::from_utf8(key).map_err(|_| Error::NotAKey)?);
        let certificate = Self::read_certificate(path)?;
        let authority = Authority::from_pem(certificate.pem(), &key)?;
        Ok(Self { path: path.to_owned(), authority })
    }

    /// Reads the folder's certificate only; the key stays untouched.
    pub fn read_certificate(path: &Path) -> Result<CaCertificate, Error> {
        let pem = private_file::read(&path.join("ca.pem"), super::MAX_CA_PEM_BYTES as u64)?;
        CaCertificate::from_pem(&String::from_utf8(pem).map_err(|_| Error::NotACa("not PEM"))?)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The CA's public part.
    pub fn certificate(&self) -> &CaCertificate {
        self.authority.certificate()
    }

    /// Signs a certificate with a new key and records it.
    pub fn issue(&self, leaf: &Leaf, now: Timestamp) -> Result<(Issued, PrivateKeyPem), Error> {
        let (issued, key) = self.authority.issue(leaf, now)?;
        self.record(leaf, &issued, now)?;
        Ok((issued, key))
    }

    /// Signs a certificate for the key of a request and records it.
    pub fn issue_csr(&self, leaf: &Leaf, csr: &Csr, now: Timestamp) -> Result<Issued, Error> {
        let issued = self.authority.issue_csr(leaf, csr, now)?;
        self.record(leaf, &issued, now)?;
        Ok(issued)
    }

    /// Remembers how an agent is reached, or puts it right. The CA in `agent` is not kept: it is this folder's.
    pub fn put_agent(&self, agent: &AgentInfo) -> Result<(), Error> {
        let folder = self.path.join("agents");
        let path = folder.join(format!("{}.toml", agent.id.name()));
        let bad = |problem: String| Error::Agent { path: path.clone(), problem };
        agent.check().map_err(|e| bad(e.to_string()))?;
        if !folder.is_dir() {
            private_file::create_dir(&folder)?;
        }
        let record = AgentRecord {
            id: agent.id.clone(),
            addresses: agent.addresses.clone(),
            server_name: agent.server_name.clone(),
            audit_root: agent.audit_root,
        };
        let text = toml::to_string(&record).map_err(|e| bad(e.to_string()))?;
        Ok(private_file::replace(&path, text.as_bytes())?)
    }

    /// The agents that bundles can lead to, by name.
    pub fn agents(&self) -> Result<Vec<AgentInfo>, Error> {
        let folder = self.path.join("agents");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(private_file::Error::Io { path: folder, source }.into()),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path =
                entry.map_err(|source| private_file::Error::Io { path: folder.clone(), source })?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| self.read_agent(path)).collect()
    }

    fn read_agent(&self, path: &Path) -> Result<AgentInfo, Error> {
        let bad = |problem: String| Error::Agent { path: path.to_owned(), problem };
        let bytes = private_file::read(path, MAX_AGENT_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8".into()))?;
        let record: AgentRecord = toml::from_str(&text).map_err(|e| bad(e.message().to_owned()))?;
        let agent = AgentInfo {
            id: record.id,
            addresses: record.addresses,
            server_name: record.server_name,
            ca: self.certificate().pem().to_owned(),
            audit_root: record.audit_root,
        };
        agent.check().map_err(|e| bad(e.to_string()))?;
        Ok(agent)
    }

    /// Every certificate that this folder has signed, oldest first.
    pub fn issued(&self) -> Result<Vec<IssuedRecord>, Error> {
        let path = self.list();
        if !path.exists() {
            return Ok(Vec::new());
        }
        let bytes = private_file::read(&path, MAX_ISSUED_BYTES)?;
        bytes
            .split(|b| *b == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
            .map(|(at, line)| {
                serde_json::from_slice(line).map_err(|_| Error::Record { path: path.clone(), line: at + 1 })
            })
            .collect()
    }

    fn list(&self) -> PathBuf {
        self.path.join("issued.jsonl")
    }

    fn record(&self, leaf: &Leaf, issued: &Issued, now: Timestamp) -> Result<(), Error> {
        let record = IssuedRecord {
            serial: issued.serial.clone(),
            subject: issued.subject.clone(),
            issued_at: now,
            not_after: issued.not_after,
            sha256: issued.sha256.clone(),
            hosts: leaf.hosts().iter().map(ToString::to_string).collect(),
        };
        let path = self.list();
        let mut line =
            serde_json::to_vec(&record).map_err(|_| Error::Record { path: path.clone(), line: 0 })?;
        line.push(b'\n');
        Ok(private_file::append(&path, &line)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::leaf;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn alice() -> Leaf {
        Leaf::new("user/alice".parse().unwrap(), vec![], None).unwrap()
    }

    #[test]
    fn a_new_folder_is_private_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        let made = CaFolder::create(&path, now()).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&path.join("ca.key"))), (0o700, 0o600));
        let opened = CaFolder::open(&path).unwrap();
        assert_eq!(opened.certificate(), made.certificate());
        assert!(opened.certificate().domain().as_str().starts_with("opsd-"));
        assert_eq!(opened.certificate().domain().as_str().len(), 21);
    }

    #[test]
    fn an_existing_folder_is_never_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        CaFolder::create(&path, now()).unwrap();
        let before = fs::read(path.join("ca.key")).unwrap();
        assert!(CaFolder::create(&path, now()).is_err());
        assert_eq!(fs::read(path.join("ca.key")).unwrap(), before);
    }

    #[test]
    fn an_open_key_or_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca");
        CaFolder::create(&path, now()).unwrap();
        fs::set_permissions(path.join("ca.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(CaFolder::open(&path).unwrap_err().to_string().contains("chmod 0600"));
        fs::set_permissions(path.join("ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(CaFolder::open(&path).unwrap_err().to_string().contains("chmod 0700"));
    }

    #[test]
    fn a_key_of_another_ca_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        CaFolder::create(&one, now()).unwrap();
        CaFolder::create(&two, now()).unwrap();
        fs::copy(two.join("ca.pem"), one.join("ca.pem")).unwrap();
        assert!(matches!(CaFolder::open(&one), Err(Error::KeyOfAnother)));
    }

    #[test]
    fn everything_issued_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CaFolder::create(&dir.path().join("ca"), now()).unwrap();
        assert!(ca.issued().unwrap().is_empty());
        let (issued, _) = ca.issue(&alice(), now()).unwrap();
        let hosts = vec!["auction-1.example.net".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let agent: Subject = "agent/auction-1".parse().unwrap();
        let (csr, _) = leaf::new_csr(&agent, &hosts).unwrap();
        let csr = Csr::from_pem(&csr).unwrap();
        assert_eq!(csr.hosts(), hosts);
        ca.issue_csr(&Leaf::new(agent, csr.hosts().to_vec(), None).unwrap(), &csr, now()).unwrap();
        let list = ca.issued().unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].serial, issued.serial);
        assert_eq!(list[0].not_after, "2027-02-22T12:00:00Z".parse().unwrap());
        assert_eq!(list[1].hosts, ["auction-1.example.net", "127.0.0.1"]);
    }

    #[test]
    fn agents_are_remembered_with_the_folders_own_ca() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CaFolder::create(&dir.path().join("ca"), now()).unwrap();
        assert!(ca.agents().unwrap().is_empty());
        let mut agent = AgentInfo {
            id: "agent/auction-1".parse().unwrap(),
            addresses: vec!["a.example:7443".into()],
            server_name: "a.example".into(),
            ca: ca.certificate().pem().to_owned(),
            audit_root: crate::key::SigningKey::generate().unwrap().public(),
        };
        ca.put_agent(&agent).unwrap();
        agent.addresses = vec!["b.example:7443".into()];
        ca.put_agent(&agent).unwrap();
        assert_eq!(ca.agents().unwrap(), [agent.clone()]);
        agent.id = "user/alice".parse().unwrap();
        assert!(ca.put_agent(&agent).is_err());
        fs::write(ca.path().join("agents/b.toml"), "garbage").unwrap();
        assert!(ca.agents().unwrap_err().to_string().contains("b.toml"));
    }

    #[test]
    fn bad_requests_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = CaFolder::create(&dir.path().join("ca"), now()).unwrap();
        let (user, agent): (Subject, Subject) = ("user/a".parse().unwrap(), "agent/a".parse().unwrap());
        assert!(Leaf::new(user.clone(), vec![], Some(0)).is_err());
        assert!(Leaf::new(user.clone(), vec![], Some(399)).is_err());
        assert!(Leaf::new(user.clone(), vec!["a.example".parse().unwrap()], None).is_err());
        assert!(Leaf::new(agent, vec![], None).is_err());
        for host in ["", "*.example.net", "a b", "a/b", "-"] {
            assert!(host.parse::<leaf::Host>().is_err(), "{host:?} was accepted");
        }
        assert!(Csr::from_pem("garbage").is_err());
        assert!(Csr::from_pem(&"A".repeat(leaf::MAX_CSR_BYTES + 1)).is_err());
        let late = now() + jiff::SignedDuration::from_hours(24 * 3_600);
        let (leaf, days) = (Leaf::new(user, vec![], Some(398)).unwrap(), ca.issued().unwrap().len());
        assert!(matches!(ca.issue(&leaf, late), Err(Error::Leaf(leaf::LeafError::OutlivesCa))));
        assert_eq!(ca.issued().unwrap().len(), days);
    }

    #[test]
    fn a_request_with_another_curve_is_refused() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        assert!(matches!(Csr::from_pem(&csr), Err(leaf::LeafError::CsrKey)));
    }

    #[test]
    fn a_request_whose_signature_is_wrong_is_refused() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let mut der = csr.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(matches!(Csr::from_pem(&pem), Err(leaf::LeafError::Csr(_))));
    }
}
