//! The environment variables that opsctl reads, as a value: tests make their own.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::Error;

/// Everything that `opsctl` takes from the environment about its target.
const NAMES: &[&str] = &[
    "OPSCTL_CONFIG",
    "OPSCTL_CONTEXT",
    "OPSCTL_BUNDLE",
    "OPSCTL_HOST",
    "OPSCTL_CA",
    "OPSCTL_TOKEN",
    "OPSCTL_TOKEN_FILE",
    "XDG_CONFIG_HOME",
    "HOME",
];

/// A snapshot of the variables. `Debug` shows their names only: some are secrets.
#[derive(Clone, Default)]
pub struct Environment(HashMap<&'static str, OsString>);

impl Environment {
    /// The process's own.
    pub fn capture() -> Self {
        Self(NAMES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect())
    }

    /// These variables and no others.
    pub fn of<const N: usize>(pairs: [(&'static str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name, OsString::from(value))).collect())
    }

    #[cfg(test)]
    pub(super) fn add(&mut self, pairs: &[(&'static str, &str)]) {
        self.0.extend(pairs.iter().map(|(name, value)| (*name, OsString::from(value))));
    }

    /// A variable's text; set but empty counts as not set.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let Some(value) = self.0.get(name).filter(|v| !v.is_empty()) else { return Ok(None) };
        match value.to_str() {
            Some(text) => Ok(Some(text)),
            None => Err(Error::Variable { name, problem: "it is not UTF-8".into() }),
        }
    }

    /// A variable as a path; set but empty counts as not set.
    pub(super) fn path(&self, name: &'static str) -> Option<PathBuf> {
        self.0.get(name).filter(|v| !v.is_empty()).map(PathBuf::from)
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
