//! Everything opsctl writes: data on stdout, all else on stderr.
//!
//! | to write | call |
//! | --- | --- |
//! | the answer as a document (`-o json`, `jsonl`, `yaml`) | [`Output::document`] |
//! | the answer as a table | [`Output::table`] |
//! | a line of data | [`Output::line`], bytes as they are: [`Output::bytes`] |
//! | one item of a stream in `-o json` | [`Output::item`] |
//! | a note, a phase, a target line | [`Output::note`] |
//!
//! A reader that has gone (`| head`) is no failure: the write answers an error that ends opsctl with 0.

use std::io::{self, IsTerminal as _, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ops_proto::json;
use prost::{Message, Name};
use serde_json::Value;

use crate::error::{Error, Result};

mod moment;
mod paint;
mod table;
mod text;
mod units;
mod yaml;

pub use moment::{ago, clock, date_time, duration, parse_duration, span, timestamp};
pub use paint::{Paint, Tone};
pub use table::{Cell, Table};
pub use text::{io_words, quote, visible};
pub use units::{count, memory, milliseconds, percent, size};

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with every column.
    Wide,
    /// One document.
    Json,
    /// One document on one line; streams: one a line.
    Jsonl,
    /// The same document as YAML.
    Yaml,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set or it is dumb.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where output goes and how it looks.
#[derive(Clone, Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
    zone: TimeZone,
    stdout: Paint,
    stderr: Paint,
    width: Option<usize>,
}

impl Output {
    /// From the global flags; terminals are asked once, here.
    #[must_use]
    pub fn new(format: Format, quiet: bool, utc: bool, color: Color) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let paint = |terminal: bool| match color {
            Color::Always => Paint::Colored,
            Color::Never => Paint::Plain,
            Color::Auto if terminal && !plain => Paint::Colored,
            Color::Auto => Paint::Plain,
        };
        let terminal = io::stdout().is_terminal();
        Self {
            format,
            quiet,
            zone: if utc { TimeZone::UTC } else { TimeZone::system() },
            stdout: paint(terminal),
            stderr: paint(io::stderr().is_terminal()),
            width: terminal.then(table::terminal_width).flatten(),
        }
    }

    /// How the answer is printed.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// For programs: `-o json`, `jsonl`, `yaml`.
    #[must_use]
    pub fn is_document(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// `-q`.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The zone that times are shown in: the laptop's, or UTC with `--utc`.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Colours of stdout.
    #[must_use]
    pub fn stdout(&self) -> Paint {
        self.stdout
    }

    /// Colours of stderr.
    #[must_use]
    pub fn stderr(&self) -> Paint {
        self.stderr
    }

    /// stdout is a terminal: bytes from outside must be made visible first.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// A message as the one document of this command.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn document<M: Message + Name>(&self, kind: &str, message: &M) -> Result<()> {
        self.value(&json::document(kind, message))
    }

    /// A document made by hand; it has `kind` and `version`.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn value(&self, document: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => self.bytes(yaml::render(document).as_bytes()),
            Format::Jsonl => self.line(&document.to_string()),
            Format::Table | Format::Wide | Format::Json => self.line(&format!("{document:#}")),
        }
    }

    /// One item of a stream: a JSON line, or a YAML document after `---`.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn item(&self, document: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => self.bytes(format!("---\n{}", yaml::render(document)).as_bytes()),
            _ => self.line(&document.to_string()),
        }
    }

    /// A table, cut to the terminal's width; with `-o wide` whole.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn table(&self, table: &Table) -> Result<()> {
        self.bytes(self.rendered(table).as_bytes())
    }

    /// The table as [`Output::table`] writes it, to stand between other lines.
    #[must_use]
    pub fn rendered(&self, table: &Table) -> String {
        let wide = self.format == Format::Wide;
        let width = if wide { None } else { self.width };
        table.render(wide, width, self.stdout)
    }

    /// One line of data.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn line(&self, text: &str) -> Result<()> {
        let mut line = String::with_capacity(text.len() + 1);
        line.push_str(text);
        line.push('\n');
        self.bytes(line.as_bytes())
    }

    /// Data as it is, flushed.
    ///
    /// # Errors
    /// stdout cannot be written.
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Error::output_closed(),
            _ => Error::file(std::path::Path::new("stdout"), &error),
        })
    }

    /// A line for people on stderr, unless `-q`.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.always(&format!("{text}\n"));
        }
    }

    /// For stderr whatever was asked: errors and what a script must see. Not being able to say it changes nothing.
    pub fn always(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Wall-clock time in the shown zone: `03:12:09`, with `Z` behind it in UTC.
    #[must_use]
    pub fn clock(&self, at: Timestamp) -> String {
        clock(at, &self.zone)
    }
}
