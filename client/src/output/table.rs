//! Tables for people that `awk` reads too: every cell but the last is one word, nothing wraps.

use std::borrow::Cow;

use unicode_width::UnicodeWidthStr as _;

use super::{Paint, Tone, visible};

/// A table, built row by row.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug)]
struct Column {
    name: Cow<'static, str>,
    wide: bool,
}

/// One cell: its text, untrusted, and what its colour means.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    /// `-`: there is no such fact.
    #[must_use]
    pub fn none() -> Self {
        Self::new("-", Tone::Normal)
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Tone::Normal)
    }
}

impl Table {
    /// With these columns; a name with `+` before it is shown by `-o wide` only.
    #[must_use]
    pub fn new(columns: &[&'static str]) -> Self {
        let columns = columns
            .iter()
            .map(|name| match name.strip_prefix('+') {
                Some(name) => Column { name: name.into(), wide: true },
                None => Column { name: (*name).into(), wide: false },
            })
            .collect();
        Self { columns, rows: Vec::new() }
    }

    /// With columns that are known only at run time.
    #[must_use]
    pub fn of(columns: Vec<String>) -> Self {
        let columns = columns.into_iter().map(|name| Column { name: name.into(), wide: false }).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row: one cell a column.
    pub fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        self.cells(cells.into());
    }

    /// Adds a row whose length is known only at run time; what is missing is `-`.
    pub fn cells(&mut self, mut cells: Vec<Cell>) {
        cells.resize(self.columns.len(), Cell::none());
        self.rows.push(cells);
    }

    /// It has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Lines with line feeds. Columns in which nothing is known are left out; on a terminal too narrow for the rest,
    /// columns before the last go, from the right, and the last is cut.
    #[must_use]
    pub fn render(&self, wide: bool, width: Option<usize>, paint: Paint) -> String {
        let mut shown: Vec<usize> =
            (0..self.columns.len()).filter(|&column| self.is_shown(column, wide)).collect();
        let mut widths = self.widths(&shown);
        if let Some(width) = width {
            while shown.len() > 2 && total(&widths) > width && total(&widths) - last(&widths) + 12 > width {
                shown.remove(shown.len() - 2);
                widths = self.widths(&shown);
            }
        }
        let mut text = String::new();
        let header = |column: usize| (self.columns[column].name.to_string(), Tone::Strong);
        self.line(&mut text, &shown, &widths, width, paint, header);
        for row in &self.rows {
            self.line(&mut text, &shown, &widths, width, paint, |column| {
                (self.word(column, &row[column], &shown), row[column].tone)
            });
        }
        text
    }

    fn is_shown(&self, column: usize, wide: bool) -> bool {
        let known = self.rows.is_empty()
            || column == 0
            || self.rows.iter().any(|row| !matches!(row[column].text.as_str(), "-" | ""));
        known && (wide || !self.columns[column].wide)
    }

    /// The cell as it is printed: one word, unless it is the last.
    fn word(&self, column: usize, cell: &Cell, shown: &[usize]) -> String {
        let text = visible(&cell.text);
        if text.is_empty() {
            return "-".to_owned();
        }
        if shown.last() == Some(&column) {
            return text.replace('\t', " ");
        }
        text.split_whitespace().collect::<Vec<_>>().join("_")
    }

    fn widths(&self, shown: &[usize]) -> Vec<usize> {
        shown
            .iter()
            .map(|&column| {
                let cells = self.rows.iter().map(|row| self.word(column, &row[column], shown).width());
                cells.chain([self.columns[column].name.width()]).max().unwrap_or(0)
            })
            .collect()
    }

    fn line(
        &self,
        text: &mut String,
        shown: &[usize],
        widths: &[usize],
        limit: Option<usize>,
        paint: Paint,
        cell: impl Fn(usize) -> (String, Tone),
    ) {
        let mut used = 0;
        for (index, (&column, &width)) in shown.iter().zip(widths).enumerate() {
            let (mut word, tone) = cell(column);
            let is_last = index + 1 == shown.len();
            if is_last && let Some(limit) = limit {
                word = cut(&word, limit.saturating_sub(used).max(4));
            }
            let pad = if is_last { 0 } else { width.saturating_sub(word.width()) + 2 };
            text.push_str(&paint.tone(tone, &word));
            text.extend(std::iter::repeat_n(' ', pad));
            used += width + 2;
        }
        text.push('\n');
    }
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
}

fn last(widths: &[usize]) -> usize {
    widths.last().copied().unwrap_or(0)
}

/// At most `width` columns, with `…` where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for letter in text.chars() {
        let mut wider = kept.clone();
        wider.push(letter);
        if wider.width() + 1 > width {
            break;
        }
        kept = wider;
    }
    kept.push('…');
    kept
}

/// Columns of the terminal that stdout is; `COLUMNS` wins.
pub(super) fn terminal_width() -> Option<usize> {
    if let Some(columns) = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["SERVICE", "STATE", "CPU", "+PID", "LAST CHANGE"]);
        table.row([
            "backend".into(),
            Cell::new("FATAL", Tone::Bad),
            Cell::none(),
            "12".into(),
            "exit code 1, 4 tries".into(),
        ]);
        table.row(["front end\x1b".into(), "running".into(), Cell::none(), "9".into(), "".into()]);
        table
    }

    #[test]
    fn cells_are_words_and_unknown_columns_are_left_out() {
        let narrow = "\
SERVICE        STATE    LAST CHANGE
backend        FATAL    exit code 1, 4 tries
front_end\\x1b  running  -
";
        assert_eq!(table().render(false, None, Paint::Plain), narrow);
        let wide = table().render(true, None, Paint::Plain);
        assert!(wide.starts_with("SERVICE        STATE    PID  LAST CHANGE\n"), "{wide}");
    }

    #[test]
    fn a_narrow_terminal_loses_columns_and_never_wraps() {
        for width in 10..60 {
            let text = table().render(false, Some(width), Paint::Plain);
            assert!(text.lines().all(|line| line.width() <= width.max(19)), "{width}:\n{text}");
        }
        let cut = table().render(false, Some(32), Paint::Plain);
        assert!(cut.starts_with("SERVICE        STATE    LAST CHANGE\n") || cut.contains('…'), "{cut}");
    }
}
