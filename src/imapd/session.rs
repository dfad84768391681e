//! One client: greeting, the loop over its commands, goodbye.

use super::{Service, commands, events, modseq::Enabled, refusal, view::View};
use crate::{
    accounts::AccountId,
    config::Config,
    net::{Ended, Wire},
    proto::imap::{
        Command, Frame, Framer, Tagged,
        command::{Refused, Why},
        framer, response,
    },
    store::{self, Folder, Home},
};
use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

/// RFC 3501 §3, each with what is known by then.
pub(super) enum State {
    NotAuthenticated,
    Authenticated(Login),
    Selected(Login, Box<View>),
    Logout,
}

#[derive(Clone)]
pub(super) struct Login {
    pub(super) account: AccountId,
    pub(super) home: Home,
}

pub(super) struct Session {
    pub(super) service: Rc<Service>,
    /// As it was when the client connected.
    pub(super) config: Arc<Config>,
    pub(super) wire: Wire,
    pub(super) framer: Framer,
    pub(super) state: State,
    pub(super) enabled: Enabled,
    /// Failed logins of this connection.
    pub(super) failures: u32,
    /// Where the last APPEND went: the next is likely to follow at once, and shall not load the folder anew.
    pub(super) appended: Option<Arc<Folder>>,
    /// Commands in a row that could not be understood.
    bad: u32,
}

/// Autologout: RFC 3501 §5.4 wants 30 minutes at least, once somebody has logged in.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
const IDLE_BEFORE_LOGIN: Duration = Duration::from_secs(60);
/// Without reading a byte of what it asked for. The wire's own measure is how long it waited for the command: that may
/// be half an hour, in which a FETCH would hold its batch.
pub(super) const SLOW_READER: Duration = Duration::from_secs(5 * 60);
/// A message kept for the next partial FETCH, or a folder for the next APPEND, goes after this.
const CACHE: Duration = Duration::from_secs(10);
/// Nonsense that is answered before the connection ends.
const BAD_MAX: u32 = 20;
const BAD_MAX_BEFORE_LOGIN: u32 = 5;

/// A command's end: the tagged response.
#[derive(Debug)]
pub(super) struct Done {
    kind: &'static str,
    code: Option<Cow<'static, str>>,
    text: Cow<'static, str>,
}

impl Done {
    pub(super) fn ok(text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: "OK", code: None, text: text.into() }
    }
    pub(super) fn ok_code(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Some(code.into()), ..Self::ok(text) }
    }
    pub(super) fn no(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: "NO", code: Some(code.into()), text: text.into() }
    }
    pub(super) fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: "BAD", code: None, text: text.into() }
    }
    fn is_bad(&self) -> bool {
        self.kind == "BAD"
    }
    /// Puts a code into an OK that has none; whether it is there now.
    pub(super) fn take_code(&mut self, code: impl FnOnce() -> String) -> bool {
        let free = self.kind == "OK" && self.code.is_none();
        if free {
            self.code = Some(code().into());
        }
        free
    }
}

/// Why a command did not reach its end.
#[derive(Debug)]
pub(super) enum Stop {
    Ended(Ended),
    Refused(Done),
    Store(store::Error),
}
impl From<Ended> for Stop {
    fn from(e: Ended) -> Self {
        Self::Ended(e)
    }
}
impl From<Done> for Stop {
    fn from(d: Done) -> Self {
        Self::Refused(d)
    }
}
impl From<store::Error> for Stop {
    fn from(e: store::Error) -> Self {
        Self::Store(e)
    }
}

pub(super) type Outcome = Result<Done, Stop>;

/// A whole piece of work for the blocking pool.
pub(super) async fn job<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    begin(work).await
}
/// The same, begun at once; its result is waited for later, or never.
pub(super) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> smol::Task<T> {
    smol::unblock(work)
}

impl Session {
    pub(super) fn new(service: Rc<Service>, wire: Wire) -> Self {
        let config = service.config.get();
        let framer = Framer::new(framer::Limits::BEFORE_LOGIN);
        Self { service, config, wire, framer, state: State::NotAuthenticated, enabled: Enabled::default(), failures: 0, appended: None, bad: 0 }
    }
    pub(super) async fn serve(mut self) {
        if let Err(why) = self.run().await {
            let goodbye: &[u8] = match why {
                Ended::Timeout => b"* BYE Autologout; nothing was heard for too long.\r\n",
                Ended::Draining => b"* BYE The server is going down.\r\n",
                Ended::Closed | Ended::Io(_) => b"",
            };
            events::ended(&self.wire, self.account(), &why);
            // The peer may be gone: nothing more can be done for it.
            let _ = self.wire.write(goodbye).await;
        }
        self.wire.close().await;
    }
    async fn run(&mut self) -> Result<(), Ended> {
        let mut out = Vec::new();
        let text = format!("{} ready.", self.config.hostname);
        response::status(&mut out, "*", "OK", Some(&self.capability()), &text);
        self.wire.write(&out).await?;
        drop(out);
        while !matches!(self.state, State::Logout) {
            match self.next().await? {
                Frame::Command(command) => Box::pin(self.command(command)).await?,
                Frame::Append(append) => Box::pin(self.append(append)).await?,
                Frame::Continue => self.wire.write(b"+ OK\r\n").await?,
                Frame::Refused(refused) => self.cannot_read(&refused).await?,
            }
        }
        Ok(())
    }
    async fn next(&mut self) -> Result<Frame, Ended> {
        let timeout = if self.login().is_some() { IDLE } else { IDLE_BEFORE_LOGIN };
        let framer = &mut self.framer;
        let cached = matches!(&self.state, State::Selected(_, view) if view.cached.is_some());
        if cached || self.appended.is_some() {
            match self.wire.next(CACHE, |b| framer.cut(b)).await {
                Err(Ended::Timeout) => self.appended = None,
                other => return other,
            }
            if let State::Selected(_, view) = &mut self.state {
                view.cached = None;
            }
        }
        self.wire.next(timeout, |b| framer.cut(b)).await
    }
    /// What the framer will not read: the literal is not on its way, or the connection ends here.
    async fn cannot_read(&mut self, refused: &framer::Refused) -> Result<(), Ended> {
        self.tagged(&refused.tag, &Done { code: refused.code.map(Cow::Borrowed), ..Done::bad(refused.text) }).await?;
        if refused.fatal {
            self.bye("Cannot go on after this.").await?;
        }
        self.count_bad().await
    }
    pub(super) async fn bye(&mut self, text: &str) -> Result<(), Ended> {
        self.state = State::Logout;
        self.wire.write(format!("* BYE {text}\r\n").as_bytes()).await
    }
    async fn count_bad(&mut self) -> Result<(), Ended> {
        self.bad += 1;
        let max = if self.login().is_some() { BAD_MAX } else { BAD_MAX_BEFORE_LOGIN };
        if self.bad >= max && !matches!(self.state, State::Logout) { self.bye("Too many invalid commands.").await } else { Ok(()) }
    }
    pub(super) async fn tagged(&mut self, tag: &str, done: &Done) -> Result<(), Ended> {
        let mut out = Vec::new();
        response::status(&mut out, tag, done.kind, done.code.as_deref(), &done.text);
        self.wire.write(&out).await
    }
    async fn command(&mut self, bytes: Vec<u8>) -> Result<(), Ended> {
        let parsed = Tagged::parse(&bytes);
        drop(bytes);
        let Tagged { tag, command } = match parsed {
            Ok(tagged) => tagged,
            Err(refused) => return self.not_understood(refused).await,
        };
        let Some(rule) = commands::rule_of(command.verb()).filter(|r| r.allowed(&self.state)) else {
            self.tagged(&tag, &Done::bad("Not in this state.")).await?;
            return self.count_bad().await;
        };
        if command.needs_qresync() && !self.enabled.qresync {
            self.tagged(&tag, &Done::bad("ENABLE QRESYNC comes first.")).await?;
            return self.count_bad().await;
        }
        self.bad = 0;
        self.appended = None;
        if let (State::Selected(_, view), false) = (&mut self.state, matches!(command, Command::Fetch { .. })) {
            view.cached = None;
        }
        self.wire.set_patience(SLOW_READER);
        if matches!(command, Command::StartTls) {
            return self.start_tls(&tag).await;
        }
        if command.enables_condstore() {
            self.enable_condstore().await?;
        }
        let rule = if command.uses_numbers() { &rule.without_expunge() } else { rule };
        let outcome = self.execute(&tag, command).await;
        self.finish(&tag, outcome, rule).await
    }
    /// Tells what has changed, then how the command ended.
    pub(super) async fn finish(&mut self, tag: &str, outcome: Outcome, rule: &commands::Rule) -> Result<(), Ended> {
        let mut done = match outcome {
            Ok(done) | Err(Stop::Refused(done)) => done,
            Err(Stop::Ended(e)) => return Err(e),
            Err(Stop::Store(e)) => self.failed(&e),
        };
        if done.is_bad() {
            self.tagged(tag, &done).await?;
            return self.count_bad().await;
        }
        if rule.refresh {
            self.refresh().await?;
        }
        Box::pin(self.sync(rule.expunge, rule.uid)).await?;
        self.tell_highest(&mut done).await?;
        self.tagged(tag, &done).await
    }
    pub(super) fn failed(&self, error: &store::Error) -> Done {
        if matches!(error, store::Error::Disk(_) | store::Error::Full) {
            events::failed(&self.wire, self.account(), error);
        }
        refusal::no(error)
    }
    async fn not_understood(&mut self, refused: Refused) -> Result<(), Ended> {
        let done = match refused.why {
            Why::Syntax(e) => Done::bad(format!("Syntax: {e}.")),
            Why::Unknown => Done::bad("Unknown command."),
            Why::Charset => {
                return self.tagged(&refused.tag, &Done::no("BADCHARSET (US-ASCII UTF-8)", "No such charset here.")).await;
            }
        };
        self.tagged(&refused.tag, &done).await?;
        self.count_bad().await
    }
    /// Boxed one by one: a session that waits in IDLE shall not hold the room of the largest of them.
    async fn execute(&mut self, tag: &str, command: Command) -> Outcome {
        use Command as C;
        match command {
            C::Capability => {
                let line = format!("* {}\r\n", self.capability());
                self.wire.write(line.as_bytes()).await?;
                Ok(Done::ok("Done."))
            }
            C::Noop | C::Check => Ok(Done::ok("Done.")),
            C::Logout => {
                self.bye("Goodbye.").await?;
                Ok(Done::ok("Logged out."))
            }
            C::Id => {
                let id = concat!("* ID (\"name\" \"gatepost\" \"version\" \"", env!("CARGO_PKG_VERSION"), "\")\r\n");
                self.wire.write(id.as_bytes()).await?;
                Ok(Done::ok("Done."))
            }
            // Its own way to the end, above.
            C::StartTls => Ok(Done::bad("Not here.")),
            C::Authenticate { mechanism, initial } => Box::pin(self.authenticate(&mechanism, initial)).await,
            C::Login { name, password } => Box::pin(self.log_in(name, password)).await,
            C::Enable(names) => Box::pin(self.enable(&names)).await,
            C::Select { folder, read_only, opening } => Box::pin(self.select(folder, read_only, opening.qresync)).await,
            C::Create(name) => Box::pin(self.create(name)).await,
            C::Delete(name) => Box::pin(self.delete(name)).await,
            C::Rename(from, to) => Box::pin(self.rename(from, to)).await,
            C::Subscribe(name) => Box::pin(self.subscribe(name, true)).await,
            C::Unsubscribe(name) => Box::pin(self.subscribe(name, false)).await,
            C::List(list) => Box::pin(self.list(list)).await,
            C::Lsub { reference, pattern } => Box::pin(self.lsub(&reference, &pattern)).await,
            C::Namespace => {
                self.wire.write(b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n").await?;
                Ok(Done::ok("Done."))
            }
            C::Status(folder, items) => Box::pin(self.status(folder, &items)).await,
            C::Idle => Box::pin(self.idle()).await,
            C::Close => Box::pin(self.close()).await,
            C::Unselect => Ok(self.unselect()),
            C::Expunge(set) => Box::pin(self.expunge(set)).await,
            C::Search { uid, search } => Box::pin(self.search(tag, uid, search)).await,
            C::Fetch { uid, set, items, since } => Box::pin(self.fetch(uid, &set, items, since)).await,
            C::Store { uid, set, change, silent, flags, since } => Box::pin(self.store_flags(uid, &set, (change, &flags), silent, since)).await,
            C::Copy { uid, set, folder } => Box::pin(self.copy(uid, &set, folder)).await,
            C::Move { uid, set, folder } => Box::pin(self.move_to(uid, &set, folder)).await,
        }
    }
    pub(super) fn login(&self) -> Option<&Login> {
        match &self.state {
            State::Authenticated(login) | State::Selected(login, _) => Some(login),
            State::NotAuthenticated | State::Logout => None,
        }
    }
    pub(super) fn account(&self) -> Option<&AccountId> {
        self.login().map(|l| &l.account)
    }
    /// The home of who is logged in; the table sees to it that somebody is.
    pub(super) fn home(&self) -> Result<Home, Stop> {
        self.login().map(|l| l.home.clone()).ok_or_else(|| Done::bad("Not in this state.").into())
    }
    pub(super) fn view(&mut self) -> Result<&mut View, Stop> {
        match &mut self.state {
            State::Selected(_, view) => Ok(view),
            _ => Err(Done::bad("Not in this state.").into()),
        }
    }
    /// Back to Authenticated, whatever was selected.
    pub(super) fn deselect(&mut self) {
        if let Some(login) = self.login().cloned() {
            self.state = State::Authenticated(login);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_rule() {
        for text in [
            "CAPABILITY",
            "NOOP",
            "LOGOUT",
            "ID NIL",
            "STARTTLS",
            "AUTHENTICATE PLAIN",
            "LOGIN a b",
            "ENABLE X",
            "SELECT a",
            "EXAMINE a",
            "CREATE a",
            "DELETE a",
            "RENAME a b",
            "SUBSCRIBE a",
            "UNSUBSCRIBE a",
            "LIST \"\" *",
            "LSUB \"\" *",
            "NAMESPACE",
            "STATUS a (MESSAGES)",
            "IDLE",
            "CHECK",
            "CLOSE",
            "UNSELECT",
            "EXPUNGE",
            "UID EXPUNGE 1",
            "SEARCH ALL",
            "UID SEARCH ALL",
            "FETCH 1 UID",
            "UID FETCH 1 UID",
            "STORE 1 FLAGS ()",
            "UID STORE 1 FLAGS ()",
            "COPY 1 a",
            "UID COPY 1 a",
            "MOVE 1 a",
            "UID MOVE 1 a",
        ] {
            let command = Tagged::parse(format!("a {text}").as_bytes()).expect(text).command;
            assert!(commands::rule_of(command.verb()).is_some(), "{text}");
        }
    }
}
