//! A failure as a person reads it on stderr.

use std::fmt::Write as _;

use ops_proto::v1::Problem;

use super::{Error, reason_name};
use crate::output::{Paint, Tone, quote, visible};

/// Sentence, reason and effect, facts, next commands. `context` is the one given by flag, to be kept in the commands.
#[must_use]
pub fn render(error: &Error, context: Option<&str>, paint: Paint) -> String {
    let problem = error.problem();
    let mut text = format!("{} {}\n", paint.tone(Tone::Bad, "error:"), visible(&problem.message));
    text.push_str("       ");
    text.push_str(reason_name(error.reason()));
    if !problem.effect.is_empty() {
        let _ = write!(text, ", {}", visible(&problem.effect));
    }
    text.push('\n');
    facts(&mut text, problem);
    text.push_str(&next_lines(&problem.next, context, paint));
    text
}

fn facts(text: &mut String, problem: &Problem) {
    let width = problem.evidence.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0) + 2;
    for fact in &problem.evidence {
        let _ = writeln!(
            text,
            "{}",
            format!("  {:<width$}{}", visible(&fact.name), visible(&fact.text)).trim_end()
        );
        for line in &fact.lines {
            let _ = writeln!(text, "  {:width$}| {}", "", visible(line));
        }
    }
}

/// `next: …`, one line a command; empty when there is none.
#[must_use]
pub fn next_lines(next: &[ops_proto::v1::NextCommand], context: Option<&str>, paint: Paint) -> String {
    let lines: Vec<(String, &str)> =
        next.iter().map(|n| (command_line(&n.argv, context), n.note.as_str())).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (index, (line, note)) in lines.iter().enumerate() {
        let head = if index == 0 { paint.tone(Tone::Strong, "next:") } else { "     ".into() };
        if note.is_empty() {
            let _ = writeln!(text, "{head} {line}");
        } else {
            let _ = writeln!(text, "{head} {line:<width$}    ({})", visible(note));
        }
    }
    text
}

/// A command as it can be copied into a shell.
#[must_use]
pub fn command_line(argv: &[String], context: Option<&str>) -> String {
    // A pipe between two commands is the one thing that is meant for the shell.
    let word = |word: &String| if word == "|" { word.clone() } else { quote(&visible(word)).into_owned() };
    let mut words: Vec<String> = argv.iter().map(word).collect();
    if let Some(context) = context
        && words.first().is_some_and(|name| name == "opsctl")
        && !words.iter().any(|word| word == "--context")
    {
        words.splice(1..1, ["--context".to_owned(), quote(context).into_owned()]);
    }
    words.join(" ")
}
