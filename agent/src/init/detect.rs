//! `--detect`: what supervisord keeps alive, as sections of `opsd.toml`, and the rights that the agent needs for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ops_domain::ids::ServiceName;

use super::InitError;
use super::supervisor_ini::{self, Sections};
use super::words::quoted;

/// Where supervisord itself looks, in its order (supervisor 4.3.0), with Debian's place.
const PLACES: &[&str] =
    &["/etc/supervisord.conf", "/etc/supervisor/supervisord.conf", "/etc/supervisor.conf"];

/// What supervisord's configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The file it was read from.
    pub file: PathBuf,
    /// The socket of its XML-RPC interface.
    pub socket: Option<PathBuf>,
    /// Its own log.
    pub log: Option<PathBuf>,
    /// Its programs, by name.
    pub services: Vec<DetectedService>,
    /// Programs that get no section, and why.
    pub skipped: Vec<(String, &'static str)>,
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedService {
    /// Its name as a service.
    pub name: ServiceName,
    /// Its name for supervisord: `group:process`.
    pub program: String,
    /// Its log files with a fixed path.
    pub logs: Vec<PathBuf>,
    /// Whether supervisord starts it by itself.
    pub autostart: bool,
}

/// Reads supervisord's configuration.
pub(super) fn read(named: Option<&Path>) -> Result<Detected, InitError> {
    let file = match named {
        Some(file) => file.to_owned(),
        None => PLACES.iter().map(PathBuf::from).find(|place| place.is_file()).ok_or_else(|| {
            InitError::NoSupervisor { tried: PLACES.iter().map(ToString::to_string).collect() }
        })?,
    };
    Ok(of_sections(&file, &supervisor_ini::read(&file)?))
}

fn of_sections(file: &Path, sections: &Sections) -> Detected {
    let here = file.parent().unwrap_or(Path::new("")).to_owned();
    let path = |section: &str, key: &str| {
        let value = sections.get(section)?.get(key)?.replace("%(here)s", &here.to_string_lossy());
        fixed_path(&value)
    };
    let mut groups = BTreeMap::new();
    for (name, values) in sections {
        if let (Some(group), Some(programs)) = (name.strip_prefix("group:"), values.get("programs")) {
            for program in programs.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                groups.insert(program.to_owned(), group.to_owned());
            }
        }
    }
    let (mut services, mut skipped) = (Vec::new(), Vec::new());
    for (section, values) in sections {
        let Some(program) = section.strip_prefix("program:") else { continue };
        let value = |key: &str| values.get(key).map(String::as_str);
        let several = value("numprocs").is_some_and(|n| n.trim() != "1");
        match (ServiceName::parse(program), program == "opsd", several) {
            (_, true, _) => skipped.push((program.to_owned(), "the agent itself")),
            (_, _, true) => {
                skipped.push((program.to_owned(), "numprocs is not 1: write a section for each process"))
            }
            (Err(_), _, _) => skipped.push((program.to_owned(), "its name cannot be a service's")),
            (Ok(name), _, _) => {
                let group = groups.get(program).map_or(program, String::as_str);
                let process = value("process_name").unwrap_or(program).replace("%(program_name)s", program);
                let logs = ["stdout_logfile", "stderr_logfile"].into_iter();
                services.push(DetectedService {
                    name,
                    program: format!("{group}:{process}"),
                    logs: logs
                        .filter_map(|key| {
                            let text = value(key)?.replace("%(here)s", &here.to_string_lossy());
                            fixed_path(&text.replace("%(program_name)s", program))
                        })
                        .collect(),
                    autostart: value("autostart").is_none_or(is_true),
                });
            }
        }
    }
    Detected {
        file: file.to_owned(),
        socket: path("unix_http_server", "file"),
        log: path("supervisord", "logfile"),
        services,
        skipped,
    }
}

/// supervisord's own idea of true (`datatypes.py`).
fn is_true(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "yes" | "true" | "on" | "1")
}

/// A path that stays the same: absolute, no expansion left in it, not a device.
fn fixed_path(text: &str) -> Option<PathBuf> {
    let fixed = text.starts_with('/') && !text.contains("%(") && !text.starts_with("/dev/");
    fixed.then(|| PathBuf::from(text))
}

impl Detected {
    /// The sections for `opsd.toml`.
    pub(super) fn sections(&self) -> String {
        let mut text = String::new();
        let string = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
        // Writing into a String cannot fail.
        if let Some(socket) = &self.socket {
            let _ = write!(text, "\n[supervisor]\nsocket = {}\n", string(socket));
            if let Some(log) = &self.log {
                let _ = writeln!(text, "log = {}", string(log));
            }
        }
        let folders: Vec<String> = self.log_folders().iter().map(|folder| string(folder)).collect();
        if !folders.is_empty() {
            let _ = write!(text, "\n[log]\nfolders = [{}]\n", folders.join(", "));
        }
        for service in &self.services {
            let program = toml::Value::String(service.program.clone());
            let _ = write!(text, "\n[service.{}]\nprogram = {program}\n", key(service.name.as_str()));
            if !service.autostart {
                let _ = writeln!(text, "expected = \"any\"");
            }
        }
        text
    }

    /// The folders that hold the services' logs; the agent reads logs nowhere else.
    fn log_folders(&self) -> Vec<&Path> {
        let mut folders: Vec<&Path> =
            self.services.iter().flat_map(|s| &s.logs).filter_map(|log| log.parent()).collect();
        folders.sort();
        folders.dedup();
        folders
    }

    /// What was found, for people.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        let names: Vec<&str> = self.services.iter().map(|s| s.name.as_str()).collect();
        let _ = writeln!(text, "services    {} (from {})", names.join(", "), self.file.display());
        for (name, why) in &self.skipped {
            let _ = writeln!(text, "left out    {}: {why}", name.escape_debug());
        }
        if self.socket.is_none() {
            let _ = writeln!(text, "note        supervisord has no [unix_http_server]: the agent needs one");
        }
        text
    }

    /// The commands and lines that grant the user `opsd` what it needs, and no more.
    pub(super) fn rights(&self) -> Vec<String> {
        let mut rights = Vec::new();
        if let Some(socket) = &self.socket {
            rights.push(format!(
                "in {}, [unix_http_server] of {}: chmod=0770 and chown=root:opsd, then restart supervisord",
                self.file.display(),
                socket.display()
            ));
        }
        let logs: Vec<&PathBuf> = self.log.iter().chain(self.services.iter().flat_map(|s| &s.logs)).collect();
        let own = self.log.iter().filter_map(|log| log.parent());
        let mut folders: Vec<&Path> = own.chain(self.log_folders()).collect();
        folders.sort();
        folders.dedup();
        for folder in folders {
            // The default entry is for the files that rotation will make.
            rights.push(format!("setfacl -m u:opsd:rx,d:u:opsd:r {}", quoted(folder)));
        }
        for log in logs {
            rights.push(format!("setfacl -m u:opsd:r {}", quoted(log)));
        }
        rights
    }
}

/// A TOML key; names of services are bare keys but for their dots.
fn key(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(text: &str) -> Detected {
        let mut sections = Sections::new();
        supervisor_ini::parse(text, &mut sections).unwrap();
        of_sections(Path::new("/etc/supervisor/supervisord.conf"), &sections)
    }

    const REAL: &str = "[unix_http_server]\nfile=/var/run/supervisor.sock\n[supervisord]\nlogfile=/var/log/supervisor/supervisord.log\n\
        [program:mongodb]\ncommand=mongod\nstdout_logfile=/var/log/supervisor/mongodb.out.log\nstderr_logfile=/dev/stderr\n\
        [program:backend]\ncommand=uvicorn\nautostart=false\nstdout_logfile=%(here)s/%(program_name)s.log\nstderr_logfile=/l/%(process_num)d\n\
        [group:web]\nprograms=backend\n\
        [program:many]\nnumprocs=3\n[program:opsd]\ncommand=opsd\n[program:a b]\ncommand=x\n[eventlistener:x]\ncommand=y\n";

    #[test]
    fn programs_become_services_under_their_groups() {
        let found = detected(REAL);
        let names: Vec<_> = found.services.iter().map(|s| (s.name.as_str(), s.program.as_str())).collect();
        assert_eq!(names, [("backend", "web:backend"), ("mongodb", "mongodb:mongodb")]);
        assert_eq!(found.services[0].logs, [PathBuf::from("/etc/supervisor/backend.log")]);
        assert_eq!(found.services[1].logs, [PathBuf::from("/var/log/supervisor/mongodb.out.log")]);
        assert_eq!(found.skipped.len(), 3);
    }

    #[test]
    fn the_sections_are_toml_that_says_it() {
        let text = detected(REAL).sections();
        let table: toml::Table = toml::from_str(&text).unwrap();
        assert_eq!(table["supervisor"]["socket"].as_str(), Some("/var/run/supervisor.sock"));
        let folders = table["log"]["folders"].as_array().unwrap();
        assert_eq!(folders.len(), 2, "{text}");
        assert_eq!(table["service"]["backend"]["program"].as_str(), Some("web:backend"));
        assert_eq!(table["service"]["backend"]["expected"].as_str(), Some("any"));
    }

    #[test]
    fn the_rights_are_exact() {
        let rights = detected(REAL).rights().join("\n");
        assert!(rights.contains("chown=root:opsd"), "{rights}");
        assert!(rights.contains("setfacl -m u:opsd:r /var/log/supervisor/mongodb.out.log"), "{rights}");
        assert!(!rights.contains("/dev/"), "{rights}");
    }
}
