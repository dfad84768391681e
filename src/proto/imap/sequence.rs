//! `sequence-set` (RFC 3501 §9): numbers and ranges, `*` for the last message.

use super::{
    cursor::{Cursor, Parse},
    response,
};

/// As the client wrote it; bounded by the length of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SequenceSet(Vec<(u32, u32)>);

/// `*`: no sequence number and no UID is 0.
const LAST: u32 = 0;

impl SequenceSet {
    pub fn parse(c: &mut Cursor<'_>) -> Parse<Self> {
        let mut ranges = Vec::new();
        loop {
            let from = number(c)?;
            let to = if c.eat(b':') { number(c)? } else { from };
            ranges.push((from, to));
            if !c.eat(b',') {
                return Ok(Self(ranges));
            }
        }
    }
    /// Ranges ascending, without overlaps, `*` being `last`. An empty folder (`last` 0) has none.
    ///
    /// `9:*` in a folder whose last message is 5 means 5 (RFC 3501 §6.4.8); `*` in an empty one means nothing.
    pub fn ranges(&self, last: u32) -> Vec<(u32, u32)> {
        if last == 0 {
            return Vec::new();
        }
        let number = |n| if n == LAST { last } else { n };
        let mut all: Vec<_> = self.0.iter().map(|&(a, b)| (number(a).min(number(b)), number(a).max(number(b)))).collect();
        all.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (from, to) in all {
            match out.last_mut() {
                Some(before) if from <= before.1.saturating_add(1) => before.1 = before.1.max(to),
                _ => out.push((from, to)),
            }
        }
        out
    }
    /// Whether `*` is named.
    pub fn has_last(&self) -> bool {
        self.0.iter().any(|&(a, b)| a == LAST || b == LAST)
    }
    /// Whether every number is above the one before it, as written.
    pub fn is_ascending(&self) -> bool {
        let forward = self.0.iter().all(|(a, b)| a <= b);
        forward && self.0.iter().zip(self.0.iter().skip(1)).all(|(a, b)| a.1 < b.0)
    }
    /// The numbers as written, where no `*` is.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|&(a, b)| a..=b)
    }
    /// How many these are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(a, b)| u64::from(b.saturating_sub(a)) + 1).sum()
    }
    /// The largest number that is named, `*` aside: a sequence number above the folder's size is an error.
    pub fn largest(&self) -> u32 {
        self.0.iter().map(|&(a, b)| a.max(b)).max().unwrap_or(0)
    }
}

fn number(c: &mut Cursor<'_>) -> Parse<u32> {
    if c.eat(b'*') { Ok(LAST) } else { c.non_zero() }
}

/// Ascending numbers as `1:3,5`.
pub fn write(out: &mut Vec<u8>, numbers: &[u32]) {
    for (i, range) in runs(numbers.iter().copied()).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_range(out, range);
    }
}

pub fn write_range(out: &mut Vec<u8>, (first, last): (u32, u32)) {
    response::number(out, first.into());
    if last > first {
        out.push(b':');
        response::number(out, last.into());
    }
}

/// Numbers that follow one another, as ranges.
pub fn runs(numbers: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, u32)> {
    let mut numbers = numbers.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|n| last.checked_add(1) == Some(*n)) {
            last = next;
        }
        Some((first, last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets() {
        type Ranges = Option<&'static [(u32, u32)]>;
        const CASES: &[(&str, u32, Ranges)] = &[
            ("1", 9, Some(&[(1, 1)])),
            ("2,4:7,9,12:*", 15, Some(&[(2, 2), (4, 7), (9, 9), (12, 15)])),
            ("*:4,5:7", 10, Some(&[(4, 10)])),
            ("7:5", 10, Some(&[(5, 7)])),
            ("*", 3, Some(&[(3, 3)])),
            ("559:*", 5, Some(&[(5, 559)])),
            ("1:4294967295,4294967295,*", 5, Some(&[(1, u32::MAX)])),
            ("1:*", 0, Some(&[])),
            ("0", 5, None),
            ("1:", 5, None),
            ("1,", 5, None),
            ("", 5, None),
            ("4294967296", 5, None),
            ("$", 5, None),
        ];
        for (text, last, want) in CASES {
            let got = SequenceSet::parse(&mut Cursor::new(text.as_bytes())).ok().map(|s| s.ranges(*last));
            assert_eq!(got.as_deref(), *want, "{text}");
        }
    }
    #[test]
    fn written() {
        const CASES: &[(&[u32], &str)] = &[
            (&[], ""),
            (&[1], "1"),
            (&[1, 2, 3, 5], "1:3,5"),
            (&[4, 6, 7], "4,6:7"),
            (&[u32::MAX - 1, u32::MAX], "4294967294:4294967295"),
            // COPYUID's order is what counts, should a store ever give out descending UIDs.
            (&[3, 2], "3,2"),
        ];
        for (numbers, want) in CASES {
            let mut out = Vec::new();
            write(&mut out, numbers);
            assert_eq!(String::from_utf8(out).unwrap(), *want);
        }
    }
}
