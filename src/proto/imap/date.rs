//! Dates of RFC 3501 §9 in a command: `date` in SEARCH, `date-time` in APPEND; and INTERNALDATE's.

use super::cursor::{Cursor, Parse};
use crate::message::date;

/// `date`: `1-Feb-1994`, quoted or not. Days since 1970.
pub fn parse_date(c: &mut Cursor<'_>) -> Parse<i64> {
    let start = c.clone();
    let text = c.text("a date")?;
    date::parse_imap_date(&text).ok_or(()).or_else(|()| start.fail("a date, 1-Feb-1994"))
}

/// `date-time`: `"17-Jul-1996 02:44:25 -0700"`. Seconds since 1970.
pub fn parse_date_time(c: &mut Cursor<'_>) -> Parse<i64> {
    let start = c.clone();
    let text = c.text("a date in quotes")?;
    date::parse_imap(&text).map(|d| d.unix).ok_or(()).or_else(|()| start.fail("a date, \"17-Jul-1996 02:44:25 -0700\""))
}

/// `date-time` in UTC, with its quotes.
pub fn write_date_time(out: &mut Vec<u8>, seconds: i64) {
    out.extend_from_slice(format!("\"{}\"", date::DateTime::utc(seconds).imap()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        const CASES: &[(&str, Option<i64>)] = &[
            ("1-Jan-1970", Some(0)),
            ("1-Feb-1994", Some(8797)),
            ("\"01-feb-1994\"", Some(8797)),
            ("29-Feb-2000", Some(11016)),
            ("31-Dec-1969", Some(-1)),
            ("0-Jan-1970", None),
            ("1-Foo-1970", None),
            ("1/2/1970", None),
        ];
        for (text, want) in CASES {
            assert_eq!(parse_date(&mut Cursor::new(text.as_bytes())).ok(), *want, "{text}");
        }
    }
    #[test]
    fn date_times_there_and_back() {
        const CASES: &[(&str, i64, &str)] = &[
            ("\"17-Jul-1996 02:44:25 -0700\"", 837_596_665, "\"17-Jul-1996 09:44:25 +0000\""),
            ("\" 1-Jan-1970 00:00:00 +0000\"", 0, "\" 1-Jan-1970 00:00:00 +0000\""),
            ("\"31-Dec-1969 23:59:59 +0000\"", -1, "\"31-Dec-1969 23:59:59 +0000\""),
            ("\"29-Feb-2024 12:00:00 +0530\"", 1_709_188_200, "\"29-Feb-2024 06:30:00 +0000\""),
        ];
        for (text, seconds, utc) in CASES {
            assert_eq!(parse_date_time(&mut Cursor::new(text.as_bytes())), Ok(*seconds), "{text}");
            let mut out = Vec::new();
            write_date_time(&mut out, *seconds);
            assert_eq!(String::from_utf8(out).unwrap(), *utc);
        }
        for bad in ["17-Jul-1996 02:44:25 -0700", "\"17-Jul-1996 24:44:25 -0700\"", "\"17-Jul-1996\"", "\""] {
            assert!(parse_date_time(&mut Cursor::new(bad.as_bytes())).is_err(), "{bad}");
        }
    }
}
