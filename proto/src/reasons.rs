//! One page a reason: cause, what to check, what to run. `opsctl explain` prints them.

/// Name and page, by name.
pub const PAGES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/reasons.rs"));

/// The page of `START_FATAL`.
#[must_use]
pub fn page(name: &str) -> Option<&'static str> {
    PAGES
        .binary_search_by(|(page, _)| page.cmp(&name))
        .ok()
        .and_then(|at| PAGES.get(at))
        .map(|(_, text)| *text)
}

/// The page's first paragraph: one sentence.
#[must_use]
pub fn summary(name: &str) -> Option<String> {
    let lines = page(name)?.lines().skip(1).skip_while(|line| line.is_empty());
    Some(lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" "))
}
