//! Which agent is meant, and with which credential: contexts on disk, or one bundle in the environment.
//!
//! A flag wins over the environment, the environment over the file. Names of contexts are chosen by their owner and
//! mean nothing to the agent. Secrets come as files or in the environment, never as an argument: every user of a
//! machine can read those.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use ops_trust::ca::CaCertificate;
use ops_trust::key::PublicKey;
use ops_trust::peer::Peer;
use ops_trust::subject::Subject;
use ops_trust::tls::Identity;

mod environment;
mod resolve;
mod seen;
mod store;
mod token;

pub use environment::Environment;
pub use resolve::resolve;
pub use seen::SeenStore;
pub use store::{Context, Imported, Store};
pub use token::Token;

/// The agent's port where none is written.
pub const DEFAULT_PORT: u16 = 7443;
/// From how long before its end a certificate is warned about.
pub const WARN_BEFORE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What the command line says about the target; everything may be left out.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--context NAME`.
    pub context: Option<String>,
    /// `--host HOST[:PORT]`.
    pub host: Option<String>,
}

/// Where a target came from, for `opsctl doctor` and for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A context that a flag named.
    Flag,
    /// A context or a bundle that an environment variable named.
    Environment(&'static str),
    /// The current context of the configuration.
    Current,
}

/// An agent and how to talk to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// The context's name; `None` for a bundle or a bare host.
    pub context: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// The agent's id, where it is known.
    pub agent: Option<Subject>,
    /// `host:port`, to be tried in this order; never empty.
    pub addresses: Vec<String>,
    /// The name that the agent's certificate has to carry.
    pub server_name: String,
    /// The only CA that is trusted.
    pub ca: CaCertificate,
    /// The certificate to show.
    pub identity: Option<Identity>,
    /// Whom that certificate names and until when.
    pub peer: Option<Peer>,
    /// The access token to send.
    pub token: Option<Token>,
    /// The first key of the agent's audit trail.
    pub audit_root: Option<PublicKey>,
}

/// How much longer the certificate lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Long enough, or there is no certificate.
    Good,
    /// It ends soon.
    Ending {
        /// Its last second.
        not_after: Timestamp,
    },
    /// It has ended; the agent will refuse it.
    Ended {
        /// Its last second.
        not_after: Timestamp,
    },
}

impl Target {
    /// How much longer the certificate lasts.
    pub fn lifetime(&self, now: Timestamp) -> Lifetime {
        match &self.peer {
            Some(peer) if now > peer.not_after => Lifetime::Ended { not_after: peer.not_after },
            Some(peer) if now + WARN_BEFORE > peer.not_after => {
                Lifetime::Ending { not_after: peer.not_after }
            }
            _ => Lifetime::Good,
        }
    }

    /// Where the CA lies, as people think of it: the first host.
    pub fn host(&self) -> &str {
        let first = self.addresses.first().map_or(self.server_name.as_str(), String::as_str);
        first.rsplit_once(':').map_or(first, |(host, _)| host).trim_start_matches('[').trim_end_matches(']')
    }
}

/// Why there is no target, or why a context was not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says which agent is meant.
    #[error("no context: nothing says which agent is meant")]
    NoContext,
    /// There is no context of this name.
    #[error("no context `{name}`{}", suggestion(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// A name that is near it.
        near: Option<String>,
    },
    /// The name cannot be a context's.
    #[error(
        "`{name}` cannot name a context: letters, digits, `.`, `_` and `-`, a letter or digit first, at most 64"
    )]
    Name {
        /// What was given, made printable.
        name: String,
    },
    /// The name is in use for somebody or something else.
    #[error("context `{name}` is {holder}: choose another name with --name, or remove it first")]
    Taken {
        /// The name.
        name: String,
        /// Whom and what it is for.
        holder: String,
    },
    /// Two environment variables contradict each other.
    #[error("{one} and {other} are both set and mean different things: unset one")]
    Both {
        /// The first.
        one: &'static str,
        /// The second.
        other: &'static str,
    },
    /// An environment variable is not text, or not what it should be.
    #[error("{name}: {problem}")]
    Variable {
        /// The variable, or the flag.
        name: &'static str,
        /// What is wrong, without its value.
        problem: String,
    },
    /// A host without a CA to trust.
    #[error("{host}: no CA to trust it by; set OPSCTL_CA to its ca.pem, or import a bundle")]
    NoCa {
        /// The host.
        host: String,
    },
    /// Neither a home folder nor `XDG_CONFIG_HOME` is known.
    #[error("no place for the configuration: set OPSCTL_CONFIG, XDG_CONFIG_HOME or HOME")]
    NoHome,
    /// The configuration cannot be read.
    #[error("{path}: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Line and what is wrong.
        problem: String,
    },
    /// A bundle was refused.
    #[error("{origin}: {source}")]
    Bundle {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        source: ops_trust::bundle::Error,
    },
    /// A bundle without a key, and none was given beside it.
    #[error("the bundle has no key: it was made from a signing request; give the key with --key FILE")]
    NoKey,
    /// Certificate, key or CA of a context cannot be used.
    #[error("{path}: {problem}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file was refused.
    #[error(transparent)]
    File(#[from] ops_trust::private_file::Error),
}

impl Error {
    /// True when the way out is to get a context in the first place.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::NoContext | Self::NoHome)
    }
}

fn suggestion(name: &Option<String>) -> String {
    name.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
