//! Opening the file: what it may be, what it must not be, and what happens to garbage.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};

/// "opsd", in the header of the file (<https://www.sqlite.org/fileformat.html>, offset 68).
const APPLICATION: i32 = 0x6f70_7364;
/// The schema that this build writes.
const SCHEMA: i32 = 1;

/// Why there is no journal to work with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Damaged; moved aside, so that the next start begins with an empty journal.
    #[error(
        "{path} is damaged ({detail}) and was moved to {moved}: the history of operations is lost, and so is what \
         was known of operations that had not ended; look at services and backups, then start opsd again"
    )]
    Damaged {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        moved: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Written by a newer opsd; untouched.
    #[error("{path} has schema {found}, this opsd knows {SCHEMA}: run the newer opsd that wrote it")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i32,
    },
    /// Another program's database; untouched.
    #[error("{path} is the database of another program: move it away, or name another [state] dir")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

pub(super) fn open(path: &Path, now: Timestamp) -> Result<Connection, OpenError> {
    make_private(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    match connect(path) {
        Err(Refusal::Damaged(detail)) => {
            let moved =
                move_aside(path, now).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
            Err(OpenError::Damaged { path: path.to_owned(), moved, detail })
        }
        Err(Refusal::Newer(found)) => Err(OpenError::Newer { path: path.to_owned(), found }),
        Err(Refusal::Foreign) => Err(OpenError::Foreign { path: path.to_owned() }),
        Err(Refusal::Sqlite(source)) => Err(OpenError::Sqlite { path: path.to_owned(), source }),
        Ok(connection) => Ok(connection),
    }
}

enum Refusal {
    Damaged(String),
    Newer(i32),
    Foreign,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::Damaged(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// The file with mode 0600 before SQLite sees it; its WAL gets the same mode from it.
fn make_private(path: &Path) -> io::Result<()> {
    // O_NOFOLLOW: a link would let another choose what is written to.
    let nofollow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nofollow)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn connect(path: &Path) -> Result<Connection, Refusal> {
    // SQLite takes a file that is shorter than its smallest page for an empty one.
    let length = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if (1..512).contains(&length) {
        return Err(Refusal::Damaged(format!("only {length} bytes are left of it")));
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    let number = |connection: &Connection, pragma: &str| -> rusqlite::Result<i32> {
        connection.pragma_query_value(None, pragma, |row| row.get(0))
    };
    let (application, schema) =
        (number(&connection, "application_id")?, number(&connection, "user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 && application != APPLICATION {
        return Err(Refusal::Foreign);
    }
    if schema > SCHEMA {
        return Err(Refusal::Newer(schema));
    }
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(Refusal::Damaged(found));
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if tables == 0 {
        let transaction = connection.transaction()?;
        transaction.execute_batch(include_str!("schema.sql"))?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
        transaction.commit()?;
    }
    Ok(connection)
}

/// Gives the file and what belongs to it another name; nothing is deleted.
fn move_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let suffix = format!(".damaged-{}", now.strftime("%Y%m%dT%H%M%SZ"));
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    for part in ["-wal", "-shm"] {
        match fs::rename(named(part), named(&format!("{suffix}{part}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let moved = named(&suffix);
    fs::rename(path, &moved)?;
    Ok(moved)
}
