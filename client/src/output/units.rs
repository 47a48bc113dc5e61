//! Numbers as people read them. Tables take the short forms, one word each.

/// `64.1MB`: powers of 1000, rounded to three digits, one word.
#[must_use]
pub fn size(bytes: u64) -> String {
    scaled(bytes, 1000, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `612M`: powers of 1024, as `top` shows memory.
#[must_use]
pub fn memory(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "K", "M", "G", "T", "P", "E"])
}

fn scaled(value: u64, base: u64, units: &[&str]) -> String {
    let (value, base) = (u128::from(value), u128::from(base));
    let (mut unit, mut divisor) = (0, 1);
    let rounded = |parts: u128, divisor: u128| (value * parts + divisor / 2) / divisor;
    while rounded(1, divisor) >= base && unit + 1 < units.len() {
        divisor *= base;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    let tenths = rounded(10, divisor);
    if unit == 0 || tenths >= 1000 {
        return format!("{}{name}", rounded(1, divisor));
    }
    format!("{}.{}{name}", tenths / 10, tenths % 10)
}

/// `11%`.
#[must_use]
pub fn percent(value: f64) -> String {
    if value > 0.0 && value < 1.0 { "<1%".to_owned() } else { format!("{value:.0}%") }
}

/// `1.62s`, `6.1ms`, `2m05s`: a measured length.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    if ms < 0.0 || !ms.is_finite() {
        "-".to_owned()
    } else if ms < 10.0 {
        format!("{ms:.1}ms")
    } else if ms < 1000.0 {
        format!("{ms:.0}ms")
    } else if ms < 60_000.0 {
        format!("{:.2}s", ms / 1000.0)
    } else {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let seconds = (ms / 1000.0) as u64;
        super::moment::span(seconds)
    }
}

/// `1 backup`, `3 backups`.
#[must_use]
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::{memory, milliseconds, percent, size};

    #[test]
    fn sizes_and_lengths_are_one_short_word() {
        let sizes = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.0kB"),
            (2_587_051, "2.6MB"),
            (99_960, "100kB"),
            (999_600, "1.0MB"),
            (64_100_000, "64.1MB"),
            (u64::MAX, "18.4EB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(memory(612 * 1024 * 1024), "612M");
        assert_eq!(memory(1536), "1.5K");
        assert_eq!(milliseconds(6.07), "6.1ms");
        assert_eq!(milliseconds(1620.0), "1.62s");
        assert_eq!(milliseconds(125_000.0), "2m05s");
        assert_eq!((percent(0.0), percent(0.2), percent(11.4)), ("0%".into(), "<1%".into(), "11%".into()));
    }
}
