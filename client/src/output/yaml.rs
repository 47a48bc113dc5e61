//! A JSON value as YAML. Every string is in double quotes with JSON's escapes, which YAML 1.2 reads the same way, so
//! that no reader takes `no` for false.

use std::fmt::Write as _;

use serde_json::Value;

/// The document, with its last line feed.
pub(super) fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(_) | Value::Array(_) => block(&mut text, value, 0),
        scalar => {
            let _ = writeln!(text, "{scalar}");
        }
    }
    text
}

fn block(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (index, (key, value)) in fields.iter().enumerate() {
                // The first key of a list's item stands behind its dash.
                let pad = if index == 0 && text.ends_with("- ") { 0 } else { indent };
                let _ = write!(text, "{:pad$}{key}:", "");
                behind(text, value, indent);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(text, "{:indent$}-", "");
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        text.push(' ');
                        block(text, item, indent + 2);
                    }
                    other => behind(text, other, indent),
                }
            }
        }
        scalar => {
            let _ = writeln!(text, "{:indent$}{scalar}", "");
        }
    }
}

fn behind(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            text.push('\n');
            block(text, value, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            block(text, value, indent + 2);
        }
        scalar => {
            let _ = writeln!(text, " {scalar}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_changes_its_type() {
        let value = serde_json::json!({
            "kind": "x", "answer": "no", "n": 3, "none": null, "empty": [], "o": {},
            "list": [{"a": 1, "b": ["c\n", "yes"]}, ["nested"]],
            "deep": {"k": {"v": true}},
        });
        let expected = "\
kind: \"x\"
answer: \"no\"
n: 3
none: null
empty: []
o: {}
list:
  - a: 1
    b:
      - \"c\\n\"
      - \"yes\"
  -
    - \"nested\"
deep:
  k:
    v: true
";
        assert_eq!(super::render(&value), expected);
    }
}
