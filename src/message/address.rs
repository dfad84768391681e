//! Addresses as they stand in an envelope: `local-part@domain` (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! Stricter than the field parser in [`super::address_list`]: what passes here may be written into a path,
//! a log line or an SMTP command without a second look.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Octets as written (quotes and backslashes counted). RFC 5321 §4.5.3.1.1 says 64, and that more may be met: senders
/// made by SRS, VERP and BATV are longer.
const MAX_LOCAL: usize = 255;
/// RFC 5321 §4.5.3.1.2, octets of the A-label form.
const MAX_DOMAIN: usize = 255;

/// An envelope address. `local` is unquoted and keeps its case; `domain` is lower case, U-labels as given
/// turned into A-labels (`xn--…`), an address literal keeps its brackets and is written in its canonical form
/// (`[192.0.2.1]`, `[IPv6:2001:db8::1]`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Address {
    pub local: String,
    pub domain: String,
}

impl Address {
    /// From `local@domain`, `"quoted local"@domain` or `local@[192.0.2.1]`. `None` when it is none of these.
    /// The local part may be UTF-8; callers that did not see SMTPUTF8 check [`Address::is_ascii`].
    /// At most 255 octets before the `@` and 255 after it.
    pub fn parse(text: &str) -> Option<Self> {
        let (local, rest) = split_local(text)?;
        let domain = domain_or_literal(rest.strip_prefix('@')?)?;
        Some(Self { local, domain })
    }

    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }

    /// The domain as people read it: A-labels turned into U-labels where they are valid, else as it is.
    pub fn unicode_domain(&self) -> String {
        if self.domain.starts_with('[') {
            return self.domain.clone();
        }
        let (text, valid) = idna::domain_to_unicode(&self.domain);
        if valid.is_ok() { text } else { self.domain.clone() }
    }
}

/// With the local part quoted where it must be.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.local) {
            return write!(f, "{}@{}", self.local, self.domain);
        }
        f.write_str("\"")?;
        for c in self.local.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain)
    }
}

/// A domain name or an address literal in the form that [`Address::domain`] has: for `EHLO`, configuration, DNS.
pub fn domain_or_literal(text: &str) -> Option<String> {
    match text.strip_prefix('[') {
        Some(rest) => literal(rest.strip_suffix(']')?),
        None => domain(text),
    }
}

/// A domain name in lower case and A-labels. Letters, digits, hyphens, and underscores, which real hosts carry in
/// spite of RFC 5321; no label above 63 octets, no trailing dot, at most 255 octets.
pub fn domain(text: &str) -> Option<String> {
    let ascii = if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else if text.len() > 4 * MAX_DOMAIN {
        return None; // a U-label has at most four octets a letter; spare IDNA the megabyte
    } else {
        idna::domain_to_ascii_cow(text.as_bytes(), idna::AsciiDenyList::EMPTY).ok()?
    };
    let valid = ascii.len() <= MAX_DOMAIN && ascii.split('.').all(is_label);
    valid.then(|| ascii.into_owned())
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let hyphen = |b: Option<&u8>| b == Some(&b'-');
    let letters = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    (1..=63).contains(&bytes.len()) && !hyphen(bytes.first()) && !hyphen(bytes.last()) && bytes.iter().all(letters)
}

fn literal(text: &str) -> Option<String> {
    if let Some(tag) = text.get(..5)
        && tag.eq_ignore_ascii_case("IPv6:")
    {
        let ip: Ipv6Addr = text.get(5..)?.parse().ok()?;
        return Some(format!("[IPv6:{ip}]"));
    }
    let ip: Ipv4Addr = text.parse().ok()?;
    Some(format!("[{ip}]"))
}

/// The local part unquoted, and the text from the `@` on.
fn split_local(text: &str) -> Option<(String, &str)> {
    match text.strip_prefix('"') {
        Some(rest) => split_quoted(rest),
        None => {
            let (local, rest) = text.split_at(text.find('@')?);
            (local.len() <= MAX_LOCAL && is_dot_string(local)).then(|| (local.to_owned(), rest))
        }
    }
}

fn split_quoted(text: &str) -> Option<(String, &str)> {
    let mut local = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().take_while(|(at, _)| *at < MAX_LOCAL) {
        match c {
            _ if c.is_control() => return None,
            // RFC 5321 §4.1.2: quoted-pairSMTP is ASCII only.
            _ if escaped && !c.is_ascii() => return None,
            '"' if !escaped => return (at + 2 <= MAX_LOCAL).then_some((local, text.get(at + 1..)?)),
            '\\' if !escaped => escaped = true,
            _ => {
                escaped = false;
                local.push(c);
            }
        }
    }
    None
}

fn is_dot_string(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// RFC 5322 §3.2.3, with RFC 6531 §3.3's UTF8-non-ascii less the C1 controls, which no terminal should be shown.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written, local, domain.
    const GOOD: &[(&str, &str, &str)] = &[
        ("alice@example.org", "alice", "example.org"),
        ("Alice.B+tag@EXAMPLE.Org", "Alice.B+tag", "example.org"),
        ("a@localhost", "a", "localhost"),
        ("a@host_1.example", "a", "host_1.example"),
        ("!#$%&'*+-/=?^_`{|}~@x", "!#$%&'*+-/=?^_`{|}~", "x"),
        (r#""a b"@example.org"#, "a b", "example.org"),
        (r#""a\"b\\c"@example.org"#, r#"a"b\c"#, "example.org"),
        (r#""plain"@example.org"#, "plain", "example.org"),
        (r#""a@b"@example.org"#, "a@b", "example.org"),
        (r#"""@example.org"#, "", "example.org"),
        (r#""a..b"@example.org"#, "a..b", "example.org"),
        ("a@[192.0.2.1]", "a", "[192.0.2.1]"),
        ("a@[IPv6:2001:DB8:0::1]", "a", "[IPv6:2001:db8::1]"),
        ("a@[ipv6:::1]", "a", "[IPv6:::1]"),
        ("jürgen@Bücher.example", "jürgen", "xn--bcher-kva.example"),
        ("用户@例え.テスト", "用户", "xn--r8jz45g.xn--zckzah"),
        ("a@b。c", "a", "b.c"),
        (r#""j ü"@x"#, "j ü", "x"),
    ];

    const BAD: &[&str] = &[
        "",
        "@",
        "a",
        "a@",
        "@x",
        "a@b.",
        "a@.b",
        "a@b..c",
        ".a@b",
        "a.@b",
        "a..b@c",
        "a b@c",
        "a@b c",
        "a@b@c",
        "<a@b>",
        "a@-b",
        "a@b-",
        "a@b-.c",
        "\"a@b",
        "\"a\"b@c",
        "\"a\\",
        "\"a\\\"@b",
        "\"a\nb\"@c",
        "\"a\\ü\"@c",
        "a\u{85}@b",
        "a@[1.2.3]",
        "a@[1.2.3.4",
        "a@[IPv6:1.2.3.4]",
        "a@[::1]",
        "a@[x400:c=de]",
        "a@b/c",
        "a@b\0",
        "a@b\r\n",
        "a@exa\u{200d}mple!.org",
    ];

    #[test]
    fn parses() {
        for (text, local, domain) in GOOD {
            let address = Address::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((address.local.as_str(), address.domain.as_str()), (*local, *domain), "{text}");
            assert_eq!(Address::parse(&address.to_string()), Some(address), "{text}");
        }
        for text in BAD {
            assert_eq!(Address::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn limits() {
        let cases = [(64, 63, true), (255, 63, true), (256, 63, false), (64, 64, false)];
        for (local, label, good) in cases {
            let text = format!("{}@{}", "l".repeat(local), "d".repeat(label));
            assert_eq!(Address::parse(&text).is_some(), good, "{local} {label}");
        }
        // The quotes count.
        assert!(Address::parse(&format!("\"{}\"@x", "l".repeat(253))).is_some());
        assert!(Address::parse(&format!("\"{}\"@x", "l".repeat(254))).is_none());
        let domain = |n: usize| format!("a@{}{}", "d.".repeat(n), "e".repeat(255 - 2 * n));
        assert!(Address::parse(&domain(120)).is_some());
        assert!(Address::parse(&format!("{}e", domain(120))).is_none());
        assert!(Address::parse(&format!("a@{}", "ü".repeat(1 << 20))).is_none());
        assert!(Address::parse(&format!("\"{}", "\\".repeat(1 << 20))).is_none());
    }

    #[test]
    fn quotes_only_where_it_must() {
        let shown = |text: &str| Address::parse(text).map(|a| a.to_string());
        assert_eq!(shown(r#""plain.x"@E"#).as_deref(), Some("plain.x@e"));
        assert_eq!(shown(r#""a b"@E"#).as_deref(), Some(r#""a b"@e"#));
        assert_eq!(shown(r#""\a\"\\"@E"#).as_deref(), Some(r#""a\"\\"@e"#));
        let bücher = Address::parse("a@bücher.example").map(|a| a.unicode_domain());
        assert_eq!(bücher.as_deref(), Some("bücher.example"));
    }
}
