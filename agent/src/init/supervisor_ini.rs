//! supervisord's configuration file, as far as `opsd init --detect` needs it.
//!
//! The format is Python's RawConfigParser with inline comments (` ;`), continuation lines, `%(here)s` and
//! `%(program_name)s`, and one `[include]` whose patterns are relative to the file (supervisor 4.3.0, options.py).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::InitError;

const MAX_BYTES: u64 = 1024 * 1024;
const MAX_FILES: usize = 256;

/// Sections by name, each key → value. A later section of the same name adds to the former, as in supervisord.
pub(super) type Sections = BTreeMap<String, BTreeMap<String, String>>;

/// Reads a file and what it includes.
pub(super) fn read(path: &Path) -> Result<Sections, InitError> {
    let mut sections = Sections::new();
    read_one(path, &mut sections)?;
    let patterns = sections.get("include").and_then(|include| include.get("files")).cloned();
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut included = Vec::new();
    for pattern in patterns.iter().flat_map(|p| p.split_whitespace()) {
        included.extend(matching(&folder.join(pattern.replace("%(here)s", &folder.to_string_lossy()))));
    }
    if included.len() > MAX_FILES {
        let problem = format!("it includes {} files: at most {MAX_FILES}", included.len());
        return Err(InitError::Detect { path: path.to_owned(), problem });
    }
    for file in included {
        read_one(&file, &mut sections)?;
    }
    Ok(sections)
}

fn read_one(path: &Path, sections: &mut Sections) -> Result<(), InitError> {
    let bad = |problem: String| InitError::Detect { path: path.to_owned(), problem };
    let bytes = ops_trust::private_file::read(path, MAX_BYTES).map_err(|e| bad(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| bad("it is not UTF-8".into()))?;
    parse(&text, sections).map_err(bad)
}

/// Adds a text's sections.
pub(super) fn parse(text: &str, sections: &mut Sections) -> Result<(), String> {
    let mut section: Option<String> = None;
    let mut key: Option<String> = None;
    for (at, raw) in text.lines().enumerate() {
        let line = raw.split_once(" ;").map_or(raw, |(before, _)| before).trim_end();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with([';', '#']) {
            continue;
        }
        let continues = line.starts_with([' ', '\t']);
        if let (true, Some(section), Some(key)) = (continues, &section, &key) {
            let values = sections.entry(section.clone()).or_default();
            let value = values.entry(key.clone()).or_default();
            value.push(' ');
            value.push_str(trimmed);
        } else if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            sections.entry(name.to_owned()).or_default();
            (section, key) = (Some(name.to_owned()), None);
        } else {
            let Some(section) = &section else {
                return Err(format!("line {}: before any [section]", at + 1));
            };
            let Some((name, value)) = trimmed.split_once(['=', ':']) else {
                return Err(format!("line {}: neither [section] nor key=value", at + 1));
            };
            let name = name.trim().to_ascii_lowercase();
            sections.entry(section.clone()).or_default().insert(name.clone(), value.trim().to_owned());
            key = Some(name);
        }
    }
    Ok(())
}

/// Files that match a pattern with `*` and `?` in its last part, in order of their names.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|file| matches(name.as_bytes(), file.as_bytes()))
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, text) || text.split_first().is_some_and(|(_, tail)| matches(pattern, tail))
        }
        (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
        (Some((a, rest)), Some((b, tail))) if a == b => matches(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_comments_continuations_and_inline_comments() {
        let mut sections = Sections::new();
        let text = "; c\n[group:web]\nprograms=a,\n  b,c ; why\n# d\n[program:a]\ncommand: run --x=1 ; y\nStdOut_LogFile = /l\n";
        parse(text, &mut sections).unwrap();
        assert_eq!(sections["group:web"]["programs"], "a, b,c");
        assert_eq!(sections["program:a"]["command"], "run --x=1");
        assert_eq!(sections["program:a"]["stdout_logfile"], "/l");
    }

    #[test]
    fn refuses_what_is_no_ini() {
        assert_eq!(parse("a=b\n", &mut Sections::new()), Err("line 1: before any [section]".into()));
        assert_eq!(
            parse("[a]\n\nx\n", &mut Sections::new()),
            Err("line 3: neither [section] nor key=value".into())
        );
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("?.c*", "a.conf", true),
            ("a", "b", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
