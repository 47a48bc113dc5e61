//! An operation followed to its end: phases as they come, attached again after a cut, the result, the exit code.

use std::time::Duration;

use ops_proto::v1::operation_service_client::OperationServiceClient;
use ops_proto::v1::{
    ErrorReason, GetOperationRequest, Operation, WatchOperationRequest, watch_operation_response,
};
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::span;
use crate::session::Session;

mod phases;
pub(crate) mod report;

use phases::Phases;

/// For how long a lost agent is looked for.
const PATIENCE: Duration = Duration::from_secs(600);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(5);

/// Follows the operation, prints its phases on stderr and its result on stdout. `limit` is how long to wait; the
/// operation does not notice when that is over, nor Ctrl-C.
///
/// # Errors
/// The problem of an operation that failed, with the exit code of its state; `DEADLINE_EXCEEDED` (exit 9) when `limit`
/// is over; what the agent or the connection answers.
pub async fn attach(session: &Session, id: &str, limit: Option<Duration>) -> Result<Exit> {
    match follow(session, id, limit).await? {
        Some(operation) => report::print(session, &operation),
        None => Ok(Exit::Interrupted),
    }
}

/// As [`attach`], without its report: the ended operation, or none after Ctrl-C.
///
/// # Errors
/// As [`attach`], but an operation that failed is none.
pub async fn follow(session: &Session, id: &str, limit: Option<Duration>) -> Result<Option<Operation>> {
    let id = id.to_owned();
    // Whoever cannot be reached at all is told at once; only a connection that was there is looked for again.
    session.connect().await?;
    let mut phases = Phases::new(session);
    let over = async {
        match limit {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = watch(session, &id, &mut phases) => Ended::Of(Box::new(ended)),
        () = session.interrupted() => Ended::Detached,
        () = over => Ended::Late,
    };
    phases.clear();
    match ended {
        Ended::Of(ended) => (*ended).map(Some),
        Ended::Detached => {
            session.output.always(&format!("-- detached; {id} goes on: opsctl operation wait {id}\n"));
            Ok(None)
        }
        Ended::Late => Err(late(session, &id, limit.unwrap_or_default()).await),
    }
}

enum Ended {
    Of(Box<Result<Operation>>),
    Detached,
    Late,
}

async fn late(session: &Session, id: &str, limit: Duration) -> Error {
    let asked = async {
        let mut client = OperationServiceClient::new(session.connect().await?);
        Ok(client.get_operation(GetOperationRequest { id: id.to_owned() }).await?.into_inner().operation)
    };
    let operation = session.within(asked).await.ok().flatten();
    let phase = operation.as_ref().and_then(report::running_phase);
    let phase = phase.map(|phase| format!(", in phase {phase}")).unwrap_or_default();
    Error::new(
        ErrorReason::DeadlineExceeded,
        format!("{id} had not ended after {}{phase}", span(limit.as_secs())),
    )
    .effect("it goes on")
    .about(id)
    .exit_with(Exit::Inconclusive)
    .next(&["opsctl", "operation", "wait", id])
    .next(&["opsctl", "operation", "cancel", id, "--yes"])
}

/// Watches until the end, over as many connections as it takes.
async fn watch(session: &Session, id: &str, phases: &mut Phases<'_>) -> Result<Operation> {
    let mut after_seq = 0;
    let mut lost: Option<Instant> = None;
    let mut pause = Duration::from_millis(250);
    loop {
        let seen = after_seq;
        let error = match watch_once(session, id, &mut after_seq, &mut lost, phases).await {
            Ok(operation) => return Ok(operation),
            Err(error) if is_lost(&error) => error,
            Err(error) => return Err(error),
        };
        if after_seq > seen {
            pause = Duration::from_millis(250);
        }
        let since = *lost.get_or_insert_with(|| {
            let error = session.complete(error.clone());
            phases.notice(&format!("{}; trying again", error.problem().message));
            Instant::now()
        });
        if since.elapsed() > PATIENCE {
            return Err(error.next(&["opsctl", "operation", "wait", id]));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE);
    }
}

async fn watch_once(
    session: &Session,
    id: &str,
    after_seq: &mut u64,
    lost: &mut Option<Instant>,
    phases: &mut Phases<'_>,
) -> Result<Operation> {
    let mut client = OperationServiceClient::new(session.connect().await?);
    let request = WatchOperationRequest { id: id.to_owned(), after_seq: *after_seq };
    let mut stream = client.watch_operation(request).await?.into_inner();
    let mut redraw = tokio::time::interval(Duration::from_millis(200));
    if let Some(since) = lost.take() {
        phases.notice(&format!("connected after {}, {id} goes on", span(since.elapsed().as_secs())));
    }
    loop {
        let message = tokio::select! {
            message = stream.message() => message?,
            _ = redraw.tick() => {
                phases.redraw();
                continue;
            }
        };
        match message.and_then(|message| message.item) {
            Some(watch_operation_response::Item::Event(event)) => {
                *after_seq = event.seq;
                phases.event(event);
            }
            Some(watch_operation_response::Item::Operation(operation)) => return Ok(operation),
            None => {
                return Err(Error::connection(
                    ErrorReason::AgentUnreachable,
                    "the connection to {agent} was lost: it closed the stream",
                ));
            }
        }
    }
}

/// Whether another try may find the operation going on.
fn is_lost(error: &Error) -> bool {
    use ErrorReason as R;
    match error.reason() {
        R::AgentUnreachable | R::DeadlineExceeded => error.is_connection(),
        R::ShuttingDown | R::Overloaded | R::SlowConsumer => true,
        _ => false,
    }
}
