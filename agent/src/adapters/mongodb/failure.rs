//! The driver's errors, told apart by cause.

use std::fmt::Display;
use std::io;

use mongodb::error::{Error, ErrorKind, WriteFailure};
use ops_domain::ports::database::{DatabaseError, Unreachable};

/// The longest detail that is passed on.
const DETAIL_MAX: usize = 300;

/// What the driver's error means. `what` says what was asked.
pub(super) fn failure(uri: &str, what: &str, error: &Error) -> DatabaseError {
    let unreachable =
        |cause, detail: String| DatabaseError::Unreachable { uri: uri.to_owned(), cause, detail };
    match &*error.kind {
        ErrorKind::Authentication { message, .. } => {
            DatabaseError::Authentication { uri: uri.to_owned(), detail: line(message) }
        }
        ErrorKind::Command(command) if matches!(command.code, 18 | 8000) => {
            DatabaseError::Authentication { uri: uri.to_owned(), detail: line(&command.message) }
        }
        ErrorKind::Command(command) => DatabaseError::Command {
            what: what.to_owned(),
            code: command.code,
            name: command.code_name.clone(),
            detail: line(&command.message),
        },
        ErrorKind::Write(failure) => DatabaseError::Command {
            what: what.to_owned(),
            code: match failure {
                WriteFailure::WriteError(error) => error.code,
                WriteFailure::WriteConcernError(error) => error.code,
                _ => 0,
            },
            name: String::new(),
            detail: line(format!("{failure:?}")),
        },
        ErrorKind::DnsResolve { message, .. } => unreachable(Unreachable::Dns, line(message)),
        ErrorKind::InvalidTlsConfig { message, .. } => unreachable(Unreachable::Tls, line(message)),
        ErrorKind::Io(error) => unreachable(io_cause(error), line(error)),
        ErrorKind::ServerSelection { message, .. } => unreachable(selection_cause(message), line(message)),
        ErrorKind::ConnectionPoolCleared { message, .. } => {
            unreachable(broken_rather_than_slow(selection_cause(message)), line(message))
        }
        _ => DatabaseError::Protocol { what: what.to_owned(), detail: line(error) },
    }
}

/// An answer that cannot be used.
pub(super) fn protocol(what: &str, detail: &dyn Display) -> DatabaseError {
    DatabaseError::Protocol { what: what.to_owned(), detail: line(detail) }
}

/// What a failed connection means.
pub(super) fn io_cause(error: &io::Error) -> Unreachable {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Unreachable::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Unreachable::Timeout,
        _ => broken_rather_than_slow(selection_cause(&error.to_string())),
    }
}

/// The driver keeps a server's last error as text only, in the description of the topology.
fn selection_cause(message: &str) -> Unreachable {
    let message = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["connection refused"]) {
        Unreachable::Refused
    } else if has(&["failed to lookup", "dns", "name or service not known"]) {
        Unreachable::Dns
    } else if has(&[
        "certificate",
        "handshakefailure",
        "tls",
        "invalidcontenttype",
        "received corrupt message",
    ]) {
        Unreachable::Tls
    } else if has(&["reset by peer", "broken pipe", "unexpected end of file", "early eof", "closed"]) {
        Unreachable::Broken
    } else {
        Unreachable::Timeout
    }
}

/// What is nothing else, on a connection that there was, is a broken connection and not a slow one.
fn broken_rather_than_slow(cause: Unreachable) -> Unreachable {
    if cause == Unreachable::Timeout { Unreachable::Broken } else { cause }
}

/// One line, cut.
pub(super) fn line(detail: impl Display) -> String {
    let text: String =
        detail.to_string().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match text.char_indices().nth(DETAIL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
