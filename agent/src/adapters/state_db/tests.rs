use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use super::*;

fn now() -> Timestamp {
    Timestamp::constant(1_795_483_800, 0)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refused(folder: &Path) -> OpenError {
    match StateDb::open(folder, now()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn the_file_is_private_with_all_that_belongs_to_it_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let id = OperationId::parse("op-0000000001").unwrap();
    let db = StateDb::open(folder.path(), now()).unwrap();
    db.prepare(&id, &AuditEntry { stage: "abandoned".into(), ..AuditEntry::default() }).await.unwrap();
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        assert_eq!(mode(&folder.path().join(name)), 0o600, "{name}");
    }
    drop(db);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let db = StateDb::open(folder.path(), now()).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert!(db.open().await.unwrap().is_empty());
    assert_eq!(db.owed().await.unwrap()[0].entry.stage, "abandoned");
    let full: i32 = db
        .call(|connection| Ok(connection.pragma_query_value(None, "synchronous", |row| row.get(0))?))
        .await
        .unwrap();
    assert_eq!(full, 2, "synchronous=FULL");
}

#[test]
fn garbage_is_moved_aside_with_a_clear_error_and_the_next_start_is_fresh() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    std::fs::write(&file, [0x5a; 8192]).unwrap();
    let error = refused(folder.path());
    let OpenError::Damaged { moved, .. } = &error else { panic!("{error}") };
    assert_eq!(moved.file_name().unwrap(), "state.db.damaged-20261124T013000Z");
    assert_eq!(std::fs::read(moved).unwrap(), [0x5a; 8192], "kept as it was");
    assert!(error.to_string().contains("then start opsd again"), "{error}");
    StateDb::open(folder.path(), now()).unwrap();
}

#[test]
fn cut_and_torn_files_are_noticed_before_they_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    drop(StateDb::open(folder.path(), now()).unwrap());
    let whole = std::fs::read(&file).unwrap();
    for cut in [1, 99, 100, 511, 512, 4095, 4096, whole.len() - 4096] {
        std::fs::write(&file, &whole[..cut]).unwrap();
        let error = refused(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "cut at {cut}: {error}");
    }
    // A torn page in the middle: a table's root.
    let mut torn = whole.clone();
    torn[4096..8192].fill(0xff);
    std::fs::write(&file, &torn).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }));
    std::fs::write(&file, b"").unwrap();
    StateDb::open(folder.path(), now()).unwrap();
}

#[test]
fn what_is_newer_or_anothers_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    drop(StateDb::open(folder.path(), now()).unwrap());
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let before = std::fs::read(&file).unwrap();
    let error = refused(folder.path());
    assert!(
        error.to_string().ends_with("has schema 2, this opsd knows 1: run the newer opsd that wrote it"),
        "{error}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), before);

    std::fs::remove_file(&file).unwrap();
    Connection::open(&file).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Foreign { .. }));
}

#[test]
fn a_link_or_a_folder_in_its_place_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::write(&elsewhere, b"keep").unwrap();
    symlink(&elsewhere, folder.path().join(FILE)).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Io { .. }));
    assert_eq!(std::fs::metadata(&elsewhere).unwrap().size(), 4);
    std::fs::remove_file(folder.path().join(FILE)).unwrap();
    std::fs::create_dir(folder.path().join(FILE)).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Io { .. }));
}
