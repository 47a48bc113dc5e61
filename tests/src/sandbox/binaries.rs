//! Our own programs: what cargo builds of this workspace.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::Error;
use crate::parts;

/// The programs of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The agent.
    pub opsd: PathBuf,
    /// The client.
    pub opsctl: PathBuf,
    /// The sample platform.
    pub sample_platform: PathBuf,
}

impl Binaries {
    /// Those in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        // supervisord would look for a relative one elsewhere.
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
        let program = |name| folder.join(name);
        Self { opsd: program("opsd"), opsctl: program("opsctl"), sample_platform: program("sample-platform") }
    }

    /// Those in `OPS_BIN_DIR`, else those of this workspace, brought up to date by cargo once a process.
    ///
    /// # Errors
    /// When cargo cannot build them.
    pub fn current() -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os("OPS_BIN_DIR") {
            return Ok(Self::in_folder(Path::new(&folder)));
        }
        // `cargo test` builds the binaries of a package only for that package's own tests.
        static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
        match BUILT.get_or_init(build) {
            Ok(()) => Ok(Self::in_folder(&folder_of_this_build())),
            Err(evidence) => {
                Err(Error::Failed { what: "cargo build --workspace".to_owned(), evidence: evidence.clone() })
            }
        }
    }
}

fn build() -> Result<(), String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(parts::workspace()).args(["build", "--workspace", "--bins", "--quiet"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Tests run from `target/PROFILE/deps`, chores from `target/PROFILE`.
fn folder_of_this_build() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder).to_path_buf()
    } else {
        folder.to_path_buf()
    }
}
