//! `policy.toml`: subject → roles, services. Root's file; the agent only reads it.
//!
//! ```toml
//! [subject."user/alice"]
//! roles = ["operator"]
//! services = ["backend"]    # left out or empty: all
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ops_domain::access::{Binding, Policy, Role};
use ops_domain::ids::{ServiceName, Subject};
use ops_domain::ports::PolicySource;
use serde::Deserialize;

use crate::config::{Error, MAX_FILE_BYTES, from_toml};

/// The file, and the policy that was last read from it without fault.
#[derive(Debug)]
pub struct PolicyFile {
    path: PathBuf,
    current: ArcSwap<Policy>,
}

impl PolicyFile {
    /// Reads it for the first time.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bindings = read(path)?;
        let policy = Policy { bindings, generation: 1 };
        Ok(Self { path: path.to_owned(), current: ArcSwap::from_pointee(policy) })
    }

    /// Reads it again; what is new holds from the next request on. Returns what changed, a line each.
    ///
    /// # Errors
    /// What is wrong, with its line; the old policy stays.
    pub fn reload(&self) -> Result<Vec<String>, Error> {
        let bindings = read(&self.path)?;
        let old = self.current.load_full();
        let changes = differences(&old.bindings, &bindings);
        if !changes.is_empty() {
            let generation = old.generation + 1;
            self.current.store(Arc::new(Policy { bindings, generation }));
        }
        Ok(changes)
    }
}

impl PolicySource for PolicyFile {
    fn current(&self) -> Arc<Policy> {
        self.current.load_full()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    subject: BTreeMap<toml::Spanned<String>, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    roles: toml::Spanned<Vec<Role>>,
    #[serde(default)]
    services: Vec<ServiceName>,
}

fn read(path: &Path) -> Result<BTreeMap<Subject, Binding>, Error> {
    let whole = |message: String| Error { path: path.to_owned(), line: 0, message };
    let bytes = ops_trust::private_file::read(path, MAX_FILE_BYTES).map_err(|error| match error {
        ops_trust::private_file::Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            whole(
                "there is no policy, so nobody could do anything; run: opsctl pki issue NAME --role admin"
                    .to_owned(),
            )
        }
        ops_trust::private_file::Error::Io { source, .. } => whole(source.to_string()),
        other => whole(other.to_string()),
    })?;
    crate::config::trusted_file(path).map_err(whole)?;
    let text = String::from_utf8(bytes).map_err(|_| whole("it is not UTF-8".to_owned()))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<BTreeMap<Subject, Binding>, Error> {
    let document: Document = toml::from_str(text).map_err(|error| from_toml(path, text, &error))?;
    let at = |span: std::ops::Range<usize>, message: String| Error {
        path: path.to_owned(),
        line: text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1,
        message,
    };
    let mut bindings = BTreeMap::new();
    for (name, entry) in document.subject {
        let subject = Subject::parse(name.get_ref())
            .ok()
            .filter(|subject| subject.as_str() == name.get_ref() && !subject.as_str().starts_with("agent/"))
            .ok_or_else(|| {
                at(
                    name.span(),
                    format!("\"{}\" is not user/NAME or service/NAME", name.get_ref().escape_debug()),
                )
            })?;
        let roles: BTreeSet<Role> = entry.roles.get_ref().iter().copied().collect();
        if roles.is_empty() {
            return Err(at(
                entry.roles.span(),
                format!("{subject} has no role; give it one, or remove the entry"),
            ));
        }
        bindings.insert(subject, Binding { roles, services: entry.services.into_iter().collect() });
    }
    if bindings.is_empty() {
        let message =
            "the policy is empty, so nobody could do anything; run: opsctl pki issue NAME --role admin";
        return Err(Error { path: path.to_owned(), line: 0, message: message.to_owned() });
    }
    Ok(bindings)
}

fn differences(old: &BTreeMap<Subject, Binding>, new: &BTreeMap<Subject, Binding>) -> Vec<String> {
    let gone =
        old.keys().filter(|subject| !new.contains_key(*subject)).map(|subject| format!("{subject}: removed"));
    let changed = new.iter().filter_map(|(subject, binding)| match old.get(subject) {
        None => Some(format!("{subject}: added, {}", words(binding))),
        Some(before) if before != binding => {
            Some(format!("{subject}: {} → {}", words(before), words(binding)))
        }
        Some(_) => None,
    });
    gone.chain(changed).collect()
}

fn words(binding: &Binding) -> String {
    let roles: Vec<&str> = binding.roles.iter().map(|role| role.name()).collect();
    let services: Vec<&str> = binding.services.iter().map(ServiceName::as_str).collect();
    let on = if services.is_empty() { String::new() } else { format!(" on {}", services.join(", ")) };
    format!("{}{on}", roles.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(text: &str) -> Result<BTreeMap<Subject, Binding>, Error> {
        parse(Path::new("policy.toml"), text)
    }

    #[test]
    fn reads_what_the_pki_commands_write() {
        let read = bindings(
            "[subject.\"user/alice\"]\nroles = [\"operator\", \"auditor\"]\nservices = []\n\n\
             [subject.\"service/ci\"]\nroles = [\"deployer\"]\nservices = [\"backend\"]\n",
        )
        .unwrap();
        assert_eq!(words(&read[&Subject::parse("alice").unwrap()]), "operator, auditor");
        assert_eq!(words(&read[&Subject::parse("service/ci").unwrap()]), "deployer on backend");
    }

    #[test]
    fn every_mistake_has_its_line() {
        for (text, line, says) in [
            ("", 0, "the policy is empty"),
            ("[subject.\"user/a\"]\nroles = []\n", 2, "has no role"),
            ("[subject.\"user/a\"]\nroles = [\"god\"]\n", 2, "unknown variant `god`"),
            ("\n[subject.alice]\nroles = [\"viewer\"]\n", 2, "is not user/NAME"),
            ("[subject.\"agent/x\"]\nroles = [\"viewer\"]\n", 1, "is not user/NAME"),
            (
                "[subject.\"user/a\"]\nroles = [\"viewer\"]\nservices = [\"a b\"]\n",
                3,
                "is not a service name",
            ),
            ("[subject.\"user/a\"]\nrules = [\"viewer\"]\n", 2, "unknown field `rules`"),
            ("[user.a]\n", 1, "unknown field `user`"),
            ("[subject.\"user/a\"]\n", 1, "missing field `roles`"),
            ("[subject.\"user/a\"]\nroles=[\"viewer\"]\n[subject.\"user/a\"]\n", 3, "duplicate key"),
        ] {
            let error = bindings(text).unwrap_err();
            assert!(error.to_string().contains(says), "{text:?}: {error}");
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
    }

    #[test]
    fn a_bad_file_keeps_the_old_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.toml");
        std::fs::write(&path, "[subject.\"user/a\"]\nroles = [\"viewer\"]\n").unwrap();
        let file = PolicyFile::open(&path).unwrap();
        assert!(file.reload().unwrap().is_empty());
        std::fs::write(&path, "[subject.\"user/a\"]\nroles = [\"admin\"]\n").unwrap();
        assert_eq!(file.reload().unwrap(), ["user/a: viewer → admin"]);
        assert_eq!(file.current().generation, 2);
        std::fs::write(&path, "nonsense").unwrap();
        assert!(file.reload().is_err());
        assert_eq!(file.current().generation, 2);
        assert_eq!(file.current().bindings.len(), 1);
    }
}
