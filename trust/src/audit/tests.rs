use proptest::prelude::*;

use super::*;
use crate::key::{PublicKey, SigningKey};

fn moment(n: i64) -> Moment {
    Moment {
        ts: jiff::Timestamp::from_nanosecond(1_795_521_600_123_456_789 + i128::from(n) * 1_000_000_000)
            .unwrap(),
        mono_ns: 1_000 + n as u64,
        boot_id: "9b2c4f3e-0000-4000-8000-000000000000".into(),
    }
}

fn record(n: i64) -> Record {
    let mut record = Record::new(if n % 2 == 0 { Stage::Intent } else { Stage::Result }, moment(n));
    record.sub = Some("user/alice".into());
    record.route = Some("/ops.v1.ServiceService/Restart".into());
    record.params.insert("service".into(), "backend".into());
    record
}

struct Log {
    lines: Vec<Vec<u8>>,
    chain: ChainWriter,
    epoch: Epoch,
    root: PublicKey,
}

impl Log {
    fn new() -> Self {
        let epoch = Epoch::first().unwrap();
        let root = epoch.key.public();
        let genesis = ChainWriter::genesis("agent/auction-1", &epoch, moment(0)).unwrap();
        let lines = vec![genesis.bytes().to_vec()];
        Self { lines, chain: ChainWriter::after(genesis), epoch, root }
    }

    fn push(&mut self, record: &Record) {
        let line = self.chain.prepare(record).unwrap();
        self.lines.push(line.bytes().to_vec());
        self.chain.advance(line).unwrap();
    }

    fn checkpoint(&mut self) {
        let next = self.epoch.next().unwrap();
        let line = self.chain.prepare_checkpoint(moment(9), &self.epoch, &next.key.public()).unwrap();
        self.lines.push(line.bytes().to_vec());
        self.chain.advance(line).unwrap();
        self.epoch = next;
    }

    /// Line 0, three records, a checkpoint, two records, a checkpoint.
    fn small() -> Self {
        let mut log = Self::new();
        (1..=3).for_each(|n| log.push(&record(n)));
        log.checkpoint();
        (4..=5).for_each(|n| log.push(&record(n)));
        log.checkpoint();
        log
    }

    fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }
}

fn check(verifier: Verifier, bytes: &[u8]) -> Result<Report, Break> {
    let mut verifier = verifier;
    verifier.read(bytes).unwrap()?;
    verifier.finish()
}

#[test]
fn a_whole_log_verifies_and_is_counted() {
    let mut log = Log::small();
    log.push(&record(6));
    let report = check(Verifier::new(Some(log.root)), &log.bytes()).unwrap();
    assert_eq!((report.lines, report.checkpoints, report.unsigned_tail), (9, 2, 1));
    assert_eq!((report.root, report.last.unwrap().seq), (Root::Given, 7));
    assert_eq!(report.last_ts, Some(moment(6).ts));
}

#[test]
fn a_line_reads_as_documented() {
    let log = Log::small();
    let text = String::from_utf8(log.lines[1].clone()).unwrap();
    let prev = Hash::of(&log.lines[0]);
    let expected = format!(
        concat!(
            "{{\"seq\":1,\"ts\":\"2026-11-24T12:00:01.123456789Z\",\"mono_ns\":1001,",
            "\"boot_id\":\"9b2c4f3e-0000-4000-8000-000000000000\",\"stage\":\"result\",\"sub\":\"user/alice\",",
            "\"route\":\"/ops.v1.ServiceService/Restart\",\"params\":{{\"service\":\"backend\"}},\"prev\":\"{}\"}}\n"
        ),
        prev
    );
    assert_eq!(text, expected);
    assert_eq!(Line::parse(text.as_bytes()).unwrap().record, record(1));
    let checkpoint = String::from_utf8(log.lines[4].clone()).unwrap();
    assert!(
        checkpoint.contains("\"stage\":\"checkpoint\",\"checkpoint\":{\"epoch\":0,\"count\":4,\"head\":")
    );
}

#[test]
fn every_flipped_byte_is_found() {
    let log = Log::small();
    let whole = log.bytes();
    for at in 0..whole.len() {
        for bit in [1, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            let found = check(Verifier::new(Some(log.root)), &bytes);
            assert!(found.is_err(), "byte {at} bit {bit:#x} was not found");
        }
    }
}

#[test]
fn every_removed_swapped_and_inserted_line_is_found_at_its_place() {
    let log = Log::small();
    for at in 0..log.lines.len() - 1 {
        let mut lines = log.lines.clone();
        lines.remove(at);
        let found = check(Verifier::new(Some(log.root)), &lines.concat()).unwrap_err();
        assert_eq!(found.line, at as u64, "removed {at}: {found}");
        let mut lines = log.lines.clone();
        lines.swap(at, at + 1);
        assert!(check(Verifier::new(Some(log.root)), &lines.concat()).is_err(), "swapped {at}");
        let mut lines = log.lines.clone();
        lines.insert(at + 1, log.lines[at].clone());
        let found = check(Verifier::new(Some(log.root)), &lines.concat()).unwrap_err();
        assert_eq!(found.line, at as u64 + 1, "inserted after {at}: {found}");
    }
}

#[test]
fn a_changed_line_is_named_by_its_number() {
    let log = Log::small();
    let mut lines = log.lines.clone();
    lines[2] = String::from_utf8(lines[2].clone()).unwrap().replace("alice", "bobby").into_bytes();
    let found = check(Verifier::new(Some(log.root)), &lines.concat()).unwrap_err();
    assert_eq!(found, Break { line: 2, reason: BreakReason::Changed });
}

#[test]
fn a_cut_tail_is_found_by_who_remembers_the_last_checkpoint() {
    let log = Log::small();
    let whole = log.bytes();
    let seen = check(Verifier::new(Some(log.root)), &whole).unwrap().last.unwrap();
    for length in 0..whole.len() {
        let found = check(Verifier::new(Some(log.root)).expecting(seen.clone()), &whole[..length]);
        assert!(found.is_err(), "cut to {length} bytes");
    }
    let shorter = log.lines[..6].concat();
    let found = check(Verifier::new(Some(log.root)).expecting(seen.clone()), &shorter).unwrap_err();
    assert_eq!(found, Break { line: 6, reason: BreakReason::Shorter });
    assert!(check(Verifier::new(Some(log.root)).expecting(seen), &whole).is_ok());
}

/// Rewrites one record and restamps everything after it, as an intruder could who has the code but not the erased keys.
fn forge(log: &Log, mut sign: impl FnMut(u64) -> Epoch) -> Vec<u8> {
    let mut chain = None;
    let mut forged = Vec::new();
    let mut epoch = sign(0);
    for (at, bytes) in log.lines.iter().enumerate() {
        let line = Line::parse(bytes).unwrap();
        let prepared = match (&chain, line.record.stage) {
            (None, _) => ChainWriter::genesis("agent/auction-1", &epoch, moment(0)).unwrap(),
            (Some(chain), Stage::Checkpoint) => {
                let chain: &ChainWriter = chain;
                let next = sign(chain.epoch() + 1);
                let made = chain.prepare_checkpoint(moment(9), &epoch, &next.key.public()).unwrap();
                epoch = next;
                made
            }
            (Some(chain), _) => {
                let mut record = line.record.clone();
                if at == 2 {
                    record.sub = Some("user/mallory".into());
                }
                chain.prepare(&record).unwrap()
            }
        };
        forged.extend_from_slice(prepared.bytes());
        chain = Some(ChainWriter::after(prepared));
    }
    forged
}

#[test]
fn a_restamped_chain_without_the_key_is_found() {
    let log = Log::small();
    let forged = forge(&log, |number| Epoch { number, key: SigningKey::generate().unwrap() });
    assert!(matches!(
        check(Verifier::new(Some(log.root)), &forged).unwrap_err().reason,
        BreakReason::OtherRoot { .. }
    ));
    // Without the root it looks whole, which the report says; who has seen the true one still finds it.
    let report = check(Verifier::new(None), &forged).unwrap();
    assert_eq!(report.root, Root::FromLine0);
    let seen = check(Verifier::new(Some(log.root)), &log.bytes()).unwrap().last.unwrap();
    let found = check(Verifier::new(None).expecting(seen), &forged).unwrap_err();
    assert_eq!(found.reason, BreakReason::Different);
}

#[test]
fn a_forger_who_keeps_line_0_cannot_sign() {
    let log = Log::small();
    let forged = forge(&log, |number| Epoch { number, key: SigningKey::generate().unwrap() });
    // The true line 0, then restamped lines whose first prev is right again.
    let mut lines: Vec<Vec<u8>> = vec![log.lines[0].clone()];
    for bytes in forged.split_inclusive(|b| *b == b'\n').skip(1) {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let line = Line::parse(bytes).unwrap();
        let prev = Hash::of(lines.last().unwrap());
        lines.push(text.replace(&line.prev.to_string(), &prev.to_string()).into_bytes());
    }
    let found = check(Verifier::new(Some(log.root)), &lines.concat()).unwrap_err();
    assert_eq!(found, Break { line: 4, reason: BreakReason::BadSignature });
}

#[test]
fn lines_after_the_last_checkpoint_are_reported_as_unsigned() {
    let mut log = Log::small();
    log.push(&record(6));
    log.push(&record(7));
    assert_eq!(check(Verifier::new(Some(log.root)), &log.bytes()).unwrap().unsigned_tail, 2);
}

#[test]
fn a_check_can_begin_behind_a_seen_checkpoint_or_at_one() {
    let mut log = Log::small();
    let seen = check(Verifier::new(Some(log.root)), &log.lines[..5].concat()).unwrap().last.unwrap();
    log.push(&record(6));
    let report = check(Verifier::after(&seen), &log.lines[5..].concat()).unwrap();
    assert_eq!((report.lines, report.root), (4, Root::FromSeen));
    let mut tail = Verifier::of_tail();
    tail.read(log.lines[7..].concat().as_slice()).unwrap().unwrap();
    assert_eq!(tail.position(), Some(log.chain.clone()));
    assert!(check(Verifier::of_tail(), &log.lines[5..].concat()).is_err());
}

#[test]
fn a_writer_resumes_where_the_log_ends() {
    let mut log = Log::small();
    let mut verifier = Verifier::new(Some(log.root));
    verifier.read(log.bytes().as_slice()).unwrap().unwrap();
    log.chain = verifier.position().unwrap();
    assert_eq!(log.chain.key(), log.epoch.key.public());
    log.push(&record(6));
    log.checkpoint();
    assert_eq!(check(Verifier::new(Some(log.root)), &log.bytes()).unwrap().checkpoints, 3);
}

#[test]
fn what_is_not_written_does_not_move_the_chain() {
    let mut log = Log::small();
    let (one, other) = (log.chain.prepare(&record(6)).unwrap(), log.chain.prepare(&record(7)).unwrap());
    log.chain.advance(other).unwrap();
    assert!(matches!(log.chain.advance(one), Err(WriteError::NotNext { .. })));
}

#[test]
fn an_old_or_foreign_key_cannot_checkpoint() {
    let log = Log::small();
    let key = log.epoch.key.public();
    for epoch in
        [Epoch { number: log.epoch.number, key: SigningKey::generate().unwrap() }, Epoch::first().unwrap()]
    {
        let made = log.chain.prepare_checkpoint(moment(9), &epoch, &key);
        assert!(matches!(made, Err(WriteError::WrongEpoch { expected: 2 })));
    }
}

#[test]
fn ordinary_records_cannot_pose_as_checkpoints_and_have_a_limit() {
    let log = Log::small();
    for stage in [Stage::Genesis, Stage::Checkpoint] {
        assert!(matches!(log.chain.prepare(&Record::new(stage, moment(1))), Err(WriteError::Reserved)));
    }
    let mut long = record(1);
    long.reason = Some("x".repeat(MAX_LINE_BYTES));
    assert!(matches!(log.chain.prepare(&long), Err(WriteError::TooLong { .. })));
}

#[test]
fn an_endless_line_is_refused_without_reading_it_whole() {
    let log = Log::small();
    let mut bytes = log.bytes();
    bytes.extend(std::iter::repeat_n(b'x', 4 * MAX_LINE_BYTES));
    let found = check(Verifier::new(Some(log.root)), &bytes).unwrap_err();
    assert_eq!(found, Break { line: 8, reason: BreakReason::TooLong });
}

#[test]
fn an_empty_log_is_no_log() {
    assert_eq!(check(Verifier::new(None), b"").unwrap_err().reason, BreakReason::NoGenesis);
}

proptest! {
    #[test]
    fn any_text_stays_on_one_harmless_line_and_reads_back(
        sub in "\\PC{0,40}",
        reason in any::<String>(),
        params in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..4),
    ) {
        let mut record = record(1);
        (record.sub, record.reason, record.params) = (Some(sub), Some(reason), params);
        let mut log = Log::new();
        log.push(&record);
        log.checkpoint();
        let text = String::from_utf8(log.lines[1].clone()).unwrap();
        let body = text.strip_suffix('\n').unwrap();
        let harmless = body.chars().all(|c| !c.is_control() && !['\u{202e}', '\u{2028}'].contains(&c));
        prop_assert!(harmless);
        prop_assert_eq!(&Line::parse(body.as_bytes()).unwrap().record, &record);
        prop_assert!(check(Verifier::new(Some(log.root)), &log.bytes()).is_ok());
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(check(Verifier::new(None), &bytes).is_err());
    }
}
