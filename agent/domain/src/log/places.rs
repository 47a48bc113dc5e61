//! Which files the services write to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SourceId, Stream};
use crate::access::Principal;
use crate::error::{Error, Reason, Result};
use crate::ids::ServiceName;
use crate::near::near_names;
use crate::ports::ServiceManager;
use crate::ports::service_manager::{Program, ProgramName};

/// A service whose logs can be read.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Its name here.
    pub service: ServiceName,
    /// Its name in its manager.
    pub program: ProgramName,
    /// Configured file of its stdout; `None`: the manager's.
    pub out: Option<PathBuf>,
    /// Configured file of its stderr; `None`: the manager's.
    pub err: Option<PathBuf>,
}

/// Where each service writes: as configured, else as the service manager says.
pub struct Places {
    services: Vec<Logged>,
    manager: Arc<dyn ServiceManager>,
}

/// The file of a source, or why there is none.
pub(super) struct Place {
    pub(super) source: SourceId,
    pub(super) path: Result<PathBuf>,
}

impl Places {
    /// Of these services.
    #[must_use]
    pub fn new(services: Vec<Logged>, manager: Arc<dyn ServiceManager>) -> Self {
        Self { services, manager }
    }

    /// Names as services; those that are not known here are told by near names, after the caller's scope was checked.
    pub(super) fn known(&self, names: &[ServiceName], principal: &Principal) -> Result<()> {
        for name in names {
            if !self.services.iter().any(|logged| logged.service == *name) {
                let known: Vec<&str> =
                    self.covered(principal).map(|logged| logged.service.as_str()).collect();
                let sentence = format!("no service '{name}'; {}", near_names(name.as_str(), &known));
                return Err(Error::new(Reason::ServiceNotFound, sentence)
                    .about(name)
                    .next(&["opsctl", "log", "sources"]));
            }
        }
        Ok(())
    }

    /// All services that the caller's scope covers.
    pub(super) fn all(&self, principal: &Principal) -> Vec<ServiceName> {
        self.covered(principal).map(|logged| logged.service.clone()).collect()
    }

    fn covered<'a>(&'a self, principal: &'a Principal) -> impl Iterator<Item = &'a Logged> {
        self.services.iter().filter(|logged| principal.covers(&logged.service))
    }

    /// The sources of these services, in their order. A stream that a service does not have is left out, unless it
    /// is asked for, or is all there is.
    pub(super) async fn of(&self, services: &[ServiceName], stream: Option<Stream>) -> Result<Vec<Place>> {
        let wanted: Vec<&Logged> = services
            .iter()
            .filter_map(|name| self.services.iter().find(|logged| logged.service == *name))
            .collect();
        let complete = |logged: &&Logged| logged.out.is_some() && logged.err.is_some();
        let programs = if wanted.iter().all(complete) { Vec::new() } else { self.manager.programs().await? };
        let mut places = Vec::new();
        for logged in wanted {
            let program = programs.iter().find(|program| program.name == logged.program);
            let (out, err) = (stdout(logged, program), stderr(logged, program));
            match stream {
                Some(Stream::Out) => places.push(place(logged, Stream::Out, out)),
                Some(Stream::Err) => places.push(place(logged, Stream::Err, err)),
                None => {
                    let has_err = err.is_ok();
                    if out.is_ok() || !has_err {
                        places.push(place(logged, Stream::Out, out));
                    }
                    if has_err {
                        places.push(place(logged, Stream::Err, err));
                    }
                }
            }
        }
        Ok(places)
    }
}

fn place(logged: &Logged, stream: Stream, path: Result<PathBuf>) -> Place {
    Place { source: SourceId { service: logged.service.clone(), stream }, path }
}

fn stdout(logged: &Logged, program: Option<&Program>) -> Result<PathBuf> {
    if let Some(path) = &logged.out {
        return Ok(path.clone());
    }
    let program = program.ok_or_else(|| unknown(logged))?;
    program.stdout_log.as_ref().map(PathBuf::from).ok_or_else(|| {
        not_found(
            logged,
            format!(
                "{} has no stdout log: supervisord has stdout_logfile=NONE for {}",
                logged.service, logged.program
            ),
        )
    })
}

fn stderr(logged: &Logged, program: Option<&Program>) -> Result<PathBuf> {
    if let Some(path) = &logged.err {
        return Ok(path.clone());
    }
    if program.is_none() && logged.out.is_some() {
        return Err(not_found(
            logged,
            format!("{} has no stderr log: its configuration names only one for stdout", logged.service),
        ));
    }
    let program = program.ok_or_else(|| unknown(logged))?;
    if let Some(path) = &program.stderr_log {
        return Ok(PathBuf::from(path));
    }
    // supervisord keeps no stderr log for two reasons, and does not say which one it is.
    Err(match &program.stdout_log {
        Some(out) => {
            let name =
                Path::new(out).file_name().map_or(out.clone(), |name| name.to_string_lossy().into_owned());
            not_found(
                logged,
                format!(
                    "{} has no stderr log: its program has redirect_stderr=true, both go to {name} (or its \
                     stderr_logfile is NONE)",
                    logged.service
                ),
            )
            .next(&["opsctl", "log", "tail", logged.service.as_str(), "--stream", "out"])
        }
        None => not_found(logged, format!("{} has no logs: supervisord keeps none for it", logged.service)),
    })
}

fn unknown(logged: &Logged) -> Error {
    not_found(
        logged,
        format!("{} has no log: supervisord knows no program {}", logged.service, logged.program),
    )
    .next(&["opsctl", "service", "list"])
}

fn not_found(logged: &Logged, sentence: String) -> Error {
    Error::new(Reason::LogNotFound, sentence).about(&logged.service)
}
