//! The parts of a message (RFC 2045, RFC 2046) and how IMAP numbers them (RFC 9051 §6.4.5).
//!
//! One pass over the bytes, no recursion: open multiparts lie on a stack of bounded depth and a delimiter is looked
//! up by hash, so a mail nested 100,000 deep or with prefix boundaries costs no more than its size.

use std::ops::Range;

pub use super::content::{Param, param_text, wire_params};
pub use super::section::Section;
use super::{content, header, scan};

/// Multiparts and messages inside one another; what lies deeper is a leaf.
pub const MAX_DEPTH: usize = 100;
/// Parts of one message; the last one runs on to the end.
pub const MAX_PARTS: usize = 10_000;

/// What a part is to the walker. A type says what it claims to be, this what it was found to be: a multipart without
/// a boundary or without parts is a leaf of type text/plain, an encoded message/rfc822 is a leaf of type
/// application/octet-stream, so [`Part::kind`] and [`Part::subtype`] never contradict this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    Leaf,
    /// At least one child.
    Multipart,
    /// message/rfc822 or message/global: exactly one child, the root of the message inside.
    Message,
}

/// One part. Ranges are offsets into the scanned bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Index into [`Structure::parts`].
    pub parent: Option<usize>,
    /// Indexes into [`Structure::parts`], in order.
    pub children: Vec<usize>,
    pub shape: Shape,
    /// Header and body.
    pub whole: Range<usize>,
    /// With the empty line that ends it.
    pub header: Range<usize>,
    /// Ends before the line end that belongs to the delimiter; of a multipart with preamble and epilogue.
    pub body: Range<usize>,
    /// Line ends in the body.
    pub lines: usize,
    /// The type before the slash, in lower case.
    pub kind: String,
    /// The type after the slash, in lower case.
    pub subtype: String,
    /// Of Content-Type, as written; [`wire_params`] and [`param_text`] decode them.
    pub params: Vec<Param>,
    /// Content-Transfer-Encoding in lower case; `7bit` when there is none.
    pub encoding: String,
    /// Content-ID, unfolded, as are the four below; they may hold any octets but CR and LF.
    pub id: Option<Vec<u8>>,
    pub description: Option<Vec<u8>>,
    pub md5: Option<Vec<u8>>,
    pub location: Option<Vec<u8>>,
    /// Content-Disposition in lower case with its parameters.
    pub disposition: Option<(String, Vec<Param>)>,
    /// Content-Language, tags in lower case.
    pub language: Vec<String>,
}

impl Part {
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }
    /// A parameter of Content-Type, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        param_text(&self.params, name)
    }
    /// The name for saving it: Content-Disposition's `filename`, else Content-Type's `name`, decoded.
    pub fn filename(&self) -> Option<String> {
        let disposition = self.disposition.as_ref().and_then(|(_, params)| param_text(params, "filename"));
        disposition.or_else(|| self.param("name"))
    }

    pub(super) fn empty(parent: Option<usize>, start: usize) -> Self {
        Self {
            parent,
            children: Vec::new(),
            shape: Shape::Leaf,
            whole: start..start,
            header: start..start,
            body: start..start,
            lines: 0,
            kind: String::new(),
            subtype: String::new(),
            params: Vec::new(),
            encoding: "7bit".to_owned(),
            id: None,
            description: None,
            md5: None,
            location: None,
            disposition: None,
            language: Vec::new(),
        }
    }

    /// Takes over what the part's header says; of a field that comes twice the first counts. In a digest the type
    /// is message/rfc822 unless something else is said (RFC 2046 §5.1.5).
    pub(super) fn read_header(&mut self, bytes: &[u8], in_digest: bool) {
        let mut typed = false;
        for field in header::fields_in(bytes, &self.header) {
            let Some(name) = field.name().get(8..).filter(|_| field.name().len() < 32) else { continue };
            if !field.name().get(..8).is_some_and(|head| head.eq_ignore_ascii_case(b"content-")) {
                continue;
            }
            let plain = || Some(header::unfold(field.value()).into_owned());
            let slot = match name.to_ascii_lowercase().as_slice() {
                b"type" if !typed => {
                    typed = true;
                    if let Some((kind, subtype, params)) = content::content_type(field.value()) {
                        (self.kind, self.subtype, self.params) = (kind, subtype, params);
                    }
                    continue;
                }
                b"transfer-encoding" => {
                    if self.encoding == "7bit"
                        && let Some(encoding) = content::token(field.value())
                    {
                        self.encoding = encoding;
                    }
                    continue;
                }
                b"disposition" => {
                    self.disposition = self.disposition.take().or_else(|| content::disposition(field.value()));
                    continue;
                }
                b"language" => {
                    if self.language.is_empty() {
                        self.language = content::languages(field.value());
                    }
                    continue;
                }
                b"id" => &mut self.id,
                b"description" => &mut self.description,
                b"md5" => &mut self.md5,
                b"location" => &mut self.location,
                _ => continue,
            };
            if slot.is_none() {
                *slot = plain();
            }
        }
        if self.kind.is_empty() {
            if in_digest && !typed { self.set_type("message", "rfc822") } else { self.set_default_type() }
        }
    }

    /// RFC 2045 §5.2.
    pub(super) fn set_default_type(&mut self) {
        self.set_type("text", "plain");
        self.params = vec![Param { name: "charset".to_owned(), value: b"us-ascii".to_vec() }];
    }

    pub(super) fn set_type(&mut self, kind: &str, subtype: &str) {
        (self.kind, self.subtype) = (kind.to_owned(), subtype.to_owned());
        self.params.clear();
    }
}

/// All parts of a message, depth first; the first is the message itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    parts: Vec<Part>,
}

impl Structure {
    /// Never fails: whatever the bytes, there is at least a root. Time is linear in their length; memory is bounded
    /// by [`MAX_PARTS`] and the length of the part headers.
    pub fn scan(bytes: &[u8]) -> Self {
        Self { parts: scan::parts(bytes) }
    }
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }
    pub fn part(&self, index: usize) -> Option<&Part> {
        self.parts.get(index)
    }
    pub fn root(&self) -> &Part {
        self.parts.first().expect("scan always yields a root")
    }
    /// In order.
    pub fn children<'a>(&'a self, part: &Part) -> impl Iterator<Item = &'a Part> {
        part.children.iter().filter_map(|child| self.parts.get(*child))
    }
    /// The root of the message inside a [`Shape::Message`].
    pub fn nested(&self, part: &Part) -> Option<&Part> {
        if part.shape == Shape::Message { self.part(*part.children.first()?) } else { None }
    }
    /// In order; those whose [`Part::kind`] is `text` are what SEARCH reads.
    pub fn leaves(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.shape == Shape::Leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kind/subtype[body]lines` of every part, children in braces.
    fn shown(text: &str) -> String {
        let structure = Structure::scan(text.as_bytes());
        fn part(structure: &Structure, p: &Part, text: &str, out: &mut String) {
            let body = if p.shape == Shape::Leaf { text.get(p.body.clone()).unwrap_or("?") } else { "" };
            out.push_str(&format!("{}/{}[{}]{}", p.kind, p.subtype, body.escape_debug(), p.lines));
            if !p.children.is_empty() {
                out.push('{');
                for (n, child) in structure.children(p).enumerate() {
                    out.push_str(if n > 0 { " " } else { "" });
                    part(structure, child, text, out);
                }
                out.push('}');
            }
        }
        let mut out = String::new();
        part(&structure, structure.root(), text, &mut out);
        out
    }

    fn multipart(boundary: &str) -> String {
        format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\n\n")
    }

    #[test]
    fn structures() {
        let (a, ab, m) = (multipart("a"), multipart("ab"), "Content-Type: message/rfc822\n\n");
        let cases = [
            (String::new(), "text/plain[]0"),
            ("A: b\n\nhi\n".to_owned(), "text/plain[hi\\n]1"),
            ("A: b".to_owned(), "text/plain[]0"),
            (format!("{a}--a\n\nhi\n--a--\n"), "multipart/mixed[]4{text/plain[hi]0}"),
            (format!("{a}pre\n--a\n\nhi\n\n--a\n\nho\n--a--\nepi\n--a\n"), "multipart/mixed[]11{text/plain[hi\\n]1 text/plain[ho]0}"),
            (format!("{a}--a\n\nno end"), "multipart/mixed[]2{text/plain[no end]0}"),
            (format!("{a}--a\n\nx\n--a \t\n\ny\n--a-- \n"), "multipart/mixed[]7{text/plain[x]0 text/plain[y]0}"),
            // Empty parts, headers without bodies.
            (format!("{a}--a\n--a\n\n--a\nX: y\n--a\nX: y\n\n--a--"), "multipart/mixed[]8{text/plain[]0 text/plain[]0 text/plain[]0 text/plain[]0}"),
            // Prefixes, and lines that only look like a delimiter.
            (format!("{a}--a\n\n--ab\n--a-\n -–a\n--a--"), "multipart/mixed[]5{text/plain[--ab\\n--a-\\n -–a]2}"),
            (format!("{a}--a\n{ab}--ab\n\n1\n--ab--\n--a\n\n2\n--a--\n"), "multipart/mixed[]11{multipart/mixed[]3{text/plain[1]0} text/plain[2]0}"),
            // The inner end is missing: the outer delimiter ends both.
            (format!("{a}--a\n{ab}--ab\n\n1\n--a\n\n2\n--a--\n"), "multipart/mixed[]10{multipart/mixed[]2{text/plain[1]0} text/plain[2]0}"),
            // The same boundary inside: the innermost counts until it is closed.
            (format!("{a}--a\n{a}--a\n\n1\n--a--\n--a\n\n2\n--a--\n"), "multipart/mixed[]11{multipart/mixed[]3{text/plain[1]0} text/plain[2]0}"),
            // Boundary `a--`: its delimiter looks like the end of `a`.
            (format!("{a}--a\n{}--a--\n\n1\n--a----\n--a--\n", multipart("a--")), "multipart/mixed[]8{multipart/mixed[]3{text/plain[1]0}}"),
            // No parts, no boundary, boundary too long: text.
            (format!("{a}text\n"), "text/plain[text\\n]1"),
            (format!("{a}--a--\n"), "text/plain[--a--\\n]1"),
            ("Content-Type: multipart/mixed\n\n--\n".to_owned(), "text/plain[--\\n]1"),
            (format!("{}--x", multipart(&"x".repeat(257))), "text/plain[--x]0"),
            // Messages.
            (format!("{m}Subject: s\n\nhi\n"), "message/rfc822[]3{text/plain[hi\\n]1}"),
            (format!("{m}{m}Subject: s\n\nhi\n"), "message/rfc822[]5{message/rfc822[]3{text/plain[hi\\n]1}}"),
            (
                format!("{a}--a\n{m}Subject: s\n\n1\n--a\n{m}S: t\n--a\n{m}S: t\n\n--a--"),
                "multipart/mixed[]15{message/rfc822[]2{text/plain[1]0} message/rfc822[]1{text/plain[]0} message/rfc822[]2{text/plain[]0}}",
            ),
            (format!("{a}--a\n{m}{a}--a\n\n1\n--a--\n--a--"), "multipart/mixed[]9{message/rfc822[]5{multipart/mixed[]3{text/plain[1]0}}}"),
            ("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQQ==".to_owned(), "application/octet-stream[QQ==]0"),
            ("Content-Type: Message/Global\n\nA: b\n\nc".to_owned(), "message/global[]2{text/plain[c]0}"),
            // A digest's default type.
            (
                a.replace("mixed", "digest") + "--a\n\nS: 1\n\nx\n--a\nContent-Type: text/html\n\ny\n--a--",
                "multipart/digest[]9{message/rfc822[]2{text/plain[x]0} text/html[y]0}",
            ),
            // What is no type at all.
            ("Content-Type: html\n\n".to_owned(), "text/plain[]0"),
            ("Content-Type: (c) TEXT (d) / (e) Html ; x=y\n\n".to_owned(), "text/html[]0"),
        ];
        for (text, expect) in cases {
            assert_eq!(shown(&text), expect, "{text}");
            let crlf = text.replace('\n', "\r\n");
            assert_eq!(shown(&crlf), expect.replace("\\n", "\\r\\n"), "{text}");
        }
    }
}
