//! supervisord's own log: the only source of exit codes of programs that die at once, and of what happened before the
//! agent started. Followed with inotify: while nothing happens, nothing runs.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use notify::{EventKind, RecursiveMode, Watcher as _};
use ops_domain::ports::service_history::{ServiceHistory, Transition};
use tokio::sync::watch;

mod file;
mod line;

use file::{LogFile, Look};

/// How often a log that is not there is looked for again.
const SEARCH: Duration = Duration::from_secs(5);
/// Between supervisord's renaming of the old file and its opening of the new one lie microseconds.
const ROTATION: Duration = Duration::from_millis(20);
const MOST_ROTATION_LOOKS: u32 = 50;
const MOST_TRANSITIONS: usize = 500;
const MOST_PROGRAMS: usize = 256;

/// History from the log, kept in memory, followed by a thread of its own until dropped.
pub struct History {
    shared: Arc<Shared>,
    wake: Sender<Wake>,
}

enum Wake {
    Look,
    End,
}

struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

struct State {
    programs: HashMap<String, VecDeque<Transition>>,
    missing: Option<String>,
}

impl History {
    /// Reads what there is of the last day, then follows. `None`: no log is configured.
    #[must_use]
    pub fn follow(path: Option<PathBuf>, zone: TimeZone) -> Self {
        let state = State { programs: HashMap::new(), missing: Some("its log is not yet read".to_owned()) };
        let shared = Arc::new(Shared { state: Mutex::new(state), changes: watch::Sender::new(0) });
        let (wake, wakes) = channel();
        let history = Self { shared: Arc::clone(&shared), wake: wake.clone() };
        let Some(path) = path else {
            shared.lost("`log` is not set in [supervisor] of opsd.toml".to_owned());
            return history;
        };
        let follower = Follower { shared: Arc::clone(&shared), path, zone, wake, wakes };
        if let Err(error) =
            std::thread::Builder::new().name("supervisor-log".into()).spawn(move || follower.run())
        {
            shared.lost(format!("no thread to follow its log: {error}"));
        }
        history
    }
}

impl Drop for History {
    fn drop(&mut self) {
        // The follower may have ended before.
        let _ = self.wake.send(Wake::End);
    }
}

impl ServiceHistory for History {
    fn transitions(&self, process: &str) -> Vec<Transition> {
        self.shared.state().programs.get(process).map(|all| all.iter().cloned().collect()).unwrap_or_default()
    }

    fn missing(&self) -> Option<String> {
        self.shared.state().missing.clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves whole transitions behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, why: String) {
        let mut state = self.state();
        if state.missing.as_ref() != Some(&why) {
            state.missing = Some(why);
            drop(state);
            self.changes.send_modify(|version| *version += 1);
        }
    }

    fn learn(&self, news: Vec<(String, Transition)>, found: bool) {
        let mut state = self.state();
        let mut changed = !news.is_empty();
        if found && state.missing.take().is_some() {
            changed = true;
        }
        for (process, transition) in news {
            if !state.programs.contains_key(&process) && state.programs.len() >= MOST_PROGRAMS {
                continue;
            }
            let all = state.programs.entry(process).or_default();
            if all.len() >= MOST_TRANSITIONS {
                all.pop_front();
            }
            all.push_back(transition);
        }
        drop(state);
        if changed {
            self.changes.send_modify(|version| *version += 1);
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    path: PathBuf,
    zone: TimeZone,
    wake: Sender<Wake>,
    wakes: Receiver<Wake>,
}

impl Follower {
    fn run(self) {
        for old in file::recent_backups(&self.path) {
            self.shared.learn(self.parsed(old), false);
        }
        let mut rotation_looks = 0;
        let mut first = true;
        loop {
            match LogFile::open(&self.path, first) {
                Ok(mut file) => {
                    (first, rotation_looks) = (false, 0);
                    if !self.follow(&mut file) {
                        return;
                    }
                }
                Err(_) if !first && rotation_looks < MOST_ROTATION_LOOKS => {
                    rotation_looks += 1;
                    if !self.wait(Some(ROTATION)) {
                        return;
                    }
                }
                Err(why) => {
                    self.shared.lost(format!("{}: {why}", self.path.display()));
                    if !self.wait(Some(SEARCH)) {
                        return;
                    }
                }
            }
        }
    }

    /// Follows one file until it is no longer the one at the path. `false`: the end is wanted.
    fn follow(&self, file: &mut LogFile) -> bool {
        let wake = self.wake.clone();
        let watching = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own opening and reading are events too.
            if !matches!(event, Ok(notify::Event { kind: EventKind::Access(_), .. })) {
                let _ = wake.send(Wake::Look);
            }
        })
        .and_then(|mut watcher| {
            watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        // Without inotify (its limit of watches) the file is looked at now and then instead.
        let pause = if watching.is_ok() { None } else { Some(SEARCH) };
        loop {
            let look = match file.look(&self.path) {
                Ok(look) => look,
                Err(error) => {
                    self.shared.lost(format!("{}: {error}", self.path.display()));
                    return self.wait(Some(SEARCH));
                }
            };
            let (lines, ended) = match look {
                Look::Same(lines) => (lines, false),
                Look::Replaced(lines) => (lines, true),
            };
            self.shared.learn(self.parsed(lines), true);
            if ended {
                return true;
            }
            if !self.wait(pause) {
                return false;
            }
        }
    }

    fn parsed(&self, lines: Vec<String>) -> Vec<(String, Transition)> {
        lines.iter().filter_map(|line| line::parse(line, &self.zone)).collect()
    }

    /// Waits for a reason to look. `false`: the end is wanted.
    fn wait(&self, limit: Option<Duration>) -> bool {
        let first = match limit {
            Some(limit) => match self.wakes.recv_timeout(limit) {
                Ok(wake) => wake,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return true,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return false,
            },
            None => match self.wakes.recv() {
                Ok(wake) => wake,
                Err(_) => return false,
            },
        };
        // One look answers all that came meanwhile.
        let mut end = matches!(first, Wake::End);
        while let Ok(wake) = self.wakes.try_recv() {
            end |= matches!(wake, Wake::End);
        }
        !end
    }
}

#[cfg(test)]
mod tests;
