//! Commands (RFC 3501 §6), parsed from what the framer cut. APPEND comes as its own frame.

use super::{
    Error, Flag, Item, SequenceSet, append,
    condstore::{self, Opening, Since},
    cursor::{Cursor, Parse},
    fetch, flag, framer,
    list::{self, List, StatusItem},
    mailbox,
    search::{self, Search},
};
use std::fmt;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tagged {
    pub tag: String,
    pub command: Command,
}

/// What is wrong with a command, for its tagged BAD (or NO).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// `*` when it cannot be told.
    pub tag: String,
    pub why: Why,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Syntax(Error),
    Unknown,
    /// NO [BADCHARSET]
    Charset,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    Capability,
    Noop,
    Logout,
    /// The client's pairs are of no interest.
    Id,
    StartTls,
    Authenticate {
        mechanism: String,
        /// SASL-IR, still in base64; `=` is an empty one.
        initial: Option<Secret>,
    },
    Login {
        name: String,
        password: Secret,
    },
    Enable(Vec<String>),
    Select {
        folder: String,
        read_only: bool,
        opening: Opening,
    },
    Create(String),
    Delete(String),
    Rename(String, String),
    Subscribe(String),
    Unsubscribe(String),
    List(List),
    Lsub {
        reference: String,
        pattern: String,
    },
    Namespace,
    Status(String, Vec<StatusItem>),
    Idle,
    Check,
    Close,
    Unselect,
    /// With a set: UID EXPUNGE.
    Expunge(Option<SequenceSet>),
    Search {
        uid: bool,
        search: Search,
    },
    Fetch {
        uid: bool,
        set: SequenceSet,
        items: Vec<Item>,
        since: Option<Since>,
    },
    Store {
        uid: bool,
        set: SequenceSet,
        change: Change,
        silent: bool,
        flags: Vec<Flag>,
        /// UNCHANGEDSINCE.
        since: Option<u64>,
    },
    Copy {
        uid: bool,
        set: SequenceSet,
        folder: String,
    },
    Move {
        uid: bool,
        set: SequenceSet,
        folder: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Set,
    Add,
    Remove,
}

/// Bytes that no log and no test output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl Tagged {
    pub fn parse(command: &[u8]) -> Result<Self, Refused> {
        let refused = |why| Refused { tag: framer::tag(command), why };
        let mut c = Cursor::new(command);
        let (tag, verb, uid) = head(&mut c).map_err(|e| refused(Why::Syntax(e)))?;
        let parsed = Command::arguments(&mut c, &verb, uid).and_then(|p| c.end().map(|()| p).map_err(Why::Syntax));
        parsed.map(|command| Self { tag, command }).map_err(refused)
    }
}

/// Tag, verb in upper case, whether UID stood before it.
fn head(c: &mut Cursor<'_>) -> Parse<(String, String, bool)> {
    let tag = c.tag()?.to_owned();
    c.space()?;
    let mut verb = c.atom("a command")?.to_ascii_uppercase();
    let uid = verb == "UID";
    if uid {
        c.space()?;
        verb = c.atom("a command")?.to_ascii_uppercase();
    }
    Ok((tag, verb, uid))
}

impl From<Error> for Why {
    fn from(e: Error) -> Self {
        Self::Syntax(e)
    }
}

impl From<search::Refusal> for Why {
    fn from(r: search::Refusal) -> Self {
        match r {
            search::Refusal::Bad(e) => Self::Syntax(e),
            search::Refusal::Charset => Self::Charset,
        }
    }
}

impl Command {
    /// Its name, `UID FETCH`; the key of a session's table of commands.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Capability => "CAPABILITY",
            Self::Noop => "NOOP",
            Self::Logout => "LOGOUT",
            Self::Id => "ID",
            Self::StartTls => "STARTTLS",
            Self::Authenticate { .. } => "AUTHENTICATE",
            Self::Login { .. } => "LOGIN",
            Self::Enable(_) => "ENABLE",
            Self::Select { read_only: false, .. } => "SELECT",
            Self::Select { .. } => "EXAMINE",
            Self::Create(_) => "CREATE",
            Self::Delete(_) => "DELETE",
            Self::Rename(..) => "RENAME",
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Unsubscribe(_) => "UNSUBSCRIBE",
            Self::List(_) => "LIST",
            Self::Lsub { .. } => "LSUB",
            Self::Namespace => "NAMESPACE",
            Self::Status(..) => "STATUS",
            Self::Idle => "IDLE",
            Self::Check => "CHECK",
            Self::Close => "CLOSE",
            Self::Unselect => "UNSELECT",
            Self::Expunge(None) => "EXPUNGE",
            Self::Expunge(Some(_)) => "UID EXPUNGE",
            Self::Search { uid: false, .. } => "SEARCH",
            Self::Search { .. } => "UID SEARCH",
            Self::Fetch { uid: false, .. } => "FETCH",
            Self::Fetch { .. } => "UID FETCH",
            Self::Store { uid: false, .. } => "STORE",
            Self::Store { .. } => "UID STORE",
            Self::Copy { uid: false, .. } => "COPY",
            Self::Copy { .. } => "UID COPY",
            Self::Move { uid: false, .. } => "MOVE",
            Self::Move { .. } => "UID MOVE",
        }
    }
    fn arguments(c: &mut Cursor<'_>, verb: &str, uid: bool) -> Result<Self, Why> {
        if let Some(command) = Self::message_command(c, verb, uid)? {
            return Ok(command);
        }
        if uid {
            return Err(Why::Unknown);
        }
        if let Some(command) = Self::bare(verb) {
            return Ok(command);
        }
        Self::with_arguments(c, verb)
    }
    fn bare(verb: &str) -> Option<Self> {
        Some(match verb {
            "CAPABILITY" => Self::Capability,
            "NOOP" => Self::Noop,
            "LOGOUT" => Self::Logout,
            "STARTTLS" => Self::StartTls,
            "NAMESPACE" => Self::Namespace,
            "IDLE" => Self::Idle,
            "CHECK" => Self::Check,
            "CLOSE" => Self::Close,
            "UNSELECT" => Self::Unselect,
            "EXPUNGE" => Self::Expunge(None),
            _ => return None,
        })
    }
    fn with_arguments(c: &mut Cursor<'_>, verb: &str) -> Result<Self, Why> {
        const VERBS: [&str; 15] = [
            "APPEND",
            "ID",
            "AUTHENTICATE",
            "LOGIN",
            "ENABLE",
            "SELECT",
            "EXAMINE",
            "CREATE",
            "DELETE",
            "RENAME",
            "SUBSCRIBE",
            "UNSUBSCRIBE",
            "LIST",
            "LSUB",
            "STATUS",
        ];
        if !VERBS.contains(&verb) {
            return Err(Why::Unknown);
        }
        c.space()?;
        Ok(match verb {
            "APPEND" => return append::no_message(c).map_err(Why::Syntax),
            "ID" => Self::id(c)?,
            "AUTHENTICATE" => Self::authenticate(c)?,
            "LOGIN" => {
                let name = c.text("a user name")?;
                c.space()?;
                Self::Login { name, password: Secret(c.astring("a password")?.into_owned()) }
            }
            "ENABLE" => {
                let mut names = vec![c.atom("a capability")?.to_ascii_uppercase()];
                while !c.is_done() {
                    c.space()?;
                    if !c.is_done() {
                        names.push(c.atom("a capability")?.to_ascii_uppercase());
                    }
                }
                Self::Enable(names)
            }
            "SELECT" | "EXAMINE" => Self::Select { folder: mailbox::parse(c)?, read_only: verb == "EXAMINE", opening: condstore::opening(c)? },
            "CREATE" => Self::Create(mailbox::parse(c)?),
            "DELETE" => Self::Delete(mailbox::parse(c)?),
            "RENAME" => {
                let from = mailbox::parse(c)?;
                c.space()?;
                Self::Rename(from, mailbox::parse(c)?)
            }
            "SUBSCRIBE" => Self::Subscribe(mailbox::parse(c)?),
            "UNSUBSCRIBE" => Self::Unsubscribe(mailbox::parse(c)?),
            "LIST" => Self::List(list::parse_list(c)?),
            "LSUB" => {
                let reference = list::reference(c)?;
                c.space()?;
                Self::Lsub { reference, pattern: list::pattern(c)? }
            }
            _ => {
                let folder = mailbox::parse(c)?;
                c.space()?;
                Self::Status(folder, list::status_items(c)?)
            }
        })
    }
    /// RFC 2971: NIL or at most 30 pairs.
    fn id(c: &mut Cursor<'_>) -> Parse<Self> {
        if c.word("NIL") {
            return Ok(Self::Id);
        }
        let strings = c.list(|c| c.nstring().map(|_| ()))?.len();
        if strings % 2 == 0 && strings <= 60 { Ok(Self::Id) } else { c.fail("pairs, 30 at most") }
    }
    fn authenticate(c: &mut Cursor<'_>) -> Parse<Self> {
        let mechanism = c.atom("a mechanism")?.to_ascii_uppercase();
        c.spaces();
        let initial = if c.is_done() { None } else { Some(Secret(c.atom("base64")?.as_bytes().to_vec())) };
        Ok(Self::Authenticate { mechanism, initial })
    }
    /// Those that name messages, with or without UID.
    fn message_command(c: &mut Cursor<'_>, verb: &str, uid: bool) -> Result<Option<Self>, Why> {
        if !(matches!(verb, "SEARCH" | "FETCH" | "STORE" | "COPY" | "MOVE") || (uid && verb == "EXPUNGE")) {
            return Ok(None);
        }
        c.space()?;
        if verb == "SEARCH" {
            return Ok(Some(Self::Search { uid, search: search::parse(c)? }));
        }
        let set = SequenceSet::parse(c)?;
        if verb == "EXPUNGE" {
            return Ok(Some(Self::Expunge(Some(set))));
        }
        c.space()?;
        Ok(Some(match verb {
            "FETCH" => Self::Fetch { uid, set, items: fetch::items(c)?, since: condstore::since(c, uid)? },
            "STORE" => Self::store(c, uid, set)?,
            "COPY" => Self::Copy { uid, set, folder: mailbox::parse(c)? },
            _ => Self::Move { uid, set, folder: mailbox::parse(c)? },
        }))
    }
    fn store(c: &mut Cursor<'_>, uid: bool, set: SequenceSet) -> Parse<Self> {
        let since = condstore::unchanged_since(c)?;
        let change = if c.eat(b'+') {
            Change::Add
        } else if c.eat(b'-') {
            Change::Remove
        } else {
            Change::Set
        };
        let silent = c.word("FLAGS.SILENT");
        if !silent && !c.word("FLAGS") {
            return c.fail("FLAGS");
        }
        c.space()?;
        Ok(Self::Store { uid, set, change, silent, flags: flag::list_or_bare(c)?, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, Why> {
        Tagged::parse(text.as_bytes()).map(|t| t.command).map_err(|r| r.why)
    }
    fn set(text: &str) -> SequenceSet {
        SequenceSet::parse(&mut Cursor::new(text.as_bytes())).unwrap()
    }

    #[test]
    fn every_verb() {
        use Command as C;
        let cases = [
            ("a CAPABILITY", C::Capability),
            ("a noop", C::Noop),
            ("a LOGOUT ", C::Logout),
            ("a STARTTLS", C::StartTls),
            ("a ID NIL", C::Id),
            ("a ID (\"name\" \"mutt\" \"version\" NIL)", C::Id),
            ("a AUTHENTICATE plain", C::Authenticate { mechanism: "PLAIN".into(), initial: None }),
            ("a AUTHENTICATE PLAIN AGEAYg==", C::Authenticate { mechanism: "PLAIN".into(), initial: Some(Secret(b"AGEAYg==".to_vec())) }),
            ("a LOGIN SMITH \"SES AME\"", C::Login { name: "SMITH".into(), password: Secret(b"SES AME".to_vec()) }),
            ("a LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man", C::Login { name: "FRED FOOBAR".into(), password: Secret(b"fat man".to_vec()) }),
            ("a ENABLE condstore X-GOOD", C::Enable(vec!["CONDSTORE".into(), "X-GOOD".into()])),
            ("a SELECT inbox", C::Select { folder: "INBOX".into(), read_only: false, opening: Opening::default() }),
            ("a EXAMINE blurdybloop", C::Select { folder: "blurdybloop".into(), read_only: true, opening: Opening::default() }),
            ("a CREATE owatagusiam/", C::Create("owatagusiam/".into())),
            ("a DELETE foo", C::Delete("foo".into())),
            ("a RENAME INBOX old-mail", C::Rename("INBOX".into(), "old-mail".into())),
            ("a SUBSCRIBE x", C::Subscribe("x".into())),
            ("a UNSUBSCRIBE x", C::Unsubscribe("x".into())),
            ("a LSUB \"#news.\" \"comp.mail.*\"", C::Lsub { reference: "#news.".into(), pattern: "comp.mail.*".into() }),
            ("a STATUS blurdybloop (UIDNEXT MESSAGES)", C::Status("blurdybloop".into(), vec![StatusItem::UidNext, StatusItem::Messages])),
            ("a NAMESPACE", C::Namespace),
            ("a IDLE", C::Idle),
            ("a CHECK", C::Check),
            ("a CLOSE", C::Close),
            ("a UNSELECT", C::Unselect),
            ("a EXPUNGE", C::Expunge(None)),
            ("a UID EXPUNGE 3000:3002", C::Expunge(Some(set("3000:3002")))),
            ("a FETCH 1:* FLAGS", C::Fetch { uid: false, set: set("1:*"), items: vec![Item::Flags], since: None }),
            ("a uid fetch 7 (UID)", C::Fetch { uid: true, set: set("7"), items: vec![Item::Uid], since: None }),
            (
                "a STORE 2:4 +FLAGS (\\Deleted)",
                C::Store { uid: false, set: set("2:4"), change: Change::Add, silent: false, flags: vec![Flag::Deleted], since: None },
            ),
            (
                "a UID STORE 2 -FLAGS.SILENT \\Seen x",
                C::Store {
                    uid: true,
                    set: set("2"),
                    change: Change::Remove,
                    silent: true,
                    flags: vec![Flag::Seen, Flag::Keyword("x".into())],
                    since: None,
                },
            ),
            ("a STORE 1 FLAGS ()", C::Store { uid: false, set: set("1"), change: Change::Set, silent: false, flags: vec![], since: None }),
            ("a EXAMINE x (CONDSTORE)", C::Select { folder: "x".into(), read_only: true, opening: Opening { condstore: true, qresync: None } }),
            (
                "a UID FETCH 300:500 (FLAGS) (CHANGEDSINCE 12345 VANISHED)",
                C::Fetch { uid: true, set: set("300:500"), items: vec![Item::Flags], since: Some(Since { modseq: 12_345, vanished: true }) },
            ),
            (
                "a STORE 7 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\\Deleted)",
                C::Store { uid: false, set: set("7"), change: Change::Add, silent: true, flags: vec![Flag::Deleted], since: Some(320_162_338) },
            ),
            ("a COPY 2:4 MEETING", C::Copy { uid: false, set: set("2:4"), folder: "MEETING".into() }),
            ("a UID MOVE 42:69 foo", C::Move { uid: true, set: set("42:69"), folder: "foo".into() }),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        assert!(matches!(parse("a UID SEARCH ALL"), Ok(C::Search { uid: true, .. })));
        assert!(matches!(parse("a LIST \"\" *"), Ok(C::List(_))));
    }
    #[test]
    fn refused() {
        for (text, tag) in [
            ("", "*"),
            ("a", "a"),
            ("a ", "a"),
            ("* NOOP", "*"),
            ("+ NOOP", "*"),
            ("a NOOP x", "a"),
            ("a LOGIN x", "a"),
            ("a LOGIN \"x", "a"),
            ("a FETCH 1", "a"),
            ("a STORE 1 FLAGZ x", "a"),
            ("a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "a"),
            ("a SEARCH", "a"),
            ("a ID (\"x\")", "a"),
            ("a LOGIN {3}\r\nab", "a"),
            ("a\0b NOOP", "a"),
        ] {
            let got = Tagged::parse(text.as_bytes());
            assert!(matches!(&got, Err(Refused { tag: t, why: Why::Syntax(_) }) if t == tag), "{text:?}: {got:?}");
        }
        for text in ["a BOGUS", "a UID NOOP", "a EXPUNGED", "a XLIST \"\" *", "GET / HTTP/1.1"] {
            assert_eq!(parse(text).ok(), None, "{text}");
        }
        assert_eq!(parse("a SEARCH CHARSET x ALL"), Err(Why::Charset));
    }
    #[test]
    fn secrets_do_not_print() {
        let shown = format!("{:?}", parse("a LOGIN x sesame"));
        assert!(shown.contains("REDACTED") && !shown.contains("sesame"));
    }
}
