//! Dates: RFC 5322 §3.3 and its obsolete and sloppy forms, IMAP's date-time and date (RFC 9051 §9).
//!
//! The civil calendar is Howard Hinnant's well-known arithmetic: the proleptic Gregorian one, without leap seconds.

use std::fmt;

/// A moment and the zone it was written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DateTime {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub unix: i64,
    /// Minutes east of UTC, -1439 to 1439.
    pub zone: i16,
}

impl DateTime {
    pub fn utc(unix: i64) -> Self {
        Self { unix, zone: 0 }
    }
    /// Days since 1970-01-01 in its own zone: what SEARCH SINCE, ON and BEFORE compare (RFC 9051 §6.4.4:
    /// "disregarding time and timezone").
    pub fn day(self) -> i64 {
        self.local().div_euclid(DAY)
    }
    fn local(self) -> i64 {
        // Years 0 to 9999: four digits hold them.
        self.unix.saturating_add(i64::from(self.zone) * 60).clamp(-62_167_219_200, 253_402_300_799)
    }
    /// `17-Jul-1996 02:44:25 -0700`, the day padded with a space: IMAP's date-time without its quotes.
    pub fn imap(self) -> String {
        let c = Civil::of(self);
        // By hand: a list of a large folder is mostly dates.
        let mut out = String::with_capacity(26);
        digits(&mut out, c.day, if c.day < 10 { " " } else { "" }, 1);
        out.push('-');
        out.push_str(c.month_name());
        digits(&mut out, c.year, "-", 4);
        digits(&mut out, c.hour, " ", 2);
        digits(&mut out, c.minute, ":", 2);
        digits(&mut out, c.second, ":", 2);
        out.push_str(if c.zone.0 < 0 { " -" } else { " +" });
        let zone = i64::from(c.zone.0.unsigned_abs());
        digits(&mut out, zone / 60, "", 2);
        digits(&mut out, zone % 60, "", 2);
        out
    }
    /// `Wed, 17 Jul 1996 02:44:25 -0700`.
    pub fn rfc5322(self) -> String {
        let c = Civil::of(self);
        let weekday = WEEKDAYS.get(usize::try_from((self.day() + 4).rem_euclid(7)).unwrap_or(0)).copied().unwrap_or_default();
        format!("{weekday}, {} {} {:04} {:02}:{:02}:{:02} {}", c.day, c.month_name(), c.year, c.hour, c.minute, c.second, c.zone)
    }
}

/// `Wed, 17 Jul 1996 09:44:25 +0000` for seconds since 1970: Date and Received fields that we write.
pub fn rfc5322(unix: i64) -> String {
    DateTime::utc(unix).rfc5322()
}

/// A Date value or what programs write for one; `None` when no day, month and year can be made out. Missing time is
/// midnight, missing or unknown zone is UTC (RFC 5322 §4.3).
pub fn parse(value: &[u8]) -> Option<DateTime> {
    let mut found = Found::default();
    for token in tidy(value).split_ascii_whitespace() {
        found.take(token);
    }
    found.finish()
}

/// IMAP's date-time without its quotes: `17-Jul-1996 02:44:25 -0700`, the day with a space, a zero or neither before it.
pub fn parse_imap(text: &str) -> Option<DateTime> {
    let (date, rest) = text.trim_start_matches(' ').split_once(' ')?;
    let (time, zone) = rest.split_once(' ')?;
    let zone_digits = zone.get(1..).filter(|z| z.len() == 4 && time.len() == 8)?;
    let sign = if zone.starts_with('-') { -1 } else { i16::from(zone.starts_with('+')) };
    let (hours, minutes) = (number(zone_digits.get(..2)?)?, number(zone_digits.get(2..)?)?);
    if sign == 0 || hours > 23 || minutes > 59 {
        return None;
    }
    let local = parse_imap_date(date)? * DAY + i64::from(time_of_day(time)?);
    let zone = sign * i16::try_from(hours * 60 + minutes).ok()?;
    Some(DateTime { unix: local - i64::from(zone) * 60, zone })
}

/// IMAP's date, `1-Feb-1994`, as days since 1970-01-01.
pub fn parse_imap_date(text: &str) -> Option<i64> {
    let mut pieces = text.split('-');
    let (day, month, year) = (pieces.next()?, pieces.next()?, pieces.next()?);
    if pieces.next().is_some() || year.len() != 4 || day.len() > 2 || month.len() != 3 {
        return None;
    }
    days(i64::from(number(year)?), month_number(month)?, number(day)?)
}

/// Days since 1970-01-01; `None` when there is no such day.
pub fn days(year: i64, month: u32, day: u32) -> Option<i64> {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) || !(0..=9999).contains(&year) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * i64::from((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

const DAY: i64 = 86_400;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Minutes east. RFC 5322 §4.3's, and some that are often met; all others mean nothing reliable.
const ZONES: &[(&str, i16)] = &[
    ("EDT", -240),
    ("EST", -300),
    ("CDT", -300),
    ("CST", -360),
    ("MDT", -360),
    ("MST", -420),
    ("PDT", -420),
    ("PST", -480),
    ("AKDT", -480),
    ("AKST", -540),
    ("HST", -600),
    ("BST", 60),
    ("WEST", 60),
    ("CET", 60),
    ("MET", 60),
    ("CEST", 120),
    ("MEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("JST", 540),
    ("KST", 540),
    ("AEST", 600),
    ("AEDT", 660),
];

struct Zone(i16);

/// What stands before it, and a number (0 to 9999) with no fewer digits than `width`.
fn digits(out: &mut String, n: i64, before: &str, width: u32) {
    out.push_str(before);
    let mut unit = 1000;
    while unit > 0 {
        if n >= unit || unit < 10i64.pow(width) {
            out.push(char::from(b'0' + (n / unit % 10) as u8));
        }
        unit /= 10;
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}{:02}", self.0.unsigned_abs() / 60, self.0.unsigned_abs() % 60)
    }
}

struct Civil {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    zone: Zone,
}

impl Civil {
    fn of(moment: DateTime) -> Self {
        let (days, second) = (moment.day(), moment.local().rem_euclid(DAY));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = usize::try_from((from_march + 2) % 12).unwrap_or(0); // January is 0
        let year = year_of_era + era * 400 + i64::from(month < 2);
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60, zone: Zone(moment.zone) }
    }

    fn month_name(&self) -> &'static str {
        MONTHS.get(self.month).copied().unwrap_or_default()
    }
}

/// No date is longer; comments are not counted.
const MAX_DATE: usize = 128;

/// A date without comments, white space single and none around colons.
fn tidy(value: &[u8]) -> String {
    let mut out = String::new();
    let (mut depth, mut escaped) = (0usize, false);
    for b in value {
        match b {
            _ if depth > 0 && std::mem::take(&mut escaped) => {}
            b'\\' if depth > 0 => escaped = true,
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                if !out.ends_with([' ', ':']) {
                    out.push(' ');
                }
            }
            b':' => {
                out.truncate(out.trim_end().len());
                out.push(':');
            }
            _ => out.push(char::from(*b)),
        }
        if out.len() > MAX_DATE {
            break;
        }
    }
    out
}

/// What a date's words have told so far.
#[derive(Default, Debug)]
struct Found {
    year: Option<i64>,
    month: Option<u32>,
    day: Option<u32>,
    time: Option<u32>,
    afternoon: Option<bool>,
    zone: Option<i16>,
}

impl Found {
    fn take(&mut self, token: &str) {
        let digits = token.bytes().all(|b| b.is_ascii_digit());
        if digits {
            self.number(token);
        } else if self.time.is_none()
            && let Some(colon) = token.find(':')
            && token.starts_with(|c: char| c.is_ascii_digit())
        {
            // `2024-01-02T03:04:05Z` has the date in front (RFC 3339).
            let date = token.find(['T', 't']).filter(|t| *t < colon);
            if let Some(t) = date {
                self.date(token.get(..t).unwrap_or_default());
            }
            self.time_and_zone(token.get(date.map_or(0, |t| t + 1)..).unwrap_or_default());
        } else if token.starts_with(['+', '-']) {
            self.zone = self.zone.or_else(|| numeric_zone(token));
        } else if token.contains(['-', '/']) && token.starts_with(|c: char| c.is_ascii_digit()) {
            self.date(token);
        } else {
            self.name(token);
        }
    }

    fn number(&mut self, token: &str) {
        let Some(value) = number(token) else { return };
        if token.len() <= 2 && self.day.is_none() && (1..=31).contains(&value) {
            self.day = Some(value);
        } else if self.year.is_none() {
            self.year = year(token);
        }
    }

    /// `21-Nov-1997`, `1997-11-21`, `1997/11/21`.
    fn date(&mut self, token: &str) {
        let pieces: Vec<_> = token.splitn(4, ['-', '/']).collect();
        let [first, month, last] = pieces.as_slice() else { return };
        let (year_text, day) = if first.len() == 4 { (first, last) } else { (last, first) };
        self.month = month_number(month).or_else(|| number(month));
        self.year = year(year_text);
        self.day = number(day);
    }

    fn time_and_zone(&mut self, token: &str) {
        let end = token.find(|c: char| !c.is_ascii_digit() && !matches!(c, ':' | '.')).unwrap_or(token.len());
        let (time, zone) = token.split_at(end);
        self.time = time_of_day(time.split('.').next().unwrap_or_default());
        if zone.starts_with(['+', '-']) {
            self.zone = numeric_zone(zone);
        } else if !zone.is_empty() {
            self.name(zone);
        }
    }

    fn name(&mut self, token: &str) {
        let token = token.trim_end_matches('.');
        if let Some(month) = month_number(token) {
            self.month = self.month.or(Some(month));
        } else if token.eq_ignore_ascii_case("pm") || token.eq_ignore_ascii_case("am") {
            self.afternoon = Some(token.eq_ignore_ascii_case("pm"));
        } else if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| token.eq_ignore_ascii_case(name)) {
            self.zone = self.zone.or(Some(*minutes));
        } else if let Some(offset) = token.strip_prefix("GMT").or_else(|| token.strip_prefix("UTC")).filter(|o| !o.is_empty()) {
            self.zone = self.zone.or_else(|| numeric_zone(offset));
        }
    }

    fn finish(self) -> Option<DateTime> {
        let days = days(self.year?, self.month?, self.day?)?;
        let mut second = i64::from(self.time.unwrap_or(0));
        match self.afternoon {
            Some(true) if second < DAY / 2 => second += DAY / 2,
            Some(false) if (DAY / 2..DAY / 2 + 3600).contains(&second) => second -= DAY / 2,
            _ => {}
        }
        let zone = self.zone.unwrap_or(0);
        Some(DateTime { unix: days * DAY + second - i64::from(zone) * 60, zone })
    }
}

/// RFC 5322 §4.3: two digits below 50 are 20xx, other two and three digits count from 1900.
fn year(text: &str) -> Option<i64> {
    let value = i64::from(number(text)?);
    match text.len() {
        1..=2 if value < 50 => Some(2000 + value),
        1..=3 => Some(1900 + value),
        4 => Some(value),
        _ => None,
    }
}

/// `hh:mm` or `hh:mm:ss` as seconds; a leap second is let pass.
fn time_of_day(text: &str) -> Option<u32> {
    let mut pieces = text.split(':');
    let hour = number(pieces.next()?).filter(|h| *h < 24)?;
    let minute = number(pieces.next()?).filter(|m| *m < 60)?;
    let second = pieces.next().map_or(Some(0), number).filter(|s| *s <= 60)?;
    pieces.next().is_none().then_some(hour * 3600 + minute * 60 + second)
}

/// `+hhmm`, `+hh:mm`, `+hmm`, `+hh`.
fn numeric_zone(text: &str) -> Option<i16> {
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let digits: String = text.get(1..)?.chars().filter(|c| *c != ':').take(5).collect();
    let (hours, minutes) = match digits.len() {
        1 | 2 => (number(&digits)?, 0),
        3 | 4 => (number(digits.get(..digits.len() - 2)?)?, number(digits.get(digits.len() - 2..)?)?),
        _ => return None,
    };
    let minutes = i16::try_from(hours * 60 + minutes).ok().filter(|m| *m < 1440 && minutes < 60)?;
    Some(sign * minutes)
}

/// From the first three letters, January is 1.
fn month_number(name: &str) -> Option<u32> {
    let head = name.get(..3).filter(|_| name.bytes().all(|b| b.is_ascii_alphabetic()))?;
    let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(head))?;
    u32::try_from(index + 1).ok()
}

/// Digits only, at most nine.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written, and the same moment as IMAP writes it.
    const CASES: &[(&str, &str)] = &[
        ("Fri, 21 Nov 1997 09:55:06 -0600", "21-Nov-1997 09:55:06 -0600"),
        ("21 Nov 1997 09:55 -0600", "21-Nov-1997 09:55:00 -0600"),
        (
            "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n               -0330 (Newfoundland Time)",
            "13-Feb-1969 23:32:00 -0330",
        ),
        ("21 Nov 97 09:55:06 GMT", "21-Nov-1997 09:55:06 +0000"),
        ("1 Jan 49 00:00 UT", " 1-Jan-2049 00:00:00 +0000"),
        ("1 Jan 50 00:00 EST", " 1-Jan-1950 00:00:00 -0500"),
        ("1 Jan 103 00:00 edt", " 1-Jan-2003 00:00:00 -0400"),
        ("Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "21-Nov-1997 09:55:06 -0600"),
        ("Fri, 21 Nov 1997 (a (nested) one) 09:55:06 PDT", "21-Nov-1997 09:55:06 -0700"),
        ("Fri, 21 Nov 1997 09:55:06 A", "21-Nov-1997 09:55:06 +0000"),
        ("Fri, 21 Nov 1997 09:55:06 XYZ", "21-Nov-1997 09:55:06 +0000"),
        ("Fri, 21 Nov 1997 09:55:06", "21-Nov-1997 09:55:06 +0000"),
        ("Fri, 21 Nov 1997", "21-Nov-1997 00:00:00 +0000"),
        ("Fri Nov 21 09:55:06 1997", "21-Nov-1997 09:55:06 +0000"),
        ("Fri Nov  1 09:55:06 CET 1997", " 1-Nov-1997 09:55:06 +0100"),
        ("Fri Nov 21 09:55:06 1997 +0100", "21-Nov-1997 09:55:06 +0100"),
        ("Friday, 21-Nov-97 09:55:06 GMT", "21-Nov-1997 09:55:06 +0000"),
        ("21 November 1997 09:55:06 +01:00", "21-Nov-1997 09:55:06 +0100"),
        ("1997-11-21 09:55:06 +0100", "21-Nov-1997 09:55:06 +0100"),
        ("1997-11-21T09:55:06.123Z", "21-Nov-1997 09:55:06 +0000"),
        ("1997-11-21T09:55:06.123-05:30", "21-Nov-1997 09:55:06 -0530"),
        ("1997/11/21 09:55", "21-Nov-1997 09:55:00 +0000"),
        ("Fri, 21 Nov 1997 9:55:06 PM +0100", "21-Nov-1997 21:55:06 +0100"),
        ("Fri, 21 Nov 1997 12:55:06am", "21-Nov-1997 00:55:06 +0000"),
        ("Fri, 21 Nov 1997 09:55:06 GMT+2", "21-Nov-1997 09:55:06 +0200"),
        ("Fri, 21 Nov 1997 09:55:06 +9999", "21-Nov-1997 09:55:06 +0000"),
        ("Sat, 31 Dec 2016 23:59:60 +0000", " 1-Jan-2017 00:00:00 +0000"),
        ("Thu, 29 Feb 2024 00:00:00 +0000", "29-Feb-2024 00:00:00 +0000"),
        ("Thu, 29 Feb 1900 00:00:00 +0000", ""),
        ("Thu, 31 Apr 2024 00:00:00 +0000", ""),
        ("Thu, 0 Apr 2024 00:00:00 +0000", ""),
        ("Thu, 1 Xyz 2024 00:00:00 +0000", ""),
        ("1 Apr 20240 00:00:00 +0000", ""),
        ("99999999999999999999 Apr 2024", ""),
        ("", ""),
        ("((((", ""),
        ("- - -", ""),
        ("\u{0661} Apr 2024", ""),
    ];

    #[test]
    fn field_dates() {
        for (text, expect) in CASES {
            let found = parse(text.as_bytes());
            assert_eq!(found.map(DateTime::imap).unwrap_or_default(), *expect, "{text:?}");
            if let Some(moment) = found {
                assert_eq!(parse(moment.rfc5322().as_bytes()), Some(moment), "{text:?}");
                assert_eq!(parse_imap(&moment.imap()), Some(moment), "{text:?}");
            }
            for cut in 0..text.len() {
                let _ = parse(&text.as_bytes()[..cut]);
            }
        }
    }

    #[test]
    fn imap_dates_are_written() {
        let zones = [(0, 0), (837_596_665, -420), (-1, 330), (253_402_300_799, 0), (i64::MAX, 90), (-62_167_219_200, 0), (i64::MIN, -60)];
        for (unix, zone) in zones.into_iter().chain((0..2000).map(|n| (n * 86_399 * 17, (n % 100) as i16 - 50))) {
            let c = Civil::of(DateTime { unix, zone });
            let expect = format!("{:2}-{}-{:04} {:02}:{:02}:{:02} {}", c.day, c.month_name(), c.year, c.hour, c.minute, c.second, c.zone);
            assert_eq!(DateTime { unix, zone }.imap(), expect);
        }
    }

    #[test]
    fn imap_dates() {
        let unix = |text: &str| parse_imap(text).map(|d| (d.unix, d.zone));
        assert_eq!(unix("17-Jul-1996 02:44:25 -0700"), Some((837_596_665, -420)));
        assert_eq!(unix(" 1-jan-1970 00:00:00 +0000"), Some((0, 0)));
        assert_eq!(unix("1-Jan-1970 00:00:00 +0100"), Some((-3600, 60)));
        let bad = [
            "",
            "17-Jul-1996",
            "17-Jul-1996 02:44:25",
            "17-Jul-96 02:44:25 -0700",
            "17-Jul-1996 2:44:25 -0700",
            "17-Jul-1996 02:44 -0700",
            "17-Jul-1996 24:44:25 -0700",
            "17-Jul-1996 02:44:25 0700",
            "17-Jul-1996 02:44:25 -07000",
            "17-Jul-1996 02:44:25 -0760",
            "17-Jul-1996 02:44:25 -07:0",
            "32-Jul-1996 02:44:25 -0700",
            "1-2-3-4 02:44:25 -0700",
        ];
        for text in bad {
            assert_eq!(unix(text), None, "{text:?}");
        }
        assert_eq!(parse_imap_date("1-Feb-1994"), Some(8797));
        assert_eq!(parse_imap_date("01-FEB-1994"), Some(8797));
        assert_eq!(parse_imap_date("1-February-1994"), None);
    }

    #[test]
    fn writes() {
        assert_eq!(rfc5322(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(rfc5322(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 +0000");
        assert_eq!(rfc5322(-1), "Wed, 31 Dec 1969 23:59:59 +0000");
        assert_eq!(DateTime { unix: 0, zone: -90 }.imap(), "31-Dec-1969 22:30:00 -0130");
        assert_eq!(rfc5322(i64::MAX / 2), "Fri, 31 Dec 9999 23:59:59 +0000");
        for day in (-719_528..2_932_896).step_by(97) {
            let text = DateTime::utc(day * DAY).imap();
            assert_eq!(parse_imap(&text), Some(DateTime::utc(day * DAY)), "{text}");
        }
    }
}
