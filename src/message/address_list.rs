//! Address lists of header fields (RFC 5322 §3.4, §4.4): lenient, for showing what is there, not for delivering to it.
//!
//! One pass over the octets. Groups, comments, quoted strings and obsolete routes are understood; encoded words stay
//! as they are; whatever is no address still comes out as something a client can show.

use super::address::{self, Address};

/// More are dropped: a list of two-octet entries would take fifty times its size in memory.
pub const MAX_LISTED: usize = 10_000;

/// An item of an address list, in the order of the field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listed {
    Mailbox(Mailbox),
    /// `Name:` with the name unquoted.
    GroupStart(Vec<u8>),
    /// `;`, or the end of a field in which it was forgotten.
    GroupEnd,
}

/// One mailbox with its quotes removed and folds undone; octets as they came otherwise.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mailbox {
    /// The phrase before `<`, or else a comment after the address (RFC 822's habit).
    pub name: Option<Vec<u8>>,
    /// An obsolete source route, `@a,@b`.
    pub adl: Option<Vec<u8>>,
    /// Empty when there is none, as in `<>`.
    pub local: Vec<u8>,
    /// Empty when there is none, as in `From: root`.
    pub domain: Vec<u8>,
}

impl Mailbox {
    /// As an address that mail can be sent to, when it is one.
    pub fn address(&self) -> Option<Address> {
        let local = std::str::from_utf8(&self.local).ok().filter(|local| !local.is_empty())?;
        let domain = address::domain_or_literal(std::str::from_utf8(&self.domain).ok()?)?;
        // Back through the strict parser: here a local part may be anything.
        Address::parse(&Address { local: local.to_owned(), domain }.to_string())
    }
}

/// The items of a From, To, Cc… value.
pub fn header_addresses(value: &[u8]) -> Vec<Listed> {
    let mut reader = Reader { text: value, ..Reader::default() };
    while let Some(b) = reader.peek() {
        reader.step(b);
        if reader.out.len() >= MAX_LISTED {
            break;
        }
    }
    reader.flush();
    if reader.in_group {
        reader.out.push(Listed::GroupEnd);
    }
    reader.out
}

/// The mailboxes of a value, groups opened up.
pub fn mailboxes(value: &[u8]) -> impl Iterator<Item = Mailbox> {
    header_addresses(value).into_iter().filter_map(|item| match item {
        Listed::Mailbox(mailbox) => Some(mailbox),
        Listed::GroupStart(_) | Listed::GroupEnd => None,
    })
}

/// Where inside an address the reader is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Place {
    /// Words that may be a display name, a local part or a group's name.
    #[default]
    Words,
    /// After the `@` of an address without angles.
    Domain,
    /// After `<@`, up to the colon.
    Route,
    AngleLocal,
    AngleDomain,
    /// After `>`.
    Over,
}

#[derive(Default)]
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    out: Vec<Listed>,
    in_group: bool,
    place: Place,
    /// Everything before `<`, words separated by one space.
    phrase: Vec<u8>,
    /// The last words that are joined by dots: a local part, if `@` follows. It began in `phrase` at `local_from`.
    local: Vec<u8>,
    local_from: usize,
    /// The last token was a dot, or there was none yet.
    joined: bool,
    spaced: bool,
    comment: Option<Vec<u8>>,
    mailbox: Mailbox,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Takes one token.
    fn step(&mut self, b: u8) {
        match b {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.at += 1;
                self.spaced = true;
            }
            b'(' => self.comment = Some(self.comment()),
            b'"' => {
                let text = self.quoted(b'"');
                self.word(&text);
            }
            b'[' if matches!(self.place, Place::Domain | Place::AngleDomain) => {
                let mut text = vec![b'['];
                text.extend(self.quoted(b']'));
                text.push(b']');
                self.word(&text);
            }
            b',' if self.place == Place::Route => self.special(b),
            b',' => {
                self.at += 1;
                self.flush();
            }
            b';' => {
                self.at += 1;
                self.flush();
                if std::mem::take(&mut self.in_group) {
                    self.out.push(Listed::GroupEnd);
                }
            }
            b':' | b'<' | b'>' | b'@' | b'.' => self.special(b),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let length = rest.iter().position(|b| b" \t\r\n(\",;:<>@.[".contains(b)).unwrap_or(rest.len()).max(1);
                let text = rest.get(..length).unwrap_or_default();
                self.at += length;
                self.word(text);
            }
        }
    }

    fn special(&mut self, b: u8) {
        self.at += 1;
        match (b, self.place) {
            (b'<', Place::Words | Place::Domain) => {
                self.place = Place::AngleLocal;
                let name = std::mem::take(&mut self.phrase);
                self.mailbox = Mailbox { name: (!name.is_empty()).then_some(name), ..Mailbox::default() };
            }
            (b'>', Place::Route | Place::AngleLocal | Place::AngleDomain) => self.place = Place::Over,
            (b'@', Place::AngleLocal) if self.mailbox.local.is_empty() && self.mailbox.adl.is_none() => {
                self.place = Place::Route;
                self.mailbox.adl = Some(vec![b'@']);
            }
            (b'@', Place::AngleLocal) => self.place = Place::AngleDomain,
            (b':', Place::Route) => self.place = Place::AngleLocal,
            (b'@', Place::Words) => {
                self.place = Place::Domain;
                self.mailbox.local = std::mem::take(&mut self.local);
                self.phrase.push(b'@');
                self.spaced = false;
            }
            (b':', Place::Words) if !self.in_group => {
                self.in_group = true;
                self.out.push(Listed::GroupStart(std::mem::take(&mut self.phrase)));
                self.reset();
            }
            (b'<' | b'>', _) => {}
            (b'.', Place::Words) => {
                self.word(b".");
                self.joined = true;
            }
            _ => self.word(&[b]),
        }
    }

    /// A word, or a special that means nothing where it stands.
    fn word(&mut self, text: &[u8]) {
        let spaced = std::mem::take(&mut self.spaced);
        match self.place {
            Place::Words => {
                let joins = std::mem::take(&mut self.joined) || text == b"." || !spaced;
                if spaced && !self.phrase.is_empty() {
                    self.phrase.push(b' ');
                }
                if !joins {
                    self.local.clear();
                    self.local_from = self.phrase.len();
                }
                self.phrase.extend_from_slice(text);
                self.local.extend_from_slice(text);
            }
            Place::Domain => {
                let dotted = text == b"." || self.mailbox.domain.ends_with(b".");
                // Words after the domain are part of a name if `<` follows, else garbage.
                if !spaced || dotted || self.mailbox.domain.is_empty() {
                    self.mailbox.domain.extend_from_slice(text);
                } else {
                    self.phrase.push(b' ');
                }
                self.phrase.extend_from_slice(text);
            }
            Place::Route => {
                if let Some(adl) = &mut self.mailbox.adl {
                    adl.extend_from_slice(text);
                }
            }
            Place::AngleLocal => self.mailbox.local.extend_from_slice(text),
            Place::AngleDomain => self.mailbox.domain.extend_from_slice(text),
            Place::Over => {}
        }
    }

    /// The address is over: adds it if there was anything.
    fn flush(&mut self) {
        let mut mailbox = std::mem::take(&mut self.mailbox);
        match self.place {
            Place::Words if self.phrase.is_empty() => return self.reset(),
            Place::Words => mailbox.local = std::mem::take(&mut self.phrase),
            Place::Domain => {
                let name = self.phrase.get(..self.local_from).unwrap_or_default().trim_ascii();
                mailbox.name = (!name.is_empty()).then(|| name.to_vec());
            }
            _ => {}
        }
        mailbox.name = mailbox.name.or_else(|| self.comment.take().filter(|c| !c.is_empty()));
        self.out.push(Listed::Mailbox(mailbox));
        self.reset();
    }

    fn reset(&mut self) {
        let (text, at, in_group, out) = (self.text, self.at, self.in_group, std::mem::take(&mut self.out));
        *self = Reader { text, at, in_group, out, ..Reader::default() };
    }

    /// From the opening quote to `close` or the end: without escapes and folds.
    fn quoted(&mut self, close: u8) -> Vec<u8> {
        let mut text = Vec::new();
        self.at += 1;
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                }
                b'\r' | b'\n' => {}
                _ if b == close => break,
                _ => text.push(b),
            }
        }
        text
    }

    /// From `(` to its `)` or the end; inner parentheses are kept.
    fn comment(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut depth = 0usize;
        while let Some(b) = self.peek() {
            self.at += 1;
            match b {
                b'(' => depth += 1,
                b')' => depth -= 1,
                b'\\' => {
                    text.extend(self.peek());
                    self.at += 1;
                    continue;
                }
                b'\r' | b'\n' => continue,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            text.push(b);
        }
        text.trim_ascii().strip_prefix(b"(").unwrap_or_default().trim_ascii().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name|adl|local|domain`, `name{`, `}`.
    fn shown(value: &str) -> String {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        let opt = |b: &Option<Vec<u8>>| b.as_deref().map_or("-".to_owned(), text);
        let item = |item: &Listed| match item {
            Listed::Mailbox(m) => format!("{}|{}|{}|{}", opt(&m.name), opt(&m.adl), text(&m.local), text(&m.domain)),
            Listed::GroupStart(name) => format!("{}{{", text(name)),
            Listed::GroupEnd => "}".to_owned(),
        };
        header_addresses(value.as_bytes()).iter().map(item).collect::<Vec<_>>().join(" ")
    }

    const CASES: &[(&str, &str)] = &[
        ("", ""),
        (" , ,", ""),
        ("a@b.c", "-|-|a|b.c"),
        ("a@b, c@d", "-|-|a|b -|-|c|d"),
        ("<a@b>", "-|-|a|b"),
        ("John Doe <j.d@b>", "John Doe|-|j.d|b"),
        ("\"Doe, John\" <j@b>", "Doe, John|-|j|b"),
        ("\"a \\\"q\\\" b\" <j@b>", "a \"q\" b|-|j|b"),
        ("John Q. Public <j@b>", "John Q. Public|-|j|b"),
        ("J.R. <j@b>", "J.R.|-|j|b"),
        ("j@b (John (Jack) Doe)", "John (Jack) Doe|-|j|b"),
        ("Name (ignored) <j@b>", "Name|-|j|b"),
        ("(c) <j@b>", "c|-|j|b"),
        ("john . doe @ b . c", "-|-|john.doe|b.c"),
        ("\"john doe\"@b", "-|-|john doe|b"),
        ("<\"john\\\\doe\"@b>", "-|-|john\\doe|b"),
        ("a@[1.2.3.4]", "-|-|a|[1.2.3.4]"),
        ("<a@[IPv6:::1]>", "-|-|a|[IPv6:::1]"),
        ("<@x,@y:a@b>", "-|@x,@y|a|b"),
        ("N <@x : a@b>", "N|@x|a|b"),
        ("=?utf-8?q?J=C3=BC?=\r\n =?utf-8?q?rgen?= <j@b>", "=?utf-8?q?J=C3=BC?= =?utf-8?q?rgen?=|-|j|b"),
        ("Jürgen <jürgen@bücher.example>", "Jürgen|-|jürgen|bücher.example"),
        ("a@b <c@d>", "a@b|-|c|d"),
        ("Real a@b", "Real|-|a|b"),
        ("root", "-|-|root|"),
        ("John Doe", "-|-|John Doe|"),
        ("<>", "-|-||"),
        ("<root>", "-|-|root|"),
        ("N <>", "N|-||"),
        ("A: a@b, N <c@d>; , e@f", "A{ -|-|a|b N|-|c|d } -|-|e|f"),
        ("undisclosed-recipients:;", "undisclosed-recipients{ }"),
        ("Empty List: ;", "Empty List{ }"),
        ("A: a@b", "A{ -|-|a|b }"),
        (":", "{ }"),
        ("a@b; c@d", "-|-|a|b -|-|c|d"),
        ("N <a@b", "N|-|a|b"),
        ("N <a@b, c@d", "N|-|a|b -|-|c|d"),
        ("<<a@b>>", "-|-|a|b"),
        ("<a@b> junk, c@d", "-|-|a|b -|-|c|d"),
        ("\"open", "-|-|open|"),
        ("a@b (open", "open|-|a|b"),
        ("a@b (\\", "-|-|a|b"),
        ("a@b (x\\)y)", "x)y|-|a|b"),
        ("@", "-|-||"),
        ("@b", "-|-||b"),
        ("a@", "-|-|a|"),
        ("a@b@c", "-|-|a|b@c"),
        (")", "-|-|)|"),
        ("]", "-|-|]|"),
        ("[x] <a@b>", "[x]|-|a|b"),
        ("a@b,\r\n\tc@d", "-|-|a|b -|-|c|d"),
    ];

    #[test]
    fn lists() {
        for (value, expect) in CASES {
            assert_eq!(shown(value), *expect, "{value:?}");
            for cut in 0..=value.len() {
                let _ = header_addresses(&value.as_bytes()[..cut]);
            }
        }
    }

    #[test]
    fn bounded() {
        assert_eq!(header_addresses(&b"a,".repeat(100_000)).len(), MAX_LISTED);
        assert!(header_addresses(&b"a:;".repeat(100_000)).len() <= MAX_LISTED + 2);
        assert_eq!(header_addresses(&b"(".repeat(1 << 20)).len(), 0);
    }

    #[test]
    fn strict_addresses() {
        let strict = |value: &str| mailboxes(value.as_bytes()).next().and_then(|m| m.address()).map(|a| a.to_string());
        assert_eq!(strict("J <J.D@Bücher.Example>").as_deref(), Some("J.D@xn--bcher-kva.example"));
        assert_eq!(strict("\"a b\"@c").as_deref(), Some("\"a b\"@c"));
        for none in ["root", "<>", "a@b@c", "a@", "@b", "a@b_/", "<a\u{85}@c>"] {
            assert_eq!(strict(none), None, "{none:?}");
        }
    }
}
