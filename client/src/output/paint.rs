//! Colours: one meaning each, and nothing is said by colour alone.

use anstyle::{AnsiColor, Style};

/// Whether a stream takes colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Escape sequences are written.
    Colored,
    /// They are not.
    Plain,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Normal,
    /// Healthy, done.
    Good,
    /// To be looked at: warn, GAP, unknown.
    Warn,
    /// Failing, FATAL, error.
    Bad,
    /// Beside the point: phases, notices.
    Dim,
    /// A headline.
    Strong,
}

impl Paint {
    /// `text` in a tone.
    #[must_use]
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Normal => Style::new(),
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Warn => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())).bold(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        if self == Self::Plain || tone == Tone::Normal {
            return text.to_owned();
        }
        format!("{style}{text}{style:#}")
    }
}
