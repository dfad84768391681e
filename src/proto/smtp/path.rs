//! Paths of MAIL and RCPT (RFC 5321 §4.1.2, RFC 6531 §3.3), strictly.

use crate::message::Address;

/// RFC 5321 §4.5.3.1.3 says 256; a source route and UTF-8 may want more.
const MAX_PATH: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `<>`
    Null,
    /// `<postmaster>` in any case, without a domain (RFC 5321 §4.1.1.3).
    Postmaster,
    /// `ascii` is false when it was not written in ASCII alone, domain included: then SMTPUTF8 is wanted.
    Mailbox { address: Address, ascii: bool },
}

/// The path that `text` begins with, and what follows its `>`. A source route is read and dropped (RFC 5321
/// Appendix C). `None`: not a path.
pub(super) fn path(text: &str) -> Option<(Path, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = closing(inner)?;
    let (inner, rest) = (inner.get(..end)?, inner.get(end + 1..)?);
    let path = match inner {
        "" => Path::Null,
        p if p.eq_ignore_ascii_case("postmaster") => Path::Postmaster,
        _ => {
            let mailbox = without_route(inner)?;
            Path::Mailbox { address: Address::parse(mailbox)?, ascii: mailbox.is_ascii() }
        }
    };
    Some((path, rest))
}

/// Where the `>` stands that is not within a quoted string.
fn closing(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in text.bytes().enumerate().take(MAX_PATH) {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// `@a.example,@b.example:user@example.org` → `user@example.org`
fn without_route(text: &str) -> Option<&str> {
    if !text.starts_with('@') {
        return Some(text);
    }
    let (route, mailbox) = text.split_once(':')?;
    let hop = |h: &str| h.strip_prefix('@').and_then(crate::message::address::domain).is_some();
    route.split(',').all(hop).then_some(mailbox)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(local: &str, domain: &str, ascii: bool) -> Path {
        Path::Mailbox { address: Address { local: local.into(), domain: domain.into() }, ascii }
    }

    #[test]
    fn paths() {
        let cases: &[(&str, Option<(Path, &str)>)] = &[
            ("<>", Some((Path::Null, ""))),
            ("<PostMaster> X=1", Some((Path::Postmaster, " X=1"))),
            ("<a@b.example>", Some((mailbox("a", "b.example", true), ""))),
            ("<A.b@B.Example>SIZE=1", Some((mailbox("A.b", "b.example", true), "SIZE=1"))),
            ("<\"a>b\"@b.example> x", Some((mailbox("a>b", "b.example", true), " x"))),
            ("<\"a\\\">b\"@b.example>", Some((mailbox("a\">b", "b.example", true), ""))),
            ("<a@[192.0.2.1]>", Some((mailbox("a", "[192.0.2.1]", true), ""))),
            ("<a@[IPv6:2001:DB8::1]>", Some((mailbox("a", "[IPv6:2001:db8::1]", true), ""))),
            ("<@x.example,@y.example:a@b.example>", Some((mailbox("a", "b.example", true), ""))),
            ("<@x.example:\"a:b\"@b.example>", Some((mailbox("a:b", "b.example", true), ""))),
            ("<jürgen@b.example>", Some((mailbox("jürgen", "b.example", false), ""))),
            ("<a@bücher.example>", Some((mailbox("a", "xn--bcher-kva.example", false), ""))),
            ("", None),
            ("a@b.example", None),
            ("<a@b.example", None),
            (" <a@b.example>", None),
            ("< a@b.example>", None),
            ("<a@b.example >", None),
            ("<<a@b.example>>", None),
            ("<a b@b.example>", None),
            ("<a@>", None),
            ("<@b.example>", None),
            ("<a>", None),
            ("<a@b@c.example>", None),
            ("<.a@b.example>", None),
            ("<a..b@b.example>", None),
            ("<a@b..example>", None),
            ("<@:a@b.example>", None),
            ("<@x.example a@b.example>", None),
            ("<\"a@b.example>", None),
            ("<\"\\>", None),
            ("<a@[300.1.1.1]>", None),
        ];
        for (text, want) in cases {
            assert_eq!(path(text), *want, "{text:?}");
        }
        assert_eq!(path(&format!("<{}>", "a".repeat(5000))), None);
    }
}
