//! One inotify watch a folder, one subscription a log, however many follow it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags as Is, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use ops_domain::ports::LogFault;
use ops_domain::ports::log_source::{Changes, Names};
use tokio::sync::watch;

pub(super) struct Watches {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Never held while the watcher is taken: who has the watcher takes it too.
    logs: Mutex<HashMap<PathBuf, Followed>>,
    watcher: Mutex<Watcher>,
}

/// Made when the first follower comes: an agent that nobody follows on has no thread for it.
#[derive(Default)]
struct Watcher {
    live: Option<Live>,
    folders: HashMap<PathBuf, (WatchDescriptor, usize)>,
    /// The rename whose other end is not known yet: its number, and the log that the file belonged to.
    moving: Option<(u32, PathBuf)>,
}

struct Live {
    inotify: Arc<Inotify>,
    /// Its drop ends the thread.
    _end: UnixStream,
}

struct Followed {
    followers: usize,
    data: watch::Sender<u64>,
    names: watch::Sender<Names>,
}

impl Watches {
    pub(super) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// Takes what the kernel has in its queue: all that happened before this call is counted after it.
    pub(super) fn catch_up(&self) {
        self.shared.catch_up();
    }

    pub(super) fn follow(&self, log: &Path) -> Result<Changes, LogFault> {
        let folder = log.parent().ok_or(LogFault::Missing)?;
        let (data, names) = {
            let mut logs = lock(&self.shared.logs);
            let followed = logs.entry(log.to_owned()).or_insert_with(|| Followed {
                followers: 0,
                data: watch::Sender::new(0),
                names: watch::Sender::new(Names::default()),
            });
            followed.followers += 1;
            (followed.data.subscribe(), followed.names.subscribe())
        };
        // From here on the guard undoes what was done, whatever fails.
        let guard = Guard { shared: Arc::clone(&self.shared), log: log.to_owned(), watched: false };
        let guard = guard.watch(folder)?;
        Ok(Changes { data, names, guard: Box::new(guard) })
    }
}

#[cfg(test)]
impl Watches {
    /// Followed logs, and watched folders.
    pub(super) fn counts(&self) -> (usize, usize) {
        (lock(&self.shared.logs).len(), lock(&self.shared.watcher).folders.len())
    }
}

struct Guard {
    shared: Arc<Shared>,
    log: PathBuf,
    watched: bool,
}

impl Guard {
    fn watch(mut self, folder: &Path) -> Result<Self, LogFault> {
        {
            let mut watcher = lock(&self.shared.watcher);
            let watcher = &mut *watcher;
            match watcher.folders.get_mut(folder) {
                Some((_, count)) => *count += 1,
                None => {
                    let descriptor = watcher.live(&self.shared).and_then(|live| {
                        let what =
                            Is::IN_CREATE | Is::IN_DELETE | Is::IN_MOVE | Is::IN_MODIFY | Is::IN_ATTRIB;
                        let itself = Is::IN_DELETE_SELF | Is::IN_MOVE_SELF | Is::IN_ONLYDIR;
                        Ok(live.inotify.add_watch(folder, what | itself)?)
                    });
                    let descriptor = descriptor.map_err(|error| {
                        if watcher.folders.is_empty() {
                            watcher.live = None;
                        }
                        LogFault::Failed(format!("inotify: {error}"))
                    })?;
                    watcher.folders.insert(folder.to_owned(), (descriptor, 1));
                }
            }
        }
        self.watched = true;
        Ok(self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        {
            let mut logs = lock(&self.shared.logs);
            if let Some(followed) = logs.get_mut(&self.log) {
                followed.followers -= 1;
                if followed.followers == 0 {
                    logs.remove(&self.log);
                }
            }
        }
        let Some(folder) = self.log.parent().filter(|_| self.watched) else { return };
        let mut watcher = lock(&self.shared.watcher);
        let watcher = &mut *watcher;
        if let Some((descriptor, count)) = watcher.folders.get_mut(folder) {
            *count -= 1;
            if *count == 0 {
                if let Some(live) = &watcher.live {
                    // A folder that is gone took its watch along.
                    let _gone = live.inotify.rm_watch(*descriptor);
                }
                watcher.folders.remove(folder);
            }
        }
        if watcher.folders.is_empty() {
            watcher.live = None;
        }
    }
}

impl Watcher {
    fn live(&mut self, shared: &Arc<Shared>) -> std::io::Result<&Live> {
        let live = match self.live.take() {
            Some(live) => live,
            None => {
                let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
                let (end, ended) = UnixStream::pair()?;
                let (shared, events) = (Arc::downgrade(shared), Arc::clone(&inotify));
                std::thread::Builder::new().name("logs".to_owned()).spawn(move || {
                    loop {
                        let mut fds = [
                            PollFd::new(events.as_fd(), PollFlags::POLLIN),
                            PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                        ];
                        match poll(&mut fds, PollTimeout::NONE) {
                            Ok(_) | Err(Errno::EINTR) => {}
                            Err(_) => return,
                        }
                        if fds[1].any() != Some(false) {
                            return;
                        }
                        let Some(shared) = shared.upgrade() else { return };
                        shared.catch_up();
                    }
                })?;
                Live { inotify, _end: end }
            }
        };
        Ok(self.live.insert(live))
    }
}

impl Shared {
    fn catch_up(&self) {
        let mut watcher = lock(&self.watcher);
        loop {
            let Some(live) = &watcher.live else { return };
            match live.inotify.read_events() {
                Ok(events) => {
                    for event in events {
                        self.on(&mut watcher, &event);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => return self.on_lost(),
            }
        }
    }

    fn on(&self, watcher: &mut Watcher, event: &InotifyEvent) {
        if event.mask.contains(Is::IN_Q_OVERFLOW) {
            return self.on_lost();
        }
        let Some(folder) = watcher.folders.iter().find(|(_, (descriptor, _))| *descriptor == event.wd) else {
            return;
        };
        let folder = folder.0.as_path();
        let mut logs = lock(&self.logs);
        let Some(name) = &event.name else {
            // The folder itself was moved or removed.
            if event.mask.intersects(Is::IN_DELETE_SELF | Is::IN_MOVE_SELF) {
                for (_, followed) in logs.iter_mut().filter(|(log, _)| log.parent() == Some(folder)) {
                    followed.names.send_modify(|names| names.changes += 1);
                }
            }
            return;
        };
        let Some((log, followed, rotated)) = find(&mut logs, &folder.join(name)) else { return };
        if event.mask.intersects(Is::IN_MODIFY | Is::IN_ATTRIB) {
            followed.data.send_modify(|count| *count += 1);
            return;
        }
        if event.mask.contains(Is::IN_MOVED_FROM) {
            watcher.moving = Some((event.cookie, log.clone()));
        }
        // What is renamed within the log was counted when it came.
        let known = watcher.moving.as_ref().is_some_and(|moving| *moving == (event.cookie, log));
        let born = event.mask.contains(Is::IN_CREATE) || event.mask.contains(Is::IN_MOVED_TO) && !known;
        followed.names.send_modify(|names| {
            names.changes += 1;
            names.born += u64::from(born);
            names.copied += u64::from(born && rotated);
        });
    }

    /// Notifications were lost: anything may have happened.
    fn on_lost(&self) {
        for followed in lock(&self.logs).values_mut() {
            followed.names.send_modify(|names| {
                names.changes += 1;
                names.lost += 1;
            });
            followed.data.send_modify(|count| *count += 1);
        }
    }
}

/// The followed log that a path is a member of, and whether with a number behind its name.
fn find<'a>(
    logs: &'a mut HashMap<PathBuf, Followed>,
    path: &Path,
) -> Option<(PathBuf, &'a mut Followed, bool)> {
    let rotated = !logs.contains_key(path);
    let log = if rotated {
        let number = path.extension().and_then(OsStr::to_str)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
        // A date is no number of a chain.
        if !digits || number.parse::<u32>().ok()? > super::MOST_ROTATED {
            return None;
        }
        path.with_extension("")
    } else {
        path.to_owned()
    };
    logs.get_mut(&log).map(|followed| (log.clone(), followed, rotated))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
