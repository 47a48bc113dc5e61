//! What a gRPC status means: the agent's own problem when it carries one, else what the code and the transport say.

use std::error::Error as _;

use ops_proto::v1::{ErrorReason, Problem};
use ops_trust::tls::{Fault, Party};
use prost::Message as _;
use tonic::{Code, Status};

use super::Error;

const PROBLEM: &str = "type.googleapis.com/ops.v1.Problem";

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if let Some(problem) = problem(&status) {
            return problem.into();
        }
        if let Some(source) = status.source() {
            // An error of ours, put in by the connector, comes out as it went in.
            if let Some(ours) = find::<Error>(source) {
                return ours.clone();
            }
            if let Some(fault) = Fault::find(source) {
                return fault.into();
            }
        }
        from_code(&status)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        use ErrorReason as R;
        let (reason, message) = match &fault {
            Fault::OursExpired => {
                (R::CredentialExpired, "your certificate has ended, says {agent}".to_owned())
            }
            Fault::CertificateRequired => {
                (R::Unauthenticated, "{agent} demands a certificate and none was shown".to_owned())
            }
            Fault::NotTls => (R::AgentUntrusted, "what answers at {agent} does not speak TLS".to_owned()),
            Fault::Incompatible => (
                R::AgentUntrusted,
                "what answers at {agent} does not speak TLS 1.3 as an agent does".to_owned(),
            ),
            Fault::NoProtocol => {
                (R::AgentUntrusted, "what answers at {agent} does not speak HTTP/2".to_owned())
            }
            other => match other.party() {
                Party::Ours => (R::CredentialInvalid, format!("{{agent}} refuses your certificate: {other}")),
                Party::Theirs => {
                    (R::AgentUntrusted, format!("{{agent}} is not the agent it should be: {other}"))
                }
                Party::Nobody => (R::AgentUnreachable, format!("no connection to {{agent}}: {other}")),
            },
        };
        Self::connection(reason, message)
    }
}

fn problem(status: &Status) -> Option<Problem> {
    let details = tonic_types::pb::Status::decode(status.details()).ok()?.details;
    let any = details.into_iter().find(|any| any.type_url == PROBLEM)?;
    let problem = Problem::decode(any.value.as_slice()).ok()?;
    // A reason that this opsctl does not know yet still has its sentence.
    (!problem.message.is_empty()).then_some(problem)
}

/// Looks through a chain of causes, at most 32 deep: chains come from libraries.
fn find<'a, E: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    for _ in 0..32 {
        let error = next?;
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn from_code(status: &Status) -> Error {
    use ErrorReason as R;
    let said = status.message();
    let timed_out = said.to_ascii_lowercase().contains("timeout expired");
    match status.code() {
        Code::DeadlineExceeded => Error::connection(R::DeadlineExceeded, "no answer from {agent} in time"),
        Code::Cancelled if timed_out => {
            Error::connection(R::DeadlineExceeded, "no answer from {agent} in time")
        }
        // Only what happened on this side has a cause.
        _ if status.source().is_some() => {
            let cause = status.source().map(deepest).unwrap_or_default();
            Error::connection(R::AgentUnreachable, format!("the connection to {{agent}} was lost: {cause}"))
        }
        Code::Unavailable => {
            Error::connection(R::AgentUnreachable, format!("{{agent}} does not answer: {said}"))
        }
        Code::Unimplemented => Error::connection(
            R::NotSupported,
            format!(
                "the agent at {{agent}} does not know this call; is it older than opsctl {}?",
                crate::VERSION
            ),
        )
        .next(&["opsctl", "version"]),
        Code::Unauthenticated => Error::new(R::Unauthenticated, said),
        Code::PermissionDenied => Error::new(R::PermissionDenied, said),
        Code::InvalidArgument | Code::OutOfRange => Error::new(R::InvalidArgument, said),
        Code::ResourceExhausted => {
            Error::connection(R::Overloaded, format!("{{agent}} is overloaded: {said}"))
        }
        code => Error::new(R::Internal, format!("the agent failed: {said} ({code:?})")),
    }
}

/// The last cause of a chain: what the operating system or TLS said.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    for _ in 0..32 {
        match error.source() {
            Some(source) => error = source,
            None => break,
        }
    }
    match error.downcast_ref::<std::io::Error>() {
        Some(error) => crate::output::io_words(error),
        None => error.to_string(),
    }
}
