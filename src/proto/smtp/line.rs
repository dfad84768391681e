//! Cuts command lines. A line ends at CRLF and nowhere else.
//!
//! A lone LF or CR is not skipped, repaired or taken for a line end: whoever sends one disagrees with us about where
//! lines end, and every SMTP smuggling attack lives in that gap. The session says 500 and hangs up.

/// Longest command line with its CRLF: the 512 of RFC 5321 §4.5.3.1.4 and generous room for parameters.
const MAX_COMMAND: usize = 2048;
/// Longest AUTH line and response with CRLF (RFC 4954 §4).
const MAX_AUTH: usize = 12288;
/// So much of an overlong line is read and thrown away in the hope of its end.
const MAX_SKIP: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Without its CRLF.
    Line(Vec<u8>),
    /// Of a line that is too long some more was thrown away; cut again.
    Skipping,
    /// An overlong line ended here.
    TooLong,
    /// An overlong line that does not end; the dialogue is over.
    Endless,
    /// A lone CR or LF; the dialogue is over.
    Bare,
}

/// Cuts one connection's input. Between calls it holds a counter and no bytes.
#[derive(Debug, Default)]
pub struct Framer {
    /// Of the overlong line under way.
    skipped: usize,
}

impl Framer {
    pub fn new() -> Self {
        Self::default()
    }
    /// The next command line, at most [`MAX_COMMAND`], or [`MAX_AUTH`] for an AUTH command.
    pub fn command(&mut self, bytes: &[u8]) -> Option<(usize, Frame)> {
        let auth = bytes.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        self.cut(bytes, if auth { MAX_AUTH } else { MAX_COMMAND })
    }
    /// The next response of an AUTH exchange.
    pub fn response(&mut self, bytes: &[u8]) -> Option<(usize, Frame)> {
        self.cut(bytes, MAX_AUTH)
    }
    /// `None`: no line end yet and still room for one.
    fn cut(&mut self, bytes: &[u8], limit: usize) -> Option<(usize, Frame)> {
        let end = memchr::memchr2(b'\r', b'\n', bytes);
        let Some(at) = end else { return self.unfinished(bytes.len(), limit) };
        if self.skipped + at > MAX_SKIP {
            return Some((at, Frame::Endless));
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'\r'), None) => self.unfinished(at, limit),
            (Some(b'\r'), Some(b'\n')) => {
                let too_long = std::mem::take(&mut self.skipped) > 0 || at + 2 > limit;
                let line = bytes.get(..at).unwrap_or_default();
                Some((at + 2, if too_long { Frame::TooLong } else { Frame::Line(line.to_vec()) }))
            }
            _ => Some((at + 1, Frame::Bare)),
        }
    }
    /// `len` bytes are there without a line end (a CR after them is not counted: it stays until its LF comes).
    fn unfinished(&mut self, len: usize, limit: usize) -> Option<(usize, Frame)> {
        if len == 0 || (self.skipped == 0 && len + 2 <= limit) {
            return None;
        }
        self.skipped += len;
        Some((len, if self.skipped > MAX_SKIP { Frame::Endless } else { Frame::Skipping }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a session sees, `size` bytes at a time, until the dialogue is over.
    fn frames(input: &[u8], size: usize) -> Vec<Frame> {
        let (mut framer, mut buffer, mut out) = (Framer::new(), Vec::new(), Vec::new());
        for chunk in input.chunks(size) {
            buffer.extend_from_slice(chunk);
            while let Some((n, frame)) = framer.command(&buffer) {
                assert!(n > 0 && n <= buffer.len());
                buffer.drain(..n);
                if frame != Frame::Skipping {
                    out.push(frame);
                }
                if matches!(out.last(), Some(Frame::Endless | Frame::Bare)) {
                    return out;
                }
            }
            assert!(buffer.len() <= MAX_AUTH + size, "unbounded buffer");
        }
        out
    }

    fn line(text: &str) -> Frame {
        Frame::Line(text.into())
    }

    #[test]
    fn lines_end_at_crlf_only() {
        let cases: &[(&str, Vec<Frame>)] = &[
            ("NOOP\r\n", vec![line("NOOP")]),
            ("\r\n", vec![line("")]),
            ("A\r\nB\r\nC", vec![line("A"), line("B")]),
            ("NOOP\n", vec![Frame::Bare]),
            ("NOOP\rQUIT\r\n", vec![Frame::Bare]),
            ("NOOP\r\r\n", vec![Frame::Bare]),
            ("NOOP\n\r\n", vec![Frame::Bare]),
            ("A\r\n\nB\r\n", vec![line("A"), Frame::Bare]),
            ("A\r\n\rB\r\n", vec![line("A"), Frame::Bare]),
            ("A\0B\r\n", vec![line("A\0B")]),
            ("A\r", vec![]),
        ];
        for (input, want) in cases {
            for size in [1, 2, 3, 100] {
                assert_eq!(frames(input.as_bytes(), size), *want, "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn long_lines() {
        let fits = "x".repeat(MAX_COMMAND - 2);
        let auth = format!("auth {}", "x".repeat(MAX_AUTH - 7));
        let cases: Vec<(String, Vec<Frame>)> = vec![
            (format!("{fits}\r\nQUIT\r\n"), vec![line(&fits), line("QUIT")]),
            (format!("{fits}x\r\nQUIT\r\n"), vec![Frame::TooLong, line("QUIT")]),
            (format!("{auth}\r\nQUIT\r\n"), vec![line(&auth), line("QUIT")]),
            (format!("{auth}x\r\nQUIT\r\n"), vec![Frame::TooLong, line("QUIT")]),
            (format!("{fits}{fits}\nQUIT\r\n"), vec![Frame::Bare]),
            ("x".repeat(MAX_SKIP + 20_000), vec![Frame::Endless]),
            ("x".repeat(MAX_SKIP) + "\r\nQUIT\r\n", vec![Frame::TooLong, line("QUIT")]),
            ("x".repeat(MAX_SKIP + 1) + "\r\nQUIT\r\n", vec![Frame::Endless]),
        ];
        for (input, want) in &cases {
            for size in [1, 1000, 1999, 15_000, 100_000] {
                assert_eq!(frames(input.as_bytes(), size), *want, "{} octets by {size}", input.len());
            }
        }
    }
}
