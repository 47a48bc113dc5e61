//! Writing bindings into `policy.toml`: what `opsd init` and `opsctl pki issue` add to it. The agent reads the file with its
//! own, strict reader; nothing here decides what anybody may do.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::subject::{Kind, Subject};

/// The roles there are, the smallest first. The agent's domain owns them; a test across crates holds the two together.
pub const ROLES: &[&str] = &["viewer", "backup", "auditor", "deployer", "operator", "admin"];
/// Longest `policy.toml`, in bytes.
pub const MAX_BYTES: u64 = 1024 * 1024;

/// What a subject is granted: roles, and the services they are scoped to (none: all).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Names of [`ROLES`].
    pub roles: Vec<String>,
    /// Names of services.
    #[serde(default)]
    pub services: Vec<String>,
}

impl Binding {
    /// Checks names; at least one role.
    pub fn new(roles: Vec<String>, services: Vec<String>) -> Result<Self, Error> {
        if roles.is_empty() {
            return Err(Error::NoRole);
        }
        if let Some(role) = roles.iter().find(|role| !ROLES.contains(&role.as_str())) {
            return Err(Error::Role { role: role.chars().take(80).flat_map(char::escape_debug).collect() });
        }
        for service in &services {
            // Services keep the same rule of names as users do.
            Subject::new(Kind::Service, service).map_err(|e| Error::Service(e.to_string()))?;
        }
        Ok(Self { roles, services })
    }

    /// The lines of `policy.toml` that say this.
    pub fn to_toml(&self, subject: &Subject) -> String {
        let list =
            |names: &[String]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let mut text = format!("[subject.\"{subject}\"]\nroles = [{}]\n", list(&self.roles));
        if !self.services.is_empty() {
            text.push_str(&format!("services = [{}]\n", list(&self.services)));
        }
        text
    }

    /// The same roles and services, in whatever order.
    pub fn same_as(&self, other: &Self) -> bool {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names.dedup();
            names
        };
        sorted(&self.roles) == sorted(&other.roles) && sorted(&self.services) == sorted(&other.services)
    }
}

/// The binding that a policy has for a subject.
pub fn find(policy: &str, subject: &Subject) -> Result<Option<Binding>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(default)]
        subject: BTreeMap<String, Binding>,
    }
    let mut document: Document =
        toml::from_str(policy).map_err(|e| Error::Policy(e.message().replace('\n', ", ")))?;
    Ok(document.subject.remove(&subject.to_string()))
}

/// The policy with one more binding at its end, all else untouched. `None`: it says so already. A different binding of
/// the same subject is refused: what was granted by hand is changed by hand.
pub fn with_binding(policy: &str, subject: &Subject, binding: &Binding) -> Result<Option<String>, Error> {
    match find(policy, subject)? {
        Some(found) if found.same_as(binding) => return Ok(None),
        Some(found) => {
            return Err(Error::Bound {
                subject: subject.clone(),
                found: found.roles.join(", "),
                services: found.services,
            });
        }
        None => {}
    }
    let mut text = policy.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&binding.to_toml(subject));
    Ok(Some(text))
}

/// Why a binding was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A binding without a role grants nothing.
    #[error("a binding needs at least one role: {}", ROLES.join(", "))]
    NoRole,
    /// No such role.
    #[error("no role `{role}`; there are {}", ROLES.join(", "))]
    Role {
        /// What was given, made printable.
        role: String,
    },
    /// Not the name of a service.
    #[error("service {0}")]
    Service(String),
    /// The policy cannot be read.
    #[error("the policy cannot be read: {0}")]
    Policy(String),
    /// The subject is bound to something else.
    #[error(
        "{subject} has {found}{} in the policy already; change it there",
        if .services.is_empty() { String::new() } else { format!(" on {}", .services.join(", ")) }
    )]
    Bound {
        /// Who.
        subject: Subject,
        /// Its roles there.
        found: String,
        /// Its services there.
        services: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Subject {
        "user/alice".parse().unwrap()
    }

    fn binding(roles: &[&str], services: &[&str]) -> Result<Binding, Error> {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Binding::new(own(roles), own(services))
    }

    #[test]
    fn a_binding_is_added_once_and_nothing_else_changes() {
        let before = "# ours\n[subject.\"user/bob\"]\nroles = [\"viewer\"] # reads";
        let operator = binding(&["operator"], &["backend", "frontend"]).unwrap();
        let after = with_binding(before, &alice(), &operator).unwrap().unwrap();
        assert_eq!(
            after,
            format!(
                "{before}\n\n[subject.\"user/alice\"]\nroles = [\"operator\"]\nservices = [\"backend\", \"frontend\"]\n"
            )
        );
        assert_eq!(with_binding(&after, &alice(), &operator).unwrap(), None);
        assert_eq!(find(&after, &alice()).unwrap(), Some(operator));
        let admin = binding(&["admin"], &[]).unwrap();
        assert!(matches!(with_binding(&after, &alice(), &admin), Err(Error::Bound { .. })));
    }

    #[test]
    fn bad_names_and_bad_policies_are_refused() {
        assert_eq!(binding(&[], &[]), Err(Error::NoRole));
        assert!(matches!(binding(&["god\"]"], &[]), Err(Error::Role { .. })));
        assert!(matches!(binding(&["viewer"], &["a\"b"]), Err(Error::Service(_))));
        let viewer = binding(&["viewer"], &[]).unwrap();
        for bad in ["garbage", "[user.x]\n", "[subject.x]\nrules = []\n"] {
            assert!(matches!(with_binding(bad, &alice(), &viewer), Err(Error::Policy(_))), "{bad}");
        }
    }
}
