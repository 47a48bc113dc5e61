use std::fs;
use std::io::Write as _;

use ops_domain::ports::{AuditQuery, AuditTrail as _};
use ops_trust::audit::{Epoch, Line, Report, Stage, Verifier};

use super::*;

const SLOW: Duration = Duration::from_secs(3_600);

fn folder() -> (tempfile::TempDir, PublicKey) {
    let folder = tempfile::tempdir().unwrap();
    let epoch = Epoch::first().unwrap();
    keys::store(folder.path(), &epoch).unwrap();
    (folder, epoch.key.public())
}

fn settings() -> Settings {
    Settings {
        write_timeout: Duration::from_secs(20),
        checkpoint_after_change: SLOW,
        checkpoint_after: SLOW,
        checkpoint_records: u64::MAX,
        access_bytes: 4_096,
    }
}

fn open(folder: &tempfile::TempDir) -> Result<AuditFile, StartError> {
    AuditFile::open(folder.path(), "agent/a", settings())
}

fn entry(stage: &str) -> AuditEntry {
    AuditEntry { stage: stage.to_owned(), subject: "user/alice".to_owned(), ..AuditEntry::default() }
}

fn trail(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("trail.jsonl")
}

fn verified(folder: &tempfile::TempDir, root: PublicKey) -> Report {
    let mut verifier = Verifier::new(Some(root));
    verifier.read(fs::read(trail(folder)).unwrap().as_slice()).unwrap().unwrap();
    verifier.finish().unwrap()
}

fn stages(folder: &tempfile::TempDir) -> Vec<Stage> {
    let bytes = fs::read(trail(folder)).unwrap();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| Line::parse(line).unwrap().record.stage).collect()
}

fn key_files(folder: &tempfile::TempDir) -> Vec<String> {
    let names =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("epoch-")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_trail_begins_goes_on_and_verifies() {
    let (folder, root) = folder();
    let log = open(&folder).unwrap();
    assert_eq!(log.root(), root);
    log.append(entry("intent")).await.unwrap();
    log.append(entry("result")).await.unwrap();
    drop(log);
    assert_eq!(stages(&folder), [Stage::Genesis, Stage::Intent, Stage::Result, Stage::Checkpoint]);
    assert_eq!(key_files(&folder), ["epoch-1.key"], "the key that signed is gone");
    let log = open(&folder).unwrap();
    log.append(entry("denied")).await.unwrap();
    drop(log);
    let report = verified(&folder, root);
    assert_eq!((report.lines, report.checkpoints, report.unsigned_tail), (6, 2, 0));
}

#[tokio::test]
async fn an_idle_trail_is_not_signed_again() {
    let (folder, root) = folder();
    drop(open(&folder).unwrap());
    drop(open(&folder).unwrap());
    assert_eq!(verified(&folder, root).lines, 1);
}

#[tokio::test]
async fn a_checkpoint_follows_a_change_by_itself() {
    let (folder, root) = folder();
    let soon = Settings { checkpoint_after_change: Duration::from_millis(1), ..settings() };
    let log = AuditFile::open(folder.path(), "agent/a", soon).unwrap();
    let began = std::time::Instant::now();
    while verified(&folder, root).checkpoints == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "no checkpoint came");
        log.append(entry("intent")).await.unwrap();
    }
}

#[tokio::test]
async fn a_torn_line_is_set_aside_and_said() {
    let (folder, root) = folder();
    let log = open(&folder).unwrap();
    log.append(entry("intent")).await.unwrap();
    drop(log);
    fs::OpenOptions::new()
        .append(true)
        .open(trail(&folder))
        .unwrap()
        .write_all(b"{\"seq\":3,\"ts\"")
        .unwrap();
    drop(open(&folder).unwrap());
    assert!(stages(&folder).contains(&Stage::ChainBreak));
    verified(&folder, root);
    let kept = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let torn: Vec<PathBuf> =
        kept.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("torn-")).collect();
    assert_eq!(fs::read(&torn[0]).unwrap(), b"{\"seq\":3,\"ts\"");
}

#[tokio::test]
async fn a_changed_trail_is_not_written_on() {
    let (folder, _) = folder();
    let log = open(&folder).unwrap();
    log.append(entry("intent")).await.unwrap();
    log.append(entry("result")).await.unwrap();
    drop(log);
    let text = fs::read_to_string(trail(&folder)).unwrap().replacen("user/alice", "user/mallory", 1);
    fs::write(trail(&folder), text).unwrap();
    assert!(matches!(open(&folder).unwrap_err(), StartError::Broken { .. }));
}

#[tokio::test]
async fn a_trail_that_was_taken_away_is_not_begun_anew() {
    let (folder, _) = folder();
    let log = open(&folder).unwrap();
    log.append(entry("intent")).await.unwrap();
    drop(log);
    fs::remove_file(trail(&folder)).unwrap();
    assert!(matches!(open(&folder).unwrap_err(), StartError::Missing { .. }));
}

#[tokio::test]
async fn a_half_done_change_of_keys_is_finished_or_discarded() {
    let (folder, root) = folder();
    let log = open(&folder).unwrap();
    log.append(entry("intent")).await.unwrap();
    drop(log);
    // Before the line: the next key is there already. After the line: the old one is there still.
    let stale = Epoch { number: 2, key: ops_trust::key::SigningKey::generate().unwrap() };
    keys::store(folder.path(), &stale).unwrap();
    let old = Epoch { number: 0, key: ops_trust::key::SigningKey::generate().unwrap() };
    keys::store(folder.path(), &old).unwrap();
    let log = open(&folder).unwrap();
    assert_eq!(key_files(&folder), ["epoch-1.key"]);
    log.append(entry("result")).await.unwrap();
    drop(log);
    assert_eq!(verified(&folder, root).checkpoints, 2);
    assert_eq!(key_files(&folder), ["epoch-2.key"]);
}

#[tokio::test]
async fn without_the_epochs_key_nothing_is_begun() {
    let (folder, _) = folder();
    drop(open(&folder).unwrap());
    fs::remove_file(folder.path().join("epoch-0.key")).unwrap();
    assert!(matches!(open(&folder).unwrap_err(), StartError::Key { .. }));
}

#[tokio::test]
async fn an_owed_result_freezes_until_it_is_written() {
    let (folder, root) = folder();
    let log = open(&folder).unwrap();
    log.append(entry("intent")).await.unwrap();
    let away = folder.path().join("away");
    fs::rename(trail(&folder), &away).unwrap();
    fs::create_dir(trail(&folder)).unwrap();
    let error = log.append(entry("result")).await.unwrap_err();
    assert_eq!(error.reason, Reason::AuditUnavailable);
    assert!(!log.writable());
    assert!(log.append(entry("intent")).await.is_err());
    fs::remove_dir(trail(&folder)).unwrap();
    fs::rename(&away, trail(&folder)).unwrap();
    log.append(entry("intent")).await.unwrap();
    assert!(log.writable());
    drop(log);
    verified(&folder, root);
    assert_eq!(
        stages(&folder),
        [Stage::Genesis, Stage::Intent, Stage::Result, Stage::Intent, Stage::Checkpoint],
        "the owed result came first"
    );
}

#[tokio::test]
async fn someone_elses_bytes_stop_it() {
    let (folder, _) = folder();
    let log = open(&folder).unwrap();
    fs::OpenOptions::new().append(true).open(trail(&folder)).unwrap().write_all(b"{}\n").unwrap();
    let error = log.append(entry("intent")).await.unwrap_err();
    assert!(error.message.contains("someone else writes it"), "{error}");
}

#[tokio::test]
async fn listing_is_newest_first_and_reading_is_exact() {
    use futures_util::TryStreamExt as _;
    let (folder, _) = folder();
    let log = open(&folder).unwrap();
    for number in 0..300 {
        let target = format!("{number} {}", "x".repeat(2_000));
        let subject = if number % 2 == 0 { "user/alice" } else { "user/bob" };
        log.append(AuditEntry { target, subject: subject.to_owned(), ..entry("denied") }).await.unwrap();
    }
    let reader = log.reader();
    let query =
        |limit, subject: Option<&str>| AuditQuery { limit, subject: subject.map(str::to_owned), since: None };
    let newest = reader.list(query(3, None)).await.unwrap();
    assert_eq!(newest.iter().map(|line| line.seq).collect::<Vec<_>>(), [300, 299, 298]);
    let bob = reader.list(query(2, Some("user/bob"))).await.unwrap();
    assert_eq!(bob.iter().map(|line| line.seq).collect::<Vec<_>>(), [300, 298]);
    assert_eq!(reader.list(query(10_000, None)).await.unwrap().len(), 301);
    let since = AuditQuery { since: Some(newest[1].at), ..query(10, None) };
    assert_eq!(reader.list(since).await.unwrap().len(), 2);
    let read: Vec<bytes::Bytes> = reader.read().await.unwrap().try_collect().await.unwrap();
    assert!(read.len() > 1 && read.iter().all(|piece| piece.ends_with(b"\n") && piece.len() <= 256 * 1024));
    assert_eq!(read.concat(), fs::read(trail(&folder)).unwrap());
}

#[tokio::test]
async fn the_ring_keeps_within_its_size() {
    let (folder, _) = folder();
    let log = open(&folder).unwrap();
    for _ in 0..200 {
        log.note(entry("read"));
    }
    drop(log);
    let size = |name| fs::metadata(folder.path().join(name)).map_or(0, |found| found.len());
    assert!(size("access.jsonl") > 0 && size("access.1.jsonl") > 0);
    assert!(size("access.jsonl") + size("access.1.jsonl") <= 4_096);
}
