//! Times as people read them, and as they write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A timestamp of the wire; `None` when it is none that exists.
#[must_use]
pub fn timestamp(at: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}

/// `03:12:09`, or `03:12:09Z` in UTC.
#[must_use]
pub fn clock(at: Timestamp, zone: &TimeZone) -> String {
    let suffix = if is_utc(zone) { "Z" } else { "" };
    format!("{}{suffix}", at.to_zoned(zone.clone()).strftime("%H:%M:%S"))
}

/// `2026-11-24T03:12:09Z`, or with the zone's offset.
#[must_use]
pub fn date_time(at: Timestamp, zone: &TimeZone) -> String {
    let format = if is_utc(zone) { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    at.to_zoned(zone.clone()).strftime(format).to_string()
}

/// Servers' zones are often UTC under a name of its own.
fn is_utc(zone: &TimeZone) -> bool {
    *zone == TimeZone::UTC
        || zone.iana_name().is_some_and(|name| matches!(name, "UTC" | "Etc/UTC" | "Etc/UCT"))
}

/// `8m ago`, and `in 5d` for what is to come; the clocks of two hosts may differ by a little.
#[must_use]
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second());
    match seconds {
        -2..=0 => "just now".to_owned(),
        1.. => format!("{} ago", age(seconds.unsigned_abs())),
        _ => format!("in {}", age(seconds.unsigned_abs())),
    }
}

/// `12d`, `8m`, `41s`: the largest unit only.
#[must_use]
pub fn duration(seconds: u64) -> String {
    age(seconds)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `2m05s`, `3h12m`, `5d02h`: the two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Reads `250ms`, `90s`, `2m`, `1h30m`, `1d`: numbers with units, largest first, no sign, no fraction.
///
/// # Errors
/// A sentence for clap.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const WRONG: &str = "write it like 250ms, 90s, 2m, 1h30m or 1d";
    let mut rest = text;
    let mut total: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).ok_or(WRONG)?;
        let number: u64 = rest[..digits].parse().map_err(|_| WRONG)?;
        rest = &rest[digits..];
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let unit: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(WRONG.into()),
        };
        if unit >= last {
            return Err(WRONG.into());
        }
        last = unit;
        rest = &rest[letters..];
        total = number.checked_mul(unit).and_then(|ms| total.checked_add(ms)).ok_or("it is too long")?;
    }
    if text.is_empty() { Err(WRONG.into()) } else { Ok(Duration::from_millis(total)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_strictly() {
        for (text, ms) in
            [("250ms", 250), ("90s", 90_000), ("1h30m", 5_400_000), ("1d", 86_400_000), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5 s",
            "1m1h",
            "1s1s",
            "5y",
            "99999999999999999999s",
            "9999999999999999d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let before = |seconds: i64| Timestamp::from_second(1_795_000_000 - seconds).unwrap();
        for (seconds, text) in
            [(0, "just now"), (41, "41s ago"), (480, "8m ago"), (90_000, "25h ago"), (-432_000, "in 5d")]
        {
            assert_eq!(ago(before(seconds), now), text);
        }
        assert_eq!((span(65), span(11_520)), ("1m05s".into(), "3h12m".into()));
    }

    #[test]
    fn clocks_say_their_zone() {
        let at = Timestamp::from_second(1_795_000_000).unwrap();
        assert_eq!(clock(at, &TimeZone::UTC), "11:06:40Z");
        assert_eq!(date_time(at, &TimeZone::UTC), "2026-11-18T11:06:40Z");
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(date_time(at, &zone), "2026-11-18T13:06:40+02:00");
    }
}
