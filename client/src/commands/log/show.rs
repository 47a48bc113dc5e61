//! How a stream looks: lines on stdout as they are, everything else on stderr behind `--`.

use std::borrow::Cow;
use std::time::Duration;

use ops_proto::v1::{
    ErrorReason, LogLine, LogNotice, LogNoticeKind, LogSource, LogStream, TailLogRequest, TailLogResponse,
};

use super::stream_name;
use crate::error::{Error, Result, command_line};
use crate::exit::Exit;
use crate::output::{Tone, timestamp, visible};
use crate::session::Session;

pub(super) struct Show<'a> {
    session: &'a Session,
    services: Vec<String>,
    /// The sources that can be read.
    sources: Vec<(String, LogStream)>,
    begun: bool,
    renewed: bool,
    /// A piece of this source was written without the end of its line.
    open_line: Option<(String, i32)>,
    lines: u64,
    gaps: u64,
    gap_bytes: u64,
    partial: bool,
    /// The cursor before the last message: where a skipped stretch begins.
    before: String,
    raw: bool,
}

impl<'a> Show<'a> {
    pub(super) fn new(session: &'a Session, request: &TailLogRequest) -> Self {
        Self {
            session,
            services: request.services.clone(),
            sources: Vec::new(),
            begun: false,
            renewed: false,
            open_line: None,
            lines: 0,
            gaps: 0,
            gap_bytes: 0,
            partial: false,
            before: request.cursor.clone(),
            raw: request.raw,
        }
    }

    /// Something was received, so that there is a place to go on at.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    /// A new connection has told its start.
    pub(super) fn is_renewed(&self) -> bool {
        self.renewed
    }

    pub(super) fn exit(&self) -> Exit {
        if self.partial { Exit::Partial } else { Exit::Done }
    }

    pub(super) fn message(&mut self, message: TailLogResponse, request: &TailLogRequest) -> Result<()> {
        let start = message.notice.as_ref().filter(|notice| notice.kind() == LogNoticeKind::Start);
        let first = start.is_some() && !self.begun;
        self.renewed = start.is_some() && self.begun;
        if self.session.output.is_document() {
            if !self.renewed {
                for document in ops_proto::log::documents(&message) {
                    self.session.output.item(&document)?;
                }
            }
        } else if !message.lines.is_empty() {
            let text = self.text(&message.lines);
            self.session.output.bytes(&text)?;
        }
        self.lines += message.lines.iter().filter(|line| !line.continues).count() as u64;
        if let Some(notice) = &message.notice {
            match notice.kind() {
                LogNoticeKind::Start if first => self.start(notice, request),
                LogNoticeKind::Start | LogNoticeKind::End | LogNoticeKind::Unspecified => {}
                LogNoticeKind::Gap => {
                    self.gaps += 1;
                    self.gap_bytes += notice.bytes;
                    self.say(Tone::Warn, notice, &format!("GAP {}", notice.text))?;
                    if notice.lines.is_some() && !self.before.is_empty() {
                        self.fetch(notice, &message.cursor);
                    }
                }
                LogNoticeKind::Rotated | LogNoticeKind::Truncated => {
                    let text = notice.text.clone();
                    self.say(Tone::Dim, notice, &text)?;
                }
            }
        }
        self.begun = true;
        self.before = message.cursor;
        Ok(())
    }

    /// Ends a line that has no end yet, so that what follows begins at the margin.
    pub(super) fn finish_line(&mut self) -> Result<()> {
        if self.open_line.take().is_some() && self.session.output.is_terminal() {
            self.session.output.bytes(b"\n")?;
        }
        Ok(())
    }

    pub(super) fn lost(&self, error: &Error) {
        let clock = self.session.output.clock(self.session.now());
        let why = visible(&error.problem().message).into_owned();
        self.note(Tone::Dim, &format!("-- {clock} connection lost ({why}); trying again"));
    }

    pub(super) fn found(&self, after: Duration, gap: bool) {
        let clock = self.session.output.clock(self.session.now());
        let rest = if gap { "" } else { ", same place; nothing lost, nothing twice" };
        self.note(Tone::Dim, &format!("-- {clock} connected after {} s{rest}", after.as_secs().max(1)));
    }

    /// `-- 4211 lines shown, 1 gap (5.6 MiB); go on: opsctl log tail backend -f --cursor …`
    pub(super) fn summary(&self, request: &TailLogRequest) {
        let mut text = format!("-- {}", counted(self.lines, "line", "lines"));
        text.push_str(" shown");
        if self.gaps > 0 {
            let bytes = if self.gap_bytes == 0 { "size not known".to_owned() } else { size(self.gap_bytes) };
            text.push_str(&format!(", {} ({bytes})", counted(self.gaps, "gap", "gaps")));
        }
        if self.begun && !request.cursor.is_empty() {
            let mut argv = self.argv(request.stream);
            if request.follow {
                argv.push("-f".to_owned());
            }
            argv.extend(["--cursor".to_owned(), request.cursor.clone()]);
            text.push_str(&format!("; go on: {}", command_line(&argv, self.session.shown_context())));
        }
        self.note(Tone::Dim, &text);
    }

    fn argv(&self, stream: i32) -> Vec<String> {
        let mut argv: Vec<String> = ["opsctl", "log", "tail"].map(str::to_owned).to_vec();
        argv.extend(self.services.iter().cloned());
        if let Ok(stream @ (LogStream::Out | LogStream::Err)) = LogStream::try_from(stream) {
            argv.extend(["--stream".to_owned(), stream_name(stream).to_owned()]);
        }
        argv
    }

    /// How a skipped stretch is had after all.
    fn fetch(&self, notice: &LogNotice, cursor: &str) {
        let mut argv: Vec<String> = ["opsctl", "log", "tail"].map(str::to_owned).to_vec();
        argv.push(notice.service.clone());
        argv.extend(["--stream".to_owned(), stream_name(notice.stream()).to_owned()]);
        argv.extend(["--cursor".to_owned(), self.before.clone()]);
        argv.extend(["--until-cursor".to_owned(), cursor.to_owned()]);
        let command = command_line(&argv, self.session.shown_context());
        self.note(Tone::Dim, &format!("--          next: {command}"));
    }

    /// `-- prod backend out+err, from the last 2 of 9120 lines, Ctrl-C ends`
    fn start(&mut self, notice: &LogNotice, request: &TailLogRequest) {
        let readable = notice.sources.iter().filter(|source| source.problem.is_none());
        self.sources = readable.map(|source| (source.service.clone(), source.stream())).collect();
        let from = match (request.cursor.as_str(), request.lines.unwrap_or(50), notice.lines) {
            ("start", ..) => "from the start".to_owned(),
            ("", wanted, _) if self.sources.len() > 1 => format!("from the last {wanted} lines of each"),
            ("", wanted, Some(all)) if u64::from(wanted) < all => {
                format!("from the last {wanted} of {all} lines")
            }
            ("", 0, _) => "from now on".to_owned(),
            ("", ..) => "from the first line that is there".to_owned(),
            _ => "from the cursor".to_owned(),
        };
        let mut names: Vec<&str> = self.sources.iter().map(|(service, _)| service.as_str()).collect();
        names.dedup();
        let shown = match names.as_slice() {
            [name] => {
                let streams: Vec<_> = self.sources.iter().map(|(_, stream)| stream_name(*stream)).collect();
                format!("{} {}", visible(name), streams.join("+"))
            }
            _ => visible(&names.join(", ")).into_owned(),
        };
        let target = self.session.target().ok().and_then(|target| target.context.clone());
        let target = target.map(|context| format!("{context} ")).unwrap_or_default();
        let end = if request.follow { ", Ctrl-C ends" } else { "" };
        self.note(Tone::Dim, &format!("-- {target}{shown}, {from}{end}"));
        for source in &notice.sources {
            self.unreadable(source);
        }
    }

    fn unreadable(&mut self, source: &LogSource) {
        let Some(problem) = &source.problem else { return };
        // One that was never written is worth a word only to who asked for it.
        let asked = self.services.contains(&source.service);
        if problem.reason() == ErrorReason::LogNotFound && !asked {
            return;
        }
        self.partial = true;
        self.note(Tone::Warn, &format!("-- {}", visible(&problem.message)));
    }

    /// A notice with the time of the agent.
    fn say(&mut self, tone: Tone, notice: &LogNotice, text: &str) -> Result<()> {
        self.finish_line()?;
        let at = notice.at.as_ref().and_then(timestamp).unwrap_or_else(|| self.session.now());
        let clock = self.session.output.clock(at);
        self.note(tone, &format!("-- {clock} {}", visible(text)));
        Ok(())
    }

    fn note(&self, tone: Tone, text: &str) {
        self.session.output.note(&self.session.output.stderr().tone(tone, text));
    }

    fn text(&mut self, lines: &[LogLine]) -> Vec<u8> {
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.text.len() + 16).sum());
        let terminal = self.session.output.is_terminal() && !self.raw;
        for line in lines {
            let source = (line.service.clone(), line.stream);
            if self.open_line.as_ref() != Some(&source) {
                if self.open_line.is_some() {
                    text.push(b'\n');
                }
                text.extend_from_slice(self.gutter(line).as_bytes());
            }
            text.extend_from_slice(&shown(&line.text, terminal));
            if line.continues {
                self.open_line = Some(source);
            } else {
                text.push(b'\n');
                self.open_line = None;
            }
        }
        text
    }

    /// Nothing with one source; the stream with one service; both with more.
    fn gutter(&self, line: &LogLine) -> String {
        let stream = stream_name(line.stream());
        match self.sources.first() {
            Some((first, _)) if self.sources.len() > 1 => {
                if self.sources.iter().all(|(service, _)| service == first) {
                    format!("{stream} | ")
                } else {
                    format!("{} {stream} | ", visible(&line.service))
                }
            }
            _ => String::new(),
        }
    }
}

/// On a terminal nothing from a log is obeyed.
fn shown(text: &[u8], terminal: bool) -> Cow<'_, [u8]> {
    if !terminal {
        return Cow::Borrowed(text);
    }
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Cow::Owned(visible(&String::from_utf8_lossy(text)).into_owned().into_bytes())
}

fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// `5.6 MiB`, as the agent writes it.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_log() {
        assert_eq!(&*shown(b"\x1b[2Jgone\xff\r", true), "\\x1b[2Jgone\u{fffd}".as_bytes());
        assert_eq!(&*shown(b"\x1b[2Jgone\xff\r", false), b"\x1b[2Jgone\xff\r");
    }

    #[test]
    fn sizes_are_as_the_agent_writes_them() {
        assert_eq!((size(12), size(5_872_025)), ("12 B".into(), "5.6 MiB".into()));
    }
}
