//! The message on its way out: read in blocking jobs, line ends and dots put right for DATA.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Read at once; what is in memory of a message at any time is about twice this.
const BLOCK: usize = 128 * 1024;

/// A message file being read.
#[derive(Debug)]
pub(super) struct Source {
    file: File,
    lines: Lines,
    ended: bool,
}

impl Source {
    /// Blocking.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, lines: Lines::default(), ended: false })
    }
    /// The next stretch of DATA, the last with the final dot; `None` after it. Blocking.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = Vec::with_capacity(BLOCK);
        self.file.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let mut out = Vec::with_capacity(block.len() + 64);
        if block.is_empty() {
            self.ended = true;
            self.lines.end(&mut out);
        } else {
            self.lines.push(&block, &mut out);
        }
        Ok(Some(out))
    }
    /// Has the header UTF-8 in it? Reads ahead and goes back. Blocking.
    pub(super) fn header_is_ascii(&mut self) -> io::Result<bool> {
        use io::{BufRead, BufReader, Seek};
        let mut reader = BufReader::new(&self.file);
        let (mut line, mut ascii) = (Vec::new(), true);
        loop {
            line.clear();
            reader.by_ref().take(BLOCK as u64).read_until(b'\n', &mut line)?;
            if matches!(line.as_slice(), b"" | b"\n" | b"\r\n") {
                break;
            }
            ascii &= line.is_ascii();
        }
        self.file.rewind()?;
        Ok(ascii)
    }
}

/// Dot-stuffing (RFC 5321 §4.5.2) at any chunking. A lone LF becomes CRLF. A lone CR, which some hosts would
/// take for a line's end (smuggling), becomes a space.
#[derive(Debug, Default)]
struct Lines {
    /// A CR came last; what it was shows the next byte.
    cr: bool,
    /// Not at the start of a line.
    inside: bool,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.cr) && first != b'\n' {
                self.text(b" ", out);
            }
            let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            let (text, tail) = rest.split_at(end);
            self.text(text, out);
            rest = match tail.split_first() {
                Some((b'\n', after)) => {
                    out.extend_from_slice(b"\r\n");
                    self.inside = false;
                    after
                }
                Some((_, after)) => {
                    self.cr = true;
                    after
                }
                None => tail,
            };
        }
    }
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if !self.inside && text.first() == Some(&b'.') {
            out.push(b'.');
        }
        self.inside = true;
        out.extend_from_slice(text);
    }
    fn end(&mut self, out: &mut Vec<u8>) {
        if self.inside || self.cr {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_dots_at_any_chunking() {
        const CASES: &[(&str, &str)] = &[
            ("", ".\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\nb\n", "a\r\nb\r\n.\r\n"),
            (".\n", "..\r\n.\r\n"),
            (".a\r\n..b\n.", "..a\r\n...b\r\n..\r\n.\r\n"),
            ("a.\r\nb.c\r\n", "a.\r\nb.c\r\n.\r\n"),
            ("\r\n.\r\n\r\n", "\r\n..\r\n\r\n.\r\n"),
            // Smuggling: none of these may leave as the end of data.
            ("a\n.\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"),
            ("a\r\n.\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"),
            ("a\n.\r\nMAIL", "a\r\n..\r\nMAIL\r\n.\r\n"),
            ("a\r.\rMAIL", "a . MAIL\r\n.\r\n"),
            ("a\r\n.\rMAIL", "a\r\n.. MAIL\r\n.\r\n"),
            ("a\r", "a\r\n.\r\n"),
            ("a\r\r\nb", "a \r\nb\r\n.\r\n"),
            ("\r", "\r\n.\r\n"),
            ("\r.x\n", " .x\r\n.\r\n"),
            ("\n\r\n", "\r\n\r\n.\r\n"),
        ];
        for (input, want) in CASES {
            for size in [1, 2, 3, 100] {
                let (mut lines, mut out) = (Lines::default(), Vec::new());
                for chunk in input.as_bytes().chunks(size) {
                    lines.push(chunk, &mut out);
                }
                lines.end(&mut out);
                assert_eq!(String::from_utf8_lossy(&out), *want, "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn headers_are_looked_at_without_being_lost() {
        let file = std::env::temp_dir().join(format!("gatepost-smtpc-{}-header", std::process::id()));
        for (text, ascii) in [("A: b\r\n\r\n\u{e9}", true), ("A: b\nB: \u{e9}\n\nx", false), ("", true), ("A: no body", true)] {
            std::fs::write(&file, text).unwrap();
            let mut source = Source::open(&file).unwrap();
            assert_eq!(source.header_is_ascii().unwrap(), ascii, "{text:?}");
            let first = source.next().unwrap().unwrap();
            assert_eq!(first.first(), if text.is_empty() { Some(&b'.') } else { Some(&b'A') });
        }
    }
}
