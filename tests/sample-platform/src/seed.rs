//! The data of the platform: the same on every machine, whatever was there before.

mod collections;
mod numbers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, IndexOptions};
use mongodb::{Client, IndexModel};

use crate::{Failure, say};

pub(crate) use collections::SPORTS;
use collections::{Index, Seeded};

/// Documents in one insert.
const BATCH: usize = 1000;
/// How long the server may take to be found.
const SELECTION: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Drop the database instead, and those whose names begin with its name.
    #[arg(long)]
    remove: bool,
}

/// Which database.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// Connection string of the server.
    #[arg(long, env = "MONGODB_URI", hide_env_values = true)]
    mongodb_uri: String,
    /// Name of the database.
    #[arg(long, env = "DB_NAME", default_value = "test_database")]
    database: String,
}

impl Target {
    /// The database, and the address that its server was asked at.
    pub(crate) async fn open(&self, selection: Duration) -> Result<(mongodb::Database, String), Failure> {
        let mut options = ClientOptions::parse(&self.mongodb_uri).await?;
        options.server_selection_timeout = Some(selection);
        options.connect_timeout = Some(selection);
        options.app_name.get_or_insert_with(|| "sample-platform".to_owned());
        let address = options.hosts.first().map(ToString::to_string).unwrap_or_default();
        Ok((Client::with_options(options)?.database(&self.database), address))
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let (database, _) = arguments.target.open(SELECTION).await?;
    if arguments.remove {
        remove(&database).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut total = 0;
    for seeded in collections::all() {
        total += seeded.documents.len();
        replace(&database, seeded).await?;
    }
    let name = database.name();
    say(&format!("seeded {name} with {total} documents in {:.2} s", began.elapsed().as_secs_f64()));
    Ok(ExitCode::SUCCESS)
}

/// What no platform should do: deletes two bids of three, alters one, drops the magic links.
pub(crate) async fn damage(target: Target) -> Result<ExitCode, Failure> {
    let (database, _) = target.open(SELECTION).await?;
    let bids = database.collection::<Document>("bids");
    let won = bids.delete_many(doc! { "status": { "$in": ["won", "outbid"] } }).await?.deleted_count;
    bids.update_one(doc! {}, doc! { "$set": { "amount": 1 } }).await?;
    database.collection::<Document>("magic_links").drop().await?;
    say(&format!("{won} bids deleted, one altered, magic_links dropped"));
    Ok(ExitCode::SUCCESS)
}

/// Restores into a database beside the platform's carry its name in front.
async fn remove(database: &mongodb::Database) -> Result<(), Failure> {
    for name in database.client().list_database_names().await? {
        if name.starts_with(database.name()) {
            database.client().database(&name).drop().await?;
        }
    }
    Ok(())
}

/// The collection is dropped first: seeding twice is seeding once.
async fn replace(database: &mongodb::Database, seeded: Seeded) -> Result<(), Failure> {
    let collection = database.collection::<Document>(seeded.name);
    collection.drop().await?;
    for batch in seeded.documents.chunks(BATCH) {
        collection.insert_many(batch).await?;
    }
    for index in seeded.indexes {
        collection.create_index(model(&index)).await?;
    }
    Ok(())
}

/// FerretDB 1.24.2 takes keys, a name and `unique`, and refuses every other option.
fn model(index: &Index) -> IndexModel {
    let keys: Document = index.keys.iter().map(|(key, order)| ((*key).to_owned(), (*order).into())).collect();
    let unique = index.unique.then_some(true);
    let options = IndexOptions::builder().name(index.name.to_owned()).unique(unique).build();
    IndexModel::builder().keys(keys).options(options).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_models_carry_only_what_ferretdb_takes() {
        let index = Index { name: "email_1", keys: &[("email", 1)], unique: true };
        let told = mongodb::bson::serialize_to_document(&model(&index)).unwrap();
        assert_eq!(told, doc! { "key": { "email": 1 }, "unique": true, "name": "email_1" });
    }
}
