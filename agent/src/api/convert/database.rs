//! The database as it goes over the wire.

use std::time::Duration;

use ops_domain::database::Count;
use ops_domain::ports::database::{Ping, ServerKind, Stats};
use ops_domain::{Error, Reason, Result};
use ops_proto::v1;

use super::NAMES;

/// No server has longer names of collections.
const NAME_BYTES: usize = 1024;

/// An answered ping.
#[must_use]
pub fn ping(database: &str, uri: &str, ping: &Ping) -> v1::PingDatabaseResponse {
    v1::PingDatabaseResponse {
        server: match ping.server.kind {
            ServerKind::Mongod => "mongod",
            ServerKind::Mongos => "mongos",
            ServerKind::Ferretdb => "ferretdb",
            ServerKind::Other => "other",
        }
        .to_owned(),
        version: ping.server.version.clone(),
        topology: ping.server.topology.clone(),
        ping_ms: ms(ping.round_trip),
        connect_ms: ms(ping.connect),
        database: database.to_owned(),
        uri: uri.to_owned(),
    }
}

/// Names of collections that came in.
///
/// # Errors
/// `INVALID_ARGUMENT` for too many or too long ones.
pub fn collections(names: Vec<String>) -> Result<Vec<String>> {
    let wrong =
        |message: String| Err(Error::new(Reason::InvalidArgument, message).effect("nothing was done"));
    if names.len() > NAMES {
        return wrong(format!("{} names, at most {NAMES} are taken", names.len()));
    }
    match names.iter().find(|name| name.is_empty() || name.len() > NAME_BYTES || name.contains('\0')) {
        Some(_) => {
            wrong(format!("the name of a collection has 1 to {NAME_BYTES} bytes, and none of them is 0"))
        }
        None => Ok(names),
    }
}

/// Counts.
#[must_use]
pub fn counts(database: &str, counts: &[Count]) -> v1::CountDocumentsResponse {
    let counts = counts.iter().map(|count| v1::CollectionCount {
        collection: count.collection.clone(),
        documents: count.documents,
        estimated: count.estimated,
        took_ms: ms(count.took),
    });
    v1::CountDocumentsResponse { database: database.to_owned(), counts: counts.collect() }
}

/// Sizes.
#[must_use]
pub fn stats(database: &str, stats: Stats) -> v1::GetDatabaseStatsResponse {
    v1::GetDatabaseStatsResponse {
        database: database.to_owned(),
        collections: stats.collections,
        objects: stats.objects,
        data_bytes: stats.data_bytes,
        storage_bytes: stats.storage_bytes,
        indexes: stats.indexes,
        index_bytes: stats.index_bytes,
        missing: stats.missing,
    }
}

fn ms(length: Duration) -> f64 {
    (length.as_secs_f64() * 1e6).round() / 1e3
}
