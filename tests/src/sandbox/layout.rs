//! Where things lie in a sandbox's folder, and which ports its programs have.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::Error;

/// Stands in every sandbox's folder: such a folder may be cleared for the next one.
const NOTE: &str = ".ops-sandbox";
/// Longest path of a socket: the system takes 107 bytes, and supervisord adds its pid while it makes one.
const LONGEST_SOCKET: usize = 90;
/// Ports below those that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The folders and files.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    /// Its own folder when the sandbox's path is too long for a socket, else inside it.
    pub(super) sockets: PathBuf,
}

impl Layout {
    /// Makes the folders; what a former sandbox left in `dir` is cleared.
    pub(super) fn make(dir: &Path) -> Result<Self, Error> {
        let dir = std::path::absolute(dir).map_err(Error::doing("find the sandbox's folder"))?;
        usable_name(&dir)?;
        clear(&dir)?;
        for folder in [dir.clone(), dir.join("logs"), dir.join("mongodb"), dir.join("state"), dir.join("run")]
        {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(Error::doing(format!("make {}", folder.display())))?;
        }
        fs::write(dir.join(NOTE), "A sandbox of cargo xtask: cleared by the next one.\n")
            .map_err(Error::doing("mark the sandbox's folder"))?;
        let sockets = sockets(&dir)?;
        Ok(Self { dir, sockets })
    }

    pub(super) fn supervisor_config(&self) -> PathBuf {
        self.dir.join("supervisord.conf")
    }

    pub(super) fn supervisor_log(&self) -> PathBuf {
        self.logs().join("supervisord.log")
    }

    pub(super) fn supervisor_socket(&self) -> PathBuf {
        self.sockets.join("supervisor.sock")
    }

    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("mongodb")
    }

    pub(super) fn backend_state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }
}

/// The loopback addresses of a sandbox.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) mongodb: SocketAddr,
    pub(super) backend: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) frontend: SocketAddr,
    pub(super) slow: SocketAddr,
    pub(super) flap: SocketAddr,
    pub(super) stubborn: SocketAddr,
    pub(super) agent: SocketAddr,
}

impl Addresses {
    /// Eight neighbouring ports that nobody listens on.
    pub(super) fn free() -> Result<Self, Error> {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        for attempt in 0..200_u32 {
            let spread = RandomState::new().hash_one((std::process::id(), attempt));
            let slots = u64::from((PORTS.end - PORTS.start) / 8);
            // Below the number of slots, hence within the range.
            let slot = u16::try_from(spread % slots).unwrap_or_default();
            let base = PORTS.start + slot * 8;
            let held: Vec<_> = (base..base + 8).map_while(|port| TcpListener::bind(at(port)).ok()).collect();
            if held.len() == 8 {
                return Ok(Self {
                    mongodb: at(base),
                    backend: at(base + 1),
                    admin: at(base + 2),
                    frontend: at(base + 3),
                    slow: at(base + 4),
                    flap: at(base + 5),
                    stubborn: at(base + 6),
                    agent: at(base + 7),
                });
            }
        }
        Err(Error::Failed { what: "finding free loopback ports".to_owned(), evidence: String::new() })
    }
}

/// What supervisord's configuration can hold: it has no way to quote these.
fn usable_name(dir: &Path) -> Result<(), Error> {
    let why = match dir.to_str() {
        None => "a sandbox's folder needs a name in UTF-8",
        Some(name) if name.chars().any(|c| c.is_control() || "\"'\\;,".contains(c)) => {
            "a sandbox's folder may not have quotes, backslashes, commas or semicolons in its name"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::Folder { dir: dir.to_path_buf(), why })
}

fn clear(dir: &Path) -> Result<(), Error> {
    let refused = |why| Err(Error::Folder { dir: dir.to_path_buf(), why });
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(Error::Io { doing: format!("look into {}", dir.display()), source }),
    };
    if entries.next().is_none() {
        return Ok(());
    }
    if !dir.join(NOTE).exists() {
        return refused("is not empty and not a former sandbox's; choose another folder");
    }
    let running = crate::belongings::all(dir).map_err(Error::doing("look for the former sandbox"))?;
    if !running.is_empty() {
        return refused("a sandbox runs here; end it first: cargo xtask sandbox down --dir DIR");
    }
    fs::remove_dir_all(dir).map_err(Error::doing(format!("clear {}", dir.display())))
}

fn sockets(dir: &Path) -> Result<PathBuf, Error> {
    let inside = dir.join("run");
    if inside.join("supervisor.sock").as_os_str().len() <= LONGEST_SOCKET {
        return Ok(inside);
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
    let short = runtime.unwrap_or_else(|| PathBuf::from("/tmp")).join("ops-XXXXXX");
    let made = nix::unistd::mkdtemp(&short)
        .map_err(|errno| Error::doing(format!("make {}", short.display()))(errno.into()))?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o700))
        .map_err(Error::doing("close the folder of the sockets"))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let error = Layout::make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert!(dir.path().join("thesis.txt").exists());
    }

    #[test]
    fn a_former_sandbox_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::make(dir.path()).unwrap();
        fs::write(first.logs().join("backend.out.log"), "old").unwrap();
        let second = Layout::make(dir.path()).unwrap();
        assert!(!second.logs().join("backend.out.log").exists());
    }

    #[test]
    fn sockets_have_short_paths_however_deep_the_folder_is() {
        let dir = tempfile::tempdir().unwrap();
        let deep = Layout::make(&dir.path().join("d".repeat(120))).unwrap();
        assert!(deep.supervisor_socket().as_os_str().len() <= LONGEST_SOCKET);
        assert_eq!(fs::metadata(&deep.sockets).unwrap().permissions().mode() & 0o777, 0o700);
        fs::remove_dir_all(&deep.sockets).unwrap();
    }

    #[test]
    fn names_that_supervisord_cannot_quote_are_refused() {
        let error = Layout::make(Path::new("/tmp/a;b")).unwrap_err().to_string();
        assert!(error.contains("semicolons"), "{error}");
    }
}
