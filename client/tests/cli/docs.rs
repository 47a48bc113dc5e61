//! The reference pages are made from the program: `OPS_REGENERATE=1 cargo test -p ops-client` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Command, CommandFactory as _};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// Compares with what is committed, or commits it.
pub(crate) fn hold(pages: &BTreeMap<String, String>) {
    let regenerate = std::env::var_os("OPS_REGENERATE").is_some();
    let mut stale = Vec::new();
    for (name, text) in pages {
        let path = folder().join(name);
        if std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            if regenerate {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            } else {
                stale.push(name.as_str());
            }
        }
    }
    assert!(stale.is_empty(), "stale in docs/: {stale:?}; run OPS_REGENERATE=1 cargo test -p ops-client");
}

fn help(command: &Command) -> String {
    // As on a terminal of 100 columns, without colours, whatever the tests run in.
    let text = command.clone().term_width(100).render_help().to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Flags that every command takes stand once, on the root page.
fn own_part(text: &str) -> String {
    let mut kept = Vec::new();
    let mut is_global = false;
    for line in text.lines() {
        if line == "Global options:" || line == "Options of changes:" {
            is_global = true;
        } else if !line.is_empty() && !line.starts_with(' ') {
            is_global = false;
        }
        if !is_global {
            kept.push(line);
        }
    }
    let mut text = kept.join("\n");
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text.trim().to_owned()
}

fn chapter(text: &mut String, command: &Command, depth: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let _ = write!(text, "{} {name}\n\n```text\n{}\n```\n\n", "#".repeat(depth), own_part(&help(command)));
    for verb in command.get_subcommands() {
        chapter(text, verb, depth + 1);
    }
}

#[test]
fn the_pages_of_the_command_line_are_what_the_program_says() {
    let mut root = ops_client::cli::Cli::command();
    root.build();
    let mut pages = BTreeMap::new();
    let mut index = format!("# opsctl\n\n```text\n{}\n```\n\n", help(&root));
    for noun in root.get_subcommands().filter(|noun| !noun.is_hide_set()) {
        let name = noun.get_name();
        let about = noun.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(index, "- [{name}](cli/{name}.md): {about}");
        let mut page = String::new();
        chapter(&mut page, noun, 1);
        pages.insert(format!("cli/{name}.md"), format!("{}\n", page.trim_end()));
    }
    pages.insert("cli.md".into(), index);
    hold(&pages);
}

#[test]
fn every_verb_has_examples_that_parse() {
    fn walk(command: &Command, missing: &mut Vec<String>, broken: &mut Vec<String>) {
        let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() && !after.contains("Examples:") {
            missing.push(name);
        }
        let examples = after.lines().map(str::trim).skip_while(|line| *line != "Examples:");
        for line in examples.take_while(|line| !line.is_empty()) {
            if let Some(words) = example(line)
                && let Err(error) = ops_client::cli::Cli::command().try_get_matches_from(&words)
                && !is_placeholder(&error)
            {
                broken.push(format!("{line}: {}", error.to_string().lines().next().unwrap_or_default()));
            }
        }
        for verb in command.get_subcommands() {
            walk(verb, missing, broken);
        }
    }
    let mut root = ops_client::cli::Cli::command();
    root.build();
    let (mut missing, mut broken) = (Vec::new(), Vec::new());
    walk(&root, &mut missing, &mut broken);
    assert!(missing.is_empty(), "without examples: {missing:?}");
    assert!(broken.is_empty(), "examples that do not parse: {broken:#?}");
}

/// A value in capitals stands for one of the reader's own.
fn is_placeholder(error: &clap::Error) -> bool {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    matches!(
        (error.kind(), error.get(ContextKind::InvalidValue)),
        (ErrorKind::ValueValidation, Some(ContextValue::String(value)))
            if value.chars().all(|letter| letter.is_ascii_uppercase())
    )
}

/// The words of `opsctl …` in a line of an example, up to a pipe, a redirection or the remark behind it.
fn example(line: &str) -> Option<Vec<String>> {
    let start = line
        .find("opsctl ")
        .filter(|at| *at == 0 || line[..*at].ends_with("$(") || line[..*at].ends_with("| "))?;
    let line = line[start..].split("  ").next()?;
    let line = line.split([')', '|', '>']).next()?;
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.trim().chars() {
        match letter {
            '\'' | '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut()?.push(other),
        }
    }
    Some(words)
}
