//! Names that have been checked: who holds one need not ask again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Reason, Result};

/// `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`: the rule for every name that comes from outside.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && text.len() <= 64 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn checked(what: &str, text: &str) -> Result<String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    let article = if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    Err(Error::new(
        Reason::InvalidArgument,
        format!(
            "\"{shown}\" is not {article} {what}: 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit"
        ),
    )
    .effect("nothing was done"))
}

macro_rules! name {
    ($(#[$doc:meta])+ $type:ident, $what:literal) => {
        $(#[$doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks the text.
            ///
            /// # Errors
            /// `INVALID_ARGUMENT` when it does not keep the rule.
            pub fn parse(text: &str) -> Result<Self> {
                checked($what, text).map(Self)
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

name! {
    /// The name of a service, as configured; not supervisord's.
    ServiceName, "service name"
}
name! {
    /// `op-` and ten characters of Crockford's base 32.
    OperationId, "operation id"
}
name! {
    /// `20261124T0130Z-m3`: when it began, to the minute, and what makes it unique.
    BackupId, "backup id"
}
name! {
    /// The name of a configured probe.
    ProbeName, "probe name"
}

/// Who is calling: `user/alice`, `service/ci-deploy`, `agent/prod-1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Subject {
    /// `kind/name`, kind one of user, service, agent; a bare name is a user's.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when it does not keep the rule.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, name) = text.split_once('/').unwrap_or(("user", text));
        if !["user", "service", "agent"].contains(&kind) {
            return Err(Error::new(
                Reason::InvalidArgument,
                "a subject is user/NAME, service/NAME or agent/NAME",
            ));
        }
        checked("subject name", name).map(|name| Self(format!("{kind}/{name}")))
    }

    /// The text, always with its kind.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How people are named: `alice` for `user/alice`, others whole.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.strip_prefix("user/").unwrap_or(&self.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Subject {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_rule() {
        for good in ["a", "backend", "a.b_c-d", "9", &"x".repeat(64)] {
            assert!(ServiceName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a b", "a/b", "a\n", "ä", "../x", &"x".repeat(65)] {
            let error = ServiceName::parse(bad).unwrap_err();
            assert_eq!(error.reason, Reason::InvalidArgument, "{bad}");
            assert!(!error.message.contains('\n'));
        }
        let error = OperationId::parse("x y").unwrap_err();
        assert!(error.message.starts_with("\"x y\" is not an operation id: "), "{}", error.message);
    }

    #[test]
    fn a_bare_subject_is_a_user() {
        assert_eq!(Subject::parse("alice").unwrap().as_str(), "user/alice");
        assert_eq!(Subject::parse("service/ci").unwrap().short(), "service/ci");
        assert!(Subject::parse("root/x").is_err());
        assert!(Subject::parse("user/a/b").is_err());
    }
}
