//! Backups and restores: list, create, verify, restore.
//!
//! A backup is listed only when it is whole; `latest` is the newest whole one that this agent made itself; a restore
//! destroys nothing before it has proven what it puts in its place.

mod create;
pub mod digest;
pub mod manifest;
mod recovery;
mod restore;
mod size;
mod swap;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::Authorized;
use crate::error::{Error, Reason, Result};
use crate::health::{Newest, NewestBackup};
use crate::ids::{BackupId, is_name};
use crate::operation::{Recovery, Task};
use crate::ports::backup_catalog::{BackupCatalog, CatalogEntry};
use crate::ports::backup_store::{BackupStore, StoreError, StoredManifest};
use crate::ports::database::{Database, DatabaseError};
use crate::ports::dump::Dump;
use manifest::{Completeness, Maker, Manifest, Purpose};
pub use size::bytes as bytes_in_words;

/// How deep a backup was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The manifest, and the size of every file.
    Manifest,
    /// And the hash of every stored byte.
    Checksum,
    /// And every document: decompressed, walked, counted, digested.
    Structure,
}

impl Level {
    /// `structure`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Manifest => "manifest",
            Level::Checksum => "checksum",
            Level::Structure => "structure",
        }
    }
}

/// What a backup is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupState {
    /// All is in it.
    Ok,
    /// All is in it, and there is something to read.
    OkWithWarnings,
    /// Some collections are missing: never `latest`.
    Partial,
    /// Its bytes are not what they should be.
    Corrupt,
}

/// Who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This agent: its catalog knows the manifest's hash.
    Agent,
    /// Someone else, or who took its place.
    Foreign,
}

/// A backup, as it is listed.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// What it is worth.
    pub state: BackupState,
    /// Who made it.
    pub origin: Origin,
    /// `None`: it cannot be read.
    pub manifest: Option<Arc<Manifest>>,
    /// BLAKE3 of its manifest, hex.
    pub manifest_hash: String,
    /// The deepest check that it passed, and when; checks of another manifest do not count.
    pub verified: Option<(Level, Timestamp)>,
    /// What is wrong with it.
    pub problem: Option<Damage>,
    /// Where it lies.
    pub path: String,
    /// What is wrong with it now; the rest of `problem` is what an earlier check found.
    seen: Option<Damage>,
}

/// Where a backup is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// The collection whose documents it holds; empty for a manifest.
    pub collection: String,
    /// What is wrong: no full stop.
    pub why: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.collection.is_empty() {
            write!(f, "{}: {}", self.file, self.why)
        } else {
            write!(f, "{} (collection {}): {}", self.file, self.collection.escape_debug(), self.why)
        }
    }
}

/// What is in the store.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Newest first.
    pub backups: Vec<Backup>,
    /// Where.
    pub folder: String,
    /// Room on its volume.
    pub free_bytes: u64,
}

/// What backups are made of and put into.
#[derive(Clone)]
pub struct Ports {
    /// The server that is asked; `None`: none is configured.
    pub database: Option<Arc<dyn Database>>,
    /// The same server, for documents.
    pub dump: Option<Arc<dyn Dump>>,
    /// Where backups lie; `None`: no folder is configured.
    pub store: Option<Arc<dyn BackupStore>>,
    /// What this agent knows of its own backups.
    pub catalog: Arc<dyn BackupCatalog>,
}

/// The backups of this agent.
#[derive(Clone)]
pub struct Backups {
    inner: Arc<Inner>,
}

struct Inner {
    ports: Ports,
    maker: Maker,
}

impl Backups {
    /// `agent` and `version` are written into every manifest.
    #[must_use]
    pub fn new(ports: Ports, agent: &str, version: &str) -> Self {
        let maker = Maker { id: agent.to_owned(), version: version.to_owned() };
        Self { inner: Arc::new(Inner { ports, maker }) }
    }

    /// All of them, newest first, the corrupt ones too.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `STATE_UNAVAILABLE`.
    pub async fn list(&self, _authorized: &Authorized, limit: usize) -> Result<Listing> {
        let store = self.inner.store()?;
        let mut backups = self.inner.all().await?;
        backups.truncate(limit);
        let space = store.space().await?;
        Ok(Listing { backups, folder: store.location(), free_bytes: space.free })
    }

    /// One: by its id, any unique part of it, or `latest`.
    ///
    /// # Errors
    /// `BACKUP_NOT_FOUND` with near ids, `INVALID_ARGUMENT` when several match.
    pub async fn get(&self, _authorized: &Authorized, id: &str) -> Result<Backup> {
        self.inner.resolve(id).await
    }

    /// The newest whole one that this agent made, without its safety backups; what `latest` names.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `STATE_UNAVAILABLE`.
    pub async fn latest(&self, _authorized: &Authorized) -> Result<Option<Backup>> {
        Ok(self.inner.all().await?.into_iter().find(is_latest))
    }

    /// A backup of the configured database.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a tag that is none, `DATABASE_UNCONFIGURED`, `STORE_UNAVAILABLE` when no folder is
    /// configured.
    pub fn create(&self, tag: &str) -> Result<Arc<dyn Task>> {
        if !tag.is_empty() && !is_name(tag) {
            return Err(Error::new(
                Reason::InvalidArgument,
                "a tag is 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or a digit",
            )
            .effect("nothing was done"));
        }
        let database = self.inner.database()?.name().to_owned();
        self.inner.store()?;
        Ok(Arc::new(create::Create { inner: Arc::clone(&self.inner), database, tag: tag.to_owned() }))
    }

    /// A check of a backup's bytes.
    ///
    /// # Errors
    /// As [`Backups::get`].
    pub async fn verify(&self, id: &str, level: Level) -> Result<Arc<dyn Task>> {
        let backup = self.inner.resolve(id).await?;
        Ok(Arc::new(verify::Verify { inner: Arc::clone(&self.inner), id: backup.id, level }))
    }

    /// A restore, over the configured database or, with `to`, into one that does not exist yet.
    ///
    /// # Errors
    /// As [`Backups::get`]; `BACKUP_CORRUPT`; `INVALID_ARGUMENT` for a database name that is none.
    pub async fn restore(&self, id: &str, to: &str) -> Result<Arc<dyn Task>> {
        let database = self.inner.database()?.name().to_owned();
        let to = match to {
            "" => None,
            name if !manifest::is_database_name(name) || ["admin", "local", "config"].contains(&name) => {
                return Err(Error::new(
                    Reason::InvalidArgument,
                    "a database to restore into is 1 to 63 of A-Z a-z 0-9 _ -, and not admin, local or config",
                )
                .effect("nothing was done"));
            }
            name if name == database => {
                return Err(Error::new(
                    Reason::InvalidArgument,
                    format!("{database} is the live database: leave out --to to replace it"),
                )
                .effect("nothing was done"));
            }
            name => Some(name.to_owned()),
        };
        let backup = self.inner.resolve(id).await?;
        if let Some(damage) = &backup.problem {
            return Err(corrupt(&backup.id, damage).effect("nothing was done"));
        }
        let task = restore::Restore::new(Arc::clone(&self.inner), &backup, database, to);
        Ok(Arc::new(task))
    }

    /// What a restarted agent does about the operations of this feature.
    #[must_use]
    pub fn recovery(&self) -> Arc<dyn Recovery> {
        Arc::new(recovery::BackupRecovery { inner: Arc::clone(&self.inner) })
    }

    /// Removes what dead operations left in the store; call it when none runs. Answers what was removed.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, `LOCKED` when another agent writes there just now.
    pub async fn sweep(&self) -> Result<Vec<BackupId>> {
        let Some(store) = &self.inner.ports.store else { return Ok(Vec::new()) };
        let partials = store.partials().await?;
        for id in &partials {
            store.discard(id).await?;
        }
        Ok(partials)
    }
}

/// For the status: the newest that `latest` would name, or a damaged one of our own that is newer.
#[async_trait]
impl Newest for Backups {
    async fn newest(&self, _authorized: &Authorized) -> Result<Option<NewestBackup>> {
        let newest = self.inner.all().await?.into_iter().find(|backup| {
            is_latest(backup) || (backup.state == BackupState::Corrupt && backup.origin == Origin::Agent)
        });
        Ok(newest.and_then(|backup| {
            let manifest = backup.manifest.as_ref()?;
            Some(NewestBackup {
                id: backup.id.to_string(),
                at: manifest.started_at,
                verified: backup
                    .verified
                    .map(|(level, _)| format!("verified: {}", level.name()))
                    .unwrap_or_default(),
                damaged: backup.problem.is_some(),
                bytes: manifest.stored(),
            })
        }))
    }
}

impl Inner {
    fn database(&self) -> Result<&Arc<dyn Database>> {
        self.ports.database.as_ref().ok_or_else(|| DatabaseError::Unconfigured.into())
    }

    fn dump(&self) -> Result<&Arc<dyn Dump>> {
        self.ports.dump.as_ref().ok_or_else(|| DatabaseError::Unconfigured.into())
    }

    fn store(&self) -> Result<&Arc<dyn BackupStore>> {
        self.ports.store.as_ref().ok_or_else(|| StoreError::Unconfigured.into())
    }

    /// Newest first: by the time that the manifest says, an unreadable one by its id, which begins with it.
    async fn all(&self) -> Result<Vec<Backup>> {
        let store = self.store()?;
        let known = Known::read(&*self.ports.catalog).await?;
        let mut backups = Vec::new();
        for id in store.list().await? {
            match look(&**store, &id, &known).await {
                Ok(backup) => backups.push(backup),
                // Removed since it was listed.
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        backups.sort_by(|a, b| age_key(b).cmp(&age_key(a)));
        Ok(backups)
    }

    async fn one(&self, id: &BackupId) -> Result<Backup> {
        let known = Known::read(&*self.ports.catalog).await?;
        Ok(look(&**self.store()?, id, &known).await?)
    }

    async fn resolve(&self, wanted: &str) -> Result<Backup> {
        let all = self.all().await?;
        if wanted == "latest" {
            return all.into_iter().find(is_latest).ok_or_else(no_latest);
        }
        if !is_name(wanted) {
            BackupId::parse(wanted)?;
        }
        let matching: Vec<&Backup> = all.iter().filter(|one| one.id.as_str().contains(wanted)).collect();
        match matching.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(not_found(wanted, &all)),
            several => match several.iter().find(|one| one.id.as_str() == wanted) {
                Some(one) => Ok((*one).clone()),
                None => Err(Error::new(
                    Reason::InvalidArgument,
                    format!("{} backups match \"{wanted}\"", several.len()),
                )
                .lines("matches", "", several.iter().map(|one| one.id.to_string()).collect())
                .effect("nothing was done")),
            },
        }
    }
}

/// What `latest` may name: whole, our own, and not made on the way of a restore.
fn is_latest(backup: &Backup) -> bool {
    matches!(backup.state, BackupState::Ok | BackupState::OkWithWarnings)
        && backup.origin == Origin::Agent
        && backup.manifest.as_ref().is_some_and(|manifest| manifest.purpose == Purpose::Manual)
}

fn age_key(backup: &Backup) -> (String, &BackupId) {
    let at =
        backup.manifest.as_ref().map(|manifest| manifest.started_at.strftime("%Y%m%dT%H%MZ%S%f").to_string());
    (at.unwrap_or_else(|| backup.id.as_str().to_owned()), &backup.id)
}

/// The catalog, by manifest.
struct Known {
    made: BTreeSet<(BackupId, String)>,
    verified: BTreeMap<(BackupId, String), Result<(Level, Timestamp), Damage>>,
}

impl Known {
    async fn read(catalog: &dyn BackupCatalog) -> Result<Self> {
        let mut known = Self { made: BTreeSet::new(), verified: BTreeMap::new() };
        for entry in catalog.entries().await? {
            match entry {
                CatalogEntry::Made { id, manifest_hash, .. } => {
                    known.made.insert((id, manifest_hash));
                }
                CatalogEntry::Verified { id, manifest_hash, level, problem, at } => {
                    let newest = known.verified.entry((id, manifest_hash)).or_insert(Ok((level, at)));
                    // A check that failed takes back what earlier ones said, a less deep one does not.
                    match (problem, &newest) {
                        (Some(damage), _) => *newest = Err(damage),
                        (None, Ok((deepest, _))) if level < *deepest => {}
                        (None, Err(_)) if level < Level::Checksum => {}
                        (None, _) => *newest = Ok((level, at)),
                    }
                }
            }
        }
        Ok(known)
    }
}

/// Reads and checks a manifest with its copy, and the size of every file: level `manifest`.
async fn look(store: &dyn BackupStore, id: &BackupId, known: &Known) -> Result<Backup, StoreError> {
    let path = format!("{}/{id}", store.location());
    let broken = |hash: String, damage: Damage| Backup {
        id: id.clone(),
        state: BackupState::Corrupt,
        origin: Origin::Foreign,
        manifest: None,
        manifest_hash: hash,
        verified: None,
        seen: Some(damage.clone()),
        problem: Some(damage),
        path: path.clone(),
    };
    let damage = |file: &str, why: String| Damage { file: file.to_owned(), collection: String::new(), why };
    let stored = match store.manifest(id).await {
        Ok(stored) => stored,
        Err(StoreError::Corrupt { file, why }) => return Ok(broken(String::new(), damage(&file, why))),
        Err(error) => return Err(error),
    };
    let hash = stored.hash.clone();
    if let Err((file, why)) = copies_agree(&stored) {
        return Ok(broken(hash, damage(file, why)));
    }
    let manifest = match Manifest::parse(&stored.bytes, id) {
        Ok(manifest) => Arc::new(manifest),
        Err(error) => return Ok(broken(hash, damage("manifest.json", error.to_string()))),
    };
    let key = (id.clone(), hash.clone());
    let files: BTreeMap<String, u64> = store.files(id).await?.into_iter().collect();
    let (verified, remembered) = match known.verified.get(&key) {
        Some(Ok(verified)) => (Some(*verified), None),
        Some(Err(damage)) => (None, Some(damage.clone())),
        None => (None, None),
    };
    let seen = wrong_size(&manifest, &files);
    let problem = seen.clone().or(remembered);
    let state = match (&problem, manifest.state) {
        (Some(_), _) => BackupState::Corrupt,
        (None, Completeness::Ok) => BackupState::Ok,
        (None, Completeness::OkWithWarnings) => BackupState::OkWithWarnings,
        (None, Completeness::Partial) => BackupState::Partial,
    };
    Ok(Backup {
        id: id.clone(),
        state,
        origin: if known.made.contains(&key) { Origin::Agent } else { Origin::Foreign },
        manifest: Some(manifest),
        manifest_hash: hash,
        verified: verified.filter(|_| problem.is_none()),
        problem,
        path,
        seen,
    })
}

fn copies_agree(stored: &StoredManifest) -> Result<(), (&'static str, String)> {
    let differs = "it differs from its second copy".to_owned();
    let (hash, body) = stored.copy.split_at_checked(65).unwrap_or((&[], &[]));
    let hash_fits = hash.strip_suffix(b"\n") == Some(stored.hash.as_bytes());
    match (hash_fits, body == &stored.bytes[..]) {
        (true, true) => Ok(()),
        // The hash in the copy is of what the copy holds, so the manifest is the one that changed.
        (false, false) => Err(("manifest.json", differs)),
        _ => Err(("manifest.copy", "it differs from manifest.json".to_owned())),
    }
}

fn wrong_size(manifest: &Manifest, files: &BTreeMap<String, u64>) -> Option<Damage> {
    manifest.collections.iter().find_map(|collection| {
        let why = match files.get(&collection.file) {
            Some(length) if *length == collection.stored => return None,
            Some(length) if *length < collection.stored => {
                format!("{} bytes short", collection.stored - length)
            }
            Some(length) => format!("{} bytes too long", length - collection.stored),
            None => "it is missing".to_owned(),
        };
        Some(Damage { file: collection.file.clone(), collection: collection.name.clone(), why })
    })
}

fn corrupt(id: &BackupId, damage: &Damage) -> Error {
    let error = Error::new(Reason::BackupCorrupt, format!("backup {id} is damaged: {damage}"))
        .about(id)
        .fact("file", &*damage.file);
    let error = if damage.collection.is_empty() {
        error
    } else {
        error.fact("collection", damage.collection.escape_debug().to_string())
    };
    error.next(&["opsctl", "backup", "list"])
}

fn no_latest() -> Error {
    Error::new(Reason::BackupNotFound, "this agent has no whole backup of its own yet")
        .about("latest")
        .next(&["opsctl", "backup", "create"])
        .next(&["opsctl", "backup", "list"])
        .effect("nothing was done")
}

fn not_found(wanted: &str, all: &[Backup]) -> Error {
    let near = all.iter().take(5).map(|one| one.id.to_string()).collect();
    Error::new(Reason::BackupNotFound, format!("there is no backup {wanted}"))
        .about(wanted)
        .lines("newest", "", near)
        .next(&["opsctl", "backup", "list"])
        .effect("nothing was done")
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unconfigured => Error::new(
                Reason::StoreUnavailable,
                "this agent has no backup folder: [backup] dir is not configured",
            ),
            StoreError::Refused { path, why } => Error::new(
                Reason::StoreUnavailable,
                format!("the backup folder {path} is not safe to use: {why}"),
            )
            .about(path),
            StoreError::Locked { path } => {
                Error::new(Reason::Locked, format!("{path} is in use by another backup"))
                    .about(path)
                    .retryable()
            }
            StoreError::NotFound { id } => not_found(&id, &[]),
            StoreError::Corrupt { file, why } => {
                Error::new(Reason::BackupCorrupt, format!("a backup is damaged: {file}: {why}"))
                    .fact("file", file)
            }
            StoreError::NoSpace { what } => {
                Error::new(Reason::NoSpace, format!("the volume of the backups is full: {what}"))
            }
            StoreError::Io { what, detail } => {
                Error::new(Reason::StoreUnavailable, format!("the backup folder failed: {what}"))
                    .fact("system", detail)
            }
        }
    }
}

#[cfg(test)]
mod tests;
