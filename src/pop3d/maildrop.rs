//! The INBOX as one session sees it, and the commands of the TRANSACTION and UPDATE states.

use super::{
    events,
    session::{Session, State, Stop},
};
use crate::{
    accounts::AccountId,
    config::UidlFormat,
    net::Wire,
    proto::pop3::{self, Code, Command, Response},
    store::{self, FlagOp, Flags, Folder, Store, Uid},
};
use std::{collections::HashSet, fmt::Write, sync::Arc, time::Duration};

/// A listing goes out in pieces of about this size: 200,000 messages are not held as text.
const PIECE: usize = 16 * 1024;

/// Without reading a byte of the message that we hold for it.
const SLOW_READER: Duration = Duration::from_secs(5 * 60);

struct Message {
    uid: Uid,
    /// Octets with CRLF line ends.
    size: u64,
    deleted: bool,
    /// What UIDL says, when that is not made of the UID alone.
    name: Option<Box<str>>,
}

/// A snapshot, in UID order unless another server noted one; message n is `messages[n - 1]`.
pub(super) struct Maildrop {
    folder: Arc<Folder>,
    uid_validity: u32,
    format: UidlFormat,
    messages: Vec<Message>,
    account: AccountId,
}

impl Maildrop {
    /// Job.
    pub(super) fn open(store: &Arc<Store>, account: &AccountId, format: UidlFormat) -> store::Result<Self> {
        let home = store.home(&account.0)?;
        home.prepare()?;
        let folder = home.open("INBOX")?;
        folder.sync()?;
        let (uids, _) = folder.uids();
        let messages = folder.meta(&uids).into_iter().flatten().map(|m| Message { uid: m.uid, size: m.size, deleted: false, name: None }).collect();
        let mut maildrop = Self { uid_validity: folder.counts().uid_validity, format, messages, folder, account: account.clone() };
        maildrop.name_all()?;
        Ok(maildrop)
    }

    /// Job. Names and order as another server noted them. A name that two messages would have is the first one's; the
    /// other is named as if nothing had been noted.
    fn name_all(&mut self) -> store::Result<()> {
        let noted = self.folder.noted()?;
        let needs_names = self.format.needs_names();
        if noted.is_empty() && !needs_names {
            return Ok(());
        }
        let of = |uid: Uid| noted.binary_search_by_key(&uid.0, |n| n.uid.0).ok().and_then(|at| noted.get(at));
        let mut taken: HashSet<Box<str>> = HashSet::new();
        for m in &mut self.messages {
            let name = of(m.uid).and_then(|n| unique_id(n.uidl.as_deref()?));
            m.name = name.filter(|name| taken.insert(name.clone()));
        }
        for m in self.messages.iter_mut().filter(|m| m.name.is_none()) {
            let base = if needs_names { self.folder.base(m.uid).unwrap_or_default() } else { Vec::new() };
            let guid = of(m.uid).and_then(|n| n.guid.as_deref()).unwrap_or(&base);
            let made = self.format.write(m.uid.0, self.uid_validity, &base, guid);
            let mut name = made.unwrap_or_else(|| default_id(m.uid, self.uid_validity));
            let is_short = !needs_names && !taken.contains(name.as_str());
            while taken.contains(name.as_str()) {
                name.push('+');
            }
            if !is_short {
                taken.insert(name.clone().into());
                m.name = Some(name.into());
            }
        }
        self.messages.sort_by_key(|m| (of(m.uid).and_then(|n| n.order).unwrap_or(u32::MAX), m.uid));
        Ok(())
    }

    fn unique_id(&self, m: &Message) -> String {
        let made = || self.format.write(m.uid.0, self.uid_validity, b"", b"").unwrap_or_else(|| default_id(m.uid, self.uid_validity));
        m.name.as_deref().map_or_else(made, str::to_owned)
    }

    /// How many, and their octets; without what is marked.
    pub(super) fn stat(&self) -> (usize, u64) {
        self.kept().fold((0, 0), |(n, size), (_, m)| (n + 1, size + m.size))
    }

    fn kept(&self) -> impl Iterator<Item = (usize, &Message)> {
        self.messages.iter().enumerate().map(|(n, m)| (n + 1, m)).filter(|(_, m)| !m.deleted)
    }

    fn at(&self, number: u32) -> Result<usize, Response> {
        let index = (number as usize).checked_sub(1);
        let found = index.filter(|i| self.messages.get(*i).is_some_and(|m| !m.deleted));
        found.ok_or_else(|| Response::err("No such message"))
    }

    fn message(&self, number: u32) -> Result<&Message, Response> {
        self.at(number).map(|at| &self.messages[at])
    }

    /// `None`: all was said already.
    pub(super) async fn obey(&mut self, command: Command, wire: &mut Wire) -> Result<Option<Response>, Stop> {
        let response = match command {
            Command::Stat => {
                let (count, size) = self.stat();
                Response::ok(format!("{count} {size}"))
            }
            Command::List(None) => return self.listing(wire, |m| m.size.to_string()).await,
            Command::Uidl(None) => return self.listing(wire, |m| self.unique_id(m)).await,
            Command::List(Some(n)) => self.message(n).map_or_else(|no| no, |m| Response::ok(format!("{n} {}", m.size))),
            Command::Uidl(Some(n)) => match self.message(n) {
                Ok(m) => Response::ok(format!("{n} {}", self.unique_id(m))),
                Err(no) => no,
            },
            Command::Retr(n) => return self.retrieve(wire, n, None).await,
            Command::Top(n, lines) => return self.retrieve(wire, n, Some(lines)).await,
            Command::Dele(n) => self.at(n).map_or_else(
                |no| no,
                |at| {
                    self.messages[at].deleted = true;
                    Response::ok("Marked to be deleted")
                },
            ),
            Command::Rset => {
                self.messages.iter_mut().for_each(|m| m.deleted = false);
                let (count, size) = self.stat();
                Response::ok(format!("{count} messages, {size} octets"))
            }
            Command::Noop => Response::ok(""),
            // The session answers these itself.
            Command::Capa | Command::Stls | Command::Utf8 | Command::User(_) | Command::Pass(_) | Command::Auth(..) | Command::Quit => {
                Response::err("Not now")
            }
        };
        Ok(Some(response))
    }

    /// LIST and UIDL without a number.
    async fn listing(&self, wire: &mut Wire, show: impl Fn(&Message) -> String) -> Result<Option<Response>, Stop> {
        let mut out = "+OK\r\n".to_owned();
        for (n, m) in self.kept() {
            let _ = write!(out, "{n} {}\r\n", show(m));
            if out.len() > PIECE {
                wire.write(out.as_bytes()).await?;
                out.clear();
            }
        }
        out.push_str(".\r\n");
        wire.write(out.as_bytes()).await?;
        Ok(None)
    }

    /// RETR, or TOP with a number of lines. RETR leaves \Seen behind, as Dovecot does, so that IMAP clients of the same
    /// account see what was fetched.
    async fn retrieve(&mut self, wire: &mut Wire, number: u32, lines: Option<u32>) -> Result<Option<Response>, Stop> {
        let uid = match self.message(number) {
            Ok(m) => m.uid,
            Err(no) => return Ok(Some(no)),
        };
        let folder = self.folder.clone();
        let read = smol::unblock(move || read(&folder, uid, lines.is_none())).await;
        let message = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Some(Response::err("The message is gone, another program removed it"))),
            Err(e) => {
                events::trouble(wire, &self.account, "read", &e);
                return Ok(Some(Response::Err(Some(Code::SysTemp), "The message cannot be read now".into())));
            }
        };
        let shown = lines.map_or(message.as_slice(), |n| pop3::top(&message, n));
        wire.set_patience(SLOW_READER);
        wire.write(format!("+OK {} octets\r\n", shown.len()).as_bytes()).await?;
        for piece in pop3::stuffed(shown) {
            wire.write(piece).await?;
        }
        Ok(None)
    }
}

/// What another server noted, if it can be sent (RFC 1939 §7); longer than that allows is what clients know it by.
fn unique_id(noted: &[u8]) -> Option<Box<str>> {
    let usable = noted.len() <= 255 && noted.iter().all(|b| (0x21..=0x7e).contains(b));
    std::str::from_utf8(noted).ok().filter(|_| usable && !noted.is_empty()).map(Into::into)
}

/// For a message whose file name cannot be one.
fn default_id(uid: Uid, uid_validity: u32) -> String {
    UidlFormat::default().write(uid.0, uid_validity, b"", b"").unwrap_or_default()
}

/// Job. A flag that cannot be set is no reason to keep the message from its reader.
fn read(folder: &Folder, uid: Uid, seen: bool) -> store::Result<Option<Vec<u8>>> {
    let bytes = folder.read(uid)?;
    let unseen = || folder.meta(&[uid]).into_iter().flatten().any(|m| !m.flags.has(Flags::SEEN));
    if seen
        && bytes.is_some()
        && unseen()
        && let Err(e) = folder.store_flags(&[uid], FlagOp::Add, Flags::SEEN, &[])
    {
        events::seen_failed(uid, &e);
    }
    Ok(bytes)
}

impl Session {
    /// QUIT: the UPDATE state (RFC 1939 §6). All that was marked goes in one job.
    pub(super) async fn update(&mut self) -> Response {
        let State::Transaction(maildrop) = std::mem::replace(&mut self.state, State::Authorization(None)) else {
            return Response::ok("Bye");
        };
        let marked: Vec<Uid> = maildrop.messages.iter().filter(|m| m.deleted).map(|m| m.uid).collect();
        if marked.is_empty() {
            return Response::ok("Bye");
        }
        let (folder, count) = (maildrop.folder.clone(), marked.len());
        match smol::unblock(move || folder.expunge(&marked)).await {
            Ok(_) => {
                events::deleted(&self.wire, &maildrop.account, count);
                Response::ok(format!("Bye, {count} deleted"))
            }
            Err(e) => {
                events::trouble(&self.wire, &maildrop.account, "delete", &e);
                Response::Err(Some(Code::SysTemp), "Some messages could not be deleted".into())
            }
        }
    }
}
