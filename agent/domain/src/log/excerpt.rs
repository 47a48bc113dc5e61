//! Last lines as evidence, for those who report on services.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use regex::bytes::Regex;

use super::CursorKey;
use super::reader::{Reader, Start, Step};
use super::tail::last;
use crate::ports::log_excerpt::{Excerpt, LogMark};
use crate::ports::{FileId, LogExcerpt, LogFault, LogSource};

/// What came since a mark is read up to this size; the last lines are taken from the end where it is more.
const READ: u64 = 4 * 1024 * 1024;

/// Excerpts of log files: masked, through rotations, beneath the allowed folders.
pub struct Excerpts {
    files: Arc<dyn LogSource>,
}

impl Excerpts {
    /// Of these files.
    #[must_use]
    pub fn new(files: Arc<dyn LogSource>) -> Self {
        Self { files }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<dyn LogSource>) -> Result<T, LogFault> + Send + 'static,
    ) -> Result<T, String> {
        let files = Arc::clone(&self.files);
        let done = tokio::task::spawn_blocking(move || work(files)).await;
        done.map_err(|_| "reading failed inside the agent".to_owned())?.map_err(|fault| fault.to_string())
    }
}

/// A reader from the mark on; without one, or where its file is gone, from the beginning of the current file.
fn since(
    files: Arc<dyn LogSource>,
    path: &Path,
    mark: Option<&LogMark>,
) -> Result<(Reader, Vec<u8>), LogFault> {
    let start = match mark {
        Some(mark) => Start::Behind { device: mark.file.0, inode: mark.file.1, length: mark.length },
        None => Start::Beginning,
    };
    // Cursors of this reader are never handed out.
    let (mut reader, context) = Reader::begin(files, path, None, start, &CursorKey::new([0; 32]))?;
    reader.end_here();
    Ok((reader, context))
}

#[async_trait]
impl LogExcerpt for Excerpts {
    async fn mark(&self, path: &str) -> Option<LogMark> {
        let path = path.to_owned();
        let mark = self.blocking(move |files| {
            let facts = files.open(Path::new(&path), 0)?.facts()?;
            let FileId { device, inode, .. } = facts.id;
            Ok(LogMark { file: (device, inode), length: facts.size })
        });
        mark.await.ok()
    }

    async fn since(&self, path: &str, mark: Option<&LogMark>, lines: usize) -> Result<Excerpt, String> {
        let (path, mark) = (path.to_owned(), mark.cloned());
        self.blocking(move |files| {
            let path = Path::new(&path);
            let (mut reader, mut context) = since(Arc::clone(&files), path, mark.as_ref())?;
            let whole = reader.backlog() <= READ;
            if !whole || mark.is_none() {
                let most = u32::try_from(lines).unwrap_or(super::MAX_LINES).min(super::MAX_LINES);
                (reader, context) =
                    Reader::begin(files, path, None, Start::Last(most), &CursorKey::new([0; 32]))?;
                reader.end_here();
            }
            let (lines, total) = last(&mut reader, &context, lines)?;
            let lines = lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            Ok(Excerpt { lines, total: (whole && mark.is_some()).then_some(total) })
        })
        .await
    }

    async fn contains(&self, path: &str, mark: Option<&LogMark>, pattern: &str) -> Result<bool, String> {
        let pattern = Regex::new(pattern).map_err(|error| format!("the pattern cannot be used: {error}"))?;
        let (path, mark) = (path.to_owned(), mark.cloned());
        self.blocking(move |files| {
            let (mut reader, _) = since(files, Path::new(&path), mark.as_ref())?;
            loop {
                let pieces = match reader.step()? {
                    Step::Lines(pieces) => pieces,
                    Step::Rotated { .. } | Step::Truncated | Step::Gap(_) => continue,
                    Step::CaughtUp | Step::Missing | Step::Done => match reader.rest_of_line() {
                        Some(Step::Lines(pieces)) => pieces,
                        _ => return Ok(false),
                    },
                };
                if pieces.iter().any(|piece| pattern.is_match(&piece.text)) {
                    return Ok(true);
                }
            }
        })
        .await
    }
}
