//! Files that only their owner may read, from their first byte; the only code of this crate that writes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a private file or folder could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is there already and nothing is overwritten.
    #[error("{path} exists already, and nothing is overwritten")]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// Others than its owner may read or write it.
    #[error("{path} has mode {mode:04o}: others may read it; run: chmod {wanted:04o} {path}")]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The bits it should have.
        wanted: u32,
    },
    /// It is larger than any such file can be.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A symlink, FIFO, device or folder stands where a file should be.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Makes `path` with mode 0600 and writes `bytes`, synced to disk. Refuses when anything, even a dangling symlink, is
/// there already.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create_with_mode(path, bytes, 0o600)
}

/// As [`create`], readable for all: certificates and configuration without secrets.
pub fn create_public(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    create_with_mode(path, bytes, 0o644)
}

/// Makes a folder with mode 0700. Refuses when anything is there already.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o700).create(path).map_err(|e| refused(path, e))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|e| refused(path, e))
}

/// Puts `bytes` in the place of `path` in one step: readers see the old file or the new one, never a part. The new
/// file has mode 0600.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    stage(path, bytes, |_| Ok(()))
}

/// As [`replace`], but the new file has the mode and the owner of the old one, which has to be there.
pub fn update(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let old = fs::metadata(path).map_err(|e| refused(path, e))?;
    stage(path, bytes, |staged| {
        fs::set_permissions(staged, fs::Permissions::from_mode(old.mode() & 0o7777))?;
        // Only root can give a file away, and only root's edits of others' files need it.
        match fs::metadata(staged)? {
            ours if ours.uid() == old.uid() && ours.gid() == old.gid() => Ok(()),
            ours if ours.uid() == 0 => std::os::unix::fs::chown(staged, Some(old.uid()), Some(old.gid())),
            _ => Ok(()),
        }
    })
}

/// Appends `bytes` with one write and syncs; makes the file (0600) where it is missing.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let io = |e| refused(path, e);
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Reads a whole regular file of at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let io = |e| refused(path, e);
    // Looked at before it is opened: opening a FIFO would wait for its writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// As [`read`], and refuses when others than the owner may read or write the file: for keys.
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    check_private(path, 0o600)?;
    read(path, limit)
}

/// Refuses when group or others have any right on `path`; `wanted` is the mode that the message proposes.
pub fn check_private(path: &Path, wanted: u32) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(|e| refused(path, e))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::TooOpen { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

fn stage(path: &Path, bytes: &[u8], dress: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let staged = path.with_file_name(name);
    match fs::remove_file(&staged) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(refused(&staged, e)),
    }
    create(&staged, bytes)?;
    if let Err(error) = dress(&staged).and_then(|()| fs::rename(&staged, path)) {
        // The old file stands; the staged one would only confuse.
        drop(fs::remove_file(&staged));
        return Err(refused(path, error));
    }
    sync_parent(path)
}

fn create_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let io = |e| refused(path, e);
    // 0600 at creation whatever the final mode: no moment with more rights than meant, under any umask.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    let written = file
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half a key is worse than none, and this call made the file.
        drop(fs::remove_file(path));
        return Err(refused(path, error));
    }
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| refused(parent, e))
}

fn refused(path: &Path, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::AlreadyExists {
        Error::Exists { path: path.to_owned() }
    } else {
        Error::Io { path: path.to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_private_file_is_0600_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(create(&path, b"other"), Err(Error::Exists { .. })));
        assert_eq!(read_private(&path, 100).unwrap(), b"secret");
    }

    #[test]
    fn a_planted_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("key"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(matches!(create(&link, b"secret"), Err(Error::Exists { .. })));
        assert!(!target.exists());
    }

    #[test]
    fn an_open_key_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = read_private(&path, 100).unwrap_err().to_string();
        assert!(error.contains("chmod 0600"), "{error}");
    }

    #[test]
    fn replacing_is_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        create_public(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!((read(&path, 10).unwrap().as_slice(), mode(&path)), (b"new".as_slice(), 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn updating_keeps_the_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.toml");
        assert!(update(&path, b"new").is_err());
        create_public(&path, b"old").unwrap();
        update(&path, b"new").unwrap();
        assert_eq!((read(&path, 10).unwrap().as_slice(), mode(&path)), (b"new".as_slice(), 0o644));
    }

    #[test]
    fn reading_is_bounded_and_refuses_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        create(&path, &[0; 11]).unwrap();
        assert!(matches!(read(&path, 10), Err(Error::TooLarge { .. })));
        assert!(matches!(read(dir.path(), 10), Err(Error::NotAFile { .. })));
    }
}
