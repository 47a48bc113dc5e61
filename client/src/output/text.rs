//! Text from outside made fit for a terminal and a shell.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

/// Control characters, escape sequences and what reorders text are shown instead of obeyed: `\x1b`, `\u{202e}`.
/// A tab stays.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if !is_hidden(letter) {
            shown.push(letter);
            continue;
        }
        match letter {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            other if u32::from(other) < 0x100 => {
                let _ = write!(shown, "\\x{:02x}", u32::from(other));
            }
            other => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(other));
            }
        }
    }
    Cow::Owned(shown)
}

/// C0 without the tab, DEL, C1, and the directional formatting characters of Unicode (UAX #9).
fn is_hidden(letter: char) -> bool {
    match letter {
        '\t' => false,
        '\u{200e}'
        | '\u{200f}'
        | '\u{061c}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => true,
        other => other.is_control(),
    }
}

/// One word as a POSIX shell reads it back.
#[must_use]
pub fn quote(word: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// What the operating system said, without "(os error 13)".
#[must_use]
pub fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if letters.as_str().starts_with(char::is_lowercase) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{quote, visible};

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(visible("\x1b[2Jgone\u{202e}\u{9b}7m\x7f\r\n"), r"\x1b[2Jgone\u{202e}\x9b7m\x7f\r\n");
        assert_eq!(visible("tab\tund Umlaut ä 木"), "tab\tund Umlaut ä 木");
    }

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        assert_eq!(quote("service/ci-deploy"), "service/ci-deploy");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quote(""), "''");
    }
}
