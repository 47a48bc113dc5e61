//! Which folders and files are to be trusted.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use ops_domain::ids::BackupId;
use ops_domain::ports::backup_store::StoreError;

use super::failed;

/// Writable by everyone, or by the group: then what lies in it is not ours alone.
const OTHERS_WRITE: u32 = 0o022;

/// The folder is a folder, ours, and nobody else may write into it.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    let metadata = fs::symlink_metadata(folder)
        .map_err(|error| failed(format!("look at {}", folder.display()), &error))?;
    match distrust(&metadata) {
        None => Ok(()),
        Some(why) => Err(StoreError::Refused { path: folder.display().to_string(), why }),
    }
}

/// A backup's own folder. What is not there is not found; a link in its place is damage.
pub(super) fn check_backup(folder: &Path, id: &BackupId) -> Result<(), StoreError> {
    let metadata = match fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::NotFound { id: id.to_string() });
        }
        Err(error) => return Err(failed(format!("look at {}", folder.display()), &error)),
    };
    match distrust(&metadata) {
        None => Ok(()),
        Some(why) => Err(StoreError::Corrupt { file: id.to_string(), why }),
    }
}

fn distrust(metadata: &Metadata) -> Option<String> {
    let me = nix::unistd::geteuid().as_raw();
    if metadata.file_type().is_symlink() {
        return Some("it is a symbolic link".to_owned());
    }
    if !metadata.is_dir() {
        return Some("it is not a folder".to_owned());
    }
    if metadata.uid() != me {
        return Some(format!("it belongs to user {}, opsd runs as {me}", metadata.uid()));
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Some(format!("others may write into it (mode {:04o}; chmod go-w)", metadata.mode() & 0o7777));
    }
    None
}

/// `20261124T0130Z-m3`: so that `lost+found` or a person's own folder is not taken for a broken backup.
pub(super) fn is_backup(id: &BackupId) -> bool {
    let bytes = id.as_str().as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    digits(0..8)
        && bytes.get(8) == Some(&b'T')
        && digits(9..13)
        && bytes.get(13..15) == Some(b"Z-")
        && bytes.len() > 15
}

/// A folder that only we can enter; one that is there already is left as it is.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The lock file, made if need be; it is never written.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// A regular file, never through a link, and never one that would block.
pub(super) fn open_read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
}

/// A new file that only we can read and write.
pub(super) fn make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}
