//! `opsctl db`: is the database there, what is it, how much is in it.

use ops_proto::v1::database_service_client::DatabaseServiceClient;
use ops_proto::v1::{CountDocumentsRequest, GetDatabaseStatsRequest, PingDatabaseRequest};

use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Table, milliseconds, size, visible};
use crate::session::Session;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Ask the database for a sign of life: what it is, and how long it takes
    #[command(after_help = "Examples:\n  opsctl db ping\n  opsctl db ping -o json")]
    Ping,
    /// Count documents, one by one or from metadata
    #[command(
        after_help = "Examples:\n  opsctl db count\n  opsctl db count users bids\n  opsctl db count --estimated"
    )]
    Count(CountArgs),
    /// How many collections, documents, indexes; how many bytes
    #[command(after_help = "Examples:\n  opsctl db stats")]
    Stats,
}

#[derive(Debug, clap::Args)]
struct CountArgs {
    /// Collections; none: all of them
    #[arg(value_name = "COLLECTION")]
    collections: Vec<String>,
    /// From metadata: fast, and may be wrong after an unclean end
    #[arg(long)]
    estimated: bool,
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers; why the database does not.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::Ping => ping(session).await,
        Verb::Count(args) => count(args, session).await,
        Verb::Stats => stats(session).await,
    }
}

async fn ping(session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = DatabaseServiceClient::new(session.connect().await?);
            Ok(client.ping_database(PingDatabaseRequest {}).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("database_ping", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["DATABASE", "SERVER", "VERSION", "CONNECT", "PING", "TOPOLOGY", "ADDRESS"]);
    table.row([
        answer.database.into(),
        answer.server.into(),
        answer.version.into(),
        milliseconds(answer.connect_ms).into(),
        milliseconds(answer.ping_ms).into(),
        answer.topology.into(),
        visible(&answer.uri).into_owned().into(),
    ]);
    output.table(&table)?;
    Ok(Exit::Done)
}

async fn count(args: CountArgs, session: &Session) -> Result<Exit> {
    let request = CountDocumentsRequest { collections: args.collections, estimated: args.estimated };
    let answer = session
        .within(async {
            let mut client = DatabaseServiceClient::new(session.connect().await?);
            Ok(client.count_documents(request).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("document_counts", &answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["COLLECTION", "DOCUMENTS", "COUNT", "TOOK"]);
    for count in &answer.counts {
        let (about, how) = if count.estimated { ("~", "estimated") } else { ("", "exact") };
        table.row([
            visible(&count.collection).into_owned().into(),
            format!("{about}{}", count.documents).into(),
            how.into(),
            milliseconds(count.took_ms).into(),
        ]);
    }
    output.table(&table)?;
    if table.is_empty() {
        output.note(&visible(&format!("-- {} holds no collections", answer.database)));
    }
    Ok(Exit::Done)
}

async fn stats(session: &Session) -> Result<Exit> {
    let answer = session
        .within(async {
            let mut client = DatabaseServiceClient::new(session.connect().await?);
            Ok(client.get_database_stats(GetDatabaseStatsRequest {}).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("database_stats", &answer)?;
        return Ok(Exit::Done);
    }
    let columns = ["DATABASE", "COLLECTIONS", "DOCUMENTS", "DATA", "STORAGE", "INDEXES", "INDEX-SIZE"];
    let mut table = Table::new(&columns);
    table.row([
        answer.database.into(),
        answer.collections.to_string().into(),
        answer.objects.to_string().into(),
        size(answer.data_bytes).into(),
        size(answer.storage_bytes).into(),
        answer.indexes.to_string().into(),
        size(answer.index_bytes).into(),
    ]);
    output.table(&table)?;
    for missing in &answer.missing {
        output.note(&visible(&format!("note: {missing}")));
    }
    Ok(Exit::Done)
}
