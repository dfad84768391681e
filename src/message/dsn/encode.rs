//! xtext, and the forms that UTF-8 addresses take in DSN parameters and fields (RFC 3461 §4, RFC 6533 §3).

use std::fmt::Write as _;

use crate::message::{Address, decode};

/// xtext (RFC 3461 §4): for ENVID and ORCPT that we make ourselves.
pub fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'!'..=b'~' if !matches!(b, b'+' | b'=') => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "+{b:02X}");
            }
        }
    }
    out
}

/// ORCPT for an address of ours that came without (RFC 3461 §4.2, RFC 6533 §3).
pub fn orcpt(address: &Address) -> String {
    let text = address.to_string();
    if text.is_ascii() { format!("rfc822;{}", xtext(&text)) } else { format!("utf-8;{}", unitext(&text)) }
}

/// The text behind xtext; what is no valid escape stays.
pub fn xtext_decode(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    decode::escaped(text.as_bytes(), b'+', &mut octets);
    String::from_utf8_lossy(&octets).into_owned()
}

/// utf-8-addr-xtext (RFC 6533 §3).
pub(super) fn unitext(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '!'..='~' if !matches!(c, '\\' | '+' | '=') => out.push(c),
            _ => {
                let _ = write!(out, "\\x{{{:02X}}}", u32::from(c));
            }
        }
    }
    out
}

pub(super) fn unitext_decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\x{") {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let inside = tail.get(3..).unwrap_or_default();
        let hex = inside.bytes().take(7).position(|b| b == b'}').and_then(|end| inside.get(..end));
        match hex.and_then(|h| u32::from_str_radix(h, 16).ok().and_then(char::from_u32).map(|c| (h.len(), c))) {
            Some((length, c)) => {
                out.push(c);
                rest = inside.get(length + 1..).unwrap_or_default();
            }
            None => {
                out.push_str("\\x{");
                rest = inside;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn original_recipients() {
        for (address, want) in [("a+b@x.example", "rfc822;a+2Bb@x.example"), ("jü@x.example", "utf-8;j\\x{FC}@x.example")] {
            assert_eq!(Address::parse(address).as_ref().map(orcpt).as_deref(), Some(want));
        }
    }

    #[test]
    fn encodings() {
        for (plain, coded) in [("a+b=c d", "a+2Bb+3Dc+20d"), ("ü", "+C3+BC"), ("", "")] {
            assert_eq!(xtext(plain), coded);
            assert_eq!(xtext_decode(coded), plain);
        }
        for (plain, coded) in [("a+b", "a\\x{2B}b"), ("ü\u{10ffff}", "\\x{FC}\\x{10FFFF}"), ("", "")] {
            assert_eq!(unitext(plain), coded);
            assert_eq!(unitext_decode(coded), plain);
        }
        for broken in ["\\x{", "\\x{}", "\\x{110000}", "\\x{D800}", "\\x{12345678}", "\\x{ü}", "+", "+1", "+zz"] {
            assert_eq!(unitext_decode(broken), broken);
            assert_eq!(xtext_decode(broken), broken);
        }
    }
}
