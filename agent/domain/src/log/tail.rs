//! A stream of lines: opened, read, sent no faster than its reader takes them.

mod opening;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending, select_all};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::cursor::{Cursor, CursorKey, Position};
use super::lines::Piece;
use super::mask::Masker;
use super::reader::{Gap, Reader, Start, Step};
use super::{Batch, Line, Notice, NoticeKind, Permit, Ports, SourceFile, SourceId, blocking, refusal};
use crate::error::{Error, Reason, Result};
use crate::ports::log_source::Changes;
use crate::ports::{LogFault, LogSource};

pub(super) use opening::open;

/// Batches that wait for a reader. With what is being read, the most that a stream holds in memory.
const WAITING: usize = 2;
/// A reader that takes nothing for this long is let go; it goes on by cursor.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest time of a stream, and of one without a line. It ends with a cursor.
const LONGEST: Duration = Duration::from_secs(60 * 60);
const LONGEST_IDLE: Duration = Duration::from_secs(5 * 60);
/// How long a log's own name may be gone: between two steps of a rotation, or until a program is started again.
const ABSENCE: Duration = Duration::from_secs(10);
/// Who lags by more than this is taken to the newest line, if it wants to.
const LAG: u64 = 256 * 1024;
/// Files up to this size have their lines counted at the start.
const COUNTED: u64 = 16 * 1024 * 1024;

/// An open stream. Dropping it ends the reading.
#[derive(Debug)]
pub struct Tail {
    batches: mpsc::Receiver<Batch>,
    pub(super) failure: Arc<Mutex<Option<Error>>>,
    _end: tokio_util::sync::DropGuard,
}

impl Tail {
    /// The next batch; `None` after the last, which is a notice of the end. Waits for as long as nothing is written.
    ///
    /// # Errors
    /// Why the stream broke off, once; a stream never just ends.
    pub async fn next(&mut self) -> Option<Result<Batch>> {
        if let Some(batch) = self.batches.recv().await {
            return Some(Ok(batch));
        }
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take().map(Err)
    }
}

/// One followed log.
struct Source {
    id: SourceId,
    path: PathBuf,
    /// Away while a step is made on another thread.
    reader: Option<Reader>,
    masker: Masker,
    changes: Option<Changes>,
    position: Position,
    state: State,
    missing_since: Option<Duration>,
    _permit: Option<Permit>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// Nothing new since the last look.
    Idle,
    Done,
}

struct Task {
    ports: Ports,
    key: CursorKey,
    sources: Vec<Source>,
    out: mpsc::Sender<Batch>,
    follow: bool,
    skip_on_lag: bool,
    raw: bool,
    bytes: u64,
    expires_at: Timestamp,
}

impl Source {
    fn open(
        files: &Arc<dyn LogSource>,
        file: &SourceFile,
        start: Start,
        follow: bool,
        until: Option<Position>,
        key: &CursorKey,
    ) -> Result<Self, LogFault> {
        let changes = if follow { Some(files.changes(&file.path)?) } else { None };
        let names = changes.as_ref().map(|changes| changes.names.clone());
        let (mut reader, context) = Reader::begin(Arc::clone(files), &file.path, names, start, key)?;
        match until {
            Some(position) => drop(reader.end_at(position, key)?),
            None if !follow => reader.end_here(),
            None => {}
        }
        Ok(Self {
            id: file.id.clone(),
            path: file.path.clone(),
            position: reader.position(key),
            reader: Some(reader),
            masker: Masker::new(&context),
            changes,
            state: State::Reading,
            missing_since: None,
            _permit: None,
        })
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().chars().flat_map(char::escape_debug).collect()
    }

    fn lines(&mut self, pieces: Vec<Piece>, raw: bool) -> Vec<Line> {
        pieces
            .into_iter()
            .map(|piece| {
                let Piece { text, offset, continues, continued } = piece;
                let (text, masked) =
                    if raw { (text, false) } else { self.masker.mask(text, continued, continues) };
                Line { text, offset, continues, masked }
            })
            .collect()
    }
}

/// What a source did on the thread for blocking work.
enum Done {
    Step(Step),
    Skipped(Option<Gap>),
}

impl Task {
    async fn run(&mut self, start: Notice) -> Result<()> {
        let begun = self.ports.clock.monotonic();
        self.send(None, Vec::new(), Some(start)).await?;
        loop {
            let mut moved = false;
            for index in 0..self.sources.len() {
                if self.sources[index].state == State::Reading {
                    moved = true;
                    self.step(index).await?;
                }
            }
            if self.sources.iter().all(|source| source.state == State::Done) {
                return self.end("").await;
            }
            if self.ports.clock.now() > self.expires_at {
                return Err(Error::new(Reason::CredentialExpired, "the credential of this stream has ended")
                    .retryable());
            }
            if self.ports.clock.monotonic().saturating_sub(begun) > LONGEST {
                return self.end("a stream lasts 1 h; go on by its cursor").await;
            }
            if !moved && !self.wait().await? {
                return self.end("nothing was written for 5 min; go on by its cursor").await;
            }
        }
    }

    async fn step(&mut self, index: usize) -> Result<()> {
        let lagging = self.skip_on_lag && self.out.capacity() == 0;
        let source = &mut self.sources[index];
        if let Some(changes) = &mut source.changes {
            // Marked as seen before the look, so that what is written during it wakes us again.
            changes.data.borrow_and_update();
            changes.names.borrow_and_update();
        }
        let Some(mut reader) = source.reader.take() else { return Ok(()) };
        let (reader, done) = blocking(move || {
            let done = if lagging && reader.backlog() > LAG {
                reader.skip().map(Done::Skipped)
            } else {
                reader.step().map(Done::Step)
            };
            Ok((reader, done))
        })
        .await?;
        let source = &mut self.sources[index];
        source.position = reader.position(&self.key);
        source.reader = Some(reader);
        let done = done.map_err(|fault| broken(source, fault))?;
        match done {
            Done::Step(Step::Lines(pieces)) => {
                source.missing_since = None;
                let lines = source.lines(pieces, self.raw);
                self.send(Some(index), lines, None).await
            }
            Done::Step(Step::Rotated { bytes, index: place }) => {
                let name = source.name();
                let text = match place {
                    Some(place) if place > 0 => {
                        format!("{name} rotated to {name}.{place} at {}; nothing lost", size(bytes))
                    }
                    _ => format!("{name} was removed at {} and made anew; nothing lost", size(bytes)),
                };
                self.notice(index, NoticeKind::Rotated, text, bytes, None).await
            }
            Done::Step(Step::Truncated) => {
                let text = format!("{} was cut to nothing and begins anew", source.name());
                self.notice(index, NoticeKind::Truncated, text, 0, None).await
            }
            Done::Step(Step::Gap(gap)) | Done::Skipped(Some(gap)) => {
                let text = gap_text(&source.name(), gap);
                let kind = NoticeKind::Gap { at_least: gap.at_least };
                self.notice(index, kind, text, gap.bytes, gap.lines).await
            }
            Done::Skipped(None) => Ok(()),
            Done::Step(Step::Done) => self.finish(index).await,
            Done::Step(Step::CaughtUp) if !self.follow => self.finish(index).await,
            Done::Step(Step::CaughtUp) => {
                source.state = State::Idle;
                source.missing_since = None;
                Ok(())
            }
            Done::Step(Step::Missing) if !self.follow => self.finish(index).await,
            Done::Step(Step::Missing) => {
                let now = self.ports.clock.monotonic();
                let since = *source.missing_since.get_or_insert(now);
                if now.saturating_sub(since) >= ABSENCE {
                    let why = "it was removed, and not made again for 10 s".to_owned();
                    return Err(broken(source, LogFault::Failed(why)));
                }
                source.state = State::Idle;
                Ok(())
            }
        }
    }

    /// The end of one source: what has no line feed yet is shown too.
    async fn finish(&mut self, index: usize) -> Result<()> {
        let source = &mut self.sources[index];
        source.state = State::Done;
        let rest = source.reader.as_mut().and_then(Reader::rest_of_line);
        if let Some(Step::Lines(pieces)) = rest {
            if let Some(reader) = &source.reader {
                source.position = reader.position(&self.key);
            }
            let lines = source.lines(pieces, self.raw);
            self.send(Some(index), lines, None).await?;
        }
        Ok(())
    }

    async fn end(&mut self, text: &str) -> Result<()> {
        let at = self.ports.clock.now();
        let notice = Notice { kind: NoticeKind::End, at, text: text.to_owned(), bytes: 0, lines: None };
        self.send(None, Vec::new(), Some(notice)).await
    }

    async fn notice(
        &mut self,
        index: usize,
        kind: NoticeKind,
        text: String,
        bytes: u64,
        lines: Option<u64>,
    ) -> Result<()> {
        let notice = Notice { kind, at: self.ports.clock.now(), text, bytes, lines };
        self.send(Some(index), Vec::new(), Some(notice)).await
    }

    async fn send(&mut self, index: Option<usize>, lines: Vec<Line>, notice: Option<Notice>) -> Result<()> {
        let mut cursor = Cursor::default();
        for source in &self.sources {
            cursor.positions.insert(source.id.clone(), source.position);
        }
        let cursor = cursor.encode(&self.key);
        self.bytes += lines.iter().map(|line| line.text.len() as u64 + 1).sum::<u64>();
        let source = index.map(|index| self.sources[index].id.clone());
        let batch = Batch { source, lines, notice, cursor };
        let out = self.out.clone();
        let impatience = self.ports.clock.sleep(PATIENCE);
        tokio::pin!(impatience);
        loop {
            tokio::select! {
                biased;
                permit = out.reserve() => {
                    let Ok(permit) = permit else {
                        return Err(Error::new(Reason::Cancelled, "the reader is gone"));
                    };
                    permit.send(batch);
                    return Ok(());
                }
                () = &mut impatience => {
                    let sentence = "this reader took nothing for 30 s; go on by its cursor";
                    return Err(Error::new(Reason::SlowConsumer, sentence).retryable());
                }
                // While the reader stands still files may leave the disk: their sizes are noted before they do.
                () = names_changed(&mut self.sources) => observe(&mut self.sources).await?,
            }
        }
    }

    /// Until something was written. False when nothing was for too long.
    async fn wait(&mut self) -> Result<bool> {
        let now = self.ports.clock.monotonic();
        let absence = self.sources.iter().filter_map(|source| source.missing_since).min();
        let absence = absence.map(|since| (since + ABSENCE).saturating_sub(now));
        let longest = self.ports.clock.sleep(absence.unwrap_or(LONGEST_IDLE));
        let woken = tokio::select! {
            woken = changed(&mut self.sources) => Some(woken),
            () = longest => None,
            () = self.out.closed() => return Err(Error::new(Reason::Cancelled, "the reader is gone")),
        };
        match woken {
            Some(index) => self.sources[index].state = State::Reading,
            None if absence.is_some() => {
                for source in self.sources.iter_mut().filter(|source| source.missing_since.is_some()) {
                    source.state = State::Reading;
                }
            }
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// The first source that something was written to, or beside.
async fn changed(sources: &mut [Source]) -> usize {
    let waits: Vec<BoxFuture<'_, usize>> = sources
        .iter_mut()
        .enumerate()
        .filter_map(|(index, source)| {
            let changes = source.changes.as_mut().filter(|_| source.state != State::Done)?;
            let Changes { data, names, .. } = changes;
            Some(
                async move {
                    tokio::select! {
                        Ok(()) = data.changed() => {}
                        Ok(()) = names.changed() => {}
                        else => pending().await,
                    }
                    index
                }
                .boxed(),
            )
        })
        .collect();
    if waits.is_empty() { pending().await } else { select_all(waits).await.0 }
}

async fn names_changed(sources: &mut [Source]) {
    let waits: Vec<BoxFuture<'_, ()>> = sources
        .iter_mut()
        .filter_map(|source| {
            let names = &mut source.changes.as_mut()?.names;
            Some(
                async move {
                    if names.changed().await.is_err() {
                        pending::<()>().await;
                    }
                }
                .boxed(),
            )
        })
        .collect();
    if waits.is_empty() { pending().await } else { drop(select_all(waits).await) }
}

async fn observe(sources: &mut [Source]) -> Result<()> {
    for source in sources {
        let Some(mut reader) = source.reader.take() else { continue };
        let (reader, observed) = blocking(move || {
            let observed = reader.observe();
            Ok((reader, observed))
        })
        .await?;
        source.reader = Some(reader);
        observed.map_err(|fault| broken(source, fault))?;
    }
    Ok(())
}

/// What ends a stream is never a clean end.
fn broken(source: &Source, fault: LogFault) -> Error {
    let fault = match fault {
        LogFault::Missing => LogFault::Failed("it was removed".to_owned()),
        other => other,
    };
    refusal(&source.id, Path::new(&source.path), fault)
}

fn gap_text(name: &str, gap: Gap) -> String {
    let bytes = match (gap.bytes, gap.at_least) {
        (0, _) => "an unknown amount".to_owned(),
        (bytes, true) => format!("at least {}", size(bytes)),
        (bytes, false) => size(bytes),
    };
    match (gap.skipped, gap.lines) {
        (true, Some(lines)) => {
            format!("{name}: {lines} lines ({bytes}) skipped, this reader is slower than the log")
        }
        (true, None) => {
            format!("{name}: {bytes} (lines not counted) skipped, this reader is slower than the log")
        }
        (false, _) => format!(
            "{name}: {bytes} (lines not countable) left the disk unread; raise stdout_logfile_backups to keep more"
        ),
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// The last lines of what a reader still has, whole, for excerpts.
pub(super) fn last(
    reader: &mut Reader,
    context: &[u8],
    most: usize,
) -> Result<(Vec<Vec<u8>>, u64), LogFault> {
    let mut masker = Masker::new(context);
    let mut lines: VecDeque<Vec<u8>> = VecDeque::new();
    let mut total = 0;
    loop {
        let pieces = match reader.step()? {
            Step::Lines(pieces) => pieces,
            Step::CaughtUp | Step::Missing | Step::Done => match reader.rest_of_line() {
                Some(Step::Lines(pieces)) => pieces,
                _ => return Ok((lines.into(), total)),
            },
            Step::Rotated { .. } | Step::Truncated | Step::Gap(_) => continue,
        };
        for piece in pieces {
            let (text, _) = masker.mask(piece.text, piece.continued, piece.continues);
            // The rest of a long line adds nothing to an excerpt.
            if piece.continued && total > 0 {
                continue;
            }
            total += 1;
            if lines.len() == most {
                lines.pop_front();
            }
            if most > 0 {
                lines.push_back(text);
            }
        }
    }
}
