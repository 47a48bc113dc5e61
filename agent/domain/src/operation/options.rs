//! What stands in a request about how a change is to be made: checked, digested, confirmed.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Reason, Result};
use crate::operation::{ChangeOptions, Confirm, Task};

const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl ChangeOptions {
    /// Checks lengths and letters.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, naming the field and its rule.
    pub fn check(&self) -> Result<()> {
        let field = |name: &str, text: &str, most: usize, plain: bool| {
            let printable =
                |letter: char| if plain { letter.is_ascii_graphic() } else { !letter.is_control() };
            if text.len() <= most && text.chars().all(printable) {
                return Ok(());
            }
            let letters =
                if plain { "ASCII letters, digits and signs without spaces" } else { "printable text" };
            Err(invalid(format!("{name} must be at most {most} bytes of {letters}")))
        };
        field("reason", &self.reason, 500, false)?;
        field("idempotency_key", &self.idempotency_key, 128, true)?;
        field("confirm", &self.confirm, 256, false)?;
        field("plan_id", &self.plan_id, 64, true)?;
        let hex = |digest: &str| digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !self.plan_digest.is_empty() && !hex(&self.plan_digest) {
            return Err(invalid("plan_digest must be 64 hex digits, as a plan shows it".to_owned()));
        }
        let limits = [("timeout", self.timeout.unwrap_or_default()), ("lock_timeout", self.lock_timeout)];
        match limits.iter().find(|(_, length)| *length > LONGEST) {
            Some((name, _)) => Err(invalid(format!("{name} must be at most 24 hours"))),
            None if self.timeout == Some(Duration::ZERO) => {
                Err(invalid("timeout must be more than 0".to_owned()))
            }
            None => Ok(()),
        }
    }
}

fn invalid(message: String) -> Error {
    Error::new(Reason::InvalidArgument, message).effect("nothing was done")
}

/// What an idempotency key stands for: SHA-256 over route, kind and parameters.
pub(super) fn request_digest(route: &str, task: &dyn Task) -> String {
    digest(&[route, task.kind(), &canonical(&task.parameters())])
}

/// What a plan promises: the request, and the preconditions it was made under.
pub(super) fn plan_digest(route: &str, task: &dyn Task, preconditions: &Value) -> String {
    digest(&[route, task.kind(), &canonical(&task.parameters()), &canonical(preconditions)])
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The value as text, the same whatever order its keys were written in.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            let fields = fields
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), canonical(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

/// Whether what was said is what the plan asks for.
///
/// # Errors
/// `CONFIRMATION_MISSING`, with the line to run.
pub(super) fn confirmed(level: &Confirm, options: &ChangeOptions, task: &dyn Task) -> Result<()> {
    let (sentence, flag) = match level {
        Confirm::None => return Ok(()),
        Confirm::Ask if options.confirmed || !options.confirm.is_empty() => return Ok(()),
        Confirm::Ask => (format!("{} needs a yes", action(task)), vec!["--yes"]),
        Confirm::Type(text) if options.confirm == *text => return Ok(()),
        Confirm::Type(text) if options.confirm.is_empty() => {
            let yes = if options.confirmed { "; --yes is not enough" } else { "" };
            (format!("{} needs \"{text}\" typed{yes}", action(task)), vec!["--confirm", text])
        }
        Confirm::Type(text) => (
            format!("{} needs \"{text}\" typed, \"{}\" is something else", action(task), options.confirm),
            vec!["--confirm", text],
        ),
    };
    let line = task.command();
    let line: Vec<&str> = line.iter().map(String::as_str).chain(flag).collect();
    Err(Error::new(Reason::ConfirmationMissing, sentence)
        .about(task.targets().join(", "))
        .next(&line)
        .effect("nothing was done"))
}

/// `service stop of backend`.
fn action(task: &dyn Task) -> String {
    let (kind, targets) = (task.kind().replace('.', " "), task.targets());
    if targets.is_empty() { kind } else { format!("{kind} of {}", targets.join(", ")) }
}
