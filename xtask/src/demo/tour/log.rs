//! Logs: the last lines, then everything that comes, across a rotation.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::demo::run::{Fault, Show};

/// Lines in one burst; each burst is more than supervisord keeps in one file.
const LINES: usize = 8_000;
/// Bursts: the file is rotated at least as often as this, less one.
const BURSTS: usize = 3;
/// How long the lines may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn follow(show: &mut Show<'_>) -> Result<String, Fault> {
    show.opsctl(&["log", "tail", "backend", "-n", "5"])?.exits(0)?;

    println!("\n$ opsctl --context operator log tail backend -f -n 0 --stream out");
    let mut command = show.sandbox.opsctl_command("operator");
    command.args(["log", "tail", "backend", "-f", "-n", "0", "--stream", "out"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("start opsctl: {error}"))?;
    let lines = read_lines(child.stdout.take());
    let seen = bursts(show, &lines);
    // The one way a person ends it.
    let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
    kill(Pid::from_raw(pid), Signal::SIGINT).map_err(|errno| format!("end log tail: {errno}"))?;
    let ended = child.wait().map_err(|error| error.to_string())?;
    let rotations = seen?;
    if ended.code() != Some(130) {
        return Err(format!("log tail ended with {ended}, not with exit code 130"));
    }
    Ok(format!(
        "{} lines followed over {rotations} rotations: none lost, none twice, in order",
        LINES * BURSTS
    ))
}

/// Writes the bursts and sees every line of them; answers how often the file was rotated meanwhile.
fn bursts(show: &Show<'_>, lines: &mpsc::Receiver<String>) -> Result<usize, Fault> {
    let before = rotations(show);
    for burst in 1..=BURSTS {
        let switch = format!("log?lines={LINES}&text=tour{burst}");
        // Until it follows, nothing that is written is sure to be seen.
        if burst == 1 {
            wait_until_it_follows(show, lines)?;
        }
        show.sandbox.fault(&switch).map_err(|error| error.to_string())?;
        expect_burst(burst, lines)?;
        println!("  … {LINES} lines of burst {burst} seen");
    }
    let rotated = rotations(show).saturating_sub(before);
    if rotated == 0 { Err("the log was not rotated".to_owned()) } else { Ok(rotated) }
}

fn wait_until_it_follows(show: &Show<'_>, lines: &mpsc::Receiver<String>) -> Result<(), Fault> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        show.sandbox.fault("log?lines=1&text=hello").map_err(|error| error.to_string())?;
        if let Ok(line) = lines.recv_timeout(Duration::from_millis(500))
            && line.contains("auction.hello")
        {
            return Ok(());
        }
    }
    Err("log tail -f shows nothing".to_owned())
}

fn expect_burst(burst: usize, lines: &mpsc::Receiver<String>) -> Result<(), Fault> {
    let mark = format!("auction.tour{burst}: ");
    let mut next = 1;
    let began = Instant::now();
    while next <= LINES {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let line =
            lines.recv_timeout(left).map_err(|_| format!("line {next} of burst {burst} did not come"))?;
        let Some((_, told)) = line.split_once(&mark) else { continue };
        if told.trim_end() != format!("line {next} of {LINES}") {
            return Err(format!("line {next} of burst {burst} was due, not {told:?}"));
        }
        next += 1;
    }
    Ok(())
}

fn rotations(show: &Show<'_>) -> usize {
    let log = show.sandbox.stdout_log("backend");
    (1..=9).filter(|n| log.with_extension(format!("log.{n}")).exists()).count()
}

fn read_lines(stdout: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    if let Some(stdout) = stdout {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}
