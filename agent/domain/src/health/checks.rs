//! The checks of the first hour: database, disk, backup.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::access::Authorized;
use crate::error::Result;
use crate::health::{Check, CheckSource, Verdict};
use crate::ports::database::Database;
use crate::ports::{Clock, DiskSpace};

/// From here on a disk is a warning, in percent.
const DISK_WARN: u8 = 85;
/// From here on it fails.
const DISK_FAIL: u8 = 90;
/// A daily backup, and two hours for it to be made.
const BACKUP_AGE: Duration = Duration::from_secs(26 * 3600);

/// Whether the database answers.
pub struct DatabaseCheck {
    database: Arc<dyn Database>,
}

impl DatabaseCheck {
    /// Of this database.
    #[must_use]
    pub fn new(database: Arc<dyn Database>) -> Self {
        Self { database }
    }
}

#[async_trait]
impl CheckSource for DatabaseCheck {
    async fn check(&self, _authorized: &Authorized) -> Check {
        // A connection that was kept from before the server's restart fails once, and only the server's own answer counts.
        let answer = match self.database.ping().await {
            Err(_) => self.database.ping().await,
            answer => answer,
        };
        let (verdict, text) = match answer {
            Ok(ping) => (
                Verdict::Ok,
                format!("{}, ping {} ms", ping.server, ping.round_trip.as_micros().div_ceil(1000)),
            ),
            Err(error) => (Verdict::Fail, crate::Error::from(error).message),
        };
        Check { name: "database", verdict, text }
    }
}

/// Whether there is room.
pub struct DiskCheck {
    disks: Arc<dyn DiskSpace>,
    paths: Vec<String>,
}

impl DiskCheck {
    /// Of the filesystems of these paths.
    #[must_use]
    pub fn new(disks: Arc<dyn DiskSpace>, paths: Vec<String>) -> Self {
        Self { disks, paths }
    }
}

#[async_trait]
impl CheckSource for DiskCheck {
    async fn check(&self, _authorized: &Authorized) -> Check {
        // A filesystem over a dead network hangs in statvfs; such a thread is given up, not waited for.
        let (disks, paths) = (Arc::clone(&self.disks), self.paths.clone());
        let looking = tokio::task::spawn_blocking(move || {
            paths.iter().map(|path| judged(path, disks.usage(path))).collect::<Vec<_>>()
        });
        let mut facts = match tokio::time::timeout(Duration::from_secs(2), looking).await {
            Ok(Ok(facts)) => facts,
            _ => vec![(Verdict::Unknown, "no answer in 2 s".to_owned())],
        };
        facts.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
        let verdict = facts.first().map_or(Verdict::Unknown, |(verdict, _)| *verdict);
        let text = facts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
        Check { name: "disk", verdict, text }
    }
}

fn judged(path: &str, usage: Result<crate::ports::DiskUsage, String>) -> (Verdict, String) {
    match usage {
        Ok(usage) => {
            let verdict = match usage.used_percent {
                DISK_FAIL.. => Verdict::Fail,
                DISK_WARN.. => Verdict::Warn,
                _ => Verdict::Ok,
            };
            (verdict, format!("{path} {}% used, {} free", usage.used_percent, size(usage.available)))
        }
        Err(why) => (Verdict::Unknown, format!("{path}: {why}")),
    }
}

/// `38 GB`, `512 MB`, `1.5 MB`, `343 kB`. Cut, not rounded: free space is never said to be more than it is.
fn size(bytes: u64) -> String {
    match bytes {
        10_000_000_000.. => format!("{} GB", bytes / 1_000_000_000),
        1_000_000_000.. => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
        10_000_000.. => format!("{} MB", bytes / 1_000_000),
        1_000_000.. => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        1_000.. => format!("{} kB", bytes / 1_000),
        _ => format!("{bytes} B"),
    }
}

/// What is known of the newest backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewestBackup {
    /// Its id.
    pub id: String,
    /// When it was made.
    pub at: Timestamp,
    /// What was proven of it: "verified: structure"; empty: nothing.
    pub verified: String,
    /// It is known to be damaged.
    pub damaged: bool,
    /// Its size.
    pub bytes: u64,
}

/// Where the newest backup is asked for.
#[async_trait]
pub trait Newest: Send + Sync {
    /// `None`: there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn newest(&self, authorized: &Authorized) -> Result<Option<NewestBackup>>;
}

/// Whether there is a fresh backup.
pub struct BackupCheck {
    backups: Arc<dyn Newest>,
    clock: Arc<dyn Clock>,
}

impl BackupCheck {
    /// Of these.
    #[must_use]
    pub fn new(backups: Arc<dyn Newest>, clock: Arc<dyn Clock>) -> Self {
        Self { backups, clock }
    }
}

#[async_trait]
impl CheckSource for BackupCheck {
    async fn check(&self, authorized: &Authorized) -> Check {
        let (verdict, text) = match self.backups.newest(authorized).await {
            Err(error) => (Verdict::Unknown, error.message),
            Ok(None) => (Verdict::Warn, "there is no backup yet".to_owned()),
            Ok(Some(newest)) => fresh(&newest, self.clock.now()),
        };
        Check { name: "backup", verdict, text }
    }
}

fn fresh(newest: &NewestBackup, now: Timestamp) -> (Verdict, String) {
    let age = Duration::try_from(now.duration_since(newest.at)).unwrap_or_default();
    let verified =
        if newest.verified.is_empty() { "not verified".to_owned() } else { newest.verified.clone() };
    let text = format!("{}, {} old, {}, {verified}", newest.id, spoken(age), size(newest.bytes));
    let verdict = if newest.damaged {
        Verdict::Fail
    } else if age > BACKUP_AGE {
        Verdict::Warn
    } else {
        Verdict::Ok
    };
    (verdict, text)
}

fn spoken(age: Duration) -> String {
    match age.as_secs() {
        0..7200 => format!("{} min", age.as_secs() / 60),
        7200..172_800 => format!("{} h", age.as_secs() / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn a_small_size_is_not_nothing() {
        let sizes = [
            (0, "0 B"),
            (343_502, "343 kB"),
            (2_587_051, "2.5 MB"),
            (15_000_000, "15 MB"),
            (1_900_000_000, "1.9 GB"),
            (38_000_000_000, "38 GB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
    }
}
