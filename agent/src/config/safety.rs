//! What must be true of a file before the agent trusts it. Each message says what to run.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A regular file of ours or root's that nobody else may read or write.
///
/// # Errors
/// One line: path, what is wrong, what to run.
pub fn private_file(path: &Path) -> Result<(), String> {
    let found = regular(path)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{path} has mode {mode:04o}, so others may use the key; run: chmod 0600 {path}",
            path = path.display()
        ));
    }
    owner(path, &found)
}

/// A regular file of ours or root's that nobody else may write.
///
/// # Errors
/// One line: path, what is wrong, what to run.
pub fn trusted_file(path: &Path) -> Result<(), String> {
    let found = regular(path)?;
    not_writable(path, &found)?;
    owner(path, &found)
}

/// A folder of ours that nobody else may enter; made when it is missing and its parent is there.
pub(super) fn private_folder(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(format!("{path} is missing; run: install -d -m 0700 {path}", path = path.display()));
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if !found.is_dir() {
        return Err(format!("{} is not a folder; name a folder of the agent's own", path.display()));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "{path} has mode {mode:04o}, so others may look into it; run: chmod 0700 {path}",
            path = path.display()
        ));
    }
    owner(path, &found)
}

fn regular(path: &Path) -> Result<Metadata, String> {
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{} is missing; run: opsd init", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    if found.is_file() { Ok(found) } else { Err(format!("{} is not a regular file", path.display())) }
}

fn not_writable(path: &Path, found: &Metadata) -> Result<(), String> {
    let mode = found.mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    Err(format!(
        "{path} has mode {mode:04o}, so others may change it; run: chmod go-w {path}",
        path = path.display()
    ))
}

fn owner(path: &Path, found: &Metadata) -> Result<(), String> {
    let ours = nix::unistd::geteuid().as_raw();
    if found.uid() == 0 || found.uid() == ours {
        return Ok(());
    }
    Err(format!(
        "{path} belongs to uid {}, not to the agent's uid {ours}; run: chown {ours} {path}",
        found.uid(),
        path = path.display()
    ))
}
