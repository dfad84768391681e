//! The walker behind [`super::mime::Structure::scan`].

use std::collections::HashMap;
use std::ops::Range;

use memchr::memmem::Finder;

use super::header::{line, line_end, slice};
use super::mime::{MAX_DEPTH, MAX_PARTS, Part, Shape};

/// RFC 2046 §5.1.1 allows 70; real ones reach twice that.
const MAX_BOUNDARY: usize = 256;

/// A multipart or message that has begun and is not over.
struct Open {
    part: usize,
    /// `None` for a message, and for a multipart whose close delimiter has come: what follows is epilogue.
    boundary: Option<Vec<u8>>,
}

/// A delimiter line that belongs to an open multipart.
struct Delimiter {
    /// Index into [`Walk::open`].
    level: usize,
    close: bool,
    line: Range<usize>,
}

struct Walk<'a> {
    bytes: &'a [u8],
    parts: Vec<Part>,
    /// Outermost first; at most [`MAX_DEPTH`].
    open: Vec<Open>,
    /// Levels of `open` by boundary, innermost last: the same boundary may be open twice.
    levels: HashMap<Vec<u8>, Vec<usize>>,
    /// The leaf whose body is being passed, when it is one.
    leaf: Option<usize>,
    /// A position and the line ends before it, so that counting costs one pass in all.
    mark: (usize, usize),
    dashes: Finder<'static>,
}

pub(super) fn parts(bytes: &[u8]) -> Vec<Part> {
    let mut walk =
        Walk { bytes, parts: Vec::new(), open: Vec::new(), levels: HashMap::new(), leaf: None, mark: (0, 0), dashes: Finder::new(b"\n--") };
    walk.run();
    walk.parts
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut at = self.begin(None, 0);
        while let Some(delimiter) = self.delimiter(at) {
            if !delimiter.close && self.parts.len() >= MAX_PARTS {
                break;
            }
            at = delimiter.line.end;
            self.close(delimiter.level + 1, delimiter.line.start);
            if delimiter.close {
                self.forget(delimiter.level);
            } else {
                let parent = self.open.get(delimiter.level).map(|open| open.part);
                at = self.begin(parent, at);
            }
        }
        self.close(0, self.bytes.len());
    }

    /// Starts a part, and the messages that begin with its body; returns where to go on.
    fn begin(&mut self, mut parent: Option<usize>, mut start: usize) -> usize {
        loop {
            let index = self.parts.len();
            if let Some(above) = parent.and_then(|p| self.parts.get_mut(p)) {
                above.children.push(index);
            }
            let header = self.header(start);
            let body = header.end;
            let in_digest = parent.and_then(|p| self.parts.get(p)).is_some_and(|p| p.is("multipart", "digest"));
            let mut part = Part::empty(parent, start);
            part.header = header;
            part.body = body..body;
            part.read_header(self.bytes, in_digest);
            part.lines = self.lines_before(body); // `end` takes the difference
            let boundary = self.opens(&mut part);
            let is_message = part.shape == Shape::Message;
            if part.shape == Shape::Leaf {
                self.leaf = Some(index);
            } else {
                self.push(index, boundary);
            }
            self.parts.push(part);
            if !is_message {
                return body;
            }
            (parent, start) = (Some(index), body);
        }
    }

    /// The header that begins at `start`. A delimiter of an open multipart ends it like the end of the bytes.
    fn header(&self, start: usize) -> Range<usize> {
        let mut at = start;
        while let Some(text) = line(self.bytes, at, self.bytes.len()) {
            let after = line_end(self.bytes, at, self.bytes.len());
            if text.is_empty() {
                return start..after;
            }
            if self.matches(slice(self.bytes, &text)).is_some() {
                break;
            }
            at = after;
        }
        start..at
    }

    /// Decides what a part is; the boundary when it is a multipart.
    fn opens(&self, part: &mut Part) -> Option<Vec<u8>> {
        let room = self.open.len() < MAX_DEPTH && self.parts.len() + 1 < MAX_PARTS;
        match part.kind.as_str() {
            "multipart" => {
                let boundary = if room { boundary(part) } else { None };
                if boundary.is_some() {
                    part.shape = Shape::Multipart;
                } else {
                    part.set_default_type();
                }
                boundary
            }
            "message" if matches!(part.subtype.as_str(), "rfc822" | "global") => {
                // RFC 2046 §5.2.1 forbids other encodings; BODYSTRUCTURE would have to show what is inside.
                if room && !matches!(part.encoding.as_str(), "base64" | "quoted-printable" | "x-uuencode") {
                    part.shape = Shape::Message;
                } else {
                    part.set_type("application", "octet-stream");
                }
                None
            }
            _ => None,
        }
    }

    fn push(&mut self, part: usize, boundary: Option<Vec<u8>>) {
        if let Some(boundary) = &boundary {
            self.levels.entry(boundary.clone()).or_default().push(self.open.len());
        }
        self.open.push(Open { part, boundary });
    }

    /// The boundary at this level no longer counts.
    fn forget(&mut self, level: usize) {
        let Some(boundary) = self.open.get_mut(level).and_then(|open| open.boundary.take()) else { return };
        if let Some(levels) = self.levels.get_mut(&boundary) {
            levels.pop(); // deeper levels were closed before
            if levels.is_empty() {
                self.levels.remove(&boundary);
            }
        }
    }

    /// Ends the leaf and everything open from `level` on, before the line that begins at `at` (or at the end).
    fn close(&mut self, level: usize, at: usize) {
        let text = self.bytes.get(..at).unwrap_or_default();
        // RFC 2046 §5.1.1: the line end before a delimiter belongs to the delimiter.
        let text = if at == self.bytes.len() { text } else { text.strip_suffix(b"\n").map_or(text, |t| t.strip_suffix(b"\r").unwrap_or(t)) };
        let mut end = text.len();
        if let Some(leaf) = self.leaf.take() {
            end = self.end(leaf, end);
        }
        while self.open.len() > level {
            self.forget(self.open.len() - 1);
            if let Some(open) = self.open.pop() {
                end = self.end(open.part, end);
            }
        }
    }

    /// Ends one part at `end`, or at the end of its header when a delimiter follows that at once; returns which, for
    /// no part may reach beyond the one it is in.
    fn end(&mut self, index: usize, end: usize) -> usize {
        let end = self.parts.get(index).map_or(end, |part| end.max(part.body.start));
        let lines = self.lines_before(end);
        if let Some(part) = self.parts.get_mut(index) {
            part.body.end = end;
            part.whole.end = end;
            part.lines = lines.saturating_sub(part.lines);
            if part.shape == Shape::Multipart && part.children.is_empty() {
                // IMAP cannot show a multipart without parts; as text people see what there is.
                part.shape = Shape::Leaf;
                part.set_default_type();
            }
        }
        end
    }

    /// The next delimiter of an open multipart; a line begins at `at`.
    fn delimiter(&self, mut at: usize) -> Option<Delimiter> {
        if self.levels.is_empty() {
            return None;
        }
        loop {
            let rest = self.bytes.get(at..)?;
            if rest.starts_with(b"--") {
                let text = line(self.bytes, at, self.bytes.len())?;
                if let Some((level, close)) = self.matches(slice(self.bytes, &text)) {
                    return Some(Delimiter { level, close, line: at..line_end(self.bytes, at, self.bytes.len()) });
                }
            }
            at += self.dashes.find(rest)? + 1;
        }
    }

    /// The level whose delimiter this line is, and whether it closes. The whole line must match, so that boundary `a`
    /// is not found in `--ab`; when a boundary ends in hyphens itself, the innermost reading counts.
    fn matches(&self, line: &[u8]) -> Option<(usize, bool)> {
        let text = line.strip_prefix(b"--")?.trim_ascii_end();
        if text.len() > MAX_BOUNDARY + 2 {
            return None;
        }
        let level = |boundary: &[u8]| self.levels.get(boundary)?.last().copied();
        let begins = level(text).map(|level| (level, false));
        let closes = text.strip_suffix(b"--").and_then(level).map(|level| (level, true));
        begins.max(closes)
    }

    /// Line ends before this offset. Offsets come in order but for steps back over one line end.
    fn lines_before(&mut self, at: usize) -> usize {
        let (from, count) = self.mark;
        let between = |range| memchr::memchr_iter(b'\n', slice(self.bytes, &range)).count();
        let count = if at >= from { count + between(from..at) } else { count.saturating_sub(between(at..from)) };
        self.mark = (at, count);
        count
    }
}

fn boundary(part: &Part) -> Option<Vec<u8>> {
    let plain = part.params.iter().find(|param| param.name == "boundary").map(|param| param.value.clone());
    let mut boundary = plain.or_else(|| part.param("boundary").map(String::into_bytes))?;
    boundary.truncate(boundary.trim_ascii_end().len());
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

#[cfg(test)]
mod tests {
    use super::super::mime::Structure;
    use super::*;

    fn count(message: &str) -> (usize, usize) {
        let structure = Structure::scan(message.as_bytes());
        let parts = structure.parts();
        let mut depths: Vec<usize> = Vec::new();
        for part in parts {
            let above = part.parent.and_then(|p| structure.part(p));
            depths.push(part.parent.and_then(|p| depths.get(p)).map_or(0, |d| d + 1));
            assert!(above.is_none_or(|above| above.body.start <= part.whole.start && part.whole.end <= above.body.end));
            assert_eq!(part.shape == Shape::Leaf, part.children.is_empty());
        }
        (parts.len(), depths.into_iter().max().unwrap_or(0))
    }

    /// Parts and depth. Each of these cost other programs their stack, their memory or a night.
    #[test]
    fn hostile_shapes() {
        let multipart = |boundary: &str| format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\n\n--{boundary}\n");
        let numbered = |n: usize| (0..n).map(|n| multipart(&format!("b{n}"))).collect::<String>();
        let cases = [
            ("messages in messages", "Content-Type: message/rfc822\n\n".repeat(100_000), (MAX_DEPTH + 1, MAX_DEPTH)),
            ("multiparts in multiparts", numbered(100_000), (MAX_DEPTH + 1, MAX_DEPTH)),
            ("the same boundary", multipart("b").repeat(100_000), (MAX_PARTS, MAX_DEPTH)),
            ("prefix boundaries", (1..=200).map(|n| multipart(&"a".repeat(n))).collect::<String>() + &"--aaa \n".repeat(1000), (1101, MAX_DEPTH)),
            ("many parts", multipart("b") + &"--b\n".repeat(100_000), (MAX_PARTS, 1)),
            ("many messages", multipart("b") + &"Content-Type: message/rfc822\n\nA: b\n\n--b\n".repeat(100_000), (MAX_PARTS, 2)),
            ("deep, then many", numbered(99) + &"--b98\n".repeat(100_000), (MAX_PARTS, 99)),
            ("deep, then wide", numbered(100) + &(0..100).rev().map(|n| format!("--b{n}--\n")).collect::<String>().repeat(1000), (101, 100)),
            ("dashes", numbered(100) + &"--\n".repeat(1_000_000), (101, 100)),
            ("long lines of dashes", numbered(100) + &"-".repeat(4_000_000), (101, 100)),
            ("header without end", "A: b\n ".repeat(500_000), (1, 0)),
            ("digest", "Content-Type: multipart/digest; boundary=b\n\n".to_owned() + &"--b\n\n".repeat(20_000), (MAX_PARTS, 2)),
        ];
        for (name, message, expect) in cases {
            assert_eq!(count(&message), expect, "{name}");
        }
    }
}
