//! Encoded words in header values (RFC 2047).

use super::decode::{Charset, base64, escaped};

/// A header value as text. Adjacent words in one charset are joined before decoding, since programs split
/// characters between them; white space between words goes. Raw octets outside are UTF-8 or else windows-1252.
pub fn encoded_words(value: &[u8]) -> String {
    let mut text = String::with_capacity(value.len());
    let mut pending: Option<(Vec<u8>, Vec<u8>)> = None; // charset, octets
    let mut rest = value;
    while let Some(start) = memchr::memmem::find(rest, b"=?") {
        let (before, from) = rest.split_at(start);
        let Some((word, after)) = word(from) else {
            flush(&mut pending, &mut text);
            push_plain(rest.get(..start + 2).unwrap_or_default(), &mut text);
            rest = from.get(2..).unwrap_or_default();
            continue;
        };
        if pending.is_none() || !before.iter().all(u8::is_ascii_whitespace) {
            flush(&mut pending, &mut text);
            push_plain(before, &mut text);
        }
        match &mut pending {
            Some((charset, octets)) if charset.eq_ignore_ascii_case(word.charset) => word.decode(octets),
            _ => {
                flush(&mut pending, &mut text);
                let mut octets = Vec::new();
                word.decode(&mut octets);
                pending = Some((word.charset.to_vec(), octets));
            }
        }
        rest = after;
    }
    flush(&mut pending, &mut text);
    push_plain(rest, &mut text);
    text
}

fn flush(pending: &mut Option<(Vec<u8>, Vec<u8>)>, text: &mut String) {
    if let Some((charset, octets)) = pending.take() {
        text.push_str(&Charset::named(&charset).decode(&octets));
    }
}

fn push_plain(octets: &[u8], text: &mut String) {
    match std::str::from_utf8(octets) {
        Ok(plain) => text.push_str(plain),
        Err(_) => text.push_str(&Charset::Guess.decode(octets)),
    }
}

struct Word<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
}

impl Word<'_> {
    fn decode(&self, out: &mut Vec<u8>) {
        if self.base64 {
            out.extend(base64(self.text, usize::MAX));
        } else {
            let spaced: Vec<u8> = self.text.iter().map(|b| if *b == b'_' { b' ' } else { *b }).collect();
            escaped(&spaced, b'=', out);
        }
    }
}

/// A word at the start of the text, and what follows it. Spaces inside are let pass: many programs write them.
fn word(text: &[u8]) -> Option<(Word<'_>, &[u8])> {
    let text = text.strip_prefix(b"=?")?;
    let (charset, text) = split_at_mark(text)?;
    let (encoding, text) = split_at_mark(text)?;
    let (body, text) = split_at_mark(text)?;
    let after = text.strip_prefix(b"=")?;
    let charset = charset.split(|b| *b == b'*').next()?; // RFC 2231 §5: charset*language
    if charset.is_empty() || !charset.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    let base64 = match encoding {
        b"B" | b"b" => true,
        b"Q" | b"q" => false,
        _ => return None,
    };
    Some((Word { charset, base64, text: body }, after))
}

fn split_at_mark(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b'?', text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&[u8], &str)] = &[
        (b"", ""),
        (b"plain text", "plain text"),
        (b"=?ISO-8859-1?Q?a?=", "a"),
        (b"=?ISO-8859-1?Q?a?= b", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a?=  \r\n  =?ISO-8859-1?Q?b?=", "ab"),
        (b"=?ISO-8859-1?Q?a_b?=", "a b"),
        (b"=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
        (b"=?utf-8?q?=5F_=3F?=", "_ ?"),
        (b"=?utf-8?b?w?= =?utf-8?B?7w=?=", "\u{fffd}"),
        (b"=?utf-8?q?=C3?= =?UTF-8?q?=BC?=", "\u{fc}"),
        (b"=?utf-8*de?q?=C3=BC?=", "\u{fc}"),
        (b"=?utf-8?q?with space?=", "with space"),
        (b"pre=?utf-8?q?x?=post", "prexpost"),
        (b"=?utf-8?q?x?=\"=?utf-8?q?y?=", "x\"y"),
        (b"=?utf-8?x?x?=", "=?utf-8?x?x?="),
        (b"=?utf-8?q?x", "=?utf-8?q?x"),
        (b"=??q?x?=", "=??q?x?="),
        (b"=?=?utf-8?q?x?=", "=?x"),
        (b"=?iso-2022-jp?b?GyRCRnxLXBsoQg==?=", "\u{65e5}\u{672c}"),
        (b"=?utf-7?q?+AOQ-?=", "\u{e4}"),
        (b"=?nonsense?q?=FC?=", "\u{fc}"),
        (b"raw \xc3\xbc", "raw \u{fc}"),
        (b"raw \xfc", "raw \u{fc}"),
    ];

    #[test]
    fn words() {
        for (value, text) in CASES {
            assert_eq!(encoded_words(value), *text, "{}", String::from_utf8_lossy(value));
            for cut in 0..value.len() {
                let _ = encoded_words(&value[..cut]);
            }
        }
    }

    #[test]
    fn hostile_lengths() {
        for piece in [&b"=?"[..], b"=?a?q?", b"=?a?q?x?= ", b"?=", b"=?a"] {
            let _ = encoded_words(&piece.repeat(50_000));
        }
    }
}
