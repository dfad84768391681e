//! `pop3.uidl-format`: how POP3 names a message in UIDL, in the words of Dovecot's `pop3_uidl_format`.
//!
//! `%u` UID, `%v` UIDVALIDITY, `%f` base of the file name, `%g` GUID, `%%` a percent sign; numbers may be `%X` in hexadecimal and
//! `%08` filled with zeros, `%08Xu`.

use std::fmt::Write;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UidlFormat {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Number { uid: bool, width: usize, hex: bool },
    File,
    Guid,
}

/// What may stand in a unique id (RFC 1939 §7), and how much of it a client takes for certain.
const MAX: usize = 70;
/// Of a file name, which other servers sent all the same.
const MAX_NAME: usize = 255;
const MAX_WIDTH: usize = 20;

/// Dovecot's default.
pub(super) const DEFAULT: &str = "%08Xu%08Xv";

impl Default for UidlFormat {
    fn default() -> Self {
        let number = |uid| Part::Number { uid, width: 8, hex: true };
        Self { text: DEFAULT.to_owned(), parts: vec![number(true), number(false)] }
    }
}

/// RFC 1939 §7.
fn is_usable(c: u8) -> bool {
    (0x21..=0x7e).contains(&c)
}

impl UidlFormat {
    /// `Err`: what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix('%').filter(|after| !after.starts_with('%')) {
                let (part, after) = variable(after)?;
                parts.push(part);
                rest = after;
                continue;
            }
            if !u8::try_from(c).is_ok_and(is_usable) {
                return Err(format!("{c:?} cannot stand in a unique id: visible ASCII only"));
            }
            match parts.last_mut() {
                Some(Part::Text(t)) => t.push(c),
                _ => parts.push(Part::Text(c.to_string())),
            }
            rest = &rest[if c == '%' { 2 } else { 1 }..];
        }
        let parsed = Self { text: text.to_owned(), parts };
        if !parsed.parts.iter().any(|p| matches!(p, Part::File | Part::Guid | Part::Number { uid: true, .. })) {
            return Err("all messages would have one id: %u, %f or %g must be in it".into());
        }
        if parsed.write(u32::MAX, u32::MAX, b"", b"").is_none_or(|longest| longest.len() > MAX) && !parsed.needs_names() {
            return Err(format!("longer than the {MAX} characters that RFC 1939 allows"));
        }
        Ok(parsed)
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is made of more than the numbers.
    pub fn needs_names(&self) -> bool {
        self.parts.iter().any(|p| matches!(p, Part::File | Part::Guid))
    }

    /// `base` and `guid` only matter when [`UidlFormat::needs_names`]. `None`: with these it would be no unique id.
    pub fn write(&self, uid: u32, validity: u32, base: &[u8], guid: &[u8]) -> Option<String> {
        let mut out = String::new();
        for part in &self.parts {
            let _ = match part {
                Part::Text(t) => out.write_str(t),
                Part::Number { uid: of_uid, width, hex } => {
                    let (n, width) = (if *of_uid { uid } else { validity }, *width);
                    if *hex { write!(out, "{n:0width$x}") } else { write!(out, "{n:0width$}") }
                }
                Part::File => out.write_str(std::str::from_utf8(base).ok()?),
                Part::Guid => out.write_str(std::str::from_utf8(guid).ok()?),
            };
        }
        (!out.is_empty() && out.len() <= MAX_NAME && out.bytes().all(is_usable)).then_some(out)
    }
}

fn variable(text: &str) -> Result<(Part, &str), String> {
    let bad = || format!("\"%{}\" is none of %u %v %f %g, as %08Xu: width and X in this order", text.chars().take(6).collect::<String>());
    let letter = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[..text.len() - letter.len()];
    let width =
        if digits.is_empty() { 0 } else { digits.strip_prefix('0').and_then(|w| w.parse().ok()).filter(|w| *w <= MAX_WIDTH).ok_or_else(bad)? };
    let (hex, letter) = letter.strip_prefix('X').map_or((false, letter), |l| (true, l));
    let rest = letter.get(1..).unwrap_or_default();
    let part = match letter.as_bytes().first() {
        Some(b'u') => Part::Number { uid: true, width, hex },
        Some(b'v') => Part::Number { uid: false, width, hex },
        Some(b'f') if digits.is_empty() && !hex => Part::File,
        Some(b'g') if digits.is_empty() && !hex => Part::Guid,
        _ => return Err(bad()),
    };
    Ok((part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_other_servers() {
        const CASES: &[(&str, &str)] = &[
            (DEFAULT, "000000b70000abcd"),
            ("%08Xv%08Xu", "0000abcd000000b7"),
            ("%v.%u", "43981.183"),
            ("UID%u-%v", "UID183-43981"),
            ("%Xu%%%v", "b7%43981"),
            ("%010u", "0000000183"),
            ("%f", "1.a,S=3"),
            ("%g", "guid"),
        ];
        for (format, want) in CASES {
            let parsed = UidlFormat::parse(format).unwrap();
            assert_eq!(parsed.write(183, 43981, b"1.a,S=3", b"guid").as_deref(), Some(*want), "{format}");
            assert_eq!(parsed.needs_names(), matches!(*format, "%f" | "%g"));
            assert_eq!(parsed.text(), *format);
        }
        assert_eq!(UidlFormat::default(), UidlFormat::parse(DEFAULT).unwrap());
        assert_eq!(UidlFormat::parse("%f").unwrap().write(1, 1, b"a b", b""), None);
        assert_eq!(UidlFormat::parse("%f").unwrap().write(1, 1, b"", b""), None);
        assert_eq!(UidlFormat::parse("%g").unwrap().write(1, 1, b"", &[b'x'; 256]), None);
        for bad in ["", "x", "%v", "%m", "%", "%u%", "%8u", "%099u", "%08", "%Xf", "%u ü", "%u x", "%uX%é", &format!("%u{}", "x".repeat(61))] {
            assert!(UidlFormat::parse(bad).is_err(), "{bad}");
        }
    }
}
