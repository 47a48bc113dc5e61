//! Lengths of time as people write them: `250ms`, `30s`, `5m`, `1h`, `7d`.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

/// Reads a length: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// What would have been right.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{}\" is not a duration: write 250ms, 30s, 5m, 1h or 7d", text.escape_debug());
    let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(wrong)
}

/// The shortest text that [`parse`] reads as this length; below a millisecond is lost.
#[must_use]
pub fn text(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if milliseconds > 0 && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

/// For `#[serde(with = "crate::config::duration")]`.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// For `#[serde(with = "crate::config::duration")]`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for written in ["250ms", "30s", "5m", "1h", "7d", "0ms", "90s"] {
            assert_eq!(text(parse(written).unwrap()), written);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in
            ["", "5", "s", "-1s", "1.5s", "5 s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
