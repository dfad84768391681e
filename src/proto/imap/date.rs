//! Dates of RFC 3501 §9: `date` in SEARCH, `date-time` in APPEND and INTERNALDATE. Days and seconds since 1970.

use super::cursor::{Cursor, Parse};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days since 1970-01-01 of a day in the Gregorian calendar; any month and day are taken, so 31 February is a day in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day comes last (H. Hinnant's algorithm).
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * m + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month from 1, day from 1.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let m = (5 * doy + 2) / 153;
    let day = doy - (153 * m + 2) / 5 + 1;
    let month = if m < 10 { m + 3 } else { m - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn digits(c: &mut Cursor<'_>, min: usize, max: usize) -> Parse<i64> {
    let n = c.rest().iter().take_while(|b| b.is_ascii_digit()).count();
    if n < min || n > max {
        return c.fail("a date");
    }
    c.number().map(i64::from)
}

fn day_month_year(c: &mut Cursor<'_>) -> Parse<i64> {
    let day = digits(c, 1, 2)?;
    c.want(b'-', "- in a date")?;
    let name = c.rest().get(..3).unwrap_or_default();
    let Some(month) = MONTHS.iter().position(|m| m.as_bytes().eq_ignore_ascii_case(name)) else { return c.fail("a month") };
    for &b in name {
        c.eat(b);
    }
    c.want(b'-', "- in a date")?;
    let year = digits(c, 4, 4)?;
    if !(1..=31).contains(&day) {
        return c.fail("a day of the month");
    }
    Ok(days(year, month as i64 + 1, day))
}

/// `date`: `1-Feb-1994`, quoted or not. Days since 1970.
pub fn parse_date(c: &mut Cursor<'_>) -> Parse<i64> {
    let quoted = c.eat(b'"');
    let day = day_month_year(c)?;
    if quoted {
        c.want(b'"', "a closing quote")?;
    }
    Ok(day)
}

/// `date-time`: `"17-Jul-1996 02:44:25 -0700"`. Seconds since 1970.
pub fn parse_date_time(c: &mut Cursor<'_>) -> Parse<i64> {
    c.want(b'"', "a date in quotes")?;
    c.eat(b' '); // date-day-fixed pads with a space
    let day = day_month_year(c)?;
    c.want(b' ', "a space")?;
    let hour = digits(c, 2, 2)?;
    c.want(b':', ":")?;
    let minute = digits(c, 2, 2)?;
    c.want(b':', ":")?;
    let second = digits(c, 2, 2)?;
    c.want(b' ', "a space")?;
    let west = c.eat(b'-');
    if !west {
        c.want(b'+', "a time zone")?;
    }
    let zone = digits(c, 4, 4)?;
    c.want(b'"', "a closing quote")?;
    if hour > 23 || minute > 59 || second > 60 {
        return c.fail("a time of day");
    }
    let offset = (zone / 100 * 60 + zone % 100) * 60;
    Ok(day * 86_400 + hour * 3600 + minute * 60 + second - if west { -offset } else { offset })
}

/// `date-time` in UTC, with its quotes.
pub fn write_date_time(out: &mut Vec<u8>, seconds: i64) {
    // Years outside 1..9999 have no spelling; a file's time may still be anything.
    let seconds = seconds.clamp(days(1, 1, 1) * 86_400, days(9999, 12, 31) * 86_400);
    let (day, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (y, m, d) = civil(day);
    let month = MONTHS.get(usize::try_from(m - 1).unwrap_or_default()).unwrap_or(&"Jan");
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    out.extend_from_slice(format!("\"{d:2}-{month}-{y:04} {hour:02}:{minute:02}:{second:02} +0000\"").as_bytes());
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
            ("1-Jan-70", None),
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
        let mut out = Vec::new();
        write_date_time(&mut out, i64::MIN);
        write_date_time(&mut out, i64::MAX);
    }
}
