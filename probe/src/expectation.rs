//! What a JSON body must say, field by field.

use std::fmt;

use serde_json::Value;

/// `status=healthy`, `services.database=healthy`: a path of object keys and list indexes, and a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    path: Vec<String>,
    value: String,
}

/// A text that is not an expectation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not FIELD=VALUE, as services.database=healthy")]
pub struct BadExpectation(String);

impl Expectation {
    /// Parses `path.to.field=value`.
    ///
    /// # Errors
    /// No `=`, or an empty part of the path.
    pub fn parse(text: &str) -> Result<Self, BadExpectation> {
        let bad = || BadExpectation(text.chars().take(100).flat_map(char::escape_debug).collect());
        let (path, value) = text.split_once('=').ok_or_else(bad)?;
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) || path.len() > 16 {
            return Err(bad());
        }
        Ok(Self { path, value: value.to_owned() })
    }

    /// `None` when the body is so, else what differs: `services.database: expected healthy, got unhealthy`.
    pub(crate) fn difference(&self, body: &Value) -> Option<String> {
        let path = self.path.join(".");
        let mut here = body;
        for part in &self.path {
            let next = match here {
                Value::Array(values) => part.parse().ok().and_then(|index: usize| values.get(index)),
                other => other.get(part),
            };
            let Some(next) = next else {
                return Some(format!("{path}: expected {}, there is none", self.value));
            };
            here = next;
        }
        let found = match here {
            Value::String(text) => text.clone(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            scalar => scalar.to_string(),
        };
        let found: String = found.chars().take(80).collect();
        (found != self.value).then(|| format!("{path}: expected {}, got {found}", self.value))
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.path.join("."), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_field() {
        let body = serde_json::json!({"status": "healthy", "n": 3, "up": true,
            "services": {"database": "unhealthy", "list": [{"a": "b"}]}});
        let difference = |text| Expectation::parse(text).unwrap().difference(&body);
        for same in ["status=healthy", "n=3", "up=true", "services.list.0.a=b"] {
            assert_eq!(difference(same), None, "{same}");
        }
        assert_eq!(
            difference("services.database=healthy").unwrap(),
            "services.database: expected healthy, got unhealthy"
        );
        assert_eq!(
            difference("services.cache=healthy").unwrap(),
            "services.cache: expected healthy, there is none"
        );
        assert_eq!(difference("services=healthy").unwrap(), "services: expected healthy, got an object");
        for bad in ["", "a", "=b", "a..b=c", ".a=b"] {
            assert!(Expectation::parse(bad).is_err(), "{bad}");
        }
    }
}
