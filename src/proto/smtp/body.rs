//! Message content on its way in: DATA unstuffed, BDAT counted, line ends watched.
//!
//! The end of DATA is `CRLF . CRLF` and nothing else (RFC 5321 §4.1.1.4, §4.5.2): `LF.LF`, `LF.CRLF`, `CR.CR`, `CRLF.LF`
//! and all their sisters are content, so no second message hides in a first. Content that holds a lone CR or LF is
//! read to its end all the same and then refused ([`Body::bare`]): a relay after us might not be as strict. Except CRs
//! before a CRLF (`CR CR LF`), which text-mode mistakes put into much honest mail: they end no line, and our own
//! client sends them as spaces.

/// The content of one DATA command. Streaming; holds no bytes.
#[derive(Debug)]
pub struct Body {
    /// The next byte begins a line.
    line_start: bool,
    bare: bool,
}

impl Default for Body {
    fn default() -> Self {
        Self { line_start: true, bare: false }
    }
}

impl Body {
    pub fn new() -> Self {
        Self::default()
    }
    /// A lone CR or LF was in the content so far.
    pub fn bare(&self) -> bool {
        self.bare
    }
    /// Appends the unstuffed content of `input` to `out`, whole runs at a time. Says how much of `input` is used up
    /// and whether the end was there; at most the last two octets stay unused, until more input tells what they are.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, bool) {
        // `run` begins what is to be copied, `at` is where we look; everything before `at` is understood.
        let (mut run, mut at) = (0, 0);
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.line_start && rest.first() == Some(&b'.') {
                match rest {
                    [_, b'\r', b'\n', ..] => {
                        copy(input, run, at, out);
                        return (at + 3, true);
                    }
                    [_] | [_, b'\r'] => break,
                    _ => {
                        copy(input, run, at, out);
                        run = at + 1;
                        at = run;
                        self.line_start = false;
                        continue;
                    }
                }
            }
            let Some(found) = memchr::memchr2(b'\r', b'\n', rest) else {
                self.line_start &= rest.is_empty();
                at = input.len();
                break;
            };
            self.line_start &= found == 0;
            at += found;
            match (rest.get(found), rest.get(found + 1)) {
                (Some(b'\r'), Some(b'\n')) => {
                    at += 2;
                    self.line_start = true;
                }
                (Some(b'\r'), None) => break,
                // CR CR LF: the last CR is the one that counts.
                (Some(b'\r'), Some(b'\r')) => {
                    at += 1;
                    self.line_start = false;
                }
                _ => {
                    at += 1;
                    self.bare = true;
                    self.line_start = false;
                }
            }
        }
        copy(input, run, at, out);
        (at, false)
    }
}

fn copy(input: &[u8], from: usize, to: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(input.get(from..to).unwrap_or_default());
}

/// The content of the BDAT commands of one transaction (RFC 3030 §2): counted, not stuffed. Lines end at CRLF here
/// too, for we do not offer BINARYMIME.
#[derive(Debug, Default)]
pub struct Chunks {
    /// Octets of the present chunk still to come.
    left: u64,
    /// The content so far ends with a CR.
    after_cr: bool,
    bare: bool,
}

impl Chunks {
    pub fn new() -> Self {
        Self::default()
    }
    /// Begins the chunk of a BDAT command.
    pub fn begin(&mut self, size: u64) {
        self.left = size;
    }
    /// Octets of the chunk that are still to come.
    pub fn left(&self) -> u64 {
        self.left
    }
    /// Takes what belongs to the chunk; says how much that was.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        let mine = input.get(..n).unwrap_or_default();
        self.left -= n as u64;
        self.watch(mine);
        out.extend_from_slice(mine);
        n
    }
    /// After the last chunk: a lone CR or LF was in the content. A CR at the very end is one.
    pub fn bare(&self) -> bool {
        self.bare || self.after_cr
    }
    fn watch(&mut self, bytes: &[u8]) {
        let mut at = 0;
        while !self.bare && at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.after_cr {
                self.after_cr = rest.first() == Some(&b'\r');
                self.bare = !self.after_cr && rest.first() != Some(&b'\n');
                at += 1;
                continue;
            }
            let Some(found) = memchr::memchr2(b'\r', b'\n', rest) else { return };
            self.after_cr = rest.get(found) == Some(&b'\r');
            self.bare = !self.after_cr;
            at += found + 1;
        }
    }
}

/// Appends `content` dot-stuffed and with the end of data (RFC 5321 §4.5.2). Content that does not end with CRLF gets one.
pub fn stuff(content: &[u8], out: &mut Vec<u8>) {
    let mut run = 0;
    if content.first() == Some(&b'.') {
        out.push(b'.');
    }
    for at in memchr::memmem::find_iter(content, b"\r\n.") {
        copy(content, run, at + 2, out);
        out.push(b'.');
        run = at + 2;
    }
    copy(content, run, content.len(), out);
    if !content.is_empty() && !content.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, bare, and what is left after the end (`None`: no end).
    fn unstuff(input: &[u8], size: usize) -> (Vec<u8>, bool, Option<Vec<u8>>) {
        let (mut body, mut buffer, mut out) = (Body::new(), Vec::new(), Vec::new());
        let mut chunks = input.chunks(size);
        while let Some(chunk) = chunks.next() {
            buffer.extend_from_slice(chunk);
            let (n, end) = body.push(&buffer, &mut out);
            buffer.drain(..n);
            if end {
                buffer.extend(chunks.flatten());
                return (out, body.bare(), Some(buffer));
            }
            assert!(buffer.len() <= 2, "keeps {buffer:?}");
        }
        (out, body.bare(), None)
    }

    fn every_way(input: &str, want: &(Vec<u8>, bool, Option<Vec<u8>>)) {
        for size in [1, 2, 3, 5, 4096] {
            assert_eq!(unstuff(input.as_bytes(), size), *want, "{input:?} by {size}");
        }
    }

    #[test]
    fn dots() {
        const CASES: &[(&str, &str, &str)] = &[
            (".\r\n", "", ""),
            ("a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"),
            ("..\r\n.\r\n", ".\r\n", ""),
            (".a\r\n.\r\n", "a\r\n", ""), // RFC 5321 §4.5.2: a first dot goes, whatever follows
            ("...\r\n..a\r\n.\r\n", "..\r\n.a\r\n", ""),
            ("a.\r\n.\r\n.\r\n", "a.\r\n", ".\r\n"),
            ("\r\n\r\n.\r\n", "\r\n\r\n", ""),
            ("a\0b\r\n.\r\n", "a\0b\r\n", ""),
            ("é\r\n.\r\n", "é\r\n", ""),
        ];
        for (input, content, rest) in CASES {
            every_way(input, &(content.as_bytes().to_vec(), false, Some(rest.as_bytes().to_vec())));
        }
    }

    /// Nothing but CRLF.CRLF ends the data; whatever else looks like an end is refused at the real one.
    #[test]
    fn smuggling() {
        const ENDS: &[&str] = &["\n", "\r", "\r\n", "\n\r", "\r\r\n", "\n\n", "\r\r", "\0", "\r\0\n", "\u{85}", "\u{2028}", "", " \r\n"];
        let mut tried = 0;
        for before in ENDS {
            for after in ENDS {
                if before.ends_with("\r\n") && *after == "\r\n" {
                    continue; // the one true end
                }
                tried += 1;
                let input = format!("a{before}.{after}MAIL FROM:<evil@example.org>\r\nb\r\n.\r\n");
                let end = input.len();
                for size in [1, 2, 3, 4096] {
                    let (content, bare, rest) = unstuff(input.as_bytes(), size);
                    assert_eq!(rest, Some(vec![]), "{before:?}.{after:?} ended early by {size}");
                    assert!(content.len() >= end - 5, "{before:?}.{after:?} lost content");
                    let lone = input.replace("\r\r\n", "").replace("\r\n", "").contains(['\r', '\n']);
                    assert_eq!(bare, lone, "{before:?}.{after:?}");
                }
            }
        }
        assert_eq!(tried, ENDS.len() * ENDS.len() - 3);
    }

    #[test]
    fn no_end_yet() {
        for input in ["", "a", "a\r\n", "a\r\n.", "a\r\n.\r", "a\r", ".", "a\n.\n", "a\r.\r", "a\r\n.\n", "a\n.\r\n"] {
            for size in [1, 2, 4096] {
                assert_eq!(unstuff(input.as_bytes(), size).2, None, "{input:?}");
            }
        }
    }

    #[test]
    fn chunks_are_counted_and_watched() {
        const CASES: &[(&[&str], bool)] = &[
            (&["a\r\nb\r\n"], false),
            (&["a\r", "\nb\r\n"], false),
            (&["a", "\r", "\n"], false),
            (&["a\n"], true),
            (&["a\r", "b\r\n"], true),
            (&["a\r\n", "\nb"], true),
            (&["a\r\r\n", "\r\r\r\n"], false),
            (&["a\r\r", "b\r\n"], true),
            (&["a\r"], true),
            (&["a\0.\r\n.\r\n"], false),
            (&[""], false),
        ];
        for (parts, bare) in CASES {
            for size in [1, 2, 4096] {
                let (mut chunks, mut out) = (Chunks::new(), Vec::new());
                for part in *parts {
                    chunks.begin(part.len() as u64);
                    let input = [part.as_bytes(), b"QUIT\r\n"].concat();
                    let mut used = 0;
                    for piece in input.chunks(size) {
                        used += chunks.push(piece, &mut out);
                    }
                    assert_eq!((used, chunks.left()), (part.len(), 0), "{parts:?}");
                }
                assert_eq!(out, parts.concat().as_bytes(), "{parts:?}");
                assert_eq!(chunks.bare(), *bare, "{parts:?} by {size}");
            }
        }
    }

    #[test]
    fn stuffs() {
        const CASES: &[(&str, &str)] = &[
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            (".a\r\n..\r\n", "..a\r\n...\r\n.\r\n"),
            ("a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n.\r\n"),
        ];
        for (content, want) in CASES {
            let mut out = Vec::new();
            stuff(content.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), *want);
        }
    }
}
