//! APPEND (RFC 3501 §6.3.11): all of it that stands before the message.

use super::{
    Flag,
    cursor::{Cursor, Parse},
    date, mailbox,
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    pub tag: String,
    /// UTF-8.
    pub folder: String,
    pub flags: Vec<Flag>,
    /// Seconds since 1970.
    pub date: Option<i64>,
    /// The message, in bytes; `u64::MAX` when the number was beyond all bounds.
    pub size: u64,
    /// The client waits for `+ ` before it sends it.
    pub sync: bool,
}

/// `command` is what stands before the `{` of a literal. `None` when that is not APPEND's message but, say, the
/// folder's name, or when the command is bad (then it is cut like any other, and refused as a whole).
pub fn head(command: &[u8], size: u64, sync: bool) -> Option<Append> {
    let mut c = Cursor::new(command);
    let tag = c.tag().ok()?.to_owned();
    c.space().ok()?;
    if !c.word("APPEND") {
        return None;
    }
    let (folder, flags, date) = arguments(&mut c, true).ok()?;
    c.is_done().then_some(Append { tag, folder, flags, date, size, sync })
}

/// APPEND that came as a command like any other, after its verb: says what is wrong.
pub(super) fn no_message<T>(c: &mut Cursor<'_>) -> Parse<T> {
    arguments(c, false)?;
    c.fail("the message as a literal")
}

/// Whether what stands before the `{` of a literal is an APPEND that is bad already: its message is not wanted.
pub(super) fn is_bad(command: &[u8]) -> bool {
    let mut c = Cursor::new(command);
    // Where the command ends, the literal may be what is missing.
    c.tag().is_ok() && c.space().is_ok() && c.word("APPEND") && arguments(&mut c, true).map_or_else(|e| e.at < command.len(), |_| !c.is_done())
}

fn arguments(c: &mut Cursor<'_>, spaced: bool) -> Parse<(String, Vec<Flag>, Option<i64>)> {
    if spaced {
        c.space()?;
    }
    let folder = mailbox::parse(c)?;
    c.space()?;
    let mut flags = Vec::new();
    if c.peek() == Some(b'(') {
        flags = super::flag::list(c)?;
        c.space()?;
    }
    let mut when = None;
    if c.peek() == Some(b'"') {
        when = Some(date::parse_date_time(c)?);
        c.space()?;
    }
    Ok((folder, flags, when))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let some = |folder: &str, flags: &[Flag], date| {
            Some(Append { tag: "A3".into(), folder: folder.into(), flags: flags.to_vec(), date, size: 310, sync: true })
        };
        let cases = [
            ("A3 APPEND saved-messages (\\Seen) ", some("saved-messages", &[Flag::Seen], None)),
            ("A3 APPEND INBOX ", some("INBOX", &[], None)),
            ("A3 append \"inbox\" () \"17-Jul-1996 02:44:25 -0700\" ", some("INBOX", &[], Some(837_596_665))),
            ("A3 APPEND {4}\r\nDone (\\Draft $MDNSent) ", some("Done", &[Flag::Draft, Flag::Keyword("$MDNSent".into())], None)),
            ("A3 APPEND ", None),
            ("A3 APPEND x", None),
            ("A3 APPEND x (\\Seen)", None),
            ("A3 APPEND x \"yesterday\" ", None),
            ("A3 APPENDIX x ", None),
            ("A3 LOGIN x ", None),
        ];
        for (text, want) in cases {
            assert_eq!(head(text.as_bytes(), 310, true), want, "{text:?}");
        }
    }
}
