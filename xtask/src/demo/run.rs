//! Running a command as a person sees it, and judging what it showed.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use ops_tests::sandbox::{Output, Sandbox};

/// Why a step did not show what it should.
pub(super) type Fault = String;

/// The sandbox, with commands shown as they are run.
pub(super) struct Show<'a> {
    pub(super) sandbox: &'a Sandbox,
}

impl<'a> Show<'a> {
    pub(super) fn new(sandbox: &'a Sandbox) -> Self {
        Self { sandbox }
    }

    /// Runs `opsctl` as the operator.
    pub(super) fn opsctl(&self, arguments: &[&str]) -> Result<Seen, Fault> {
        self.opsctl_as("operator", arguments)
    }

    /// Runs `opsctl` as somebody.
    pub(super) fn opsctl_as(&self, identity: &str, arguments: &[&str]) -> Result<Seen, Fault> {
        println!("\n$ opsctl --context {identity} {}", shell(arguments.iter().map(OsStr::new)));
        let output = self.sandbox.opsctl(identity, arguments).map_err(|error| error.to_string())?;
        Ok(Seen::shown(output))
    }

    /// Runs `opsctl` without showing it, for what only the check needs.
    pub(super) fn quietly(&self, identity: &str, arguments: &[&str]) -> Result<String, Fault> {
        let output = self.sandbox.opsctl(identity, arguments).map_err(|error| error.to_string())?;
        Seen(output).exits(0).map(|seen| seen.0.stdout)
    }

    /// Runs another program.
    pub(super) fn program(&self, command: &mut Command) -> Result<Seen, Fault> {
        let line = shell(std::iter::once(command.get_program()).chain(command.get_args()));
        println!("\n$ {line}");
        let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{line}: {error}"))?;
        Ok(Seen::shown(Output {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
        }))
    }
}

/// What a command answered.
pub(super) struct Seen(pub(super) Output);

impl Seen {
    fn shown(output: Output) -> Self {
        print!("{}{}", output.stderr, output.stdout);
        if !output.stdout.is_empty() && !output.stdout.ends_with('\n') {
            println!();
        }
        println!("[exit {}]", output.code.map_or_else(|| "by a signal".to_owned(), |code| code.to_string()));
        Self(output)
    }

    pub(super) fn exits(self, code: i32) -> Result<Self, Fault> {
        match self.0.code {
            Some(exited) if exited == code => Ok(self),
            other => Err(format!("exit code {code} was due, not {other:?}")),
        }
    }

    pub(super) fn fails(self) -> Result<Self, Fault> {
        match self.0.code {
            Some(0) | None => Err(format!("it should fail, not answer {:?}", self.0.code)),
            Some(_) => Ok(self),
        }
    }

    /// Each of the words stands somewhere in the output.
    pub(super) fn says(self, words: &[&str]) -> Result<Self, Fault> {
        let said = format!("{}{}", self.0.stderr, self.0.stdout);
        match words.iter().find(|word| !said.contains(**word)) {
            Some(word) => Err(format!("it does not say: {word}")),
            None => Ok(self),
        }
    }

    /// The first word of the output that begins so.
    pub(super) fn word(&self, prefix: &str) -> Option<String> {
        let said = format!("{}\n{}", self.0.stdout, self.0.stderr);
        let word = said.split_whitespace().find(|word| word.starts_with(prefix))?;
        Some(word.trim_end_matches([',', '.', ':']).to_owned())
    }
}

/// As a person would type it.
fn shell<'w>(words: impl Iterator<Item = &'w OsStr>) -> String {
    let word = |word: &OsStr| {
        let text = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
        if text.chars().all(plain) { text } else { format!("'{text}'") }
    };
    words.map(word).collect::<Vec<_>>().join(" ")
}
