//! `opsd init`: configuration, a small CA, the agent's certificate and keys, and the first admin's bundle.
//!
//! It refuses to overwrite anything: when one of its files is there, it makes none. When it fails half-way it takes away
//! what it made. Every key is 0600 from its first byte.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ops_trust::audit::Epoch;
use ops_trust::bundle::{self, AgentInfo, Bundle, BundleIdentity};
use ops_trust::ca::{self, CaFolder};
use ops_trust::key::{KeyError, PublicKey, SigningKey};
use ops_trust::leaf::{self, Host, Leaf, LeafError};
use ops_trust::policy::{self, Binding};
use ops_trust::private_file;
use ops_trust::subject::{Kind, Subject, SubjectError};

mod detect;
mod supervisor_ini;
mod words;

pub use detect::{Detected, DetectedService};

/// What `opsd init` is asked to do.
#[derive(Debug, Clone, clap::Args)]
pub struct InitArgs {
    /// Put everything beneath DIR instead of /etc/opsd and /var/lib/opsd; needs no root
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Where the agent will listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:7443")]
    pub listen: SocketAddr,
    /// A name or address under which callers reach this host; may be given several times [default: the host's name]
    #[arg(long = "server-name", value_name = "NAME")]
    pub server_names: Vec<Host>,
    /// The agent's own name in certificates and in the audit trail [default: the first server name's first word]
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// The first user, who gets the role admin
    #[arg(long, value_name = "NAME", default_value = "admin")]
    pub admin: String,
    /// Make no CA: write a signing request for a CA that lies elsewhere
    #[arg(long)]
    pub csr: bool,
    /// Read supervisord's configuration, write a section for each program, and print the rights to grant
    #[arg(long)]
    pub detect: bool,
    /// supervisord's configuration, for --detect [default: where supervisord itself looks]
    #[arg(long, value_name = "FILE", requires = "detect")]
    pub supervisor_config: Option<PathBuf>,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct InitReport {
    /// The agent's id.
    pub agent: Subject,
    /// The configuration.
    pub config: PathBuf,
    /// Every file and folder that was made, in order.
    pub made: Vec<PathBuf>,
    /// The admin's bundle; `None` with `--csr`.
    pub bundle: Option<PathBuf>,
    /// The signing request; `None` without `--csr`.
    pub request: Option<PathBuf>,
    /// The public key of the audit trail's epoch 0.
    pub audit_root: PublicKey,
    /// What `--detect` found.
    pub detected: Option<Detected>,
    /// What to do next, as it is printed.
    pub text: String,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file of a former init is there.
    #[error("{path} exists already; opsd init overwrites nothing: remove it first, or choose another --root")]
    Exists {
        /// The first that was found.
        path: PathBuf,
    },
    /// Port 0 cannot stand in a bundle.
    #[error("--listen {listen}: callers need to know the port; choose one, usually 7443")]
    Port {
        /// What was given.
        listen: SocketAddr,
    },
    /// The agent or the admin has no usable name.
    #[error("{flag}: {source}")]
    Name {
        /// The flag.
        flag: &'static str,
        /// What is wrong.
        source: SubjectError,
    },
    /// supervisord's configuration cannot be used.
    #[error("--detect: {path}: {problem}")]
    Detect {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        problem: String,
    },
    /// No configuration of supervisord where it usually lies.
    #[error("--detect: no supervisord configuration in {}; name it with --supervisor-config", .tried.join(", "))]
    NoSupervisor {
        /// Where it was sought.
        tried: Vec<String>,
    },
    /// The CA or a certificate could not be made.
    #[error(transparent)]
    Ca(#[from] ca::Error),
    /// A certificate could not be made.
    #[error(transparent)]
    Leaf(#[from] LeafError),
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The bundle could not be made.
    #[error(transparent)]
    Bundle(#[from] bundle::Error),
    /// The policy could not be made.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// Without root, or without rights on the root that was given.
    #[error(
        "{path}: permission denied; run it with sudo, or beneath a folder of your own: opsd init --root DIR"
    )]
    Denied {
        /// What could not be made.
        path: PathBuf,
    },
    /// A file could not be made.
    #[error(transparent)]
    File(private_file::Error),
}

impl From<private_file::Error> for InitError {
    fn from(error: private_file::Error) -> Self {
        match error {
            private_file::Error::Io { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::Denied { path }
            }
            other => Self::File(other),
        }
    }
}

/// Does it. `host_name` is the machine's own name, for the defaults.
pub fn run(args: &InitArgs, host_name: &str, now: Timestamp) -> Result<InitReport, InitError> {
    let facts = Facts::of(args, host_name)?;
    let detected = if args.detect { Some(detect::read(args.supervisor_config.as_deref())?) } else { None };
    // Absolute, so that what is printed can be run from any folder.
    let root = args.root.as_deref().map(|root| std::path::absolute(root).unwrap_or_else(|_| root.to_owned()));
    let paths = Paths::of(root.as_deref());
    let wanted = paths.files(args.csr);
    if let Some(path) = wanted.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        return Err(InitError::Exists { path: path.clone() });
    }
    let mut made = Made::default();
    match make(args, &facts, detected.as_ref(), &paths, &mut made, now) {
        Ok(audit_root) => {
            let mut report = InitReport {
                agent: facts.agent.clone(),
                config: paths.config.clone(),
                made: made.0,
                bundle: (!args.csr).then(|| paths.bundle.clone()),
                request: args.csr.then(|| paths.request.clone()),
                audit_root,
                detected,
                text: String::new(),
            };
            report.text = words::next_steps(args, &facts, &paths, &report);
            Ok(report)
        }
        Err(error) => {
            made.undo();
            Err(error)
        }
    }
}

/// What follows from the flags.
#[derive(Debug)]
struct Facts {
    agent: Subject,
    admin: Subject,
    /// The names in the certificate.
    hosts: Vec<Host>,
    /// `host:port`, for bundles.
    addresses: Vec<String>,
    /// The name that callers check.
    server_name: String,
}

impl Facts {
    fn of(args: &InitArgs, host_name: &str) -> Result<Self, InitError> {
        let (ip, port) = (args.listen.ip(), args.listen.port());
        if port == 0 {
            return Err(InitError::Port { listen: args.listen });
        }
        let own = host_name.parse::<Host>().unwrap_or_else(|_| Host::Dns("localhost".into()));
        let names = match args.server_names.as_slice() {
            [] if ip.is_loopback() => vec![Host::Dns("localhost".into())],
            [] => vec![own.clone()],
            given => given.to_vec(),
        };
        let mut hosts = names.clone();
        hosts.extend([own, Host::Dns("localhost".into())]);
        hosts.extend(
            [IpAddr::from([127, 0, 0, 1]), IpAddr::from(std::net::Ipv6Addr::LOCALHOST)].map(Host::Ip),
        );
        if !ip.is_unspecified() {
            hosts.push(Host::Ip(ip));
        }
        let mut seen = std::collections::HashSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        let addresses = if ip.is_unspecified() {
            names.iter().take(bundle::MAX_ADDRESSES).map(|name| address(name, port)).collect()
        } else {
            vec![args.listen.to_string()]
        };
        let server_name = names.first().map_or_else(|| "localhost".to_owned(), ToString::to_string);
        let id = match (&args.id, args.server_names.first()) {
            (Some(id), _) => id.clone(),
            (None, Some(Host::Dns(name))) => first_word(name),
            (None, _) => first_word(host_name),
        };
        let name = |flag| move |source| InitError::Name { flag, source };
        let admin = Subject::from_argument(&args.admin).map_err(name("--admin"))?;
        // A service or an agent as the first admin would lock people out of what needs a person.
        let admin = Subject::new(Kind::User, admin.name()).map_err(name("--admin"))?;
        Ok(Self {
            agent: Subject::new(Kind::Agent, &id).map_err(name("--id"))?,
            admin,
            hosts,
            addresses,
            server_name,
        })
    }
}

fn address(host: &Host, port: u16) -> String {
    match host {
        Host::Ip(ip) => SocketAddr::new(*ip, port).to_string(),
        Host::Dns(name) => format!("{name}:{port}"),
    }
}

fn first_word(name: &str) -> String {
    let word = name.split('.').next().unwrap_or_default();
    if word.is_empty() { "agent".to_owned() } else { word.to_owned() }
}

/// Where everything goes.
#[derive(Debug)]
struct Paths {
    root: Option<PathBuf>,
    etc: PathBuf,
    state: PathBuf,
    audit: PathBuf,
    config: PathBuf,
    policy: PathBuf,
    ca_folder: PathBuf,
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    token_key: PathBuf,
    epoch_key: PathBuf,
    bundle: PathBuf,
    request: PathBuf,
}

impl Paths {
    fn of(root: Option<&Path>) -> Self {
        let base = root.unwrap_or(Path::new("/"));
        let (etc, state) = (base.join("etc/opsd"), base.join("var/lib/opsd"));
        let audit = state.join("audit");
        Self {
            root: root.map(Path::to_owned),
            config: etc.join("opsd.toml"),
            policy: etc.join("policy.toml"),
            ca_folder: etc.join("ca"),
            ca: etc.join("ca.pem"),
            cert: etc.join("agent.pem"),
            key: etc.join("agent.key"),
            token_key: etc.join("token.key"),
            bundle: etc.join("admin.bundle.toml"),
            request: etc.join("agent.csr"),
            epoch_key: audit.join(Epoch::file_name(0)),
            etc,
            state,
            audit,
        }
    }

    /// Everything that this init would make and therefore must not be there.
    fn files(&self, csr: bool) -> Vec<PathBuf> {
        let mut files = vec![&self.config, &self.policy, &self.ca, &self.cert, &self.key, &self.token_key];
        files.push(&self.epoch_key);
        files.extend(if csr { vec![&self.request] } else { vec![&self.ca_folder, &self.bundle] });
        files.into_iter().cloned().collect()
    }
}

/// What this run has made, to be taken away again when it fails.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<(), InitError> {
        private_file::create(path, bytes)?;
        self.0.push(path.to_owned());
        Ok(())
    }

    fn public(&mut self, path: &Path, bytes: &[u8]) -> Result<(), InitError> {
        private_file::create_public(path, bytes)?;
        self.0.push(path.to_owned());
        Ok(())
    }

    /// A folder of ours alone; its parents as usual. One that is there already stays as it is.
    fn folder(&mut self, path: &Path, private: bool) -> Result<(), InitError> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.folder(parent, false)?;
        }
        if private {
            private_file::create_dir(path)?;
        } else {
            fs::create_dir(path)
                .map_err(|source| private_file::Error::Io { path: path.to_owned(), source })?;
        }
        self.0.push(path.to_owned());
        Ok(())
    }

    /// Best effort: what cannot be removed is found by the next init, which then names it.
    fn undo(self) {
        for path in self.0.into_iter().rev() {
            let removed = match fs::symlink_metadata(&path) {
                // Only the CA's folder holds files that are not listed one by one.
                Ok(found) if found.is_dir() && path.ends_with("etc/opsd/ca") => fs::remove_dir_all(&path),
                Ok(found) if found.is_dir() => fs::remove_dir(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            drop::<io::Result<()>>(removed);
        }
    }
}

fn make(
    args: &InitArgs,
    facts: &Facts,
    detected: Option<&Detected>,
    paths: &Paths,
    made: &mut Made,
    now: Timestamp,
) -> Result<PublicKey, InitError> {
    made.folder(&paths.etc, false)?;
    made.folder(&paths.state, true)?;
    made.folder(&paths.audit, true)?;
    let epoch = Epoch::first()?;
    let audit_root = epoch.key.public();
    made.file(&paths.epoch_key, epoch.key.to_pem()?.expose().as_bytes())?;
    made.file(&paths.token_key, SigningKey::generate()?.to_pem()?.expose().as_bytes())?;
    let admin_role = Binding::new(vec!["admin".into()], Vec::new())?;
    made.public(&paths.policy, words::policy(&facts.admin, &admin_role).as_bytes())?;
    if args.csr {
        let (request, key) = leaf::new_csr(&facts.agent, &facts.hosts)?;
        made.file(&paths.key, key.expose().as_bytes())?;
        made.public(&paths.request, request.as_bytes())?;
    } else {
        make_certificates(facts, paths, made, audit_root, now)?;
    }
    // The configuration comes last: an agent that finds it finds everything that it names.
    made.public(&paths.config, words::config(args, facts, paths, detected).as_bytes())?;
    Ok(audit_root)
}

fn make_certificates(
    facts: &Facts,
    paths: &Paths,
    made: &mut Made,
    audit_root: PublicKey,
    now: Timestamp,
) -> Result<(), InitError> {
    made.0.push(paths.ca_folder.clone());
    let authority = CaFolder::create(&paths.ca_folder, now)?;
    let ca_pem = authority.certificate().pem();
    made.public(&paths.ca, ca_pem.as_bytes())?;
    let leaf = Leaf::new(facts.agent.clone(), facts.hosts.clone(), None)?;
    let (issued, key) = authority.issue(&leaf, now)?;
    made.file(&paths.key, key.expose().as_bytes())?;
    made.public(&paths.cert, issued.certificate_pem.as_bytes())?;
    let agent = AgentInfo {
        id: facts.agent.clone(),
        addresses: facts.addresses.clone(),
        server_name: facts.server_name.clone(),
        ca: ca_pem.to_owned(),
        audit_root,
    };
    authority.put_agent(&agent)?;
    let (issued, key) = authority.issue(&Leaf::new(facts.admin.clone(), Vec::new(), None)?, now)?;
    let identity =
        BundleIdentity { subject: facts.admin.clone(), cert: issued.certificate_pem, key: Some(key) };
    made.file(&paths.bundle, Bundle::new(agent, Some(identity)).to_toml()?.as_bytes())
}

#[cfg(test)]
mod tests;
