//! Signing: what goes into a bundle, and what into the policy beside the folder.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ops_trust::bundle::{AgentInfo, Bundle, BundleIdentity};
use ops_trust::ca::{CaFolder, Issued};
use ops_trust::key::{PrivateKeyPem, PublicKey};
use ops_trust::leaf::{self, Csr, Host, Leaf, MAX_CSR_BYTES};
use ops_trust::peer::{Peer, Side};
use ops_trust::policy;
use ops_trust::private_file;
use ops_trust::subject::{Kind, Subject};
use ops_trust::tls::Identity;

use super::Fault;

const MAX_PEM_BYTES: u64 = 16 * 1024;

/// What is to be issued.
#[derive(Debug, Clone, Default)]
pub struct Issue {
    /// `ana`, `service/ci-deploy`, `agent/auction-1`.
    pub name: String,
    /// Roles for `policy.toml`.
    pub roles: Vec<String>,
    /// Services that the roles are scoped to.
    pub services: Vec<String>,
    /// A signing request.
    pub csr: Option<PathBuf>,
    /// Days of life.
    pub days: Option<u16>,
    /// The agent that the bundle leads to.
    pub agent: Option<String>,
    /// An agent's addresses.
    pub addresses: Vec<String>,
    /// An agent's names.
    pub server_names: Vec<Host>,
    /// The first key of an agent's audit trail.
    pub audit_root: Option<PublicKey>,
}

/// What was issued.
#[derive(Debug)]
pub struct Outcome {
    /// The certificate.
    pub issued: Issued,
    /// What is printed.
    pub product: Product,
    /// What became of the binding.
    pub binding: Binding,
}

/// What is handed out. A bundle holds a private key, so `Debug` does not show it.
pub enum Product {
    /// A bundle, with its key unless a request was signed.
    Bundle(String),
    /// An agent's certificate.
    Certificate(String),
    /// An agent's certificate, put beside the CA's folder in the place of the old one.
    InPlace(PathBuf),
}

impl std::fmt::Debug for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundle(_) => f.write_str("Bundle(redacted)"),
            Self::Certificate(_) => f.write_str("Certificate"),
            Self::InPlace(path) => f.debug_tuple("InPlace").field(path).finish(),
        }
    }
}

/// What became of the binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// It was added to this file.
    Written(PathBuf),
    /// This file has it already.
    Unchanged(PathBuf),
    /// No roles were named and this file has none for the subject.
    Missing(PathBuf),
    /// There is no policy beside the folder: these lines go into it elsewhere.
    ToAdd(String),
    /// There is nothing to bind.
    None,
}

/// Signs a certificate for somebody new, or with new roles.
pub(super) fn issue(folder: &Path, what: &Issue, now: Timestamp) -> Result<Outcome, Fault> {
    let subject = Subject::from_argument(&what.name)?;
    let ca = CaFolder::open(folder)?;
    if subject.kind() == Kind::Agent {
        if !what.roles.is_empty() {
            return Err(Fault::Flag { flag: "--role", only: "users and services" });
        }
        return issue_agent(&ca, subject, what, now);
    }
    let only = "an agent's certificate";
    for (flag, given) in [
        ("--address", !what.addresses.is_empty()),
        ("--server-name", !what.server_names.is_empty()),
        ("--audit-root", what.audit_root.is_some()),
    ] {
        if given {
            return Err(Fault::Flag { flag, only });
        }
    }
    // Everything that can be refused is looked at before anything is signed.
    let wanted = match what.roles.as_slice() {
        [] => None,
        roles => Some(policy::Binding::new(roles.to_vec(), what.services.clone())?),
    };
    let policy_path = beside(folder, "policy.toml");
    let (binding, text) = plan_binding(&policy_path, &subject, wanted.as_ref())?;
    let outcome = issue_caller(&ca, subject, what, binding, now)?;
    if let (Binding::Written(path), Some(text)) = (&outcome.binding, text) {
        private_file::update(path, text.as_bytes())?;
    }
    Ok(outcome)
}

/// Signs a new certificate for somebody who had one.
pub(super) fn renew(folder: &Path, what: &Issue, now: Timestamp) -> Result<Outcome, Fault> {
    let subject = Subject::from_argument(&what.name)?;
    let ca = CaFolder::open(folder)?;
    let issued = ca.issued()?;
    let Some(last) = issued.iter().rev().find(|record| record.subject == subject) else {
        return Err(Fault::unknown(&subject, &issued));
    };
    if subject.kind() != Kind::Agent {
        let policy_path = beside(folder, "policy.toml");
        let (binding, _) = plan_binding(&policy_path, &subject, None)?;
        return issue_caller(&ca, subject, what, binding, now);
    }
    if what.csr.is_some() {
        return issue_agent(&ca, subject, what, now);
    }
    let hosts = last.hosts.iter().map(|host| host.parse()).collect::<Result<Vec<Host>, _>>()?;
    renew_beside(&ca, folder, subject, hosts, what.days, now)
}

fn issue_caller(
    ca: &CaFolder,
    subject: Subject,
    what: &Issue,
    binding: Binding,
    now: Timestamp,
) -> Result<Outcome, Fault> {
    let agent = choose_agent(ca, what.agent.as_deref())?;
    let leaf = Leaf::new(subject.clone(), Vec::new(), what.days)?;
    let (issued, key) = match &what.csr {
        Some(path) => (ca.issue_csr(&leaf, &read_csr(path)?, now)?, None),
        None => {
            let (issued, key) = ca.issue(&leaf, now)?;
            (issued, Some(key))
        }
    };
    let identity = BundleIdentity { subject, cert: issued.certificate_pem.clone(), key };
    let bundle = Bundle::new(agent, Some(identity)).to_toml()?;
    Ok(Outcome { issued, product: Product::Bundle(bundle), binding })
}

fn issue_agent(ca: &CaFolder, subject: Subject, what: &Issue, now: Timestamp) -> Result<Outcome, Fault> {
    let csr = read_csr(what.csr.as_deref().ok_or(Fault::AgentNeedsRequest)?)?;
    let hosts = if what.server_names.is_empty() { csr.hosts().to_vec() } else { what.server_names.clone() };
    let leaf = Leaf::new(subject.clone(), hosts, what.days)?;
    let known = ca.agents()?.into_iter().find(|agent| agent.id == subject);
    let server_name = leaf.hosts().first().map(ToString::to_string).unwrap_or_default();
    let info = match (known, what.addresses.as_slice(), what.audit_root) {
        (Some(known), [], None) => known,
        (Some(known), addresses, root) => AgentInfo {
            addresses: if addresses.is_empty() { known.addresses } else { addresses.to_vec() },
            audit_root: root.unwrap_or(known.audit_root),
            server_name,
            ..known
        },
        (None, [_, ..], Some(audit_root)) => AgentInfo {
            id: subject,
            addresses: what.addresses.clone(),
            server_name,
            ca: ca.certificate().pem().to_owned(),
            audit_root,
        },
        (None, _, _) => return Err(Fault::AgentNeedsAddress),
    };
    info.check()?;
    let issued = ca.issue_csr(&leaf, &csr, now)?;
    ca.put_agent(&info)?;
    let certificate = issued.certificate_pem.clone();
    Ok(Outcome { issued, product: Product::Certificate(certificate), binding: Binding::None })
}

/// One host: the agent's certificate and key lie beside the CA's folder. The key stays, the certificate is replaced.
fn renew_beside(
    ca: &CaFolder,
    folder: &Path,
    subject: Subject,
    hosts: Vec<Host>,
    days: Option<u16>,
    now: Timestamp,
) -> Result<Outcome, Fault> {
    let (certificate_path, key_path) = (beside(folder, "agent.pem"), beside(folder, "agent.key"));
    if !certificate_path.exists() || !key_path.exists() {
        return Err(Fault::AgentNeedsRequest);
    }
    let other = || Fault::OtherAgent { path: certificate_path.clone(), agent: subject.clone() };
    let read = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| other());
    let certificate = read(private_file::read(&certificate_path, MAX_PEM_BYTES)?)?;
    let key = PrivateKeyPem::new(read(private_file::read_private(&key_path, MAX_PEM_BYTES)?)?);
    let identity = Identity::from_pem(&certificate, &key).map_err(|_| other())?;
    let der = identity.certificate().map_err(|_| other())?;
    let peer = Peer::from_der(der, ca.certificate().domain(), Side::Server).map_err(|_| other())?;
    if peer.subject != subject {
        return Err(other());
    }
    let request = leaf::csr_of_key(&subject, &hosts, &key)?;
    let issued = ca.issue_csr(&Leaf::new(subject, hosts, days)?, &Csr::from_pem(&request)?, now)?;
    private_file::update(&certificate_path, issued.certificate_pem.as_bytes())?;
    Ok(Outcome { issued, product: Product::InPlace(certificate_path), binding: Binding::None })
}

/// What will become of the binding, and the policy's new text where it is to be written.
fn plan_binding(
    path: &Path,
    subject: &Subject,
    wanted: Option<&policy::Binding>,
) -> Result<(Binding, Option<String>), Fault> {
    if !path.is_file() {
        let lines = wanted.map(|binding| Binding::ToAdd(binding.to_toml(subject)));
        return Ok((lines.unwrap_or(Binding::None), None));
    }
    let fault = |source| Fault::PolicyFile { path: path.to_owned(), source };
    let bytes = private_file::read(path, policy::MAX_BYTES)?;
    let text =
        String::from_utf8(bytes).map_err(|_| fault(policy::Error::Policy("it is not UTF-8".into())))?;
    let own = path.to_owned();
    Ok(match wanted {
        None if policy::find(&text, subject).map_err(fault)?.is_some() => (Binding::Unchanged(own), None),
        None => (Binding::Missing(own), None),
        Some(wanted) => match policy::with_binding(&text, subject, wanted).map_err(fault)? {
            Some(text) => (Binding::Written(own), Some(text)),
            None => (Binding::Unchanged(own), None),
        },
    })
}

fn choose_agent(ca: &CaFolder, name: Option<&str>) -> Result<AgentInfo, Fault> {
    let mut agents = ca.agents()?;
    let names: Vec<String> = agents.iter().map(|agent| agent.id.name().to_owned()).collect();
    match (name, agents.len()) {
        (_, 0) => Err(Fault::NoAgent),
        (Some(name), _) => {
            let wanted = Subject::new(Kind::Agent, name.strip_prefix("agent/").unwrap_or(name))?;
            match agents.iter().position(|agent| agent.id == wanted) {
                Some(at) => Ok(agents.swap_remove(at)),
                None => Err(Fault::UnknownAgent { name: wanted, names }),
            }
        }
        (None, 1) => Ok(agents.swap_remove(0)),
        (None, _) => Err(Fault::WhichAgent { names }),
    }
}

fn read_csr(path: &Path) -> Result<Csr, Fault> {
    let bytes = private_file::read(path, MAX_CSR_BYTES as u64)?;
    Ok(Csr::from_pem(&String::from_utf8_lossy(&bytes))?)
}

/// A file in the folder that the CA's folder lies in: on one host, /etc/opsd.
fn beside(folder: &Path, name: &str) -> PathBuf {
    folder.parent().unwrap_or(Path::new("")).join(name)
}
