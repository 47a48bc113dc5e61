//! The only map from a domain error to what goes over the wire: a gRPC status, or problem+json (RFC 9457).

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use ops_domain::{Error, Reason};
use prost::Message as _;
use serde_json::json;
use tonic::{Code, Status};

use super::convert;

/// The domain of our reasons in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "ops.v1";
/// Details travel in a header, and clients take header lists of 16 KiB: base64 makes 4 of 3.
const DETAILS_BYTES: usize = 6 * 1024;
const EVIDENCE_LINE_CHARS: usize = 240;

/// The status that a gRPC client sees, with `google.rpc.ErrorInfo` and `ops.v1.Problem` as its details.
#[must_use]
pub fn status(mut error: Error) -> Status {
    let code = code(error.reason);
    for evidence in &mut error.evidence {
        for line in evidence.lines.iter_mut().chain([&mut evidence.text]) {
            shorten(line);
        }
    }
    let mut details = details(code, &error);
    while details.len() > DETAILS_BYTES {
        // The newest lines say most, so the oldest go first; then whole facts, from the last.
        if let Some(evidence) = error.evidence.iter_mut().find(|evidence| !evidence.lines.is_empty()) {
            evidence.lines.remove(0);
        } else if error.evidence.pop().is_none() {
            break;
        }
        details = self::details(code, &error);
    }
    Status::with_details(code, error.message, details.into())
}

/// The document and the status of a REST answer.
#[must_use]
pub fn problem(error: Error) -> Problem {
    Problem { status: http_status(error.reason), error, operation: None }
}

/// problem+json.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The answer's status.
    pub status: StatusCode,
    /// What it says.
    pub error: Error,
    operation: Option<String>,
}

impl Problem {
    /// The same words under another status: 404, 405, 413, 415 are of HTTP, not of the domain.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// Where the operation that failed can be read.
    #[must_use]
    pub fn with_operation(mut self, path: String) -> Self {
        self.operation = Some(path);
        self
    }

    fn document(&self) -> serde_json::Value {
        let error = &self.error;
        let problem = ops_proto::json::value(&convert::problem(error));
        let part = |name: &str| problem.get(name).cloned().unwrap_or_default();
        let mut document = json!({
            "type": format!("urn:opsd:reason:{}", error.reason.name()),
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": error.message,
            "reason": error.reason.name(),
            "message": error.message,
            "target": error.target,
            "evidence": part("evidence"),
            "next": part("next"),
            "retryable": error.retryable,
            "effect": error.effect,
        });
        if let Some(path) = &self.operation {
            document["operation"] = path.as_str().into();
        }
        document
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        problem(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.document().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"opsd\""));
        }
        response
    }
}

/// The gRPC code of a reason.
#[must_use]
pub const fn code(reason: Reason) -> Code {
    use Reason as R;
    match reason {
        R::InvalidArgument | R::CursorInvalid => Code::InvalidArgument,
        R::NotSupported => Code::Unimplemented,
        R::LimitExceeded | R::Overloaded | R::SlowConsumer | R::NoSpace => Code::ResourceExhausted,
        R::Unauthenticated | R::CredentialExpired | R::CredentialInvalid | R::BindingMismatch => {
            Code::Unauthenticated
        }
        R::PermissionDenied | R::CertificateRequired | R::ProtectedService => Code::PermissionDenied,
        R::AuditUnavailable
        | R::ShuttingDown
        | R::StateUnavailable
        | R::SupervisorUnreachable
        | R::SupervisorBadReply
        | R::DatabaseUnreachable
        | R::DatabaseAuthentication
        | R::StoreUnavailable => Code::Unavailable,
        R::DeadlineExceeded => Code::DeadlineExceeded,
        R::Internal => Code::Internal,
        R::OperationNotFound
        | R::ServiceNotFound
        | R::ProbeNotFound
        | R::LogNotFound
        | R::CollectionNotFound
        | R::BackupNotFound => Code::NotFound,
        R::IdempotencyConflict | R::Locked | R::Cancelled => Code::Aborted,
        R::BackupCorrupt | R::BackupIncomplete | R::RestoreMismatch => Code::DataLoss,
        R::ConfirmationMissing
        | R::PlanStale
        | R::ConfigInvalid
        | R::ServiceUnmanaged
        | R::DatabaseUnconfigured
        | R::LogUnreadable
        | R::LogRefused
        | R::Interrupted
        | R::UndoFailed
        | R::StartFatal
        | R::NotReadyTimeout
        | R::Flapping
        | R::StopTimeout
        | R::RestartPartial
        | R::ProbeFailed
        | R::DatabaseFailed
        | R::RestoreFailed => Code::FailedPrecondition,
    }
}

/// The HTTP status of a reason. What ran and failed is 424: never a status that `curl --retry` repeats.
#[must_use]
pub const fn http_status(reason: Reason) -> StatusCode {
    use Reason as R;
    match reason {
        R::InvalidArgument | R::CursorInvalid => StatusCode::BAD_REQUEST,
        R::NotSupported => StatusCode::NOT_IMPLEMENTED,
        R::LimitExceeded | R::Overloaded | R::SlowConsumer => StatusCode::TOO_MANY_REQUESTS,
        R::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
        R::Unauthenticated | R::CredentialExpired | R::CredentialInvalid | R::BindingMismatch => {
            StatusCode::UNAUTHORIZED
        }
        R::PermissionDenied | R::CertificateRequired | R::ProtectedService => StatusCode::FORBIDDEN,
        R::AuditUnavailable
        | R::ShuttingDown
        | R::StateUnavailable
        | R::SupervisorUnreachable
        | R::SupervisorBadReply
        | R::DatabaseUnreachable
        | R::DatabaseAuthentication
        | R::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        R::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        R::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        R::OperationNotFound
        | R::ServiceNotFound
        | R::ProbeNotFound
        | R::LogNotFound
        | R::CollectionNotFound
        | R::BackupNotFound => StatusCode::NOT_FOUND,
        R::IdempotencyConflict | R::Locked => StatusCode::CONFLICT,
        R::ConfirmationMissing
        | R::PlanStale
        | R::ConfigInvalid
        | R::ServiceUnmanaged
        | R::DatabaseUnconfigured
        | R::LogUnreadable
        | R::LogRefused => StatusCode::PRECONDITION_FAILED,
        R::Cancelled
        | R::Interrupted
        | R::UndoFailed
        | R::StartFatal
        | R::NotReadyTimeout
        | R::Flapping
        | R::StopTimeout
        | R::RestartPartial
        | R::ProbeFailed
        | R::DatabaseFailed
        | R::BackupCorrupt
        | R::BackupIncomplete
        | R::RestoreFailed
        | R::RestoreMismatch => StatusCode::FAILED_DEPENDENCY,
    }
}

fn details(code: Code, error: &Error) -> Vec<u8> {
    let info = tonic_types::pb::ErrorInfo {
        reason: error.reason.name().to_owned(),
        domain: ERROR_DOMAIN.to_owned(),
        metadata: std::iter::once(("target".to_owned(), error.target.clone()))
            .filter(|(_, target)| !target.is_empty())
            .collect(),
    };
    let any = |name: &str, value: Vec<u8>| prost_types::Any {
        type_url: format!("type.googleapis.com/{name}"),
        value,
    };
    tonic_types::Status {
        code: code as i32,
        message: error.message.clone(),
        details: vec![
            any("google.rpc.ErrorInfo", info.encode_to_vec()),
            any("ops.v1.Problem", convert::problem(error).encode_to_vec()),
        ],
    }
    .encode_to_vec()
}

fn shorten(line: &mut String) {
    if let Some((at, _)) = line.char_indices().nth(EVIDENCE_LINE_CHARS) {
        line.truncate(at);
        line.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_needs_is_in_the_details() {
        let error =
            Error::new(Reason::Locked, "backend is being restarted").about("backend").fact("holder", "op-1");
        let status = status(error);
        assert_eq!(status.code(), Code::Aborted);
        let decoded = tonic_types::Status::decode(status.details()).unwrap();
        let problem = ops_proto::v1::Problem::decode(decoded.details[1].value.as_slice()).unwrap();
        assert_eq!(problem.target, "backend");
        assert_eq!(problem.reason(), ops_proto::v1::ErrorReason::Locked);
    }

    #[test]
    fn details_fit_into_a_header_whatever_the_evidence() {
        let lines = (0..20).map(|n| format!("{n} {}", "ä".repeat(70_000))).collect();
        let status = status(Error::new(Reason::StartFatal, "it died").lines("stderr", "", lines));
        assert!(status.details().len() <= DETAILS_BYTES, "{}", status.details().len());
        let decoded = tonic_types::Status::decode(status.details()).unwrap();
        let problem = ops_proto::v1::Problem::decode(decoded.details[1].value.as_slice()).unwrap();
        assert!(problem.evidence[0].lines.last().unwrap().starts_with("19 "));
    }

    #[test]
    fn what_ran_and_failed_is_never_repeated_by_curl() {
        for reason in
            [Reason::StartFatal, Reason::NotReadyTimeout, Reason::RestoreFailed, Reason::BackupCorrupt]
        {
            assert_eq!(http_status(reason), StatusCode::FAILED_DEPENDENCY);
        }
    }
}
