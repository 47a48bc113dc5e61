//! The stream itself: read, shown, and taken up again after a cut at the very place where it broke.

use std::time::Duration;

use ops_proto::v1::log_service_client::LogServiceClient;
use ops_proto::v1::{ErrorReason, LogNoticeKind, TailLogRequest, TailLogResponse};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::show::Show;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::session::Session;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Without -f somebody waits for the end: after this long the failure is told.
const PATIENCE: Duration = Duration::from_secs(30);
/// A gap is told at once after a new connection; so long its absence is waited for before it is said that there is none.
const GAP_WAIT: Duration = Duration::from_millis(300);

/// How one connection ended.
enum Ended {
    /// At the end that was asked for.
    Whole,
    /// The agent ends long streams; the next one goes on.
    Renew,
    /// Broken off.
    Lost(Error),
}

pub(super) async fn run(request: TailLogRequest, session: &Session) -> Result<Exit> {
    let mut show = Show::new(session, &request);
    let mut tail = Tail { session, request, lost: None };
    let mut interrupted = std::pin::pin!(session.interrupted());
    let outcome = tokio::select! {
        biased;
        () = &mut interrupted => None,
        outcome = tail.follow(&mut show) => Some(outcome),
    };
    show.finish_line()?;
    match outcome {
        None => {
            show.summary(&tail.request);
            Ok(Exit::Interrupted)
        }
        Some(Err(error)) => {
            if show.is_begun() && !error.is_output_closed() {
                show.summary(&tail.request);
            }
            Err(error)
        }
        Some(Ok(())) => Ok(show.exit()),
    }
}

struct Tail<'a> {
    session: &'a Session,
    request: TailLogRequest,
    /// When the connection was lost.
    lost: Option<Instant>,
}

impl Tail<'_> {
    async fn follow(&mut self, show: &mut Show<'_>) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            let ended = match self.open().await {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    self.read(stream, show).await?
                }
                Err(error) if show.is_begun() && may_pass(&error) => Ended::Lost(error),
                Err(error) => return Err(error),
            };
            match ended {
                Ended::Whole => return Ok(()),
                Ended::Renew => {}
                Ended::Lost(error) => {
                    if !show.is_begun() || !may_pass(&error) {
                        return Err(error);
                    }
                    let now = Instant::now();
                    let since = *self.lost.get_or_insert_with(|| {
                        show.lost(&self.session.complete(error.clone()));
                        now
                    });
                    if !self.request.follow && now - since > PATIENCE {
                        return Err(error);
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn open(&self) -> Result<Streaming<TailLogResponse>> {
        let request = self.request.clone();
        self.session
            .within(async {
                let mut client = LogServiceClient::new(self.session.connect().await?);
                Ok(client.tail_log(request).await?.into_inner())
            })
            .await
    }

    async fn read(&mut self, mut stream: Streaming<TailLogResponse>, show: &mut Show<'_>) -> Result<Ended> {
        loop {
            let message = if self.lost.is_some() && show.is_renewed() {
                match timeout(GAP_WAIT, stream.message()).await {
                    Ok(message) => {
                        let gap = matches!(&message, Ok(Some(message)) if is_gap(message));
                        self.found(show, gap);
                        message
                    }
                    Err(_) => {
                        self.found(show, false);
                        continue;
                    }
                }
            } else {
                stream.message().await
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => {
                    let error = Error::connection(
                        ErrorReason::AgentUnreachable,
                        "the connection to {agent} was lost: the stream ended without an end",
                    );
                    return Ok(Ended::Lost(error));
                }
                Err(status) => return Ok(Ended::Lost(status.into())),
            };
            let end = message.notice.as_ref().filter(|notice| notice.kind() == LogNoticeKind::End);
            let renew = end.is_some_and(|end| !end.text.is_empty()) && self.request.follow;
            let whole = end.is_some() && !renew;
            // What is shown is done with: the next connection goes on behind it.
            let cursor = message.cursor.clone();
            show.message(message, &self.request)?;
            if !cursor.is_empty() {
                self.request.cursor = cursor;
                self.request.lines = None;
            }
            if whole {
                return Ok(Ended::Whole);
            }
            if renew {
                return Ok(Ended::Renew);
            }
        }
    }

    fn found(&mut self, show: &Show<'_>, gap: bool) {
        if let Some(since) = self.lost.take() {
            show.found(since.elapsed(), gap);
        }
    }
}

fn is_gap(message: &TailLogResponse) -> bool {
    message.notice.as_ref().is_some_and(|notice| notice.kind() == LogNoticeKind::Gap)
}

/// Whether the same call may do better by and by.
fn may_pass(error: &Error) -> bool {
    error.is_connection()
        || matches!(
            error.reason(),
            ErrorReason::ShuttingDown
                | ErrorReason::SlowConsumer
                | ErrorReason::AgentUnreachable
                | ErrorReason::Overloaded
                | ErrorReason::DeadlineExceeded
        )
}
