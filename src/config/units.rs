//! Sizes and durations as people write them: `50M`, `4h`, `1h30m`.

use std::time::Duration;

const SIZES: &[(&str, u64)] = &[("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10), ("B", 1)];
const TIMES: &[(&str, u64)] = &[("w", 7 * 86_400), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Bytes out of `50M`, `2G`, `1T`, `512K`, `1000B` (powers of 1024; `MB` and `MiB` mean `M`). `None`: not a size.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let unit = unit.trim_start().to_ascii_uppercase();
    let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B').filter(|u| !u.is_empty())).unwrap_or(&unit);
    let scale = SIZES.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// `90s`, `30m`, `4h`, `5d`, `2w`, also joined (`1h30m`); `0` needs no unit. `None`: not a duration, or over 100 years.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.trim();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let scale = TIMES.iter().find(|(name, _)| *name == unit.trim())?.1;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(scale)?)?;
        rest = tail;
    }
    (total <= 100 * 366 * 86_400).then(|| Duration::from_secs(total))
}

/// In the largest unit that leaves no rest, so that it parses back to the same.
pub fn write_size(bytes: u64) -> String {
    let (unit, scale) = SIZES.iter().find(|(_, s)| bytes != 0 && bytes.is_multiple_of(*s)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / scale)
}

/// For people: `1.4G`, `820M`, `17B`.
pub fn about_size(bytes: u64) -> String {
    let (unit, scale) = SIZES.iter().find(|(_, s)| bytes >= *s).unwrap_or(&("B", 1));
    let tenths = u128::from(bytes) * 10 / u128::from(*scale);
    if tenths < 100 && !tenths.is_multiple_of(10) { format!("{}.{}{unit}", tenths / 10, tenths % 10) } else { format!("{}{unit}", tenths / 10) }
}

/// In the largest unit that leaves no rest.
pub(super) fn write_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    // Weeks are read but not written: "7d" is easier than "1w" beside "5d".
    let (unit, scale) = TIMES.iter().skip(1).find(|(_, s)| seconds != 0 && seconds.is_multiple_of(*s)).unwrap_or(&("s", 1));
    format!("{}{unit}", seconds / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        const CASES: &[(&str, Option<u64>)] = &[
            ("50M", Some(50 << 20)),
            ("50m", Some(50 << 20)),
            ("50MB", Some(50 << 20)),
            ("50 MiB", Some(50 << 20)),
            ("2G", Some(2 << 30)),
            ("7K", Some(7168)),
            ("10B", Some(10)),
            ("50", None),
            ("", None),
            ("M", None),
            ("5T", Some(5 << 40)),
            ("1.5M", None),
            ("-1M", None),
            ("99999999999999999999G", None),
            ("99999999999999G", None),
        ];
        for (text, want) in CASES {
            assert_eq!(parse_size(text), *want, "{text}");
        }
        for (n, want) in
            [(0, "0B"), (1023, "1023B"), (1024, "1K"), (1500, "1.4K"), (99 << 20, "99M"), ((3 << 30) + (900 << 20), "3.8G"), (u64::MAX, "16777215T")]
        {
            assert_eq!(about_size(n), want);
        }
        for n in [0, 1, 1000, 1024, 1536, 50 << 20, 3 << 30, u64::MAX] {
            assert_eq!(parse_size(&write_size(n)), Some(n));
        }
    }

    #[test]
    fn durations() {
        const CASES: &[(&str, Option<u64>)] = &[
            ("5m", Some(300)),
            ("1h30m", Some(5400)),
            ("1h 30m", Some(5400)),
            ("5d", Some(432_000)),
            ("1w", Some(604_800)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("30", None),
            ("", None),
            (" ", None),
            ("m", None),
            ("5 minutes", None),
            ("5m-", None),
            ("999999999w", None),
        ];
        for (text, want) in CASES {
            assert_eq!(parse_duration(text).map(|d| d.as_secs()), *want, "{text}");
        }
        for n in [0, 1, 59, 60, 61, 3600, 86_400, 604_800] {
            assert_eq!(parse_duration(&write_duration(Duration::from_secs(n))), Some(Duration::from_secs(n)));
        }
    }
}
