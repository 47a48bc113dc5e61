//! Backups as they go over the wire.

use ops_domain::backup::manifest::{CollectionRecord, Purpose};
use ops_domain::backup::{Backup, BackupState, Level, Listing, Origin};
use ops_domain::{Error, Reason, Result};
use ops_proto::v1;

use super::timestamp;

/// How many backups a list has when nobody says, and at most.
const LIMIT: usize = 50;
const LIMIT_MAX: usize = 1_000;

/// What is in the store.
#[must_use]
pub fn listing(listing: &Listing) -> v1::ListBackupsResponse {
    v1::ListBackupsResponse {
        backups: listing.backups.iter().map(backup).collect(),
        folder: listing.folder.clone(),
        free_bytes: listing.free_bytes,
    }
}

/// How many are asked for.
///
/// # Errors
/// `INVALID_ARGUMENT` for more than a thousand.
pub fn limit(limit: u32) -> Result<usize> {
    match usize::try_from(limit).unwrap_or(usize::MAX) {
        0 => Ok(LIMIT),
        limit if limit <= LIMIT_MAX => Ok(limit),
        limit => Err(Error::new(Reason::InvalidArgument, format!("limit is {limit}, at most {LIMIT_MAX}"))
            .effect("nothing was done")),
    }
}

/// How deep to look.
///
/// # Errors
/// `INVALID_ARGUMENT` for a number that is none of the levels.
pub fn level(level: i32) -> Result<Level> {
    match v1::VerifyLevel::try_from(level) {
        Ok(v1::VerifyLevel::Unspecified | v1::VerifyLevel::Structure) => Ok(Level::Structure),
        Ok(v1::VerifyLevel::Checksum) => Ok(Level::Checksum),
        Ok(v1::VerifyLevel::Manifest) => Ok(Level::Manifest),
        Err(_) => Err(unknown_level(&level.to_string())),
    }
}

/// How deep to look, by its name.
///
/// # Errors
/// `INVALID_ARGUMENT` for a word that is none of the levels.
pub fn level_named(name: &str) -> Result<Level> {
    match name {
        "" | "structure" => Ok(Level::Structure),
        "checksum" => Ok(Level::Checksum),
        "manifest" => Ok(Level::Manifest),
        other => Err(unknown_level(&other.chars().take(32).flat_map(char::escape_debug).collect::<String>())),
    }
}

fn unknown_level(level: &str) -> Error {
    let message = format!("there is no level {level}: manifest, checksum, structure");
    Error::new(Reason::InvalidArgument, message).effect("nothing was done")
}

/// One backup. Of one whose manifest cannot be read, only what the folder says.
#[must_use]
pub fn backup(backup: &Backup) -> v1::Backup {
    let state = match backup.state {
        BackupState::Ok => v1::BackupState::Ok,
        BackupState::OkWithWarnings => v1::BackupState::OkWithWarnings,
        BackupState::Partial => v1::BackupState::Partial,
        BackupState::Corrupt => v1::BackupState::Corrupt,
    };
    let mut told = v1::Backup {
        id: backup.id.to_string(),
        state: state as i32,
        warnings: backup.problem.iter().map(ToString::to_string).collect(),
        verified: backup.verified.map_or(v1::VerifyLevel::Unspecified, |(level, _)| level_told(level)) as i32,
        verified_at: backup.verified.map(|(_, at)| timestamp(at)),
        origin: match backup.origin {
            Origin::Agent => "agent",
            Origin::Foreign => "foreign",
        }
        .to_owned(),
        manifest_hash: backup.manifest_hash.clone(),
        path: backup.path.clone(),
        ..v1::Backup::default()
    };
    let Some(manifest) = &backup.manifest else { return told };
    told.database.clone_from(&manifest.database);
    told.started_at = Some(timestamp(manifest.started_at));
    told.finished_at = Some(timestamp(manifest.finished_at));
    told.documents = manifest.documents();
    told.data_bytes = manifest.bytes();
    told.stored_bytes = manifest.stored();
    told.consistency.clone_from(&manifest.consistency);
    told.tag.clone_from(&manifest.tag);
    told.collections = manifest.collections.iter().map(collection).collect();
    told.warnings.extend(manifest.warnings.iter().cloned());
    told.warnings.extend(manifest.missing.iter().map(|name| format!("{} is missing", name.escape_debug())));
    told.server = manifest.server.to_string();
    told.format_version = manifest.version;
    told.purpose = match manifest.purpose {
        Purpose::Manual => "manual",
        Purpose::Safety => "safety",
    }
    .to_owned();
    told
}

fn collection(collection: &CollectionRecord) -> v1::BackupCollection {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    v1::BackupCollection {
        name: collection.name.clone(),
        documents: collection.documents,
        data_bytes: collection.bytes,
        stored_bytes: collection.stored,
        indexes: number(collection.indexes.len()),
        digest: collection.digest.clone(),
        segments: number(collection.segments.len()),
    }
}

const fn level_told(level: Level) -> v1::VerifyLevel {
    match level {
        Level::Manifest => v1::VerifyLevel::Manifest,
        Level::Checksum => v1::VerifyLevel::Checksum,
        Level::Structure => v1::VerifyLevel::Structure,
    }
}
