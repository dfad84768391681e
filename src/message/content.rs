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

/// Parameters as RFC 9051 §7.5.2 wants them in BODYSTRUCTURE: continuations joined under the plain name; those with
/// a charset decoded to UTF-8 under the name with an asterisk.
pub fn wire_params(params: &[Param]) -> Vec<(String, Vec<u8>)> {
    let wire = |j: Joined| {
        let value = if j.name.ends_with('*') { j.text().into_bytes() } else { j.octets };
        (j.name, value)
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
        while params.len() < MAX_PARAMS && self.to_semicolon() {
            let Some(name) = self.token() else { continue };
            if self.byte(b'=').is_some() {
                let value = self.value();
                params.push(Param { name, value });
            }
        }
        params
    }

    /// Past the next semicolon, over garbage; false when there is none.
    fn to_semicolon(&mut self) -> bool {
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
