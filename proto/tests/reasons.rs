//! Enum and pages belong together, and a page has one form.

use ops_proto::reasons;
use ops_proto::v1::ErrorReason;

fn names() -> Vec<String> {
    (1..1000)
        .filter_map(|number| ErrorReason::try_from(number).ok())
        .map(|reason| reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned())
        .collect()
}

#[test]
fn every_page_is_of_a_reason() {
    let names = names();
    let foreign: Vec<_> =
        reasons::PAGES.iter().filter(|(page, _)| !names.iter().any(|n| n == page)).collect();
    assert!(foreign.is_empty(), "no such reason: {foreign:?}");
}

#[test]
fn a_page_is_name_sentence_cause_check_run() {
    for (name, page) in reasons::PAGES {
        assert!(page.starts_with(&format!("# {name}\n\n")), "{name}: its first line is its name");
        let summary = reasons::summary(name).unwrap_or_default();
        assert!(summary.ends_with('.') && summary.len() > 20, "{name}: one sentence first, not {summary:?}");
        for part in ["\n## Cause\n", "\n## Check\n", "\n## Run\n"] {
            assert!(page.contains(part), "{name}: no {part:?}");
        }
    }
}
