//! Out of the transfer encodings (RFC 2045 §6) and out of charsets, into UTF-8. Lenient: real mail is broken in every
//! way, and what cannot be decoded stays readable as far as it goes.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use mail_parser::decoders::charsets::DecoderFnc;

pub use super::words::encoded_words;

/// How octets become text.
#[derive(Clone, Copy, Debug)]
pub enum Charset {
    Known(&'static Encoding),
    /// What encoding_rs leaves out: UTF-7, code page 850.
    Rare(DecoderFnc),
    /// None, `us-ascii`, or one nobody knows: UTF-8 when the octets are valid UTF-8, else windows-1252.
    Guess,
}

impl Charset {
    /// By its MIME name, without case.
    pub fn named(label: &[u8]) -> Self {
        let label = super::header::trim(label);
        if label.is_empty() || label.eq_ignore_ascii_case(b"us-ascii") {
            return Self::Guess;
        }
        if let Some(encoding) = Encoding::for_label_no_replacement(label) {
            return Self::Known(encoding);
        }
        // Its table also maps hostile or dead charsets to U+FFFD; a guess shows more of the text.
        match mail_parser::decoders::charsets::map::charset_decoder(label) {
            Some(decoder) if is_rare(label) => Self::Rare(decoder),
            _ => Self::Guess,
        }
    }

    /// Never fails: what is malformed becomes U+FFFD.
    pub fn decode(self, octets: &[u8]) -> String {
        match self {
            Self::Known(encoding) => encoding.decode(octets).0.into_owned(),
            Self::Rare(decoder) => decoder(octets),
            Self::Guess => match std::str::from_utf8(octets) {
                Ok(text) => text.to_owned(),
                Err(e) if is_cut_short(&e, octets) => UTF_8.decode_without_bom_handling(octets).0.into_owned(),
                Err(_) => WINDOWS_1252.decode_without_bom_handling(octets).0.into_owned(),
            },
        }
    }
}

fn is_rare(label: &[u8]) -> bool {
    let starts = |prefix: &[u8]| label.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
    [&b"utf"[..], b"unicode", b"csutf", b"csunicode", b"ucs", b"iso-10646", b"cp8", b"ibm", b"8", b"cspc8"].into_iter().any(starts)
}

/// UTF-8 whose last character a size limit cut in two.
fn is_cut_short(error: &std::str::Utf8Error, octets: &[u8]) -> bool {
    error.error_len().is_none() && error.valid_up_to() > 0 && octets.len() - error.valid_up_to() < 4
}

/// The octets behind a Content-Transfer-Encoding, at most `max` of them. `None` when the encoding is unknown
/// (BINARY answers UNKNOWN-CTE then, RFC 9051 §7.1). The name must be in lower case, as in
/// [`super::mime::Part::encoding`].
pub fn transfer<'a>(encoding: &str, body: &'a [u8], max: usize) -> Option<Cow<'a, [u8]>> {
    match encoding {
        "7bit" | "8bit" | "binary" | "" => Some(Cow::Borrowed(body.get(..max).unwrap_or(body))),
        "base64" => Some(Cow::Owned(base64(body, max))),
        "quoted-printable" => Some(Cow::Owned(quoted_printable(body, max))),
        "x-uuencode" | "uuencode" | "x-uue" | "uue" => uuencoded(body, max).map(Cow::Owned),
        _ => None,
    }
}

/// RFC 2045 §6.8; everything outside the alphabet is passed over, padding ends a group and not the text, since
/// some programs join encoded pieces.
pub(super) fn base64(text: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity((text.len() / 4 * 3).min(max));
    let (mut bits, mut count) = (0u32, 0u32);
    for b in text {
        if out.len() >= max {
            break;
        }
        let value = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                (bits, count) = (0, 0);
                continue;
            }
            _ => continue,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from((bits >> count) & 0xff).unwrap_or(0));
        }
    }
    out
}

/// RFC 2045 §6.7; `=` before anything but two hex digits or a line end stands for itself.
fn quoted_printable(text: &[u8], max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len().min(max));
    let mut at = 0;
    while at < text.len() && out.len() < max {
        let end = super::header::line_end(text, at, text.len());
        let whole = text.get(at..end).unwrap_or_default();
        at = end;
        let bare = whole.strip_suffix(b"\n").map_or(whole, |l| l.strip_suffix(b"\r").unwrap_or(l));
        // Trailing white space was added on the way (rule 3).
        let line = bare.get(..bare.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |last| last + 1)).unwrap_or_default();
        match line.strip_suffix(b"=") {
            Some(soft) => escaped(soft, b'=', &mut out),
            None => {
                escaped(line, b'=', &mut out);
                out.extend_from_slice(whole.get(bare.len()..).unwrap_or_default());
            }
        }
    }
    out.truncate(max);
    out
}

/// Octets written as a sign and two hex digits: quoted-printable, encoded words, RFC 2231's percent signs.
pub(super) fn escaped(text: &[u8], sign: u8, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(sign, rest) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let hex = |n: usize| tail.get(n).and_then(|b| char::from(*b).to_digit(16));
        let octet = hex(1).zip(hex(2)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        out.push(octet.unwrap_or(sign));
        rest = tail.get(if octet.is_some() { 3 } else { 1 }..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// From the `begin` line to `end`; `None` when there is no `begin`.
fn uuencoded(text: &[u8], max: usize) -> Option<Vec<u8>> {
    let start = if text.starts_with(b"begin ") { 0 } else { memchr::memmem::find(text, b"\nbegin ")? + 1 };
    let mut out = Vec::new();
    let mut at = super::header::line_end(text, start, text.len());
    while let Some(line) = super::header::line(text, at, text.len()) {
        at = super::header::line_end(text, at, text.len());
        let line = super::header::slice(text, &line);
        let Some((&count, groups)) = line.split_first() else { continue };
        let count = usize::from(count.wrapping_sub(b' ') & 63);
        if line == b"end" || count == 0 || out.len() >= max {
            break;
        }
        let full = out.len() + count;
        for group in groups.chunks(4) {
            let six = |n: usize| u32::from(group.get(n).map_or(0, |b| b.wrapping_sub(b' ') & 63));
            let octets = ((six(0) << 18) | (six(1) << 12) | (six(2) << 6) | six(3)).to_be_bytes();
            out.extend_from_slice(octets.get(1..).unwrap_or_default());
        }
        out.truncate(full);
    }
    out.truncate(max);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers() {
        let cases: &[(&str, &[u8], &[u8])] = &[
            ("7bit", b"a=41", b"a=41"),
            ("base64", b"aGVs\r\nbG8=\r\n", b"hello"),
            ("base64", b"aGVsbG8", b"hello"),
            ("base64", b"aGk=aGk=", b"hihi"),
            ("base64", b"a!G k\0", b"hi"),
            ("base64", b"a", b""),
            ("base64", b"====", b""),
            ("quoted-printable", b"a=3Db=3d", b"a=b="),
            ("quoted-printable", b"soft=\r\nbreak= \t\r\nhere=\nend\r\n", b"softbreakhereend\r\n"),
            ("quoted-printable", b"trailing \t\r\nx=20\r\n", b"trailing\r\nx \r\n"),
            ("quoted-printable", b"bad =ZZ =4", b"bad =ZZ =4"),
            ("quoted-printable", b"=", b""),
            ("quoted-printable", b"\n\r\n", b"\n\r\n"),
            ("uuencode", b"junk\nbegin 644 x\n#0V%T\n`\nend\n", b"Cat"),
            ("uuencode", b"begin 644 x\r\n&0V%T0V%T\r\n!00\n`\r\nend\n", b"CatCatA"),
        ];
        for (encoding, body, octets) in cases {
            assert_eq!(transfer(encoding, body, usize::MAX).as_deref(), Some(*octets), "{encoding} {:?}", String::from_utf8_lossy(body));
            for cut in 0..body.len() {
                let whole = transfer(encoding, &body[..cut], usize::MAX);
                let bounded = transfer(encoding, &body[..cut], 2);
                assert!(bounded.as_ref().is_none_or(|b| b.len() <= 2));
                assert_eq!(bounded.as_deref(), whole.as_deref().map(|w| &w[..w.len().min(2)]), "{encoding} {cut}");
            }
        }
        assert_eq!(transfer("x-unknown", b"a", 10), None);
        assert_eq!(transfer("uuencode", b"no begin", 10), None);
    }

    #[test]
    fn charsets() {
        let cases: &[(&str, &[u8], &str)] = &[
            ("utf-8", b"\xc3\xbc\xff", "ü\u{fffd}"),
            ("UTF8", "ü".as_bytes(), "ü"),
            ("iso-8859-15", b"\xa4", "€"),
            ("latin1", b"\xfc", "ü"),
            ("windows-1251", b"\xcf", "П"),
            ("koi8-r", b"\xf0", "П"),
            ("gb2312", b"\xc4\xe3", "你"),
            ("big5", b"\xa7A", "你"),
            ("shift_jis", b"\x83n", "ハ"),
            ("iso-2022-jp", b"\x1b$B%O\x1b(B", "ハ"),
            ("utf-16", b"\xfe\xff\x00\xe1", "á"),
            ("utf-7", b"+ZYeB9A-", "文致"),
            ("cp850", b"\x81", "ü"),
            ("us-ascii", "ü".as_bytes(), "ü"),
            ("", b"\xfc", "ü"),
            ("", b"cut \xc3", "cut \u{fffd}"),
            ("unknown-8bit", b"\xfc", "ü"),
            ("iso-2022-kr", b"abc", "abc"),
            (" utf-8 ", b"a", "a"),
        ];
        for (label, octets, text) in cases {
            assert_eq!(Charset::named(label.as_bytes()).decode(octets), *text, "{label}");
        }
        assert_eq!(Charset::named(&b"x".repeat(1 << 16)).decode(b"a"), "a");
    }
}
