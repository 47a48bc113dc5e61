use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use ops_domain::ports::service_history::Change;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn write(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn spawned(pid: u32) -> String {
    format!("2026-11-24 22:17:42,{:03} INFO spawned: 'x' with pid {pid}\n", pid % 1000)
}

fn pids(history: &History) -> Vec<u32> {
    let all = history.transitions("x");
    all.iter().map(|t| if let Change::Spawned { pid } = t.change { pid } else { 0 }).collect()
}

async fn until(history: &History, what: impl Fn(&History) -> bool) {
    let mut changes = history.changes();
    let reached = async {
        while !what(history) {
            changes.changed().await.unwrap();
        }
    };
    let reached = tokio::time::timeout(LIMIT, reached).await;
    assert!(reached.is_ok(), "{:?} missing {:?}", pids(history), history.missing());
}

#[tokio::test]
async fn nothing_is_lost_over_rotation_truncation_and_halves_of_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisord.log");
    write(&folder.path().join("supervisord.log.2"), &spawned(1));
    write(&folder.path().join("supervisord.log.1"), &spawned(2));
    write(&path, &spawned(3));
    let history = History::follow(Some(path.clone()), TimeZone::UTC);
    until(&history, |history| pids(history) == [1, 2, 3]).await;
    assert_eq!(history.missing(), None);

    let (half, rest) = (&spawned(4)[..30], &spawned(4)[30..]);
    write(&path, half);
    write(&path, rest);
    until(&history, |history| pids(history) == [1, 2, 3, 4]).await;

    // As supervisord does it, with a line just before.
    write(&path, &spawned(5));
    fs::rename(&path, folder.path().join("supervisord.log.1")).unwrap();
    // Long enough that what is written after the truncation below is shorter: a file that regrew past the reader
    // looks untouched to anyone.
    write(&path, &format!("{}\n", "-".repeat(500)));
    write(&path, &spawned(6));
    until(&history, |history| pids(history).ends_with(&[5, 6])).await;

    OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    write(&path, &spawned(7));
    until(&history, |history| pids(history).ends_with(&[6, 7])).await;
    assert_eq!(pids(&history), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_log_that_is_absent_unset_or_no_file_is_said_to_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::follow(None, TimeZone::UTC);
    assert!(history.missing().unwrap().contains("not set"));

    let history = History::follow(Some(folder.path().join("none.log")), TimeZone::UTC);
    until(&history, |history| history.missing().is_some_and(|why| why.contains("none.log"))).await;

    let fifo = folder.path().join("fifo.log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let history = History::follow(Some(fifo), TimeZone::UTC);
    until(&history, |history| history.missing().is_some_and(|why| why.contains("not a regular file"))).await;
}

#[tokio::test]
async fn floods_and_endless_lines_stay_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisord.log");
    write(&path, &"y".repeat(3 << 20));
    write(&path, "\n");
    for pid in 1..=2_000 {
        write(&path, &spawned(pid));
    }
    let history = History::follow(Some(path), TimeZone::UTC);
    until(&history, |history| pids(history).last() == Some(&2_000)).await;
    assert_eq!(pids(&history).len(), MOST_TRANSITIONS);
}
