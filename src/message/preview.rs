//! The first words of a message, to show beside its subject (RFC 8970): what somebody wrote, without markup and quotes.

use super::{
    mime::{Part, Structure},
    search::leaf_text,
};

/// RFC 8970 §3.3: 200 characters should do.
pub const MAX_CHARS: usize = 200;
/// So much of a text is decoded, in octets; HTML begins with pages of style sheets.
const PLAIN: usize = 2 << 10;
const HTML: usize = 32 << 10;

/// One line, at most [`MAX_CHARS`] characters, no control characters. Empty where there is no text to show.
pub fn preview(message: &[u8], structure: &Structure) -> String {
    let shown = |part: &&Part| part.disposition.as_ref().is_none_or(|(kind, _)| kind != "attachment") && !part.body.is_empty();
    let texts = |subtype| structure.leaves().filter(shown).find(|part| part.is("text", subtype));
    let Some(part) = texts("plain").or_else(|| texts("html")) else { return String::new() };
    let html = |part: &Part| part.subtype == "html";
    let Some(text) = leaf_text(message, part, if html(part) { HTML } else { PLAIN }) else { return String::new() };
    if html(part) {
        return squeeze(&without_markup(&text));
    }
    let own = text.lines().filter(|line| !line.starts_with('>')).fold(String::new(), |all, line| all + line + "\n");
    let own = squeeze(&own);
    if own.is_empty() { squeeze(&text) } else { own }
}

/// White space and control characters as single spaces.
fn squeeze(text: &str) -> String {
    let mut out = String::new();
    let (mut count, mut space) = (0, false);
    for c in text.chars() {
        // U+FEFF and the like take no room and say nothing; mail programs fill previews with them.
        if matches!(c, '\u{ad}' | '\u{34f}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}') {
            continue;
        }
        if c.is_whitespace() || c.is_control() {
            space = count > 0;
            continue;
        }
        count += 1 + usize::from(space);
        if count > MAX_CHARS {
            break;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push(c);
    }
    out
}

/// What HTML says to a reader. No parser: what is malformed shows or does not, as it comes. Linear.
fn without_markup(html: &str) -> String {
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = memchr::memchr2(b'<', b'&', rest.as_bytes()) {
        let (text, tail) = rest.split_at(at);
        out.push_str(text);
        if out.len() > 16 * MAX_CHARS {
            return out;
        }
        if let Some(entity) = tail.strip_prefix('&') {
            let (c, len) = character(entity);
            out.push(c);
            rest = entity.get(len..).unwrap_or_default();
            continue;
        }
        let Some(end) = (if tail.starts_with("<!--") { tail.find("-->").map(|n| n + 3) } else { tail.find('>').map(|n| n + 1) }) else { return out };
        let (tag, behind) = tail.split_at(end);
        rest = behind;
        let name = tag.get(1..).unwrap_or_default().split(|c: char| !c.is_ascii_alphanumeric() && c != '/').next().unwrap_or_default();
        match ["style", "script", "head", "title"].iter().find(|n| name.eq_ignore_ascii_case(n)) {
            // Nothing but its end tag ends it.
            Some(silent) => rest = behind_end(rest, silent).unwrap_or_default(),
            None if ["b", "i", "u", "em", "strong", "span", "a", "font"].iter().any(|n| name.trim_start_matches('/').eq_ignore_ascii_case(n)) => {}
            None => out.push(' '),
        }
    }
    out + rest
}

/// What follows `</name…>`.
fn behind_end<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find("</")? + 2;
        if text.get(at..at + name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)) {
            let end = text.get(at..)?.find('>')?;
            return text.get(at + end + 1..);
        }
        from = at;
    }
}

/// The character that `name;` stands for, and the length of that; an ampersand where it is none we know.
fn character(entity: &str) -> (char, usize) {
    let known = entity.get(..entity.len().min(10)).or_else(|| entity.get(..entity.char_indices().take(10).last().map_or(0, |(at, _)| at)));
    let Some((name, _)) = known.unwrap_or_default().split_once(';') else { return ('&', 0) };
    let number = || {
        let digits = name.strip_prefix('#')?;
        let hex = digits.strip_prefix(['x', 'X']);
        char::from_u32(hex.map_or_else(|| digits.parse().ok(), |h| u32::from_str_radix(h, 16).ok())?)
    };
    let c = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" | "zwnj" | "zwj" | "shy" => Some(' '),
        _ => number(),
    };
    c.map_or(('&', 0), |c| (c, name.len() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        preview(message.as_bytes(), &Structure::scan(message.as_bytes()))
    }

    #[test]
    fn first_words() {
        let html = "Content-Type: text/html; charset=utf-8\r\n\r\n";
        let cases = [
            (String::new(), ""),
            ("Subject: x\r\n\r\nHello\r\n\tthere,\r\n\r\n world \r\n".to_owned(), "Hello there, world"),
            ("Subject: x\r\n\r\n> quoted\r\n> more\r\n\r\nmine\r\n> again\r\n".to_owned(), "mine"),
            ("Subject: x\r\n\r\n> only\r\n> quotes\r\n".to_owned(), "> only > quotes"),
            ("Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n".to_owned(), "Grüße"),
            ("Content-Type: application/pdf\r\n\r\nJVBERi0=".to_owned(), ""),
            ("Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR".to_owned(), ""),
            ("Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nlog".to_owned(), ""),
            (
                "Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>html\r\n\
                 --b\r\n\r\nplain\r\n--b--\r\n"
                    .to_owned(),
                "plain",
            ),
            (
                format!(
                    "{html}<html><HEAD><title>T</title><style>p > a {{}}</style></Head><body><!-- <p>no --><p>One &amp; <b>t</b>wo&nbsp;&lt;3\
                     <br>&#8364; &#x1F600; &bogus; &amp</p><script>if (a < b)</script>end"
                ),
                "One & two <3 € 😀 &bogus; &amp end",
            ),
            (format!("{html}a <broken"), "a"),
            (format!("{html}<style>never ends"), ""),
            (format!("{html}&#0;&#xD800;a\u{200b}\u{feff}b&ü"), "&#xD800;ab&ü"),
        ];
        for (message, expect) in cases {
            assert_eq!(of(&message), expect, "{message}");
        }
    }

    #[test]
    fn no_longer_than_promised() {
        for text in ["ab ", "ü", "😀 😀", "<p>&amp;</p>"] {
            for kind in ["plain", "html"] {
                let shown = of(&format!("Content-Type: text/{kind}; charset=utf-8\r\n\r\n{}", text.repeat(5000)));
                assert!((MAX_CHARS - 2..=MAX_CHARS).contains(&shown.chars().count()), "{text}: {shown}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(<|>|&|;|#|/|-|!|style|</style>|ü|[a-z0-9 ]){0,40}") {
            let shown = squeeze(&without_markup(&text));
            proptest::prop_assert!(shown.chars().count() <= MAX_CHARS && !shown.contains(char::is_control));
        }
    }
}
