//! The one layer in front of both doors: who is calling, may they, is there room, and what is written down about it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use ops_domain::access::{Principal, Scope, authorize};
use ops_domain::ports::{AuditLog, Clock, Entropy, PolicySource};
use ops_domain::{Error, Reason, audit};
use ops_proto::Rpc;
use tracing::Instrument as _;

use super::error;
use super::listener::Connection;
use crate::app::App;
use crate::app::lifecycle::Lifecycle;
use crate::config::Limits;

mod credential;
mod denials;
mod ending;
pub mod policy;
mod room;

use credential::Credentials;
use denials::Denials;
use ending::{Ending, Guarded};
use policy::Audit;
use room::{Buckets, Room};

/// A REST route's method and path, as registered, and the rpc it stands for.
pub type RouteTable = HashMap<(Method, &'static str), Rpc>;

/// What the layer needs.
pub struct Gate {
    table: RouteTable,
    credentials: Credentials,
    policy: Arc<dyn PolicySource>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    audit: Arc<dyn AuditLog>,
    lifecycle: Lifecycle,
    limits: Limits,
    hosts: Vec<String>,
    room: Arc<Room>,
    reads: Buckets<String>,
    changes: Buckets<String>,
    failures: Buckets<IpAddr>,
    anonymous: Buckets<IpAddr>,
    denials: Arc<Denials>,
}

impl Gate {
    /// For one agent.
    #[must_use]
    pub fn new(app: &Arc<App>, table: RouteTable) -> Self {
        let limits = app.config.limits.clone();
        let per = |count: u32, seconds: u64| (count, Duration::from_secs(seconds));
        Self {
            table,
            credentials: Credentials::new(Arc::clone(&app.tls), app.token_keys.clone()),
            policy: Arc::clone(&app.policy),
            clock: Arc::clone(&app.clock),
            entropy: Arc::clone(&app.entropy),
            audit: Arc::clone(&app.audit_log),
            lifecycle: app.lifecycle.clone(),
            hosts: app.config.listen.hosts.clone(),
            room: Room::new(&limits),
            reads: Buckets::new(per(limits.reads_per_second, 1)),
            changes: Buckets::new(per(limits.changes_per_minute, 60)),
            failures: Buckets::new(per(limits.auth_failures_per_minute, 60)),
            anonymous: Buckets::new(per(limits.reads_per_second, 1)),
            denials: Denials::new(Arc::clone(&app.audit_log)),
            limits,
        }
    }
}

/// No credential at all.
#[must_use]
pub fn unauthenticated() -> Error {
    Error::new(Reason::Unauthenticated, "no credential: show a client certificate or an access token")
        .next_with(&["opsctl", "context", "list"], "which identity is used")
        .effect("nothing was done")
}

/// What stands behind the layer when no route does. The layer answers before; this is its last line.
pub async fn unreachable() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Grpc,
    Rest,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Liveness and readiness: no credential, no detail.
    Open,
    /// `grpc.health.v1`: the handler lets nobody see more than the agent's own state without a principal.
    Health,
    /// Reflection: any principal.
    Reflection,
    /// One of ours.
    Rpc(Rpc),
    /// A known path, by another method.
    Method,
    /// A gRPC path without gRPC, or with it over HTTP/1.
    Media,
    /// Nothing.
    Unknown,
}

/// The layer.
pub async fn enter(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let id = request_id(&gate);
    let door = door(request.headers());
    let span = tracing::info_span!("request", id = %id, path = %request.uri().path());
    let answered = gate.answer(&id, door, request, next).instrument(span).await;
    let mut response = answered.unwrap_or_else(|refusal| refusal.into_response(door));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

/// An answer that the layer itself gives.
struct Refusal {
    error: Error,
    status: Option<StatusCode>,
    retry_after: Option<u64>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, status: None, retry_after: None }
    }
}

impl Refusal {
    fn http(status: StatusCode, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            error: Error::new(reason, message).effect("nothing was done"),
            status: Some(status),
            retry_after: None,
        }
    }

    fn overloaded(message: impl Into<String>, seconds: u64) -> Self {
        let error = Error::new(Reason::Overloaded, message).retryable().effect("nothing was done");
        Self { error, status: None, retry_after: Some(seconds) }
    }

    fn into_response(self, door: Door) -> Response {
        let mut response = match door {
            Door::Grpc => error::status(self.error).into_http::<Body>(),
            Door::Rest => {
                let problem = error::problem(self.error);
                let status = self.status.unwrap_or(problem.status);
                problem.with_status(status).into_response()
            }
        };
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl Gate {
    async fn answer(
        &self,
        id: &str,
        door: Door,
        mut request: Request,
        next: Next,
    ) -> Result<Response, Refusal> {
        let connection = request.extensions().get::<Connection>().cloned().ok_or_else(unauthenticated)?;
        let target = self.target(door, &request);
        self.check_host(&request)?;
        if target == Target::Open {
            self.anonymous_room(&connection)?;
            return self.run(id, door, request, next, self.limits.deadline).await;
        }
        let caller = self.caller(id, door, request.headers(), &connection)?;
        let Some(principal) = caller else {
            if target != Target::Health {
                return Err(self.refused_credential(&connection, id, unauthenticated()));
            }
            self.anonymous_room(&connection)?;
            let streaming = request.uri().path().ends_with("/Watch");
            if streaming {
                return Err(self.refused_credential(&connection, id, unauthenticated()));
            }
            return self.run(id, door, request, next, self.limits.deadline).await;
        };
        if self.lifecycle.is_draining() {
            return Err(shutting_down().into());
        }
        let rpc = match target {
            Target::Rpc(rpc) => Some(rpc),
            Target::Open | Target::Health | Target::Reflection => None,
            Target::Method => {
                return Err(Refusal::http(
                    StatusCode::METHOD_NOT_ALLOWED,
                    Reason::NotSupported,
                    format!("{} does not take {}", request.uri().path(), request.method()),
                ));
            }
            Target::Media => {
                return Err(Refusal::http(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    Reason::NotSupported,
                    "this path speaks gRPC over HTTP/2, content-type application/grpc",
                ));
            }
            Target::Unknown => {
                return Err(Refusal::http(
                    StatusCode::NOT_FOUND,
                    Reason::NotSupported,
                    "this agent has no such call; is it older than the client?",
                ));
            }
        };
        let row = rpc.map(policy::row);
        if let (Some(rpc), Some(row)) = (rpc, row)
            && let Err(error) = authorize(&principal, row.permission, Scope::None)
        {
            self.denials.denied(&principal, policy::route(rpc), &error, row.audit);
            return Err(error.into());
        }
        let change = row.is_some_and(|row| row.audit == Audit::Mutation);
        let bucket = if change { &self.changes } else { &self.reads };
        if let Err(wait) = bucket.take(principal.subject.to_string(), self.clock.monotonic()) {
            let kind = if change { "changes" } else { "reads" };
            return Err(Refusal::overloaded(format!("{}: too many {kind}", principal.subject.short()), wait));
        }
        let streaming = match rpc {
            Some(rpc) => rpc.is_streaming(),
            None => target == Target::Reflection || request.uri().path().ends_with("/Watch"),
        };
        let place = self.room.enter(&principal, streaming).map_err(|full| Refusal::overloaded(full, 1))?;
        let deadline = self.deadline(door, &request)?;
        if door == Door::Rest {
            request = self.with_body(request).await?;
        }
        request.extensions_mut().insert(principal.clone());
        let route = rpc.map_or("grpc", policy::route);
        let response = self.run(id, door, request, next, deadline).await?;
        let outcome = denials::outcome(&response);
        if let (Some(row), Some(error)) = (row, denials::denial(&response)) {
            self.denials.denied(&principal, route, &error, row.audit);
        } else if row.is_some_and(|row| row.audit == Audit::Read) {
            let entry = audit::entry(&principal);
            self.audit.note(ops_domain::ports::AuditEntry {
                stage: "read".to_owned(),
                route: route.to_owned(),
                decision: "allowed".to_owned(),
                outcome,
                ..entry
            });
        }
        let ending = streaming.then(|| Ending {
            permission: row.map(|row| row.permission),
            principal,
            policy: Arc::clone(&self.policy),
            clock: Arc::clone(&self.clock),
            lifecycle: self.lifecycle.clone(),
            closing: connection.closing.clone(),
            longest: self.limits.stream,
        });
        Ok(Guarded::wrap(response, place, ending))
    }

    fn target(&self, door: Door, request: &Request) -> Target {
        let path = request.uri().path();
        let grpc_path = Rpc::from_path(path).is_some() || path.starts_with("/grpc.");
        match door {
            Door::Grpc if request.version() != Version::HTTP_2 || !grpc_media(request.headers()) => {
                Target::Media
            }
            Door::Grpc if request.method() != Method::POST => Target::Method,
            Door::Grpc => match path {
                "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/Watch" => Target::Health,
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
                | "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo" => Target::Reflection,
                _ => Rpc::from_path(path).map_or(Target::Unknown, Target::Rpc),
            },
            Door::Rest if grpc_path => Target::Media,
            Door::Rest => {
                let Some(matched) = request.extensions().get::<MatchedPath>() else { return Target::Unknown };
                let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
                let open = matches!(matched.as_str(), "/healthz" | "/readyz");
                if open && method == Method::GET {
                    return Target::Open;
                }
                let known = |((known, path), rpc): (&(Method, &'static str), &Rpc)| {
                    (*path == matched.as_str()).then(|| (known == method, *rpc))
                };
                let mut found = self.table.iter().filter_map(known);
                match found.clone().find(|(method, _)| *method) {
                    Some((_, rpc)) => Target::Rpc(rpc),
                    None if open || found.next().is_some() => Target::Method,
                    None => Target::Unknown,
                }
            }
        }
    }

    /// A browser that a foreign name led here names that name.
    fn check_host(&self, request: &Request) -> Result<(), Refusal> {
        if self.hosts.is_empty() {
            return Ok(());
        }
        let header = request.headers().get("host").and_then(|value| value.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.host().to_owned()).or_else(|| {
            let authority: Authority = header?.parse().ok()?;
            Some(authority.host().to_owned())
        });
        match host {
            Some(host) if self.hosts.iter().any(|known| known.eq_ignore_ascii_case(&host)) => Ok(()),
            _ => Err(Refusal::http(
                StatusCode::MISDIRECTED_REQUEST,
                Reason::InvalidArgument,
                "this agent does not answer to that name: [listen] hosts",
            )),
        }
    }

    fn caller(
        &self,
        id: &str,
        _door: Door,
        headers: &HeaderMap,
        connection: &Connection,
    ) -> Result<Option<Principal>, Refusal> {
        let policy = self.policy.current();
        self.credentials
            .principal(headers, connection, &policy, self.clock.now(), id)
            .map_err(|error| self.refused_credential(connection, id, error))
    }

    /// Counts it against the peer; from the limit on the answer is only that.
    fn refused_credential(&self, connection: &Connection, id: &str, error: Error) -> Refusal {
        self.denials.unauthenticated(connection, id, &error);
        match self.failures.take(connection.peer.ip(), self.clock.monotonic()) {
            Ok(()) => error.into(),
            Err(wait) => Refusal::overloaded("too many failed authentications from this address", wait),
        }
    }

    fn anonymous_room(&self, connection: &Connection) -> Result<(), Refusal> {
        self.anonymous
            .take(connection.peer.ip(), self.clock.monotonic())
            .map_err(|wait| Refusal::overloaded("too many requests from this address", wait))
    }

    /// How long the caller gives us, within what we give.
    fn deadline(&self, door: Door, request: &Request) -> Result<Duration, Refusal> {
        let asked = match door {
            Door::Grpc => match request.headers().get("grpc-timeout") {
                None => None,
                Some(value) => Some(grpc_timeout(value).ok_or_else(|| {
                    Error::new(
                        Reason::InvalidArgument,
                        "grpc-timeout is not a timeout: 1 to 8 digits and one of H M S m u n",
                    )
                })?),
            },
            // A wait is answered when it is over, so the call outlives it by the time of an answer.
            Door::Rest => request
                .uri()
                .query()
                .and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("wait=")))
                .and_then(|wait| crate::config::duration::parse(wait).ok())
                .map(|wait| wait.saturating_add(self.limits.deadline)),
        };
        Ok(asked.unwrap_or(self.limits.deadline).min(self.limits.deadline_max))
    }

    /// The whole body, once, within its limits: what is checked is what is executed.
    async fn with_body(&self, request: Request) -> Result<Request, Refusal> {
        let (parts, body) = request.into_parts();
        let limit = self.limits.body_bytes;
        let too_large = || {
            Refusal::http(
                StatusCode::PAYLOAD_TOO_LARGE,
                Reason::LimitExceeded,
                format!("the body is larger than {limit} bytes"),
            )
        };
        let declared =
            parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|declared| declared > limit) {
            return Err(too_large());
        }
        // 30 s for a small body, more for a large one that keeps coming.
        let slowest =
            Duration::from_secs(declared.unwrap_or(0) as u64 / self.limits.body_bytes_per_second.max(1));
        let within = self.limits.body_read.max(slowest.min(self.limits.deadline_max));
        let read = tokio::time::timeout(within, axum::body::to_bytes(body, limit)).await.map_err(|_| {
            Refusal::http(StatusCode::REQUEST_TIMEOUT, Reason::DeadlineExceeded, "the body came too slowly")
        })?;
        let bytes = read.map_err(|_| too_large())?;
        let json = parts.headers.get(CONTENT_TYPE).is_some_and(|value| {
            value.to_str().is_ok_and(|text| {
                text.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
            })
        });
        if !bytes.is_empty() && !json {
            return Err(Refusal::http(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Reason::NotSupported,
                "a body has content-type application/json",
            ));
        }
        Ok(Request::from_parts(parts, Body::from(bytes)))
    }

    /// Runs the handler within its time; a panic is an answer, not a cut connection.
    async fn run(
        &self,
        id: &str,
        _door: Door,
        request: Request,
        next: Next,
        deadline: Duration,
    ) -> Result<Response, Refusal> {
        let run = AssertUnwindSafe(next.run(request)).catch_unwind();
        match tokio::time::timeout(deadline, run).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => {
                tracing::error!("a handler panicked");
                let message = format!("the agent failed on this request; its log says more under {id}");
                Err(Error::new(Reason::Internal, message).fact("request", id).into())
            }
            Err(_) => {
                let message = format!("no answer within {}", crate::config::duration::text(deadline));
                Err(Error::new(Reason::DeadlineExceeded, message)
                    .effect("what had begun goes on: opsctl operation list")
                    .into())
            }
        }
    }
}

/// The agent is about to end.
#[must_use]
pub fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the agent is shutting down").retryable().effect("nothing was done")
}

fn door(headers: &HeaderMap) -> Door {
    let grpc =
        headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if grpc { Door::Grpc } else { Door::Rest }
}

fn grpc_media(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| matches!(value.as_bytes(), b"application/grpc" | b"application/grpc+proto"))
}

/// gRPC over HTTP/2, "Timeout": at most 8 digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

fn request_id(gate: &Gate) -> String {
    let mut bytes = [0; 12];
    if gate.entropy.fill(&mut bytes).is_err() {
        // An id only names a request in the log; nothing rests on nobody guessing it.
        bytes = [0; 12];
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
