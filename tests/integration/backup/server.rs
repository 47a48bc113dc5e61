//! A MongoDB server of a test's own, and a relay before it that can be cut.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::{Client, Database};
use ops_tests::parts::{self, MongoServer};
use ops_tests::patience::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A server; it ends with its value.
pub(super) struct Server {
    child: Option<Child>,
    address: String,
    pub(super) client: Client,
}

impl Server {
    /// The one that `OPS_TEST_MONGODB_URI` names is left alone: these tests kill and cut.
    pub(super) async fn start(folder: &Path) -> Self {
        let data = folder.join("data");
        std::fs::create_dir(&data).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = match parts::ensure(&parts::to_stderr).unwrap().mongodb {
            MongoServer::Mongod { program } => {
                let mut command = Command::new(program);
                command.args(["--bind_ip", "127.0.0.1", "--port", &free.port().to_string(), "--dbpath"]);
                command.arg(&data);
                command
            }
            MongoServer::Ferretdb { program } => {
                let mut command = Command::new(program);
                command.args(["--listen", &free.to_string(), "--dir"]).arg(&data);
                command
            }
            MongoServer::Given { uri } => {
                return Self { child: None, address: host_of(&uri), client: client(&uri).await };
            }
        };
        let log = std::fs::File::create(folder.join("server.log")).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        eventually(Duration::from_secs(20), "the server", || std::net::TcpStream::connect(free)).unwrap();
        let uri = format!("mongodb://{free}/");
        Self { child: Some(child), address: free.to_string(), client: client(&uri).await }
    }

    pub(super) fn uri(&self) -> String {
        format!("mongodb://{}/", self.address)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Its documents, sorted, and its indexes, by collection: asked for with a client of our own.
    pub(super) async fn contents(&self, database: &str) -> Vec<(String, Vec<Vec<u8>>, Vec<Document>)> {
        let database: Database = self.client.database(database);
        let mut names = database.list_collection_names().await.unwrap();
        names.sort();
        let mut contents = Vec::new();
        for name in names {
            let mut documents = Vec::new();
            let mut cursor = database.collection::<RawDocumentBuf>(&name).find(doc! {}).await.unwrap();
            while cursor.advance().await.unwrap() {
                documents.push(cursor.current().as_bytes().to_vec());
            }
            documents.sort();
            let mut indexes = Vec::new();
            let mut cursor = database.run_cursor_command(doc! { "listIndexes": &name }).await.unwrap();
            while cursor.advance().await.unwrap() {
                indexes.push(cursor.deserialize_current().unwrap());
            }
            indexes.sort_by_key(|index: &Document| index.get_str("name").unwrap().to_owned());
            contents.push((name, documents, indexes));
        }
        contents
    }
}

async fn client(uri: &str) -> Client {
    Client::with_uri_str(uri).await.unwrap()
}

fn host_of(uri: &str) -> String {
    let rest = uri.trim_start_matches("mongodb://");
    let rest = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    rest.split(['/', '?', ',']).next().unwrap().to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Passes bytes on, until its allowance is used up; then every connection breaks and none comes about, until it is
/// mended.
pub(super) struct Relay {
    pub(super) uri: String,
    state: Arc<State>,
}

struct State {
    /// Bytes that may still come from the server; and go to it.
    down: AtomicI64,
    up: AtomicI64,
    cut: AtomicBool,
    broken: Notify,
}

impl Relay {
    pub(super) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("mongodb://{}/", listener.local_addr().unwrap());
        let state = Arc::new(State {
            down: AtomicI64::new(i64::MAX),
            up: AtomicI64::new(i64::MAX),
            cut: AtomicBool::new(false),
            broken: Notify::new(),
        });
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if shared.cut.load(Ordering::SeqCst) {
                    continue;
                }
                let far = TcpStream::connect(&target).await.unwrap();
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                for (mut from, mut to, is_down) in
                    [(far_read, near_write, true), (near_read, far_write, false)]
                {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        let mut buffer = vec![0_u8; 64 * 1024];
                        loop {
                            let read = tokio::select! {
                                read = from.read(&mut buffer) => read.unwrap_or(0),
                                () = shared.broken.notified() => return,
                            };
                            let left = if is_down { &shared.down } else { &shared.up };
                            let count = i64::try_from(read).unwrap();
                            if left.fetch_sub(count, Ordering::SeqCst) < count {
                                shared.cut.store(true, Ordering::SeqCst);
                                shared.broken.notify_waiters();
                            }
                            let cut = shared.cut.load(Ordering::SeqCst);
                            if read == 0 || cut || to.write_all(&buffer[..read]).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        });
        Self { uri, state }
    }

    /// Breaks after this many bytes from the server.
    pub(super) fn cut_after_received(&self, bytes: i64) {
        self.state.down.store(bytes, Ordering::SeqCst);
    }

    /// Breaks after this many bytes to the server.
    pub(super) fn cut_after_sent(&self, bytes: i64) {
        self.state.up.store(bytes, Ordering::SeqCst);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.state.cut.load(Ordering::SeqCst)
    }

    pub(super) fn mend(&self) {
        self.state.down.store(i64::MAX, Ordering::SeqCst);
        self.state.up.store(i64::MAX, Ordering::SeqCst);
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

/// A folder that only we can write to.
pub(super) fn private(folder: &Path, name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}
