//! An `opsctl` that runs beside the test, its words read as they come.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use ops_tests::sandbox::Sandbox;

/// An opsctl that runs, and what it says on stderr.
pub(crate) struct Running {
    pub(crate) child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    pub(crate) fn start(sandbox: &Sandbox, identity: &str, arguments: &[&str]) -> Self {
        let mut command = sandbox.opsctl_command(identity);
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr }
    }

    /// Reads on until a line has the text.
    pub(crate) fn until(&mut self, text: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "no \"{text}\" in:\n{said}");
            if line.contains(text) {
                return line;
            }
            said.push_str(&line);
        }
    }

    /// Reads the id in the target line.
    pub(crate) fn id(&mut self) -> String {
        let line = self.until("op-");
        line.split_whitespace().find(|word| word.starts_with("op-")).unwrap().to_owned()
    }

    pub(crate) fn end(mut self) -> (Option<i32>, String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stdout, stderr)
    }
}
