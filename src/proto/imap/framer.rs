//! Where a command ends: lines and literals (RFC 3501 §4.3, RFC 7888), before anything is parsed.

use super::{Append, append};
use memchr::memchr;

/// What a session lets a client send in one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// One line, in bytes.
    pub line: usize,
    /// Literals in one command.
    pub literals: usize,
    /// The command with its literals, in bytes.
    pub command: usize,
    /// Whether APPEND's message is cut out to be streamed.
    pub append: bool,
}

impl Limits {
    /// Anybody may connect: room for a name and a password and no more.
    pub const BEFORE_LOGIN: Self = Self { line: 8 * 1024, literals: 2, command: 8 * 1024, append: false };
    /// Clients send UID sets and search strings of some length.
    pub const AFTER_LOGIN: Self = Self { line: 64 * 1024, literals: 64, command: 128 * 1024, append: true };
}

/// What stands at the head of the buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole command with its literals, without the last line end.
    Command(Vec<u8>),
    /// The client waits for `+ ` before it sends its literal. Consumes nothing.
    Continue,
    /// APPEND up to its message; the message's octets come next, after `+ ` when it is synchronizing.
    Append(Append),
    /// Not to be had. Unless `fatal`, the client can go on with its next command.
    Refused(Refused),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// `*` when it cannot be told.
    pub tag: String,
    /// Response code of the BAD.
    pub code: Option<&'static str>,
    pub text: &'static str,
    /// Octets that nobody will read are on their way: the connection has to end.
    pub fatal: bool,
}

/// Cuts what a connection has buffered. Keeps positions only: an idle connection costs no buffer.
#[derive(Debug)]
pub struct Framer {
    pub limits: Limits,
    /// Looked at up to here, or where the literal ends that is being waited for.
    at: usize,
    /// Start of the line that is being looked at.
    line: usize,
    literals: usize,
}

/// A literal announced at the end of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Announced {
    /// Where its `{` stands.
    open: usize,
    /// `u64::MAX` for all that is larger.
    size: u64,
    sync: bool,
}

impl Framer {
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: 0, line: 0, literals: 0 }
    }
    fn reset(&mut self) {
        (self.at, self.line, self.literals) = (0, 0, 0);
    }
    /// `buffered` is all that arrived and was not consumed yet. `None`: more is needed.
    pub fn cut(&mut self, buffered: &[u8]) -> Option<(usize, Frame)> {
        loop {
            // Within a literal `at` is ahead of what has arrived.
            let unseen = buffered.get(self.at..)?;
            let Some(i) = memchr(b'\n', unseen) else {
                self.at = buffered.len();
                return (self.at - self.line > self.limits.line).then(|| self.refuse(buffered, buffered.len(), "line too long", true));
            };
            let end = self.at + i;
            let line = buffered.get(self.line..end)?;
            if line.len() > self.limits.line {
                return Some(self.refuse(buffered, end + 1, "line too long", true));
            }
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            let stop = self.line + text.len();
            let Some(literal) = announced(text) else {
                self.reset();
                return Some((end + 1, Frame::Command(buffered.get(..stop)?.to_vec())));
            };
            if let Some(frame) = self.literal(buffered, literal, end + 1) {
                return Some(frame);
            }
        }
    }
    /// `after` is where the octets begin. `None`: go on behind them.
    fn literal(&mut self, buffered: &[u8], literal: Announced, after: usize) -> Option<(usize, Frame)> {
        if self.limits.append
            && let Some(append) = append::head(buffered.get(..self.line + literal.open)?, literal.size, literal.sync)
        {
            self.reset();
            return Some((after, Frame::Append(append)));
        }
        if self.limits.append && literal.sync && append::is_bad(buffered.get(..self.line + literal.open)?) {
            self.reset();
            return Some((
                after,
                Frame::Refused(Refused { tag: tag(buffered), code: None, text: "APPEND wants a folder, flags, a date", fatal: false }),
            ));
        }
        self.literals += 1;
        let end = usize::try_from(literal.size).ok().and_then(|n| n.checked_add(after)).unwrap_or(usize::MAX);
        if self.literals > self.limits.literals {
            return Some(self.refuse(buffered, after, "too many literals", !literal.sync));
        }
        if end > self.limits.command {
            return Some(self.refuse(buffered, after, "literal too large", !literal.sync));
        }
        (self.at, self.line) = (end, end);
        literal.sync.then_some((0, Frame::Continue))
    }
    fn refuse(&mut self, buffered: &[u8], consumed: usize, text: &'static str, fatal: bool) -> (usize, Frame) {
        self.reset();
        (consumed, Frame::Refused(Refused { tag: tag(buffered), code: Some("TOOBIG"), text, fatal }))
    }
}

/// The tag of a command that may be anything.
pub fn tag(command: &[u8]) -> String {
    super::cursor::Cursor::new(command).tag().map_or_else(|_| "*".into(), str::to_owned)
}

/// `{n}` or `{n+}` at the end of a line.
fn announced(line: &[u8]) -> Option<Announced> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, sync) = inner.strip_suffix(b"+").map_or((inner, true), |i| (i, false));
    let open = inner.iter().rposition(|b| !b.is_ascii_digit())?;
    let digits = inner.get(open + 1..)?;
    if inner.get(open) != Some(&b'{') || digits.is_empty() {
        return None;
    }
    let size = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::MAX);
    Some(Announced { open, size, sync })
}

/// One line that is no command: a SASL response, DONE, what follows APPEND's message. `Err`: longer than `limit`.
pub fn cut_line(buffered: &[u8], limit: usize) -> Option<(usize, Result<Vec<u8>, ()>)> {
    match memchr(b'\n', buffered) {
        Some(i) if i <= limit => {
            let line = buffered.get(..i)?;
            Some((i + 1, Ok(line.strip_suffix(b"\r").unwrap_or(line).to_vec())))
        }
        None if buffered.len() <= limit => None,
        _ => Some((buffered.len(), Err(()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `input` to a framer, `step` bytes at a time, and returns what came out.
    fn frames(limits: Limits, input: &[u8], step: usize) -> Vec<Frame> {
        let (mut framer, mut out, mut buffered, mut fed) = (Framer::new(limits), Vec::new(), Vec::new(), 0);
        loop {
            match framer.cut(&buffered) {
                Some((n, frame)) => {
                    buffered.drain(..n);
                    let fatal = matches!(&frame, Frame::Refused(r) if r.fatal);
                    out.push(frame);
                    if fatal {
                        return out;
                    }
                }
                None if fed == input.len() => return out,
                None => {
                    let next = (fed + step).min(input.len());
                    buffered.extend_from_slice(&input[fed..next]);
                    fed = next;
                }
            }
        }
    }
    fn command(text: &str) -> Frame {
        Frame::Command(text.as_bytes().to_vec())
    }
    fn refused(tag: &str, text: &'static str, fatal: bool) -> Frame {
        Frame::Refused(Refused { tag: tag.into(), code: Some("TOOBIG"), text, fatal })
    }

    #[test]
    fn commands_at_any_chunking() {
        let long = format!("a LOGIN {}\r\n", "x".repeat(9000));
        let cases: Vec<(Limits, &str, Vec<Frame>)> = vec![
            (Limits::BEFORE_LOGIN, "a NOOP\r\nb NOOP\n", vec![command("a NOOP"), command("b NOOP")]),
            (Limits::BEFORE_LOGIN, "\r\n", vec![command("")]),
            (
                Limits::BEFORE_LOGIN,
                "A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man\r\n",
                vec![Frame::Continue, Frame::Continue, command("A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man")],
            ),
            (Limits::BEFORE_LOGIN, "A LOGIN {4+}\r\nFRED {7+}\r\nfat\r\nan\r\n", vec![command("A LOGIN {4+}\r\nFRED {7+}\r\nfat\r\nan")]),
            // The literal of a bad command never becomes a command.
            (Limits::BEFORE_LOGIN, "a BOGUS {13+}\r\nb DELETE x\r\n\r\n\r\n", vec![command("a BOGUS {13+}\r\nb DELETE x\r\n\r"), command("")]),
            (Limits::BEFORE_LOGIN, "a LOGIN {9000}\r\nb NOOP\r\n", vec![refused("a", "literal too large", false), command("b NOOP")]),
            (Limits::BEFORE_LOGIN, "a LOGIN {9000+}\r\n", vec![refused("a", "literal too large", true)]),
            (Limits::AFTER_LOGIN, "a SELECT {9223372036854775808+}\r\n", vec![refused("a", "literal too large", true)]),
            (Limits::AFTER_LOGIN, "a SELECT {99999999999999999999999}\r\n", vec![refused("a", "literal too large", false)]),
            (Limits::BEFORE_LOGIN, "a X {1}\r\nx{1}\r\ny{1}\r\n", vec![Frame::Continue, Frame::Continue, refused("a", "too many literals", false)]),
            (Limits::BEFORE_LOGIN, &long, vec![refused("a", "line too long", true)]),
            (Limits::BEFORE_LOGIN, "a X {}\r\nb x{+}\r\nc }\r\n}\r\n", vec![command("a X {}"), command("b x{+}"), command("c }"), command("}")]),
            (Limits::BEFORE_LOGIN, "a APPEND x {9000}\r\n", vec![refused("a", "literal too large", false)]),
        ];
        for (limits, input, want) in cases {
            for step in [1, 2, 3, 7, input.len()] {
                assert_eq!(frames(limits, input.as_bytes(), step), want, "{input:?} by {step}");
            }
        }
    }
    #[test]
    fn the_message_of_append_is_cut_out() {
        for (input, folder) in
            [("a APPEND saved (\\Seen) {310}\r\n", "saved"), ("a append {5+}\r\nINBOX {310}\r\n", "INBOX"), ("a APPEND \"x y\" {310}\r\n", "x y")]
        {
            for step in [1, 5, input.len()] {
                match &frames(Limits::AFTER_LOGIN, input.as_bytes(), step)[..] {
                    [Frame::Append(a)] => assert_eq!((a.folder.as_str(), a.size, a.sync), (folder, 310, true), "{input:?}"),
                    other => panic!("{input:?} gives {other:?}"),
                }
            }
        }
    }
    /// Its message does not come, however large it was to be, and nobody is told that it is too large.
    #[test]
    fn a_bad_append_is_refused_before_its_message() {
        for head in ["x (\\Bogus) ", "{1+}\r\nx (\\Bogus) ", "x () \"yesterday\" ", "&bad ", "x y "] {
            let input = format!("a APPEND {head}{{300000}}\r\nb NOOP\r\n");
            for step in [1, 5, input.len()] {
                match &frames(Limits::AFTER_LOGIN, input.as_bytes(), step)[..] {
                    [Frame::Refused(r), Frame::Command(next)] => assert_eq!((r.code, r.fatal, &next[..]), (None, false, &b"b NOOP"[..])),
                    other => panic!("{input:?} gives {other:?}"),
                }
            }
        }
    }
    #[test]
    fn lines() {
        assert_eq!(cut_line(b"DONE\r\nx", 10), Some((6, Ok(b"DONE".to_vec()))));
        assert_eq!(cut_line(b"DO", 10), None);
        assert_eq!(cut_line(b"DODODODODODO", 10), Some((12, Err(()))));
        assert_eq!(cut_line(b"DODODODODODO\n", 10), Some((13, Err(()))));
    }
}
