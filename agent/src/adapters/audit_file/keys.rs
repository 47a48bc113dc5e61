//! The keys of epochs: the next one is on disk before it is named, the old one is erased once its checkpoint stands.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ops_trust::audit::Epoch;
use ops_trust::key::{PublicKey, SigningKey};

use super::StartError;

const MAX_KEY_BYTES: u64 = 4 * 1024;

fn file(folder: &Path, number: u64) -> PathBuf {
    folder.join(Epoch::file_name(number))
}

/// The key of epoch 0, that `opsd init` made.
pub(super) fn first(folder: &Path) -> Result<Epoch, StartError> {
    let path = file(folder, 0);
    let key = |why: String| StartError::Key { path: path.clone(), why };
    let pem = ops_trust::private_file::read_private(&path, MAX_KEY_BYTES)
        .map_err(|error| key(error.to_string()))?;
    Ok(Epoch { number: 0, key: SigningKey::from_pem(&pem).map_err(|error| key(error.to_string()))? })
}

/// Puts an epoch's key on disk, in the place of one that was left there by a step that never happened.
pub(super) fn store(folder: &Path, epoch: &Epoch) -> Result<(), String> {
    let pem = epoch.key.to_pem().map_err(|error| error.to_string())?;
    ops_trust::private_file::replace(&file(folder, epoch.number), pem.expose().as_bytes())
        .map_err(|error| error.to_string())
}

/// Overwrites and removes a key.
pub(super) fn erase(folder: &Path, number: u64) -> std::io::Result<()> {
    erase_file(&file(folder, number))
}

/// The key that the chain expects; all others are erased: older ones have done their work, newer ones belong to a step
/// that never happened.
pub(super) fn settle(folder: &Path, number: u64, public: PublicKey) -> Result<Epoch, StartError> {
    let path = file(folder, number);
    let pem = ops_trust::private_file::read_private(&path, MAX_KEY_BYTES)
        .map_err(|error| StartError::Key { path: path.clone(), why: error.to_string() })?;
    let key = SigningKey::from_pem(&pem)
        .map_err(|error| StartError::Key { path: path.clone(), why: error.to_string() })?;
    if key.public() != public {
        let why = format!("the trail expects the key {public}");
        return Err(StartError::Key { path, why });
    }
    let entries =
        fs::read_dir(folder).map_err(|source| StartError::Io { path: folder.to_owned(), source })?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let other = name
            .to_str()
            .and_then(|name| name.strip_prefix("epoch-"))
            .and_then(|rest| rest.strip_suffix(".key"))
            .and_then(|text| text.parse::<u64>().ok())
            .is_some_and(|found| found != number);
        if other {
            erase_file(&entry.path()).map_err(|source| StartError::Io { path: entry.path(), source })?;
        }
    }
    Ok(Epoch { number, key })
}

fn erase_file(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(64 * 1024);
    file.write_all(&vec![0; length])?;
    file.sync_all()?;
    fs::remove_file(path)
}
