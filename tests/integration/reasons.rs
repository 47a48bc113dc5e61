//! One set of reasons: the contract's enum, the domain's, the pages. And what the agent tells people to run is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use ops_client::cli::Cli;
use ops_domain::error::Reason;
use ops_proto::v1::ErrorReason;

/// Reasons that opsctl raises itself have numbers from here on.
const OPSCTLS_OWN: i32 = 200;

fn contract(below: i32) -> BTreeSet<&'static str> {
    (1..below)
        .filter_map(|number| ErrorReason::try_from(number).ok())
        .filter_map(|reason| reason.as_str_name().strip_prefix("ERROR_REASON_"))
        .collect()
}

#[test]
fn the_domain_and_the_contract_know_the_same_reasons() {
    let domain: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(domain, contract(OPSCTLS_OWN));
}

#[test]
fn every_reason_has_a_page() {
    let pages: BTreeSet<_> = ops_proto::reasons::PAGES.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = contract(1000).difference(&pages).copied().collect();
    assert!(missing.is_empty(), "no page in proto/reasons for {missing:?}");
}

/// The words of each `.next(&[…])` and `.next_with(&[…], …)`, with `x` for what is only known at run time.
fn commands(source: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in [".next(&[", ".next_with(&[", ".next_with(\n"] {
        for rest in source.split(start).skip(1) {
            let rest = rest.trim_start().trim_start_matches("&[");
            let Some(list) = rest.split(']').next() else { continue };
            let words = list.split(',').map(str::trim).filter(|word| !word.is_empty());
            let words: Vec<String> = words
                .map(|word| match word.strip_prefix('"').and_then(|word| word.strip_suffix('"')) {
                    Some(literal) => literal.to_owned(),
                    None => "x".to_owned(),
                })
                .collect();
            found.push(words);
        }
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn what_people_are_told_to_run_is_in_this_build() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["agent/src", "agent/domain/src", "client/src"] {
        sources(&root.join(folder), &mut files);
    }
    let (mut seen, mut broken) = (0, Vec::new());
    for file in files {
        for words in commands(&std::fs::read_to_string(&file).unwrap()) {
            if words.first().is_none_or(|word| word != "opsctl") {
                continue;
            }
            seen += 1;
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                broken.push(format!("{}: {}: {first}", file.display(), words.join(" ")));
            }
        }
    }
    assert!(seen > 10, "only {seen} commands were found; has the way of writing them changed?");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_commands_of_the_pages_parse() {
    let mut broken = Vec::new();
    for (name, page) in ops_proto::reasons::PAGES {
        let run = page.split("\n## Run\n").nth(1).unwrap_or_default();
        for line in run.lines().map(str::trim).filter(|line| line.starts_with("opsctl ")) {
            let line = line.split(" #").next().unwrap_or(line);
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.contains(&"--help") {
                continue;
            }
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                broken.push(format!(
                    "{name}: {line}: {}",
                    error.to_string().lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
