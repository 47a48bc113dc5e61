//! Opens files beneath allowed folders, never through a symlink and never out of them, whatever changes meanwhile.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use ops_domain::ports::LogFault;

/// How often an open is tried that a rename came between.
const MOST_AGAIN: u32 = 100;

pub(super) struct Folders {
    folders: Vec<PathBuf>,
    /// The kernel (before 5.6) or a seccomp filter has no openat2.
    stepwise: AtomicBool,
}

impl Folders {
    pub(super) fn new(folders: Vec<PathBuf>) -> Self {
        Self { folders, stepwise: AtomicBool::new(false) }
    }

    pub(super) fn open(&self, path: &Path, flags: OFlag) -> Result<File, LogFault> {
        let (folder, rest) = self.place(path)?;
        let flags = flags | OFlag::O_CLOEXEC;
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = open(folder, directory, Mode::empty()).map_err(|errno| match errno {
            Errno::ENOTDIR | Errno::ELOOP => LogFault::Refused(format!(
                "the allowed folder {} is a symlink or no folder",
                folder.display()
            )),
            other => fault(other),
        })?;
        if !self.stepwise.load(Ordering::Relaxed) {
            let resolve = ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS;
            for _ in 0..MOST_AGAIN {
                match openat2(&root, rest, OpenHow::new().flags(flags).resolve(resolve)) {
                    Err(Errno::ENOSYS) => {
                        self.stepwise.store(true, Ordering::Relaxed);
                        break;
                    }
                    // Something was renamed just then. That does not say the file is missing.
                    Err(Errno::EAGAIN) => {}
                    opened => return opened.map(File::from).map_err(fault),
                }
            }
        }
        stepwise(root, rest, flags).map(File::from).map_err(fault)
    }

    /// The allowed folder that a path is beneath, and the rest of the path, plain names only.
    fn place<'a>(&self, path: &'a Path) -> Result<(&Path, &'a Path), LogFault> {
        let plain = |rest: &&Path| {
            let mut parts = rest.components().peekable();
            parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
        };
        self.folders
            .iter()
            .find_map(|folder| {
                path.strip_prefix(folder).ok().filter(plain).map(|rest| (folder.as_path(), rest))
            })
            .ok_or_else(|| LogFault::Refused("it is not beneath an allowed folder".to_owned()))
    }
}

/// As openat2 does it: each component without following a symlink. Without `..` in the path, that stays beneath.
fn stepwise(root: OwnedFd, rest: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mut at = root;
    let mut parts = rest.components().peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() {
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
        } else {
            flags | OFlag::O_NOFOLLOW
        };
        at = openat(&at, part.as_os_str(), flags, Mode::empty())?;
    }
    Ok(at)
}

fn fault(errno: Errno) -> LogFault {
    match errno {
        Errno::ENOENT => LogFault::Missing,
        Errno::EACCES | Errno::EPERM => LogFault::Denied,
        Errno::ELOOP | Errno::ENOTDIR => LogFault::Refused("there is a symlink in its path".to_owned()),
        Errno::EXDEV => LogFault::Refused("it leads out of its allowed folder".to_owned()),
        // A socket or a device without a driver.
        Errno::ENXIO | Errno::ENODEV => LogFault::Refused("it is not a regular file".to_owned()),
        other => LogFault::Failed(other.desc().to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways refuse the same.
    #[test]
    fn nothing_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let allowed = dir.path().join("logs");
        std::fs::create_dir_all(allowed.join("sub")).unwrap();
        std::fs::write(allowed.join("sub/a.log"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), allowed.join("out")).unwrap();
        std::os::unix::fs::symlink("sub", allowed.join("link")).unwrap();
        std::os::unix::fs::symlink("sub/a.log", allowed.join("inside")).unwrap();
        for stepwise in [false, true] {
            let folders = Folders::new(vec![allowed.clone()]);
            folders.stepwise.store(stepwise, Ordering::Relaxed);
            let open =
                |path: &str| folders.open(Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK).map(drop);
            let at = |name: &str| allowed.join(name).to_str().unwrap().to_owned();
            assert_eq!(open(&at("sub/a.log")), Ok(()));
            assert_eq!(open(&at("sub/b.log")), Err(LogFault::Missing));
            for bad in [
                &at("out"),
                &at("link/a.log"),
                &at("inside"),
                &at("../secret"),
                &at("sub/../../secret"),
                &at(""),
                "/etc/passwd",
                "/proc/self/fd/0",
                "relative",
                "",
                &format!("{}x/secret", allowed.display()),
            ] {
                assert!(matches!(open(bad), Err(LogFault::Refused(_))), "{bad}: {:?}", open(bad));
            }
        }
    }

    #[test]
    fn a_folder_that_became_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/a.log"), "x").unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("logs")).unwrap();
        let folders = Folders::new(vec![dir.path().join("logs")]);
        let opened = folders.open(&dir.path().join("logs/a.log"), OFlag::O_RDONLY);
        assert!(matches!(opened, Err(LogFault::Refused(_))));
    }
}
