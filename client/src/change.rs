//! From a command to an operation: options, plan, the question, and then [`crate::attach`].
//!
//! A command that changes something calls [`change`] with what it would do in words, and how to ask for it:
//!
//! ```ignore
//! change(session, "restart backend", async |connection, options| {
//!     let mut client = ServiceServiceClient::new(connection);
//!     let request = RestartServicesRequest { names: names.clone(), options: Some(options), ..Default::default() };
//!     Ok(client.restart_services(request).await?.into_inner().outcome.map(Into::into))
//! })
//! .await
//! ```

use std::time::Duration;

use ops_proto::v1::{ChangeOptions, ConfirmLevel, ErrorReason, Operation, Plan};

use crate::attach::attach;
use crate::confirm::{can_ask, confirm};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::session::{Session, short};

mod plan;

/// How often a call that was cut off is made again.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What the agent answers to a change.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Only planned.
    Plan(Plan),
    /// It runs, or has ended already.
    Operation(Operation),
}

macro_rules! answers {
    ($($response:ident),+ $(,)?) => {
        $(impl From<ops_proto::v1::$response::Outcome> for Answer {
            fn from(outcome: ops_proto::v1::$response::Outcome) -> Self {
                match outcome {
                    ops_proto::v1::$response::Outcome::Plan(plan) => Self::Plan(plan),
                    ops_proto::v1::$response::Outcome::Operation(operation) => Self::Operation(operation),
                }
            }
        })+
    };
}

answers! {
    start_services_response,
    stop_services_response,
    restart_services_response,
    create_backup_response,
    verify_backup_response,
    restore_backup_response,
}

/// Makes a change and follows it to its end. `what` is said in the target line and in questions: "restart backend".
///
/// # Errors
/// What the agent answers; `CONFIRMATION_MISSING` when nobody could be asked; the problem of an operation that failed,
/// with the exit code of its state.
pub async fn change(
    session: &Session,
    what: &str,
    call: impl AsyncFn(Connection, ChangeOptions) -> Result<Option<Answer>>,
) -> Result<Exit> {
    let mut options = session.change_options();
    if options.idempotency_key.is_empty() {
        // So that a call whose answer was lost can be made again without doing it twice.
        options.idempotency_key = random_key()?;
    }
    let refused = match ask(session, &options, &call).await {
        Ok(Answer::Plan(plan)) => {
            plan::print(session, &plan)?;
            return Ok(Exit::Done);
        }
        Ok(Answer::Operation(operation)) => return follow(session, what, operation, true).await,
        Err(error) => error,
    };
    if refused.reason() != ErrorReason::ConfirmationMissing || session.global.confirm.is_some() {
        return Err(refused);
    }
    if !can_ask() || session.output.is_document() {
        return Err(better_line(session, refused));
    }
    let planning = ChangeOptions { plan: true, ..options.clone() };
    let plan = match ask(session, &planning, &call).await? {
        Answer::Plan(plan) => plan,
        Answer::Operation(operation) => return follow(session, what, operation, true).await,
    };
    session.output.always(&format!("{}{what}\n\n", session.target_prefix()));
    session.output.always(&plan::words(session, &plan));
    let level = plan.confirm();
    // The plan is what was read, so the plan is what runs.
    options.plan_id.clone_from(&plan.plan_id);
    let target = if level == ConfirmLevel::Type { plan.confirm_text.as_str() } else { "" };
    confirm(session, &mut options, level, what, target, None)?;
    match ask(session, &options, &call).await? {
        Answer::Operation(operation) => follow(session, what, operation, false).await,
        Answer::Plan(_) => {
            Err(Error::new(ErrorReason::Internal, "the agent planned again instead of acting"))
        }
    }
}

/// One call; when its answer is lost on the way, the same one again.
async fn ask(
    session: &Session,
    options: &ChangeOptions,
    call: &impl AsyncFn(Connection, ChangeOptions) -> Result<Option<Answer>>,
) -> Result<Answer> {
    let connection = session.connect().await?;
    let mut tries = 0;
    loop {
        match call(connection.clone(), options.clone()).await {
            Err(error) if lost(&error) && tries < TRIES => {
                if tries == 0 {
                    let error = session.complete(error);
                    session.output.note(&format!("-- {}; asking again", error.problem().message));
                }
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {
                return Err(Error::new(
                    ErrorReason::Internal,
                    "the agent answered without plan or operation",
                ));
            }
        }
    }
}

fn lost(error: &Error) -> bool {
    error.is_connection() && error.reason() == ErrorReason::AgentUnreachable
}

async fn follow(session: &Session, what: &str, operation: Operation, name_target: bool) -> Result<Exit> {
    let by = match operation.subject.split_once('/') {
        Some(("user", _)) | None => String::new(),
        Some(_) => format!("as {}  ", short(&operation.subject)),
    };
    if session.global.detach {
        if session.output.is_document() {
            session.output.document("operation", &operation)?;
        } else {
            session.output.line(&operation.id)?;
        }
        return Ok(Exit::Done);
    }
    let head = if name_target { format!("{}{what}  {by}", session.target_prefix()) } else { String::new() };
    session.output.note(&format!("{head}{}", operation.id));
    attach(session, &operation.id, None).await
}

/// The agent's own line where it knows better than the words that were typed (`latest` moves on, an id does not);
/// else those words with the answer added, so that no flag is lost.
fn better_line(session: &Session, refused: Error) -> Error {
    let Some(theirs) = refused.problem().next.first().map(|next| next.argv.clone()) else { return refused };
    let (Some(answer), typed) = (theirs.iter().position(|word| word.starts_with("--")), session.argv())
    else {
        return refused;
    };
    let (named, answer) = theirs.split_at(answer);
    if !named.iter().all(|word| typed.contains(word)) {
        let Some(digest) = &session.global.plan_digest else { return refused };
        let digest = ["--plan-digest", digest];
        let line: Vec<&str> = theirs.iter().map(String::as_str).chain(digest).collect();
        return refused.with_next(&line);
    }
    let kept = typed
        .iter()
        .filter(|word| answer.contains(&"--yes".to_owned()) || !["--yes", "-y"].contains(&word.as_str()));
    let added = answer.iter().filter(|word| !word.starts_with("--") || !typed.contains(word));
    let line: Vec<&str> = kept.chain(added).map(String::as_str).collect();
    refused.with_next(&line)
}

fn random_key() -> Result<String> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::new(ErrorReason::Internal, "this machine gave no random numbers"))?;
    Ok(bytes.iter().fold("opsctl-".to_owned(), |key, byte| format!("{key}{byte:02x}")))
}
