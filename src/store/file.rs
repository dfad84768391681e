//! Names of message files: `TIME.M…P…Q….HOST,S=SIZE,W=VSIZE:2,FLAGS`.
//!
//! Bytes, because other programs write what they like. The base (before the colon) never changes; the info behind
//! it changes with every flag. Unknown `,X=` fields and flag letters are kept. Our own names also carry the
//! internal date (TIME, or `D…` behind the counter where APPEND gave another), so that no stat is needed for it.

use super::Flags;
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// What a name says, without the directory.
pub(super) fn base(name: &[u8]) -> &[u8] {
    memchr::memchr(b':', name).map_or(name, |at| &name[..at])
}

/// `(letters, what follows them from a second comma on)`.
fn info(name: &[u8]) -> (&[u8], &[u8]) {
    let Some(flags) = name[base(name).len()..].strip_prefix(b":2,") else { return (b"", b"") };
    flags.split_at(memchr::memchr(b',', flags).unwrap_or(flags.len()))
}

const LETTERS: [(u8, Flags); 6] =
    [(b'D', Flags::DRAFT), (b'F', Flags::FLAGGED), (b'P', Flags::PASSED), (b'R', Flags::ANSWERED), (b'S', Flags::SEEN), (b'T', Flags::DELETED)];

/// System flags, and keyword letters: bit 0 is `a`.
pub(super) fn flags(name: &[u8]) -> (Flags, u32) {
    let (mut system, mut keywords) = (Flags::default(), 0);
    for letter in info(name).0 {
        if let Some((_, flag)) = LETTERS.iter().find(|(l, _)| l == letter) {
            system = system.with(*flag);
        } else if letter.is_ascii_lowercase() {
            keywords |= 1 << (letter - b'a');
        }
    }
    (system, keywords)
}

/// The info `:2,…` for these flags, with the letters of `old` that we do not know. ASCII order, as Maildir wants.
pub(super) fn with_flags(old: &[u8], system: Flags, keywords: u32) -> Box<[u8]> {
    let (letters, tail) = info(old);
    let ours = |l: &u8| l.is_ascii_lowercase() || LETTERS.iter().any(|(known, _)| known == l);
    let mut out: Vec<u8> = letters.iter().copied().filter(|l| !ours(l)).collect();
    out.extend(known_letters(system, keywords));
    out.sort_unstable();
    out.dedup();
    [base(old), b":2,", &out, tail].concat().into()
}

fn known_letters(system: Flags, keywords: u32) -> impl Iterator<Item = u8> {
    let of_system = LETTERS.iter().filter(move |(_, f)| system.has(*f)).map(|(l, _)| *l);
    of_system.chain((0..26u8).filter(move |n| keywords & 1 << n != 0).map(|n| b'a' + n))
}

/// What [`with_flags`] appends to a base without letters that we do not know.
pub(super) fn write_info(out: &mut Vec<u8>, system: Flags, keywords: u32) {
    out.extend_from_slice(b":2,");
    out.extend(known_letters(system, keywords));
}

/// Decimal, filled up with zeros to `width`.
pub(super) fn write_decimal(out: &mut Vec<u8>, mut n: u64, width: usize) {
    let mut digits = [b'0'; 32];
    let mut at = digits.len();
    while n > 0 || at == digits.len() {
        at -= 1;
        digits[at] += (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len().saturating_sub(width))..]);
}

/// No message is larger; a name that says so is not believed, and sums do not overflow.
pub(super) const MAX_SIZE: u64 = (1 << 40) - 1;

/// `S=` and `W=`.
pub(super) fn sizes(name: &[u8]) -> (Option<u64>, Option<u64>) {
    let (mut size, mut vsize) = (None, None);
    for field in base(name).split(|b| *b == b',').skip(1) {
        match field {
            [b'S', b'=', n @ ..] => size = digits(n).filter(|n| *n <= MAX_SIZE),
            [b'W', b'=', n @ ..] => vsize = digits(n).filter(|n| *n <= MAX_SIZE),
            _ => {}
        }
    }
    (size, vsize)
}

fn digits(n: &[u8]) -> Option<u64> {
    if !n.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(n).ok()?.parse().ok()
}

/// The leading seconds and the microseconds behind `.M`, 0 without; UIDs are given in this order.
pub(super) fn time(name: &[u8]) -> (u64, u64) {
    let number = |of: &[u8]| digits(&of[..of.iter().position(|b| !b.is_ascii_digit()).unwrap_or(of.len())]).unwrap_or(0);
    let micros = skip(name).and_then(|rest| rest.strip_prefix(b".M"));
    (number(name), micros.map_or(0, number))
}

/// The internal date, from a name of ours only; files of others have it in their mtime.
pub(super) fn date(name: &[u8]) -> Option<i64> {
    let mut parts = base(name).split(|b| *b == b'.');
    let (seconds, unique) = (parts.next()?, parts.next()?);
    let rest = unique.strip_prefix(b"M")?;
    let rest = skip(rest)?.strip_prefix(b"P")?;
    let rest = skip(rest)?.strip_prefix(b"Q")?;
    match skip(rest)? {
        [] => i64::try_from(digits(seconds)?).ok(),
        [b'D', date @ ..] => std::str::from_utf8(date).ok()?.parse().ok(),
        _ => None,
    }
}

fn skip(of: &[u8]) -> Option<&[u8]> {
    let n = of.iter().take_while(|b| b.is_ascii_digit()).count();
    (n > 0).then(|| &of[n..])
}

/// The host as it may stand in a name.
pub(super) fn escape_host(host: &str) -> String {
    let mut out = String::new();
    for b in host.bytes().take(64) {
        if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_') {
            out.push(b as char);
        } else {
            let _ = write!(out, "\\{b:03o}");
        }
    }
    if out.is_empty() { "localhost".to_owned() } else { out }
}

/// A base that no other delivery on this host ever had. `date`: the internal date, when it is not `now`.
pub(super) fn fresh(host: &str, now: SystemTime, date: Option<i64>, size: u64, vsize: u64) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let t = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let q = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Padded, since files without a UID get theirs in order of name: within one second the first stays the first.
    let mut name = format!("{}.M{:06}P{}Q{q}", t.as_secs(), t.subsec_micros(), std::process::id());
    if let Some(d) = date.filter(|d| u64::try_from(*d) != Ok(t.as_secs())) {
        let _ = write!(name, "D{d}");
    }
    let _ = write!(name, ".{host},S={size},W={vsize}");
    name
}

/// Line feeds without a carriage return before them; each becomes two bytes for clients. `last` is the byte
/// before `bytes` and is moved on, so that any chunking counts the same.
pub(super) fn lone_lfs(bytes: &[u8], last: &mut u8) -> u64 {
    let Some((first, rest)) = bytes.split_first() else { return 0 };
    let mut n = u64::from(*first == b'\n' && *last != b'\r');
    // Every line has an end, so looking for them one by one costs more than comparing all pairs; a chunk's sum is a byte.
    for (before, this) in bytes.chunks(255).zip(rest.chunks(255)) {
        let lone = |(before, this): (&u8, &u8)| u8::from(*this == b'\n') & u8::from(*before != b'\r');
        n += u64::from(before.iter().zip(this).map(lone).sum::<u8>());
    }
    *last = rest.last().copied().unwrap_or(*first);
    n
}

/// Every lone LF as CRLF.
pub(super) fn to_crlf(bytes: Vec<u8>) -> Vec<u8> {
    let lone = lone_lfs(&bytes, &mut 0);
    if lone == 0 {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len() + lone as usize);
    let mut done = 0;
    for at in memchr::memchr_iter(b'\n', &bytes) {
        if at == 0 || bytes[at - 1] != b'\r' {
            out.extend_from_slice(&bytes[done..at]);
            out.push(b'\r');
            done = at;
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_the_unknown_kept() {
        const CASES: &[(&str, u8, u32, &str)] = &[
            ("1.a.h", 0, 0, "1.a.h:2,S"),
            ("1.a.h:2,", 0, 0, "1.a.h:2,S"),
            ("1.a.h:2,FRS", 1 | 2 | 4, 0, "1.a.h:2,S"),
            ("1.a.h,S=3:2,Sac", 1, 5, "1.a.h,S=3:2,S"),
            ("1.a.h:2,AXz", 0, 1 << 25, "1.a.h:2,ASX"),
            ("1.a.h:2,PT,extra=1", 8 | 32, 0, "1.a.h:2,S,extra=1"),
            ("1.a.h:1,odd", 0, 0, "1.a.h:2,S"),
        ];
        for (name, system, keywords, seen) in CASES {
            assert_eq!(flags(name.as_bytes()), (Flags(*system), *keywords), "{name}");
            assert_eq!(&*with_flags(name.as_bytes(), Flags::SEEN, 0), seen.as_bytes(), "{name}");
        }
    }

    #[test]
    fn sizes_and_dates() {
        type Sizes = (Option<u64>, Option<u64>);
        const CASES: &[(&str, Sizes, Option<i64>, u64)] = &[
            ("1276528487.M364837P9451.kurkku,S=2355,W=2420:2,S", (Some(2355), Some(2420)), None, 1_276_528_487),
            ("1276528487.M364837P9451Q0.h,S=1,W=1", (Some(1), Some(1)), Some(1_276_528_487), 1_276_528_487),
            ("9.M3P9Q0D-5.h,S=1,W=1", (Some(1), Some(1)), Some(-5), 9),
            ("9.M3P9Q0D5x.h", (None, None), None, 9),
            ("x", (None, None), None, 0),
            ("1.2.h,S=,W=x,S=+3", (None, None), None, 1),
            ("1.2.h,S=99999999999999999999", (None, None), None, 1),
            ("99999999999999999999.2.h", (None, None), None, 0),
        ];
        for (name, want, day, secs) in CASES {
            assert_eq!(sizes(name.as_bytes()), *want, "{name}");
            assert_eq!(date(name.as_bytes()), *day, "{name}");
            assert_eq!(time(name.as_bytes()).0, *secs, "{name}");
        }
        let name = fresh("h", SystemTime::UNIX_EPOCH, Some(77), 3, 4);
        assert_eq!((date(name.as_bytes()), sizes(name.as_bytes())), (Some(77), (Some(3), Some(4))));
        assert_eq!(escape_host("a/b:c,d e"), "a\\057b\\072c\\054d\\040e");
    }

    #[test]
    fn line_ends() {
        const CASES: &[(&str, &str)] = &[("", ""), ("\n", "\r\n"), ("a\nb\r\nc\n\n", "a\r\nb\r\nc\r\n\r\n"), ("\r\r\n\r", "\r\r\n\r")];
        for (unix, wire) in CASES {
            assert_eq!(to_crlf(unix.as_bytes().to_vec()), wire.as_bytes(), "{unix:?}");
            let (mut last, mut n) = (0, 0);
            for b in unix.bytes() {
                n += lone_lfs(&[b], &mut last);
            }
            assert_eq!(n as usize, wire.len() - unix.len(), "one byte at a time: {unix:?}");
        }
    }

    #[test]
    fn later_names_come_later() {
        let name = |micros: u64| fresh("h", SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_000_000 + micros), None, 1, 1);
        let names: Vec<String> = [0, 9, 10, 99_999, 100_000, 999_999].map(name).into();
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn who_came_first() {
        let names: [&[u8]; 5] = [b"odd", b"1.M5P9.h", b"1.M99999P1.h,S=1:2,", b"1.M100000P1.h", b"2.1_0.h"];
        assert!(names.is_sorted_by(|a, b| time(a) < time(b)));
    }
}
