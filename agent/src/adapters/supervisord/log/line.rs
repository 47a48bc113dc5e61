//! One line of supervisord's log (4.x, level info), as `process.py` and `supervisord.py` of its source write it.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ops_domain::ports::service_history::{Change, Exit, Transition};

/// `2026-11-24 22:17:42,123 INFO spawned: 'backend' with pid 41207`; `None`: a line about something else.
pub(super) fn parse(line: &str, zone: &TimeZone) -> Option<(String, Transition)> {
    let (time, rest) = line.split_at_checked(23)?;
    // Written in local time, without a zone.
    let time: DateTime = time.replace(',', ".").parse().ok()?;
    let at = time.to_zoned(zone.clone()).ok()?.timestamp();
    let (level, text) = rest.strip_prefix(' ')?.split_once(' ')?;
    if !["INFO", "WARN", "CRIT", "ERRO"].contains(&level) {
        return None;
    }
    let (process, change) = change(text)?;
    let named = !process.is_empty() && process.len() <= 128 && !process.contains(char::is_control);
    named.then(|| (process.to_owned(), Transition { at, change }))
}

fn change(text: &str) -> Option<(&str, Change)> {
    if let Some(rest) = text.strip_prefix("spawned: '") {
        let (process, pid) = rest.rsplit_once("' with pid ")?;
        return Some((process, Change::Spawned { pid: pid.parse().ok()? }));
    }
    if let Some(rest) = text.strip_prefix("success: ") {
        return Some((rest.split_once(" entered RUNNING state")?.0, Change::Running));
    }
    if let Some(rest) = text.strip_prefix("exited: ") {
        let (process, how) = bracketed(rest)?;
        let (how, expected) = match how.rsplit_once("; ")? {
            (how, "expected") => (how, true),
            (how, "not expected") => (how, false),
            _ => return None,
        };
        return Some((process, Change::Exited { exit: exit(how)?, expected }));
    }
    if let Some(rest) = text.strip_prefix("stopped: ") {
        let (process, how) = bracketed(rest)?;
        return Some((process, Change::Stopped { exit: exit(how)? }));
    }
    if let Some(rest) = text.strip_prefix("gave up: ") {
        return Some((rest.split_once(" entered FATAL state")?.0, Change::Fatal));
    }
    if let Some(rest) = text.strip_prefix("waiting for ") {
        return Some((rest.strip_suffix(" to stop")?, Change::Stopping));
    }
    if let Some(rest) = text.strip_prefix("killing '") {
        let (process, rest) = rest.rsplit_once("' (")?;
        let (pid, signal) = rest.split_once(") with ")?;
        return (signal == "SIGKILL").then_some((process, Change::Killing { pid: pid.parse().ok()? }));
    }
    None
}

/// `x (how)`, where x may hold brackets itself.
fn bracketed(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_suffix(')')?;
    let at = text.rfind(" (exit status ").max(text.rfind(" (terminated by "))?;
    Some((&text[..at], &text[at + 2..]))
}

/// `exit status 3`, `terminated by SIGKILL`, `terminated by SIGSEGV (core dumped)`.
fn exit(text: &str) -> Option<Exit> {
    if let Some(code) = text.strip_prefix("exit status ") {
        return Some(Exit::Code(code.parse().ok()?));
    }
    let signal = text.strip_prefix("terminated by ")?;
    let signal = signal.strip_suffix(" (core dumped)").unwrap_or(signal);
    let plain = signal.len() <= 20 && signal.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    plain.then(|| Exit::Signal(signal.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<(String, Change)> {
        let line = format!("2026-11-24 22:17:42,123 {text}");
        parse(&line, &TimeZone::UTC).map(|(process, transition)| (process, transition.change))
    }

    #[test]
    fn every_line_that_matters_is_understood() {
        let of =
            |text: &str, change: Change| assert_eq!(read(text), Some(("x".to_owned(), change)), "{text}");
        of("INFO spawned: 'x' with pid 41207", Change::Spawned { pid: 41207 });
        of(
            "INFO success: x entered RUNNING state, process has stayed up for > than 1 seconds (startsecs)",
            Change::Running,
        );
        of(
            "WARN exited: x (exit status 3; not expected)",
            Change::Exited { exit: Exit::Code(3), expected: false },
        );
        of(
            "INFO exited: x (exit status 0; expected)",
            Change::Exited { exit: Exit::Code(0), expected: true },
        );
        let killed = Exit::Signal("SIGKILL".into());
        of(
            "WARN exited: x (terminated by SIGKILL; not expected)",
            Change::Exited { exit: killed, expected: false },
        );
        let crashed = Exit::Signal("SIGSEGV".into());
        let text = "WARN exited: x (terminated by SIGSEGV (core dumped); not expected)";
        assert_eq!(read(text), Some(("x".into(), Change::Exited { exit: crashed, expected: false })));
        of(
            "WARN stopped: x (terminated by SIGTERM)",
            Change::Stopped { exit: Exit::Signal("SIGTERM".into()) },
        );
        of("INFO stopped: x (exit status 0)", Change::Stopped { exit: Exit::Code(0) });
        of("INFO gave up: x entered FATAL state, too many start retries too quickly", Change::Fatal);
        of("INFO waiting for x to stop", Change::Stopping);
        of("WARN killing 'x' (41207) with SIGKILL", Change::Killing { pid: 41207 });
    }

    #[test]
    fn other_lines_are_nothing() {
        for text in [
            "INFO supervisord started with pid 1",
            "INFO RPC interface 'supervisor' initialized",
            "INFO spawned: 'x' with pid",
            "INFO spawned: '' with pid 4",
            "WARN exited: x (exit status many; expected)",
            "DEBG fd 7 closed",
            "",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_local() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let (_, transition) = parse("2026-11-24 22:17:42,123 INFO waiting for x to stop", &zone).unwrap();
        assert_eq!(transition.at.to_string(), "2026-11-24T20:17:42.123Z");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_stumble(line in "\\PC{0,200}") {
            let _ = parse(&line, &TimeZone::UTC);
        }

        #[test]
        fn what_supervisord_writes_is_read_back(name in "[a-zA-Z0-9_.()' -]{1,40}", pid in 1_u32.., code in 0..256) {
            let name = name.trim().to_owned();
            prop_assume!(!name.is_empty());
            prop_assert_eq!(
                read(&format!("INFO spawned: '{name}' with pid {pid}")),
                Some((name.clone(), Change::Spawned { pid }))
            );
            prop_assert_eq!(
                read(&format!("WARN exited: {name} (exit status {code}; not expected)")),
                Some((name, Change::Exited { exit: Exit::Code(code), expected: false }))
            );
        }

        #[test]
        fn damaged_lines_are_nothing_or_a_line(at in 0_usize..80, byte in any::<u8>()) {
            let mut line = b"2026-11-24 22:17:42,123 WARN exited: backend (exit status 3; not expected)".to_vec();
            let at = at % line.len();
            line[at] = byte;
            let _ = parse(&String::from_utf8_lossy(&line), &TimeZone::UTC);
        }
    }
}
