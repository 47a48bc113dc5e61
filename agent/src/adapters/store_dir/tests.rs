//! Real folders, a database in memory, and a disk that fails wherever it can.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Mutex;
use std::time::Duration;

use ops_domain::access::{Authorized, Binding, Credential, Permission, Principal, Role, Scope, authorize};
use ops_domain::backup::{BackupState, Backups, Level, Ports};
use ops_domain::fakes::{FakeClock, FakeDatabase, RecordingRunSink};
use ops_domain::ids::Subject;
use ops_domain::operation::{Outcome, State, Task};
use ops_domain::{Error, Reason};

use super::*;
use crate::adapters::catalog_file::CatalogFile;

struct World {
    _folder: tempfile::TempDir,
    store: PathBuf,
    database: FakeDatabase,
    backups: Backups,
    state: PathBuf,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    let database = FakeDatabase::new(true);
    database.put("auction", "bids", documents(10..17), &["_id_", "amount_1"]);
    database.put("auction", "users", documents(20..25), &["_id_"]);
    let state = folder.path().to_path_buf();
    let backups = backups(&store, &state, &database, Arc::new(step::AsTheyAre));
    World { _folder: folder, store, database, backups, state }
}

fn backups(store: &Path, state: &Path, database: &FakeDatabase, steps: Arc<dyn Steps>) -> Backups {
    let ports = Ports {
        database: Some(Arc::new(database.clone())),
        dump: Some(Arc::new(database.clone())),
        store: Some(Arc::new(StoreDir::with_steps(store.to_path_buf(), 0, steps))),
        catalog: Arc::new(CatalogFile::new(state.join("backups.jsonl"))),
    };
    Backups::new(ports, "prod-1", "0.1.0")
}

fn documents(numbers: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    numbers.map(|number| vec![9, 0, 0, 0, number, number, number, number, 0]).collect()
}

fn may() -> Authorized {
    let principal = Principal {
        subject: Subject::parse("alice").unwrap(),
        credential: Credential::Certificate,
        binding: Binding { roles: [Role::Admin].into(), services: Default::default() },
        narrowed: None,
        expires_at: jiff::Timestamp::MAX,
        certificate_sha256: String::new(),
        peer: String::new(),
        request_id: String::new(),
    };
    authorize(&principal, Permission::BackupList, Scope::None).unwrap()
}

async fn run(task: &dyn Task) -> Outcome {
    let (run, _) = RecordingRunSink::new(FakeClock::new()).run(Duration::from_secs(3600));
    task.run(&run).await
}

async fn create(backups: &Backups) -> Outcome {
    run(&*backups.create("").unwrap()).await
}

async fn states(backups: &Backups) -> Result<BTreeMap<BackupId, BackupState>, Error> {
    let listing = backups.list(&may(), 100).await?;
    Ok(listing.backups.into_iter().map(|backup| (backup.id, backup.state)).collect())
}

#[tokio::test]
async fn what_is_written_lies_as_it_is_documented() {
    let world = world();
    let outcome = create(&world.backups).await;
    assert_eq!(outcome.state, State::Succeeded, "{outcome:?}");
    let backup = world.store.join(&outcome.results[0].target);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&backup), 0o700);
    let mut names: Vec<String> = fs::read_dir(&backup)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(mode(&entry.path()), 0o440, "{:?}", entry.path());
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["c00001.zst", "c00002.zst", "manifest.copy", "manifest.json"]);
    let plain = zstd::stream::decode_all(File::open(backup.join("c00001.zst")).unwrap()).unwrap();
    assert_eq!(plain, documents(10..17).concat());
}

/// Fails the step of this number, once or for good, with this error, tearing writes.
struct Failing {
    at: usize,
    for_good: bool,
    error: Errno,
    count: Mutex<usize>,
}

impl Failing {
    fn fails(&self, count: usize) -> bool {
        if self.for_good { count >= self.at } else { count == self.at }
    }
}

impl Steps for Failing {
    fn before(&self, _step: &Step) -> io::Result<()> {
        let mut count = self.count.lock().unwrap();
        let number = *count;
        *count += 1;
        if self.fails(number) { Err(self.error.into()) } else { Ok(()) }
    }

    fn torn(&self, bytes: usize) -> Option<usize> {
        self.fails(*self.count.lock().unwrap()).then_some(bytes / 2)
    }
}

#[tokio::test]
async fn a_disk_that_fails_anywhere_leaves_no_half_backup_and_the_older_one_whole() {
    for (error, reason) in [(Errno::ENOSPC, Reason::NoSpace), (Errno::EIO, Reason::StoreUnavailable)] {
        for for_good in [false, true] {
            for at in 0.. {
                let world = world();
                let old = create(&world.backups).await.results[0].target.clone();
                let steps = Arc::new(Failing { at, for_good, error, count: Mutex::new(0) });
                let failing =
                    backups(&world.store, &world.state, &world.database, Arc::<Failing>::clone(&steps) as _);
                let outcome = create(&failing).await;
                if *steps.count.lock().unwrap() <= at {
                    assert!(at > 15, "only {at} steps were seen");
                    break;
                }
                let problem = outcome.problem.clone().unwrap_or_else(|| panic!("step {at}: {outcome:?}"));
                assert_eq!(
                    (outcome.state, problem.reason),
                    (State::Failed, reason),
                    "step {at}: {problem:?}"
                );
                // What could not be removed is never listed, and the next start removes it.
                let listed = states(&world.backups).await.unwrap();
                assert_eq!(
                    listed.into_iter().collect::<Vec<_>>(),
                    [(BackupId::parse(&old).unwrap(), BackupState::Ok)]
                );
                world.backups.sweep().await.unwrap();
                let left: Vec<String> = fs::read_dir(&world.store)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .filter(|name| name != LOCK && *name != old)
                    .collect();
                assert!(left.is_empty(), "step {at}: {left:?}");
                let verify = world.backups.verify(&old, Level::Structure).await.unwrap();
                assert_eq!(run(&*verify).await.state, State::Succeeded, "step {at}");
            }
        }
    }
}

#[tokio::test]
async fn every_byte_of_a_small_backup_counts() {
    let world = world();
    let id = create(&world.backups).await.results[0].target.clone();
    let live = world.database.contents("auction");
    let mut files = Vec::new();
    for entry in fs::read_dir(world.store.join(&id)).unwrap() {
        let path = entry.unwrap().path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        files.push(path);
    }
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        // A manifest is long, and any change of it is seen in the same way: every seventh byte will do.
        let stride = if name.starts_with("manifest") { 7 } else { 1 };
        let mut damages = Vec::new();
        for at in (0..whole.len()).step_by(stride) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            damages.push((format!("bit flipped in byte {at}"), flipped));
            damages.push((format!("cut at byte {at}"), whole[..at].to_vec()));
        }
        damages.push(("a byte more".to_owned(), [&whole[..], b"x"].concat()));
        for (what, bytes) in damages {
            // A catalog of its own each time: what an earlier check found is not to help.
            let catalog = fs::read(world.state.join("backups.jsonl")).unwrap();
            fs::write(&path, bytes).unwrap();
            let verify = world.backups.verify(&id, Level::Structure).await.unwrap();
            let outcome = run(&*verify).await;
            let problem = outcome.problem.unwrap_or_else(|| panic!("{name}: {what}: not seen"));
            assert_eq!(problem.reason, Reason::BackupCorrupt, "{name}: {what}");
            let named = problem.evidence.iter().find(|fact| fact.name == "file").unwrap();
            if name.starts_with('c') {
                assert_eq!(named.text, name, "{what}");
                let collection = problem.evidence.iter().find(|fact| fact.name == "collection").unwrap();
                assert_eq!(collection.text, if name == "c00001.zst" { "bids" } else { "users" });
            } else {
                assert!(named.text.starts_with("manifest"), "{name}: {what}: {}", named.text);
            }
            let restored = match world.backups.restore(&id, "").await {
                Ok(task) => run(&*task).await.problem,
                Err(error) => Some(error),
            };
            assert_eq!(restored.unwrap().reason, Reason::BackupCorrupt, "{name}: {what}");
            fs::write(world.state.join("backups.jsonl"), catalog).unwrap();
        }
        fs::remove_file(&path).unwrap();
        let state = states(&world.backups).await.unwrap();
        assert_eq!(state.into_values().collect::<Vec<_>>(), [BackupState::Corrupt], "{name} missing");
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(world.database.writes(), 0);
    assert_eq!(world.database.contents("auction"), live);
    let restore = world.backups.restore(&id, "").await.unwrap();
    assert_eq!(run(&*restore).await.state, State::Succeeded);
}

#[tokio::test]
async fn two_backups_that_changed_places_are_seen() {
    let world = world();
    let first = create(&world.backups).await.results[0].target.clone();
    world.database.put("auction", "users", documents(40..45), &["_id_"]);
    let second = create(&world.backups).await.results[0].target.clone();
    assert_ne!(first, second);
    let (first, second) = (world.store.join(first), world.store.join(second));
    let aside = world.store.join("aside");
    fs::rename(&first, &aside).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(&aside, &second).unwrap();
    let states = states(&world.backups).await.unwrap();
    assert_eq!(states.into_values().collect::<Vec<_>>(), [BackupState::Corrupt; 2]);
}

#[tokio::test]
async fn links_and_pipes_in_a_backup_are_damage() {
    let world = world();
    let id = create(&world.backups).await.results[0].target.clone();
    let path = world.store.join(&id).join("c00001.zst");
    let real = world.state.join("elsewhere");
    fs::rename(&path, &real).unwrap();
    symlink(&real, &path).unwrap();
    let verify = world.backups.verify(&id, Level::Checksum).await.unwrap();
    assert_eq!(run(&*verify).await.problem.unwrap().reason, Reason::BackupCorrupt);
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let verify = world.backups.verify(&id, Level::Checksum).await.unwrap();
    assert_eq!(run(&*verify).await.problem.unwrap().reason, Reason::BackupCorrupt);
}

#[tokio::test]
async fn a_folder_that_is_not_ours_alone_is_refused() {
    let world = world();
    let refused = async |why: &str| {
        let error = states(&world.backups).await.unwrap_err();
        assert_eq!(error.reason, Reason::StoreUnavailable);
        assert!(error.message.contains(why), "{}", error.message);
        assert_eq!(create(&world.backups).await.problem.unwrap().reason, Reason::StoreUnavailable);
    };
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(&world.store, fs::Permissions::from_mode(mode)).unwrap();
        refused("others may write into it").await;
    }
    let real = world.state.join("real");
    fs::rename(&world.store, &real).unwrap();
    symlink(&real, &world.store).unwrap();
    refused("symbolic link").await;
    fs::remove_file(&world.store).unwrap();
    fs::write(&world.store, "").unwrap();
    refused("not a folder").await;
    fs::remove_file(&world.store).unwrap();
    assert_eq!(states(&world.backups).await.unwrap_err().reason, Reason::StoreUnavailable);
}

#[tokio::test]
async fn two_agents_never_write_into_one_folder_at_once() {
    let world = world();
    let other = StoreDir::new(world.store.clone(), 0);
    let id = BackupId::parse("20261124T0130Z-zz").unwrap();
    let staging = other.begin(&id).await.unwrap();
    let problem = create(&world.backups).await.problem.unwrap();
    assert_eq!(problem.reason, Reason::Locked);
    // Nor does one sweep away what the other is writing.
    assert_eq!(world.backups.sweep().await.unwrap_err().reason, Reason::Locked);
    drop(staging);
    assert_eq!(world.backups.sweep().await.unwrap(), [id]);
    assert_eq!(create(&world.backups).await.state, State::Succeeded);
}

#[tokio::test]
async fn what_is_no_backup_is_not_listed_as_a_broken_one() {
    let world = world();
    fs::create_dir(world.store.join("lost+found")).unwrap();
    fs::create_dir(world.store.join("notes")).unwrap();
    fs::write(world.store.join("20261124T0130Z-aa"), "").unwrap();
    symlink("/", world.store.join("20261124T0130Z-bb")).unwrap();
    assert!(states(&world.backups).await.unwrap().is_empty());
    fs::create_dir(world.store.join("20261124T0130Z-cc")).unwrap();
    let states = states(&world.backups).await.unwrap();
    assert_eq!(states.into_values().collect::<Vec<_>>(), [BackupState::Corrupt]);
}
