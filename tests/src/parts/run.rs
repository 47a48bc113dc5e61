//! Running a builder to its end, its output kept for the case that it fails.

use std::process::{Command, Stdio};

use super::Error;

/// Lines of a failed step that are shown; the cause stands near the end.
const EVIDENCE_LINES: usize = 15;

/// Runs `command` quietly.
///
/// # Errors
/// [`Error::Step`] with the last lines of what it said.
pub(super) fn quietly(what: &str, command: &mut Command, remedy: &'static str) -> Result<String, Error> {
    let failed = |evidence: String| Error::Step { what: what.to_owned(), evidence, remedy };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
    let last = said.get(said.len().saturating_sub(EVIDENCE_LINES)..).unwrap_or_default();
    Err(failed(format!("{}\n{}", last.join("\n"), output.status)))
}

/// Where `program` stands on PATH.
pub(super) fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| is_executable(candidate))
}

fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_its_last_words() {
        let error = quietly("python", Command::new("python3").args(["-c", "raise KeyError('x')"]), "mend it")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("python failed; mend it"), "{error}");
        assert!(error.contains("KeyError: 'x'") && error.contains("exit status: 1"), "{error}");
    }

    #[test]
    fn a_missing_program_is_not_found() {
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }
}
