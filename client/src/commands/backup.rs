//! `opsctl backup`: make, list, check and restore backups of the database.

use clap_complete::engine::ArgValueCompleter;
use ops_proto::v1::backup_service_client::BackupServiceClient;
use ops_proto::v1::{
    Backup, BackupState, CreateBackupRequest, ErrorReason, GetBackupRequest, ListBackupsRequest,
    RestoreBackupRequest, VerifyBackupRequest, VerifyLevel,
};

use crate::change::change;
use crate::completion;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::{Cell, Table, Tone, ago, count, date_time, size, timestamp, visible};
use crate::session::Session;

/// The verbs.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a backup: dumped, read back, verified, published; or nothing of it
    #[command(
        after_help = "Examples:\n  opsctl backup create --tag pre-deploy\n  opsctl backup create --plan"
    )]
    Create(CreateArgs),
    /// Backups, the newest first; damaged ones are named
    #[command(
        visible_alias = "ls",
        after_help = "Examples:\n  opsctl backup list\n  opsctl backup list -n 5 -o json"
    )]
    List(ListArgs),
    /// One backup: what is in it, where it is from, what was checked
    #[command(after_help = "Examples:\n  opsctl backup show latest\n  opsctl backup show m3")]
    Show(One),
    /// Read a backup's bytes and compare them with its manifest
    #[command(
        after_help = "Examples:\n  opsctl backup verify latest\n  opsctl backup verify 20261124T0130Z-m3 --level checksum"
    )]
    Verify(VerifyArgs),
    /// Put a backup back: over the live database, or into a new one with --to
    #[command(
        after_help = "Examples:\n  opsctl backup restore latest --plan\n  opsctl backup restore latest --to restore_check\n  \
        opsctl --context prod-admin backup restore 20261124T0130Z-m3 --confirm test_database"
    )]
    Restore(RestoreArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// A word to find it by: A-Z a-z 0-9 . _ -
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// How many, at most 1000
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its id, any part of one that is unique, or latest
    #[arg(value_name = "ID", add = ArgValueCompleter::new(completion::backups))]
    id: String,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    one: One,
    /// How deep to look
    #[arg(long, value_enum, default_value_t = Level::Structure)]
    level: Level,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    #[command(flatten)]
    one: One,
    /// Restore into this database, which must not exist yet, and leave the live one alone
    #[arg(long, value_name = "DATABASE")]
    to: Option<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Level {
    /// Manifest and sizes
    Manifest,
    /// And the hash of every stored byte
    Checksum,
    /// And every document: decompressed, counted, digested
    Structure,
}

impl From<Level> for VerifyLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::Manifest => VerifyLevel::Manifest,
            Level::Checksum => VerifyLevel::Checksum,
            Level::Structure => VerifyLevel::Structure,
        }
    }
}

/// Runs a verb.
///
/// # Errors
/// What the agent or the connection answers; the problem of an operation that failed.
pub async fn run(args: Args, session: &Session) -> Result<Exit> {
    match args.verb {
        Verb::Create(args) => create(args, session).await,
        Verb::List(args) => list(&args, session).await,
        Verb::Show(args) => show(&args, session).await,
        Verb::Verify(args) => verify(args, session).await,
        Verb::Restore(args) => restore(args, session).await,
    }
}

async fn create(args: CreateArgs, session: &Session) -> Result<Exit> {
    let tag = args.tag.unwrap_or_default();
    change(session, "backup", async |connection, options| {
        let mut client = BackupServiceClient::new(connection);
        let request = CreateBackupRequest { tag: tag.clone(), options: Some(options) };
        Ok(client.create_backup(request).await?.into_inner().outcome.map(Into::into))
    })
    .await
}

async fn verify(args: VerifyArgs, session: &Session) -> Result<Exit> {
    let id = args.one.id;
    let level = VerifyLevel::from(args.level);
    change(session, &format!("verify backup {id}"), async |connection, options| {
        let mut client = BackupServiceClient::new(connection);
        let request = VerifyBackupRequest { id: id.clone(), level: level.into(), options: Some(options) };
        Ok(client.verify_backup(request).await?.into_inner().outcome.map(Into::into))
    })
    .await
}

async fn restore(args: RestoreArgs, session: &Session) -> Result<Exit> {
    let id = args.one.id;
    let to_database = args.to.unwrap_or_default();
    let what = if to_database.is_empty() {
        format!("REPLACE LIVE data by backup {id}")
    } else {
        format!("restore backup {id} into {to_database}")
    };
    change(session, &what, async |connection, options| {
        let mut client = BackupServiceClient::new(connection);
        let request =
            RestoreBackupRequest { id: id.clone(), to_database: to_database.clone(), options: Some(options) };
        Ok(client.restore_backup(request).await?.into_inner().outcome.map(Into::into))
    })
    .await
}

async fn list(args: &ListArgs, session: &Session) -> Result<Exit> {
    let request = ListBackupsRequest { limit: args.limit };
    let answer = session
        .within(async {
            let mut client = BackupServiceClient::new(session.connect().await?);
            Ok(client.list_backups(request).await?.into_inner())
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("backup_list", &answer)?;
        return Ok(Exit::Done);
    }
    let columns =
        ["ID", "AGE", "COLLECTIONS", "DOCUMENTS", "DATA", "STORED", "STATE", "VERIFIED", "TAG", "FACTS"];
    let mut table = Table::new(&columns);
    for backup in &answer.backups {
        let (word, tone) = state_word(backup.state());
        let began = backup.started_at.as_ref().and_then(timestamp);
        let known = began.is_some();
        let number = |text: String| if known { Cell::from(text) } else { Cell::none() };
        table.row([
            backup.id.clone().into(),
            began.map_or_else(Cell::none, |at| ago(at, session.now()).into()),
            number(backup.collections.len().to_string()),
            number(backup.documents.to_string()),
            number(size(backup.data_bytes)),
            number(size(backup.stored_bytes)),
            Cell::new(word, tone),
            level_word(backup.verified()).into(),
            if backup.tag.is_empty() { Cell::none() } else { backup.tag.clone().into() },
            facts(backup).into(),
        ]);
    }
    output.table(&table)?;
    let free = size(answer.free_bytes);
    output.note(&visible(&format!("-- {}, {free} free", answer.folder)));
    if table.is_empty() {
        output.note("next: opsctl backup create");
    }
    Ok(Exit::Done)
}

/// What is to be known beside the columns.
fn facts(backup: &Backup) -> String {
    let mut facts = Vec::new();
    if backup.origin == "foreign" && backup.state() != BackupState::Corrupt {
        facts.push("foreign: not made by this agent".to_owned());
    }
    if backup.purpose == "safety" {
        facts.push("safety: made before a restore".to_owned());
    }
    facts.extend(backup.warnings.iter().cloned());
    if facts.is_empty() { "-".to_owned() } else { facts.join("; ") }
}

async fn show(args: &One, session: &Session) -> Result<Exit> {
    let request = GetBackupRequest { id: args.id.clone() };
    let backup = session
        .within(async {
            let mut client = BackupServiceClient::new(session.connect().await?);
            let answer = client.get_backup(request).await?.into_inner();
            answer
                .backup
                .ok_or_else(|| Error::new(ErrorReason::Internal, "the agent answered without a backup"))
        })
        .await?;
    let output = &session.output;
    if output.is_document() {
        output.document("backup", &backup)?;
        return Ok(Exit::Done);
    }
    output.table(&sheet(&backup, session))?;
    if !backup.collections.is_empty() {
        output.line("")?;
        let mut table =
            Table::new(&["COLLECTION", "DOCUMENTS", "DATA", "STORED", "INDEXES", "SEGMENTS", "DIGEST"]);
        for collection in &backup.collections {
            table.row([
                visible(&collection.name).into_owned().into(),
                collection.documents.to_string().into(),
                size(collection.data_bytes).into(),
                size(collection.stored_bytes).into(),
                collection.indexes.to_string().into(),
                collection.segments.to_string().into(),
                collection.digest.clone().into(),
            ]);
        }
        output.table(&table)?;
    }
    Ok(Exit::Done)
}

fn sheet(backup: &Backup, session: &Session) -> Table {
    let (word, tone) = state_word(backup.state());
    let moment = |at: Option<&prost_types::Timestamp>| {
        at.and_then(timestamp)
            .map(|at| format!("{}, {}", date_time(at, session.output.zone()), ago(at, session.now())))
    };
    let mut table = Table::new(&["FACT", "VALUE"]);
    table.row(["id".into(), backup.id.clone().into()]);
    table.row(["state".into(), Cell::new(word, tone)]);
    for warning in &backup.warnings {
        table.row(["warning".into(), Cell::new(visible(warning).into_owned(), Tone::Warn)]);
    }
    table.row(["origin".into(), backup.origin.clone().into()]);
    if let Some(began) = moment(backup.started_at.as_ref()) {
        table.row(["made".into(), began.into()]);
        table.row(["of".into(), format!("{}, {}", backup.database, backup.server).into()]);
        table.row(["consistency".into(), backup.consistency.clone().into()]);
        table.row(["purpose".into(), backup.purpose.clone().into()]);
        if !backup.tag.is_empty() {
            table.row(["tag".into(), backup.tag.clone().into()]);
        }
        let documents = usize::try_from(backup.documents).unwrap_or(usize::MAX);
        let holds = format!(
            "{}, {}, {} stored",
            count(documents, "document", "documents"),
            size(backup.data_bytes),
            size(backup.stored_bytes)
        );
        table.row(["holds".into(), holds.into()]);
    }
    let verified = match moment(backup.verified_at.as_ref()) {
        Some(at) => format!("{}, {at}", level_word(backup.verified())),
        None => "never".to_owned(),
    };
    table.row(["verified".into(), verified.into()]);
    table.row(["manifest".into(), backup.manifest_hash.clone().into()]);
    table.row(["path".into(), backup.path.clone().into()]);
    table
}

fn state_word(state: BackupState) -> (&'static str, Tone) {
    match state {
        BackupState::Ok => ("ok", Tone::Good),
        BackupState::OkWithWarnings => ("warnings", Tone::Warn),
        BackupState::Partial => ("PARTIAL", Tone::Bad),
        BackupState::Corrupt => ("CORRUPT", Tone::Bad),
        BackupState::Unspecified => ("unknown", Tone::Warn),
    }
}

fn level_word(level: VerifyLevel) -> &'static str {
    match level {
        VerifyLevel::Unspecified => "never",
        VerifyLevel::Manifest => "manifest",
        VerifyLevel::Checksum => "checksum",
        VerifyLevel::Structure => "structure",
    }
}
