//! The folder of the parts: one subfolder a part, named after a hash of what it is made from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Error, Progress};

/// Stands in a part's folder once the part is whole; a folder without it is leftover of a killed build.
const STAMP: &str = ".complete";

/// The folder of the parts.
#[derive(Debug)]
pub(super) struct Store {
    root: PathBuf,
}

/// The turn of one process; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: File,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A folder for something that may be thrown away: caches.
    pub(super) fn cache(&self, name: &str) -> PathBuf {
        self.root.join("cache").join(name)
    }

    /// Waits until no other process builds parts here.
    pub(super) fn take_turn(&self, progress: Progress<'_>) -> Result<Turn, Error> {
        let path = self.root.join("lock");
        let refused = |source| Error::Io { doing: "lock", path: path.clone(), source };
        fs::create_dir_all(&self.root).map_err(refused)?;
        let lock = File::create(&path).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                progress("another process is at it, waiting for its turn to end");
                lock.lock().map_err(refused)?;
            }
            Err(fs::TryLockError::Error(source)) => return Err(refused(source)),
        }
        Ok(Turn { _lock: lock })
    }

    /// The folder of the part, when it is whole.
    pub(super) fn present(&self, name: &str, made_from: &[&[u8]]) -> Option<PathBuf> {
        let path = self.place(name, made_from);
        path.join(STAMP).exists().then_some(path)
    }

    /// The folder of the part, built by `build` when it is not whole. The caller has the turn.
    pub(super) fn ensure<E: From<Error>>(
        &self,
        name: &str,
        made_from: &[&[u8]],
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.place(name, made_from);
        let stamp = path.join(STAMP);
        if stamp.exists() {
            return Ok(path);
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::Io { doing: "clear", path, source }.into()),
        }
        fs::create_dir_all(&path).map_err(|source| Error::Io {
            doing: "make folder",
            path: path.clone(),
            source,
        })?;
        build(&path)?;
        File::create(&stamp).map_err(|source| Error::Io { doing: "write", path: stamp, source })?;
        Ok(path)
    }

    fn place(&self, name: &str, made_from: &[&[u8]]) -> PathBuf {
        self.root.join(format!("{name}-{:016x}", fingerprint(made_from)))
    }
}

/// FNV-1a over the inputs and their lengths: stable over releases of Rust, and nobody attacks it here.
fn fingerprint(inputs: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    for input in inputs {
        input.len().to_le_bytes().into_iter().chain(input.iter().copied()).for_each(&mut mix);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_built_once_and_again_when_its_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("parts"));
        let built = std::cell::Cell::new(0);
        let build = |path: &Path| {
            built.set(built.get() + 1);
            fs::write(path.join("tool"), "x").map_err(|_| Error::Interrupted)
        };
        let first = store.ensure("tool", &[b"v1"], build).unwrap();
        assert_eq!(store.ensure("tool", &[b"v1"], build).unwrap(), first);
        assert_eq!(store.present("tool", &[b"v1"]), Some(first.clone()));
        assert_eq!(built.get(), 1);

        assert_eq!(store.present("tool", &[b"v2"]), None);
        assert_ne!(store.ensure("tool", &[b"v2"], build).unwrap(), first);
        assert_eq!(built.get(), 2);
    }

    #[test]
    fn leftovers_of_a_failed_build_are_cleared() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_path_buf());
        let cut = store.ensure("tool", &[b"v1"], |path| {
            fs::write(path.join("half"), "x").unwrap();
            Err(Error::Interrupted)
        });
        assert!(cut.is_err());
        assert_eq!(store.present("tool", &[b"v1"]), None);
        let whole = store.ensure("tool", &[b"v1"], |_| Ok::<_, Error>(())).unwrap();
        assert!(!whole.join("half").exists());
    }

    #[test]
    fn inputs_are_told_apart_by_their_borders() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
    }

    #[test]
    fn one_process_builds_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_path_buf());
        let turn = store.take_turn(&|_| ()).unwrap();
        let other = File::options().write(true).open(folder.path().join("lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(turn);
        other.try_lock().unwrap();
    }
}
