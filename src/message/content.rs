//! Values of the MIME fields: types, dispositions and their parameters (RFC 2045 §5, RFC 2183, RFC 2231).
//!
//! Lenient where real mail needs it: unquoted values with spaces, missing semicolons at the end, comments anywhere.

use std::collections::HashMap;

use super::decode::{Charset, encoded_words, escaped};

/// A parameter as it was written: unquoted and unfolded, neither continuations joined nor charsets decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Param {
    /// Lower case, with RFC 2231's suffixes: `filename*0*`.
    pub name: String,
    pub value: Vec<u8>,
}

/// More are dropped: nothing sends as many.
const MAX_PARAMS: usize = 128;

/// `type/subtype; a=b` in lower case; `None` when there is no valid type (RFC 2045 §5.2: it is text/plain then).
pub(super) fn content_type(value: &[u8]) -> Option<(String, String, Vec<Param>)> {
    let mut scan = Scan { text: value, at: 0 };
    let kind = scan.token()?;
    scan.byte(b'/')?;
    let subtype = scan.token()?;
    Some((kind, subtype, scan.params()))
}

/// `attachment; filename=x`: the type in lower case and its parameters.
pub(super) fn disposition(value: &[u8]) -> Option<(String, Vec<Param>)> {
    let mut scan = Scan { text: value, at: 0 };
    let kind = scan.token()?;
    Some((kind, scan.params()))
}

/// The first token in lower case: Content-Transfer-Encoding.
pub(super) fn token(value: &[u8]) -> Option<String> {
    Scan { text: value, at: 0 }.token()
}

/// Tags of Content-Language, comma separated (RFC 3282).
pub(super) fn languages(value: &[u8]) -> Vec<String> {
    let mut scan = Scan { text: value, at: 0 };
    let mut tags = Vec::new();
    while tags.len() < MAX_PARAMS
        && let Some(tag) = scan.token()
    {
        tags.push(tag);
        if scan.byte(b',').is_none() {
            break;
        }
    }
    tags
}

/// A parameter's value as text: continuations joined, percent octets and charset decoded (RFC 2231 §3, §4); encoded
/// words, which RFC 2047 §5 forbids here and many programs write, are decoded too.
pub fn param_text(params: &[Param], name: &str) -> Option<String> {
    let joined = join(params);
    let found = |wanted: &str| joined.iter().find(|j| j.name == wanted);
    if let Some(extended) = found(&format!("{name}*")) {
        return Some(extended.text());
    }
    found(name).map(Joined::text)
}

/// Parameters for BODYSTRUCTURE: continuations joined under the plain name; those with a charset under the name with
/// an asterisk, as `charset''percent-octets`. RFC 9051 §7.5.2 would have the latter in plain UTF-8, but clients put
/// the pair through RFC 2231 again (K-9 loses the file name otherwise), and this is what most servers send.
pub fn wire_params(params: &[Param]) -> Vec<(String, Vec<u8>)> {
    let wire = |joined: Joined| match joined.charset {
        None => (joined.name, joined.octets),
        Some(charset) => {
            let mut value = [&charset[..], b"''"].concat();
            for b in joined.octets {
                if b.is_ascii_alphanumeric() || b"-._~!#$&+".contains(&b) {
                    value.push(b);
                } else {
                    value.extend_from_slice(format!("%{b:02X}").as_bytes());
                }
            }
            (joined.name, value)
        }
    };
    join(params).into_iter().map(wire).collect()
}

/// A parameter with its continuations joined. The name ends in `*` when any piece was extended.
struct Joined {
    name: String,
    octets: Vec<u8>,
    charset: Option<Vec<u8>>,
}

impl Joined {
    fn text(&self) -> String {
        match &self.charset {
            Some(label) => Charset::named(label).decode(&self.octets),
            None => encoded_words(&self.octets),
        }
    }
}

/// A name's pieces: number of the section (0 without), whether it is percent-encoded, index into the parameters.
type Pieces = Vec<(u32, bool, usize)>;

fn join(params: &[Param]) -> Vec<Joined> {
    let mut order: Vec<(String, Pieces)> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (index, param) in params.iter().enumerate() {
        let (base, section, extended) = split_name(&param.name);
        // `name` and `name*` may both be there for old and new readers: they are two parameters (RFC 6266 §4.3).
        let key = if extended && section.is_none() { format!("{base}*") } else { base.to_owned() };
        let slot = *seen.entry(key).or_insert_with(|| {
            order.push((base.to_owned(), Pieces::new()));
            order.len() - 1
        });
        if let Some((_, pieces)) = order.get_mut(slot) {
            pieces.push((section.unwrap_or(0), extended, index));
        }
    }
    order.into_iter().map(|(base, pieces)| joined(base, pieces, params)).collect()
}

fn joined(base: String, mut pieces: Pieces, params: &[Param]) -> Joined {
    pieces.sort_by_key(|(section, ..)| *section);
    pieces.dedup_by_key(|(section, ..)| *section);
    let extended = pieces.iter().any(|(_, extended, _)| *extended);
    let mut joined = Joined { name: base, octets: Vec::new(), charset: None };
    for (nth, (_, percent, index)) in pieces.iter().enumerate() {
        let mut value = params.get(*index).map(|p| p.value.as_slice()).unwrap_or_default();
        if nth == 0 && *percent {
            let (charset, rest) = split_charset(value);
            joined.charset = charset.map(<[u8]>::to_vec);
            value = rest;
        }
        if *percent {
            escaped(value, b'%', &mut joined.octets);
        } else {
            joined.octets.extend_from_slice(value);
        }
    }
    if extended {
        joined.name.push('*');
        joined.charset.get_or_insert_with(Vec::new);
    }
    joined
}

/// `filename*1*` → (`filename`, 1, extended).
fn split_name(name: &str) -> (&str, Option<u32>, bool) {
    let (rest, extended) = name.strip_suffix('*').map_or((name, false), |rest| (rest, true));
    match rest.rsplit_once('*') {
        Some((base, digits)) if !base.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse() {
            Ok(section) => (base, Some(section), extended),
            Err(_) => (name, None, false),
        },
        _ if rest.is_empty() => (name, None, false),
        _ => (rest, None, extended),
    }
}

/// `charset'language'rest`; without two apostrophes all is the rest.
fn split_charset(value: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut pieces = value.splitn(3, |b| *b == b'\'');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(charset), Some(_), Some(rest)) => (Some(charset), rest),
        _ => (None, value),
    }
}

/// A reader of structured values.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// White space, folds and comments (RFC 5322 §3.2.2). Comments nest; one that never ends swallows the rest.
    fn space(&mut self) {
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            match b {
                b' ' | b'\t' | b'\r' | b'\n' => {}
                b'(' => depth += 1,
                b')' if depth > 0 => depth -= 1,
                b'\\' if depth > 0 => self.at += 1,
                _ if depth > 0 => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn byte(&mut self, wanted: u8) -> Option<()> {
        self.space();
        (self.peek() == Some(wanted)).then(|| self.at += 1)
    }

    /// An RFC 2045 token in lower case.
    fn token(&mut self) -> Option<String> {
        self.space();
        let rest = self.text.get(self.at..)?;
        let length = rest.iter().position(|b| !is_token(*b)).unwrap_or(rest.len());
        let token = std::str::from_utf8(rest.get(..length)?).ok()?;
        self.at += length;
        (!token.is_empty()).then(|| token.to_ascii_lowercase())
    }

    fn params(&mut self) -> Vec<Param> {
        let mut params = Vec::new();
        while params.len() < MAX_PARAMS && self.skip_semicolon() {
            let Some(name) = self.token() else { continue };
            if self.byte(b'=').is_some() {
                let value = self.value();
                params.push(Param { name, value });
            }
        }
        params
    }

    /// Past the next semicolon, over garbage; false when there is none.
    fn skip_semicolon(&mut self) -> bool {
        loop {
            self.space();
            let Some(b) = self.peek() else { return false };
            self.at += 1;
            if b == b';' {
                return true;
            }
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.space();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return self.quoted();
        }
        // Not only a token: `name=my file.pdf` is common. A comment after white space ends it, as in RFC 2045 §5.1.
        let rest = self.text.get(self.at..).unwrap_or_default();
        let comment = |at: usize| rest.get(at) == Some(&b'(') && at > 0 && rest.get(at - 1).is_some_and(u8::is_ascii_whitespace);
        let length = (0..rest.len()).find(|at| rest.get(*at) == Some(&b';') || comment(*at)).unwrap_or(rest.len());
        self.at += length;
        super::header::unfold(rest.get(..length).unwrap_or_default()).into_owned()
    }

    /// After the opening quote: to the closing one or the end, without folds and escapes.
    fn quoted(&mut self) -> Vec<u8> {
        let mut value = Vec::new();
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'"' => break,
                b'\r' | b'\n' => {}
                b'\\' => {
                    value.extend(self.peek());
                    self.at += 1;
                }
                _ => value.push(b),
            }
        }
        value
    }
}

/// RFC 2045 §5.1.
fn is_token(b: u8) -> bool {
    b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let Some((kind, subtype, params)) = content_type(value.as_bytes()) else { return String::new() };
        let params: String = params.iter().map(|p| format!(";{}={}", p.name, String::from_utf8_lossy(&p.value))).collect();
        format!("{kind}/{subtype}{params}")
    }

    #[test]
    fn types() {
        let cases = [
            ("Text/PLAIN", "text/plain"),
            (" text/plain; charset=us-ascii (Plain text)", "text/plain;charset=us-ascii"),
            ("text/plain; Charset=\"utf-8\" ; Format=Flowed ;", "text/plain;charset=utf-8;format=Flowed"),
            ("text/plain charset=utf-8", "text/plain"),
            ("text/plain;;; a=b", "text/plain;a=b"),
            ("text/plain; =x; a=b; c; d=", "text/plain;a=b;d="),
            ("application/pdf; name=my file.pdf; x=y", "application/pdf;name=my file.pdf;x=y"),
            ("a/b; n=\"q\\\"q; x\"; m=1", "a/b;n=q\"q; x;m=1"),
            ("a/b; n=\"fol\r\n ded\"", "a/b;n=fol ded"),
            ("a/b; n=\"open", "a/b;n=open"),
            ("a/b; n=x\\", "a/b;n=x\\"),
            ("a/b; n=\"x\\", "a/b;n=x"),
            ("(c) a (d(e)) / b (f) ; (g) n (h) = (i) v", "a/b;n=v"),
            ("a/b (open ; n=v", "a/b"),
            ("a/b; n=ü", "a/b;n=ü"),
            ("text", ""),
            ("", ""),
            ("/plain", ""),
            ("text/", ""),
            ("ü/x", ""),
        ];
        for (value, expect) in cases {
            assert_eq!(shown(value), expect, "{value:?}");
            for cut in 0..value.len() {
                let _ = content_type(&value.as_bytes()[..cut]);
            }
        }
        let many = format!("a/b{}", ";a=b".repeat(10_000));
        assert_eq!(content_type(many.as_bytes()).map(|t| t.2.len()), Some(MAX_PARAMS));
    }

    #[test]
    fn extended_parameters() {
        // Parameters, the text of `f`, and as they go into BODYSTRUCTURE.
        let cases = [
            ("f=plain", Some("plain"), "f=plain"),
            ("f*=utf-8'en'%c3%BC", Some("ü"), "f*=utf-8''%C3%BC"),
            ("f*=iso-8859-1''%FC x", Some("ü x"), "f*=iso-8859-1''%FC%20x"),
            ("f*=no-quotes%41", Some("no-quotesA"), "f*=''no-quotesA"),
            ("f*0=a; f*1=b; f*2=\"c d\"", Some("abc d"), "f=abc d"),
            ("f*1=b; f*0=a", Some("ab"), "f=ab"),
            ("f*0*=utf-8''%C3; f*1*=%BC; f*2=%41", Some("ü%41"), "f*=utf-8''%C3%BC%2541"),
            ("f=old; f*=utf-8''n%C3%BC", Some("nü"), "f=old f*=utf-8''n%C3%BC"),
            ("f==?utf-8?q?=C3=BC?=", Some("ü"), "f==?utf-8?q?=C3=BC?="),
            ("f=a; f=b", Some("a"), "f=a"),
            ("f*99999999999=a", None, "f*99999999999=a"),
            ("*=a; **=b", None, "*=a **=''b"),
            ("f*0*=%", Some("%"), "f*=''%25"),
            ("g=x", None, "g=x"),
        ];
        for (params, text, wire) in cases {
            let (_, params) = disposition(format!("x; {params}").as_bytes()).expect("a token");
            assert_eq!(param_text(&params, "f").as_deref(), text, "{params:?}");
            let shown: Vec<_> = wire_params(&params).into_iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(&v))).collect();
            assert_eq!(shown.join(" "), wire, "{params:?}");
        }
    }

    #[test]
    fn other_fields() {
        assert_eq!(token(b" Base64 (c)"), Some("base64".to_owned()));
        assert_eq!(token(b";"), None);
        assert_eq!(languages(b"en, de-AT (x) ,fr"), ["en", "de-at", "fr"]);
        assert_eq!(languages(b""), [""; 0]);
        assert_eq!(disposition(b"Attachment").map(|d| d.0), Some("attachment".to_owned()));
    }
}
