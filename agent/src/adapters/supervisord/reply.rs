//! supervisord's answers as our types; what is not as expected is named.

use std::collections::BTreeMap;
use std::time::Duration;

use dxr::Value;
use jiff::Timestamp;
use ops_domain::ports::service_manager::{Patience, Program, ProgramName, ProgramState};

use super::call::Failed;

type Struct = BTreeMap<String, Value>;

pub(super) fn text(value: &Value) -> Result<String, Failed> {
    match value {
        Value::String(text) => Ok(text.chars().filter(|letter| !letter.is_control()).take(100).collect()),
        _ => Err(Failed::Strange("expected a string".to_owned())),
    }
}

/// `true`. A list would be the answer to a whole group, which is never asked for.
pub(super) fn done(value: &Value) -> Result<(), Failed> {
    match value {
        Value::Boolean(true) => Ok(()),
        _ => Err(Failed::Strange("expected true".to_owned())),
    }
}

pub(super) fn programs(value: &Value) -> Result<Vec<Program>, Failed> {
    list(value)?.iter().map(program).collect()
}

pub(super) fn program(value: &Value) -> Result<Program, Failed> {
    let fields = fields(value)?;
    let number = |name| integer(fields, name);
    let state = match number("state")? {
        0 => ProgramState::Stopped,
        10 => ProgramState::Starting,
        20 => ProgramState::Running,
        30 => ProgramState::Backoff,
        40 => ProgramState::Stopping,
        100 => ProgramState::Exited,
        200 => ProgramState::Fatal,
        1000 => ProgramState::Unknown,
        other => return Err(Failed::Strange(format!("state {other} is none of supervisord's"))),
    };
    Ok(Program {
        name: program_name(fields)?,
        state,
        pid: u32::try_from(number("pid")?).ok().filter(|pid| *pid > 0),
        started_at: moment(number("start")?),
        stopped_at: moment(number("stop")?),
        exit_status: number("exitstatus")?,
        spawn_error: string(fields, "spawnerr")?
            .chars()
            .filter(|letter| !letter.is_control())
            .take(300)
            .collect(),
        stdout_log: path(string(fields, "stdout_logfile")?),
        stderr_log: path(string(fields, "stderr_logfile")?),
    })
}

pub(super) fn patience(value: &Value) -> Result<BTreeMap<ProgramName, Patience>, Failed> {
    let mut all = BTreeMap::new();
    for entry in list(value)? {
        let fields = fields(entry)?;
        let seconds = |name| -> Result<Duration, Failed> {
            Ok(Duration::from_secs(u64::try_from(integer(fields, name)?).unwrap_or(0)))
        };
        let patience = Patience {
            start: seconds("startsecs")?,
            retries: u32::try_from(integer(fields, "startretries")?).unwrap_or(0),
            stop: seconds("stopwaitsecs")?,
        };
        all.insert(program_name(fields)?, patience);
    }
    Ok(all)
}

fn list(value: &Value) -> Result<&Vec<Value>, Failed> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(Failed::Strange("expected a list".to_owned())),
    }
}

fn fields(value: &Value) -> Result<&Struct, Failed> {
    match value {
        Value::Struct(fields) => Ok(fields),
        _ => Err(Failed::Strange("expected a struct".to_owned())),
    }
}

fn integer(fields: &Struct, name: &str) -> Result<i32, Failed> {
    match fields.get(name) {
        Some(Value::Integer(number)) => Ok(*number),
        Some(_) => Err(Failed::Strange(format!("{name} is not a number"))),
        None => Err(Failed::Strange(format!("{name} is missing"))),
    }
}

fn string<'a>(fields: &'a Struct, name: &str) -> Result<&'a str, Failed> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Failed::Strange(format!("{name} is not a text"))),
        None => Err(Failed::Strange(format!("{name} is missing"))),
    }
}

fn program_name(fields: &Struct) -> Result<ProgramName, Failed> {
    let name = format!("{}:{}", string(fields, "group")?, string(fields, "name")?);
    ProgramName::parse(&name).map_err(|error| Failed::Strange(error.message))
}

/// 0 means never.
fn moment(seconds: i32) -> Option<Timestamp> {
    (seconds > 0).then(|| Timestamp::from_second(seconds.into()).ok()).flatten()
}

fn path(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() < 4096 && !text.contains('\0')).then(|| text.to_owned())
}
