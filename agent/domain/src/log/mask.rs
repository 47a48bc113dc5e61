//! Secrets in log text are replaced by `***`, whoever reads it, unless it is read raw.

use std::sync::LazyLock;

use regex::bytes::Regex;

/// What stands in a secret's place.
pub const MARK: &[u8] = b"***";

/// As far back as a secret may have begun in the piece before.
const CONTEXT: usize = 4096;

/// Whether a line is worth a closer look; most are not.
static HINT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i-u)bearer|basic|eyJ|://|token|passw|secret|api[_-]?key").ok());

/// Each with the secret as its group `s`. Values run on to the end of the text where their end is missing.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        r"(?i-u)\b(?:bearer|authorization\W{1,6}basic)\s+(?P<s>[A-Za-z0-9._~+/=-]{4,})",
        r"(?-u)\b(?P<s>eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,4})",
        r#"(?-u)[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s:/@?#"'<>]*:(?P<s>[^\s/?#"'<>]+)@"#,
        concat!(
            r#"(?i-u)[A-Za-z0-9_.-]*(?:token|password|passwd|secret|api[_-]?key)[A-Za-z0-9_.-]*"#,
            r#"(?:\\?["'])?\s*[:=]\s*"#,
            r#"(?:\\"(?P<e>(?:[^\\"]|\\[^"])*)|"(?P<d>(?:[^"\\]|\\.)*)|'(?P<q>(?:[^'\\]|\\.)*)|(?P<s>[^\s,;&"'}\])\\]+))"#,
        ),
    ]
    .iter()
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

/// `user:secret` whose `@` may follow in the next piece.
static CUT_URI: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"(?-u)[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s:/@?#"'<>]*:(?P<s>[^\s/?#"'<>]+)\z"#).ok()
});

/// Masks one source's pieces in their order; it remembers what a secret needs that is cut in two.
#[derive(Debug, Default)]
pub struct Masker {
    context: Vec<u8>,
}

impl Masker {
    /// `context`: the bytes of the same line before the first piece; at most 4 KiB of them are looked at.
    #[must_use]
    pub fn new(context: &[u8]) -> Self {
        Self { context: context[context.len().saturating_sub(CONTEXT)..].to_vec() }
    }

    /// The text as it may be shown, and whether anything was masked. `continued` and `continues` as in a piece.
    pub fn mask(&mut self, text: Vec<u8>, continued: bool, continues: bool) -> (Vec<u8>, bool) {
        if !continued {
            self.context.clear();
        }
        if self.context.is_empty() && !continues {
            return match masked(&text, 0, false) {
                Some(shown) => (shown, true),
                None => (text, false),
            };
        }
        let before = self.context.len();
        let mut whole = std::mem::take(&mut self.context);
        whole.extend_from_slice(&text);
        let shown = masked(&whole, before, continues);
        if continues {
            self.context = whole.split_off(whole.len().saturating_sub(CONTEXT));
        }
        match shown {
            Some(shown) => (shown, true),
            None => (text, false),
        }
    }
}

/// One whole line.
#[must_use]
pub fn mask(text: &[u8]) -> Vec<u8> {
    masked(text, 0, false).unwrap_or_else(|| text.to_vec())
}

/// `text` from `from` on with its secrets masked; `None` when there are none.
fn masked(text: &[u8], from: usize, cut: bool) -> Option<Vec<u8>> {
    if !HINT.as_ref().is_some_and(|hint| hint.is_match(text)) {
        return None;
    }
    let mut secrets: Vec<(usize, usize)> = Vec::new();
    let cut_uri = CUT_URI.as_ref().filter(|_| cut);
    for pattern in SECRETS.iter().chain(cut_uri) {
        for found in pattern.captures_iter(text) {
            let secret = ["s", "d", "q", "e"].iter().find_map(|group| found.name(group));
            if let Some(secret) = secret.filter(|secret| secret.end() > from && !secret.is_empty()) {
                secrets.push((secret.start().max(from), secret.end()));
            }
        }
    }
    if secrets.is_empty() {
        return None;
    }
    secrets.sort_unstable();
    let mut shown = Vec::with_capacity(text.len() - from);
    let mut at = from;
    for (start, end) in secrets {
        if start >= at {
            shown.extend_from_slice(&text[at..start]);
            shown.extend_from_slice(MARK);
        }
        at = at.max(end);
    }
    shown.extend_from_slice(&text[at..]);
    Some(shown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        String::from_utf8(mask(text.as_bytes())).unwrap()
    }

    #[test]
    fn all_patterns_compile() {
        assert!(HINT.is_some() && CUT_URI.is_some());
        assert_eq!(SECRETS.len(), 4);
    }

    #[test]
    fn secrets_are_masked_and_their_place_is_marked() {
        for (text, expected) in [
            ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
            ("authorization: basic dXNlcjpwYXNz", "authorization: basic ***"),
            ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "jwt *** end"),
            ("mongodb://app:hunter2@db:27017/x", "mongodb://app:***@db:27017/x"),
            ("redis://:hunter2@cache", "redis://:***@cache"),
            ("amqp://u:p@ss@host/v", "amqp://u:***@host/v"),
            ("password=hunter2 user=bob", "password=*** user=bob"),
            ("DB_PASSWORD: hunter2", "DB_PASSWORD: ***"),
            (r#"{"access_token": "a b\"c", "n": 1}"#, r#"{"access_token": "***", "n": 1}"#),
            (r#"msg="{\"client_secret\":\"x y\",\"n\":1}""#, r#"msg="{\"client_secret\":\"***\",\"n\":1}""#),
            ("{'jwt_secret': 'abc', 'a': 1}", "{'jwt_secret': '***', 'a': 1}"),
            ("GET /x?token=abc&y=1 200", "GET /x?token=***&y=1 200"),
            ("X-Api-Key: abcdef", "X-Api-Key: ***"),
            ("access_token: Bearer abcdef", "access_token: *** ***"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "GET /api/health 200",
            "KeyError: 'JWT_SECRET_KEY'",
            "http://127.0.0.1:8001/api",
            "connect to host:8001",
            "the token expired",
            "mail a@b.c, see http://x/y",
            "",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        assert_eq!(mask(b"\xff\0token=\xfe\xfd x\n"), b"\xff\0token=*** x\n");
    }

    #[test]
    fn a_secret_cut_in_two_is_masked_on_both_sides() {
        for line in [
            "a password=hunter2hunter2 z",
            "a mongodb://app:hunter2hunter2@db z",
            "a Bearer hunter2hunter2 z",
            r#"a "my_token": "hunter2 hunter2" z"#,
        ] {
            let secret = line.find("hunter2").unwrap();
            for cut in secret..line.len() {
                let mut masker = Masker::default();
                let (first, _) = masker.mask(line.as_bytes()[..cut].to_vec(), false, true);
                let (second, _) = masker.mask(line.as_bytes()[cut..].to_vec(), true, false);
                let both = [first, second].concat();
                let both = String::from_utf8(both).unwrap();
                // "Bearer h" is too short to be told from prose; four letters are not.
                if !(line.contains("Bearer") && cut < secret + 4) {
                    assert!(!both.contains('h'), "{line} cut at {cut}: {both}");
                }
                assert!(!both.contains("hunter2"), "{line} cut at {cut}: {both}");
                assert!(both.starts_with('a') && both.ends_with('z'), "{both}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = mask(&text);
        }

        #[test]
        fn a_value_never_shows(value in "[A-Za-z0-9]{6,20}", key in "[a-z]{0,5}(token|password|secret)[a-z]{0,5}") {
            prop_assume!(!key.contains(&value));
            let text = format!("x {key}={value} y");
            let shown = shown(&text);
            prop_assert!(!shown.contains(&value));
        }
    }
}
