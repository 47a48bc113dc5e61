//! Contexts on disk: `config.toml` without secrets, and `contexts/NAME/{ca,cert,key}.pem` (0600) beside it, which curl and
//! grpcurl take as they are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ops_trust::bundle::{self, Bundle};
use ops_trust::key::{PrivateKeyPem, PublicKey};
use ops_trust::private_file;
use ops_trust::subject::{Kind, Subject};
use ops_trust::tls::Identity;
use serde::{Deserialize, Serialize};

use super::{Choice, Environment, Error};

const VERSION: u32 = 1;
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// One agent and one identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// The agent's id.
    pub agent: Subject,
    /// `host:port`, tried in this order.
    pub addresses: Vec<String>,
    /// The name that the agent's certificate has to carry.
    pub server_name: String,
    /// The first key of the agent's audit trail.
    pub audit_root: PublicKey,
    /// Whom the certificate names; absent when there is none and a token is brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
}

impl Context {
    fn holder(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{subject} at {}", self.agent),
            None => self.agent.to_string(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    contexts: BTreeMap<String, Context>,
}

/// The contexts of one configuration file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: ConfigFile,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The context's name.
    pub name: String,
    /// True when a context of the same agent and subject was there and has new credentials now.
    pub renewed: bool,
    /// True when it is the current context now.
    pub current: bool,
    /// Its certificate, key and CA lie here.
    pub folder: PathBuf,
}

impl Store {
    /// Opens the configuration that flag, `OPSCTL_CONFIG`, `XDG_CONFIG_HOME` or `HOME` lead to. A missing file is an
    /// empty configuration; a broken one is an error.
    pub fn open(choice: &Choice, environment: &Environment) -> Result<Self, Error> {
        Self::open_file(&config_path(choice, environment)?)
    }

    /// Opens this configuration file.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let bytes = match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let file = ConfigFile { version: VERSION, ..ConfigFile::default() };
                return Ok(Self { path: path.to_owned(), file });
            }
            _ => private_file::read(path, MAX_CONFIG_BYTES)?,
        };
        let bad = |problem: String| Error::Config { path: path.to_owned(), problem };
        let text = String::from_utf8(bytes).map_err(|_| bad("not UTF-8".into()))?;
        let file: ConfigFile = toml::from_str(&text).map_err(|e| bad(describe(&e, &text)))?;
        if file.version != VERSION {
            return Err(bad(format!("version {}; this opsctl reads version {VERSION}", file.version)));
        }
        if let Some(name) = file.contexts.keys().find(|name| check_name(name).is_err()) {
            return Err(bad(Error::Name { name: printable(name) }.to_string()));
        }
        for (name, context) in &file.contexts {
            let wrong = |problem: &str| bad(format!("contexts.{name}: {problem}"));
            if context.addresses.is_empty() || context.addresses.len() > bundle::MAX_ADDRESSES {
                return Err(wrong("needs 1 to 16 addresses"));
            }
            if context.addresses.iter().any(|a| bundle::check_address(a).is_err()) {
                return Err(wrong("an address is not host:port"));
            }
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// The configuration file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All contexts by name.
    pub fn contexts(&self) -> &BTreeMap<String, Context> {
        &self.file.contexts
    }

    /// The current context's name.
    pub fn current(&self) -> Option<&str> {
        self.file.current.as_deref()
    }

    /// A context by its name.
    pub fn get(&self, name: &str) -> Result<&Context, Error> {
        self.file.contexts.get(name).ok_or_else(|| Error::Unknown {
            name: printable(name),
            near: self
                .file
                .contexts
                .keys()
                .map(|known| (strsim::jaro_winkler(known, name), known))
                .filter(|(nearness, _)| *nearness > 0.7)
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, known)| known.clone()),
        })
    }

    /// The folder of a context's `ca.pem`, `cert.pem` and `key.pem`.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.base().join("contexts").join(name)
    }

    /// Takes a bundle in. The same agent and subject again is a renewal: its context keeps its name and gets the new
    /// credentials. The first context becomes the current one; a later one only with `make_current`.
    pub fn import(
        &mut self,
        bundle: &Bundle,
        key: Option<PrivateKeyPem>,
        name: Option<&str>,
        make_current: bool,
    ) -> Result<Imported, Error> {
        let credentials = match &bundle.identity {
            None => None,
            Some(identity) => {
                let key = key.as_ref().or(identity.key.as_ref()).ok_or(Error::NoKey)?;
                Identity::from_pem(&identity.cert, key).map_err(|e| Error::Bundle {
                    origin: "the given key".into(),
                    source: bundle::Error::Identity(e),
                })?;
                Some((identity.cert.as_str(), key.expose()))
            }
        };
        let context = Context {
            agent: bundle.agent.id.clone(),
            addresses: bundle.agent.addresses.clone(),
            server_name: bundle.agent.server_name.clone(),
            audit_root: bundle.agent.audit_root,
            subject: bundle.identity.as_ref().map(|i| i.subject.clone()),
        };
        // Refused before a folder is made for it; asked again below, where nobody else can change the answer.
        self.name_for(&context, name)?;
        self.update(|store| {
            let name = store.name_for(&context, name)?;
            let renewed = store.file.contexts.contains_key(&name);
            let folder = store.folder(&name);
            for dir in [&store.base().join("contexts"), &folder] {
                make_dir(dir)?;
            }
            // The configuration comes last: a context that it names is whole.
            private_file::replace(&folder.join("ca.pem"), bundle.agent.ca.as_bytes())?;
            if let Some((certificate, key)) = credentials {
                private_file::replace(&folder.join("key.pem"), key.as_bytes())?;
                private_file::replace(&folder.join("cert.pem"), certificate.as_bytes())?;
            }
            store.file.contexts.insert(name.clone(), context);
            if make_current || store.file.current.is_none() {
                store.file.current = Some(name.clone());
            }
            let current = store.file.current.as_deref() == Some(name.as_str());
            Ok(Imported { name, renewed, current, folder })
        })
    }

    /// Makes a context the current one.
    pub fn select(&mut self, name: &str) -> Result<(), Error> {
        self.get(name)?;
        self.update(|store| {
            store.get(name)?;
            store.file.current = Some(name.to_owned());
            Ok(())
        })
    }

    /// Forgets a context and deletes its key. When it was the current one, none is current then.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        self.get(name)?;
        let folder = self.folder(name);
        self.update(|store| {
            store.file.contexts.remove(name);
            if store.file.current.as_deref() == Some(name) {
                store.file.current = None;
            }
            Ok(())
        })?;
        for file in ["key.pem", "cert.pem", "ca.pem"] {
            ignore_missing(&folder.join(file), fs::remove_file(folder.join(file)))?;
        }
        // Whatever else somebody put there stays, and the folder with it.
        match fs::remove_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => ignore_missing(&folder, result),
        }
    }

    pub(super) fn base(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// The asked name, or the name the context already has, or the agent's, or agent and subject.
    fn name_for(&self, context: &Context, asked: Option<&str>) -> Result<String, Error> {
        let same = |other: &Context| {
            other.agent == context.agent
                && other.subject == context.subject
                && other.audit_root == context.audit_root
        };
        if let Some(name) = asked {
            check_name(name)?;
            return match self.file.contexts.get(name) {
                Some(other) if !same(other) => {
                    Err(Error::Taken { name: name.to_owned(), holder: other.holder() })
                }
                _ => Ok(name.to_owned()),
            };
        }
        if let Some((name, _)) = self.file.contexts.iter().find(|(_, other)| same(other)) {
            return Ok(name.clone());
        }
        let agent = context.agent.name().to_owned();
        let subject = context.subject.as_ref().map_or("token", |s| s.name());
        let both = format!("{agent}-{subject}");
        let free = |name: &String| !self.file.contexts.contains_key(name) && check_name(name).is_ok();
        [agent.clone(), both].into_iter().find(free).ok_or_else(|| Error::Taken {
            holder: self.file.contexts.get(&agent).map_or_else(String::new, Context::holder),
            name: agent,
        })
    }

    /// Reads the file again, changes it and writes it, while no other opsctl does the same.
    fn update<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        make_dir(self.base())?;
        let mut lock_path = self.path.clone().into_os_string();
        lock_path.push(".lock");
        let lock_path = PathBuf::from(lock_path);
        let io = |source| private_file::Error::Io { path: lock_path.clone(), source };
        let lock = fs::File::options().create(true).append(true).mode(0o600).open(&lock_path).map_err(io)?;
        // Let go when `lock` is dropped, also by a crash.
        lock.lock().map_err(io)?;
        self.file = Self::open_file(&self.path)?.file;
        let done = change(self)?;
        self.save()?;
        Ok(done)
    }

    fn save(&self) -> Result<(), Error> {
        let text = toml::to_string(&self.file)
            .map_err(|e| Error::Config { path: self.path.clone(), problem: e.to_string() })?;
        Ok(private_file::replace(&self.path, text.as_bytes())?)
    }
}

/// The configuration file's place: flag, `OPSCTL_CONFIG`, `$XDG_CONFIG_HOME/opsctl/`, `~/.config/opsctl/`. A relative
/// `XDG_CONFIG_HOME` is ignored, as the XDG base directory specification demands.
pub(super) fn config_path(choice: &Choice, environment: &Environment) -> Result<PathBuf, Error> {
    if let Some(path) = choice.config.clone().or_else(|| environment.path("OPSCTL_CONFIG")) {
        return Ok(path);
    }
    let xdg = environment.path("XDG_CONFIG_HOME").filter(|p| p.is_absolute());
    let home = || environment.path("HOME").map(|home| home.join(".config"));
    Ok(xdg.or_else(home).ok_or(Error::NoHome)?.join("opsctl/config.toml"))
}

fn check_name(name: &str) -> Result<(), Error> {
    // The same rule as for subjects; a context's name is a folder's name too.
    Subject::new(Kind::User, name).map(|_| ()).map_err(|_| Error::Name { name: printable(name) })
}

pub(super) fn printable(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn make_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        fs::create_dir_all(parent)
            .map_err(|source| private_file::Error::Io { path: parent.to_owned(), source })?;
    }
    Ok(private_file::create_dir(path)?)
}

fn ignore_missing(path: &Path, result: io::Result<()>) -> Result<(), Error> {
    match result {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(private_file::Error::Io { path: path.to_owned(), source }.into())
        }
        _ => Ok(()),
    }
}

fn describe(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|b| b.matches('\n').count() + 1);
    let message = error.message().lines().next().unwrap_or_default();
    line.map_or_else(|| message.to_owned(), |line| format!("line {line}: {message}"))
}
