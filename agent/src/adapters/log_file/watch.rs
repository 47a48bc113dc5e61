//! One inotify watch a folder, one subscription a log, however many follow it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use ops_domain::ports::LogFault;
use ops_domain::ports::log_source::{Changes, Names};
use tokio::sync::watch;

use super::beneath::Folders;

pub(super) struct Watches {
    shared: Arc<Shared>,
}

struct Shared {
    folders: Arc<Folders>,
    /// Never held while the watcher is spoken to: its thread takes it too.
    logs: Mutex<HashMap<PathBuf, Followed>>,
    watcher: Mutex<Watcher>,
}

/// Made when the first follower comes: an agent that nobody follows on has no thread for it.
#[derive(Default)]
struct Watcher {
    notify: Option<RecommendedWatcher>,
    folders: HashMap<PathBuf, usize>,
}

struct Followed {
    followers: usize,
    data: watch::Sender<u64>,
    names: watch::Sender<Names>,
}

impl Watches {
    pub(super) fn new(folders: Arc<Folders>) -> Self {
        Self { shared: Arc::new(Shared { folders, logs: Mutex::default(), watcher: Mutex::default() }) }
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
            let count = watcher.folders.entry(folder.to_owned()).or_default();
            if *count == 0 {
                let added = match &mut watcher.notify {
                    Some(notify) => notify.watch(folder, RecursiveMode::NonRecursive),
                    none => start(&self.shared).and_then(|mut notify| {
                        notify.watch(folder, RecursiveMode::NonRecursive)?;
                        *none = Some(notify);
                        Ok(())
                    }),
                };
                if let Err(error) = added {
                    watcher.folders.remove(folder);
                    return Err(LogFault::Failed(format!("inotify: {error}")));
                }
            }
            if let Some(count) = watcher.folders.get_mut(folder) {
                *count += 1;
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
        if let Some(count) = watcher.folders.get_mut(folder) {
            *count -= 1;
            if *count == 0 {
                watcher.folders.remove(folder);
                if let Some(notify) = &mut watcher.notify {
                    // A folder that is gone took its watch along.
                    drop(notify.unwatch(folder));
                }
            }
        }
        if watcher.folders.is_empty() {
            watcher.notify = None;
        }
    }
}

fn start(shared: &Arc<Shared>) -> notify::Result<RecommendedWatcher> {
    let shared = Arc::downgrade(shared);
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        if let Some(shared) = shared.upgrade() {
            shared.on(event);
        }
    })
}

impl Shared {
    fn on(&self, event: notify::Result<Event>) {
        let Ok(event) = event else { return self.on_lost() };
        if event.need_rescan() {
            return self.on_lost();
        }
        // Our own opening and closing.
        if matches!(event.kind, EventKind::Access(_)) {
            return;
        }
        for path in &event.paths {
            self.on_path(path, &event.kind);
        }
    }

    fn on_path(&self, path: &Path, kind: &EventKind) {
        let data = matches!(
            kind,
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_) | ModifyKind::Any)
        );
        // A rename is told three times; its two ends are enough.
        if matches!(kind, EventKind::Modify(ModifyKind::Name(RenameMode::Both))) {
            return;
        }
        let mut logs = lock(&self.logs);
        if let Some((log, followed)) = find(&mut logs, path) {
            if data {
                followed.data.send_modify(|count| *count += 1);
                return;
            }
            let appeared =
                matches!(kind, EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)));
            let found = (appeared && path == log)
                .then(|| super::look(&self.folders, &log).ok().map(|facts| facts.id));
            followed.names.send_modify(|names| {
                names.changes += 1;
                if let Some(found) = found {
                    names.appear(found);
                }
            });
            return;
        }
        // The folder itself was moved or removed.
        for (log, followed) in logs.iter_mut().filter(|_| !data) {
            if log.parent() == Some(path) {
                followed.names.send_modify(|names| names.changes += 1);
            }
        }
    }

    /// Notifications were lost: anything may have happened.
    fn on_lost(&self) {
        for followed in lock(&self.logs).values_mut() {
            followed.names.send_modify(|names| {
                names.changes += 1;
                names.appear(None);
            });
            followed.data.send_modify(|count| *count += 1);
        }
    }
}

/// The followed log that a path is a member of: itself, or with a number behind it.
fn find<'a>(logs: &'a mut HashMap<PathBuf, Followed>, path: &Path) -> Option<(PathBuf, &'a mut Followed)> {
    let log = if logs.contains_key(path) {
        path.to_owned()
    } else {
        let number = path.extension().and_then(OsStr::to_str)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        path.with_extension("")
    };
    logs.get_mut(&log).map(|followed| (log.clone(), followed))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
