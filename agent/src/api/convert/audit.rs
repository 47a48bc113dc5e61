//! Lines of the audit trail.

use ops_domain::Result;
use ops_domain::ports::{AuditLine, AuditQuery};
use ops_proto::v1;

const LIMIT: usize = 50;

/// Which lines are asked for.
///
/// # Errors
/// `INVALID_ARGUMENT`.
pub fn query(request: &v1::ListAuditRequest) -> Result<AuditQuery> {
    let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
    Ok(AuditQuery {
        limit: if limit == 0 { LIMIT } else { limit },
        subject: super::subject(&request.subject)?.map(|subject| subject.to_string()),
        since: request.since.as_ref().map(|at| super::from_timestamp(at, "since")).transpose()?,
    })
}

/// The lines.
#[must_use]
pub fn records(lines: Vec<AuditLine>) -> v1::ListAuditResponse {
    let record = |line: AuditLine| v1::AuditRecord {
        seq: line.seq,
        at: Some(super::timestamp(line.at)),
        stage: line.stage,
        subject: line.subject,
        route: line.route,
        target: line.target,
        decision: line.decision,
        outcome: line.outcome,
        reason: line.reason,
        operation_id: line.operation_id,
        request_id: line.request_id,
        peer: line.peer,
    };
    v1::ListAuditResponse { records: lines.into_iter().map(record).collect() }
}
