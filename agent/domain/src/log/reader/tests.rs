use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::fakes::FakeLog;

const LOG: &str = "/var/log/x.log";

fn key() -> CursorKey {
    CursorKey::new([3; 32])
}

fn begin(log: &Arc<FakeLog>, start: Start) -> Reader {
    let names = log.changes(Path::new(LOG)).unwrap().names;
    Reader::begin(log.clone(), Path::new(LOG), Some(names), start, &key()).unwrap().0
}

/// What a follower saw: text, and how many gaps and truncations were declared.
#[derive(Default)]
struct Seen {
    text: Vec<u8>,
    gaps: Vec<Gap>,
    truncations: usize,
    rotations: usize,
}

impl Seen {
    /// One step; false when caught up.
    fn step(&mut self, reader: &mut Reader) -> bool {
        match reader.step().unwrap() {
            Step::Lines(pieces) => {
                for piece in pieces {
                    self.text.extend_from_slice(&piece.text);
                    if !piece.continues {
                        self.text.push(b'\n');
                    }
                }
            }
            Step::Gap(gap) => self.gaps.push(gap),
            Step::Truncated => self.truncations += 1,
            Step::Rotated { .. } => self.rotations += 1,
            Step::CaughtUp | Step::Missing | Step::Done => return false,
        }
        true
    }

    fn all(&mut self, reader: &mut Reader) {
        while self.step(reader) {}
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.text.clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

fn numbered(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|number| format!("line {number}")).collect()
}

fn write(log: &FakeLog, from: u32, to: u32) {
    for line in numbered(from, to) {
        log.append(format!("{line}\n").as_bytes());
    }
}

#[test]
fn the_last_lines_come_from_rotated_files_too() {
    let log = FakeLog::new();
    write(&log, 0, 5);
    log.append(b"line");
    log.rotate(3);
    log.append(b" 5\n");
    write(&log, 6, 8);
    for (wanted, from) in [(1, 7), (3, 5), (4, 4), (8, 0), (100, 0)] {
        let mut seen = Seen::default();
        seen.all(&mut begin(&log, Start::Last(wanted)));
        assert_eq!(seen.lines(), numbered(from, 8), "last {wanted}");
    }
    let mut seen = Seen::default();
    let mut reader = begin(&log, Start::Last(0));
    seen.all(&mut reader);
    assert!(seen.text.is_empty());
    write(&log, 8, 9);
    seen.all(&mut reader);
    assert_eq!(seen.lines(), numbered(8, 9));
}

#[test]
fn an_unfinished_line_counts_and_is_held_back() {
    let log = FakeLog::new();
    write(&log, 0, 3);
    log.append(b"line 3");
    let mut reader = begin(&log, Start::Last(2));
    let mut seen = Seen::default();
    seen.all(&mut reader);
    assert_eq!(seen.lines(), numbered(2, 3));
    assert!(matches!(reader.rest_of_line(), Some(Step::Lines(pieces)) if pieces[0].continues));
}

#[test]
fn a_line_without_end_is_found_from_its_end() {
    let log = FakeLog::new();
    log.append(&vec![b'x'; 1_000_000]);
    let mut reader = begin(&log, Start::Last(2));
    let Step::Lines(pieces) = reader.step().unwrap() else { panic!("no lines") };
    assert_eq!(pieces[0].offset, 1_000_000 - 2 * 65536);
    assert!(pieces[0].continued && pieces[0].continues);
}

#[test]
fn every_kind_of_rotation_is_followed() {
    for kind in 0..3 {
        let log = FakeLog::new();
        let mut reader = begin(&log, Start::Last(10));
        let mut seen = Seen::default();
        for round in 0..10 {
            write(&log, round * 10, round * 10 + 5);
            seen.all(&mut reader);
            write(&log, round * 10 + 5, round * 10 + 10);
            match kind {
                0 => log.rotate(2),
                1 => log.copytruncate(2),
                _ => {
                    log.delete();
                    seen.all(&mut reader);
                    assert_eq!(reader.step().unwrap(), Step::Missing);
                    log.create();
                }
            }
        }
        seen.all(&mut reader);
        assert_eq!(seen.lines(), numbered(0, 100), "kind {kind}");
        assert!(seen.gaps.is_empty(), "kind {kind}: {:?}", seen.gaps);
        assert!(seen.rotations + seen.truncations >= 9);
    }
}

#[test]
fn a_rotated_file_that_is_still_written_to_is_not_left() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    let mut seen = Seen::default();
    write(&log, 0, 2);
    seen.all(&mut reader);
    log.rotate(2);
    seen.all(&mut reader);
    assert_eq!(seen.rotations, 0, "the new file is empty: the writer may still hold the old one");
    write(&log, 2, 3);
    seen.all(&mut reader);
    assert_eq!((seen.lines(), seen.rotations), (numbered(0, 3), 1));
}

#[test]
fn what_left_the_disk_unread_is_a_gap_of_its_size() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    let mut seen = Seen::default();
    write(&log, 0, 10);
    for round in 1..6 {
        log.rotate(2);
        write(&log, round * 10, round * 10 + 10);
        reader.observe().unwrap();
    }
    seen.all(&mut reader);
    // The first is held open; of the others the current and two rotated ones are left.
    assert_eq!(seen.lines(), [numbered(0, 10), numbered(30, 60)].concat());
    let gap = Gap { bytes: 2 * 80, at_least: false, lines: None, skipped: false };
    assert_eq!(seen.gaps, [gap]);
}

#[test]
fn files_that_nobody_saw_are_a_gap_of_unknown_size() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    let mut seen = Seen::default();
    write(&log, 0, 10);
    seen.all(&mut reader);
    for round in 1..4 {
        log.delete();
        log.create();
        write(&log, round * 10, round * 10 + 10);
    }
    seen.all(&mut reader);
    assert_eq!(seen.lines(), [numbered(0, 10), numbered(30, 40)].concat());
    assert_eq!(seen.gaps, [Gap { bytes: 0, at_least: true, lines: None, skipped: false }]);
}

#[test]
fn a_cut_without_a_copy_is_marked() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    let mut seen = Seen::default();
    write(&log, 0, 10);
    seen.all(&mut reader);
    log.truncate();
    write(&log, 10, 40);
    seen.all(&mut reader);
    assert_eq!((seen.lines(), seen.truncations), (numbered(0, 40), 1));
}

#[test]
fn the_newest_line_can_be_skipped_to() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    write(&log, 0, 10);
    log.rotate(3);
    write(&log, 10, 30);
    log.append(b"li");
    let gap = reader.skip().unwrap().unwrap();
    assert_eq!((gap.lines, gap.bytes, gap.skipped), (Some(30), 70 + 160, true));
    log.append(b"ne 30\n");
    let mut seen = Seen::default();
    seen.all(&mut reader);
    assert_eq!(seen.lines(), numbered(30, 31));
}

#[test]
fn an_end_can_be_a_cursor() {
    let log = FakeLog::new();
    write(&log, 0, 3);
    let mut first = begin(&log, Start::Last(10));
    Seen::default().all(&mut first);
    let from = first.position(&key());
    write(&log, 3, 6);
    log.rotate(3);
    write(&log, 6, 9);
    Seen::default().all(&mut first);
    let to = first.position(&key());
    write(&log, 9, 12);
    let mut reader = begin(&log, Start::At(from));
    assert!(reader.end_at(to, &key()).unwrap());
    let mut seen = Seen::default();
    seen.all(&mut reader);
    assert_eq!(seen.lines(), numbered(3, 9));
    assert_eq!(reader.step().unwrap(), Step::Done);
}

#[test]
fn a_reused_inode_is_not_taken_for_the_old_file() {
    let log = FakeLog::new();
    write(&log, 0, 3);
    let mut reader = begin(&log, Start::Last(10));
    Seen::default().all(&mut reader);
    let position = reader.position(&key());
    drop(reader);
    log.delete();
    log.create();
    write(&log, 100, 110);
    assert_eq!(log.chain(Path::new(LOG)).unwrap()[0].facts.id.inode, position.id.inode);
    let mut seen = Seen::default();
    seen.all(&mut begin(&log, Start::At(position)));
    assert_eq!((seen.lines(), seen.gaps.len()), (numbered(100, 110), 1));
}

#[test]
fn a_failing_disk_is_an_error_never_an_end() {
    let log = FakeLog::new();
    let mut reader = begin(&log, Start::Last(10));
    write(&log, 0, 1);
    Seen::default().all(&mut reader);
    log.rotate(1);
    log.fail(LogFault::Failed("input/output error".into()));
    assert_eq!(reader.step().unwrap_err(), LogFault::Failed("input/output error".into()));
}

#[derive(Clone, Debug)]
enum Act {
    Write(u32),
    Rotate,
    Copytruncate,
    Recreate,
    Steps(usize),
    Observe,
    Reconnect,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1u32..30).prop_map(Act::Write),
        2 => Just(Act::Rotate),
        2 => Just(Act::Copytruncate),
        1 => Just(Act::Recreate),
        4 => (0usize..6).prop_map(Act::Steps),
        2 => Just(Act::Observe),
        2 => Just(Act::Reconnect),
    ]
}

/// Lines of a text, with the last one possibly unfinished; halves are written apart so that files end within lines.
fn write_halves(log: &FakeLog, next: &mut u32, count: u32, half: &mut bool) {
    for _ in 0..count {
        let line = format!("line {next:06} {}\n", "x".repeat((*next % 70) as usize));
        let (first, second) = line.as_bytes().split_at(7);
        if *half {
            log.append(second);
            *next += 1;
        } else {
            log.append(first);
        }
        *half = !*half;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Files are kept long enough, so every line must come, once and in order.
    #[test]
    fn nothing_is_lost_and_nothing_comes_twice(acts in prop::collection::vec(act(), 1..60)) {
        let log = FakeLog::new();
        let mut reader = begin(&log, Start::Last(10));
        let mut seen = Seen::default();
        let (mut next, mut half) = (0, false);
        for act in &acts {
            match act {
                Act::Write(count) => write_halves(&log, &mut next, *count, &mut half),
                Act::Rotate => log.rotate(100),
                Act::Copytruncate => log.copytruncate(100),
                Act::Recreate => {
                    // A removed file can be had only by who holds it open.
                    seen.all(&mut reader);
                    if !half {
                        log.delete();
                        log.create();
                        write_halves(&log, &mut next, 2, &mut half);
                        seen.all(&mut reader);
                    }
                }
                Act::Steps(count) => for _ in 0..*count { seen.step(&mut reader); },
                Act::Observe => { reader.observe().unwrap(); }
                Act::Reconnect => {
                    let position = reader.position(&key());
                    reader = begin(&log, Start::At(position));
                }
            }
        }
        if half { write_halves(&log, &mut next, 1, &mut half); }
        seen.all(&mut reader);
        let numbers: Vec<u32> =
            seen.lines().iter().map(|line| line.get(5..11).and_then(|number| number.parse().ok()).unwrap_or(999_999)).collect();
        prop_assert_eq!(numbers, (0..next).collect::<Vec<_>>());
        prop_assert!(seen.gaps.is_empty(), "{:?}", seen.gaps);
    }

    /// Files are kept too short, but the folder is looked at after each rotation: what is missing is declared, to the
    /// byte where it says so.
    #[test]
    fn what_is_missing_is_declared(acts in prop::collection::vec(act(), 1..60)) {
        let log = FakeLog::new();
        let mut reader = begin(&log, Start::Last(10));
        let mut seen = Seen::default();
        let mut written = 0u64;
        let mut next = 0u32;
        for act in &acts {
            match act {
                Act::Write(count) => for _ in 0..*count {
                    let line = format!("line {next:06}\n");
                    written += line.len() as u64;
                    log.append(line.as_bytes());
                    next += 1;
                },
                Act::Rotate => { log.rotate(1); reader.observe().unwrap(); }
                Act::Copytruncate => { log.copytruncate(1); reader.observe().unwrap(); }
                Act::Recreate => { log.delete(); log.create(); reader.observe().unwrap(); }
                Act::Steps(count) => for _ in 0..*count { seen.step(&mut reader); },
                Act::Observe => { reader.observe().unwrap(); }
                Act::Reconnect => {
                    seen.all(&mut reader);
                    let position = reader.position(&key());
                    reader = begin(&log, Start::At(position));
                }
            }
        }
        seen.all(&mut reader);
        let numbers: Vec<u32> = seen.lines().iter().map(|line| line.get(5..11).and_then(|number| number.parse().ok()).unwrap_or(999_999)).collect();
        prop_assert!(numbers.is_sorted_by(|left, right| left < right), "{:?}", numbers);
        let missing = written - seen.text.len() as u64;
        let declared: u64 = seen.gaps.iter().map(|gap| gap.bytes).sum();
        if seen.gaps.iter().all(|gap| !gap.at_least) && seen.truncations == 0 {
            prop_assert_eq!(missing, declared);
        } else {
            prop_assert!(missing >= declared, "missing {}, declared {}", missing, declared);
        }
    }
}
