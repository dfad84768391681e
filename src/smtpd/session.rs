//! The dialogue: greeting, turns, limits on nonsense, goodbye.

use super::{Kind, Service, data::Pace, events};
use crate::{
    accounts::AccountId,
    config::Config,
    mta,
    net::{Ended, Wire},
    proto::smtp::{Chunks, Command, Frame, Framer, Reply},
};
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Bad commands before a message was taken.
const MAX_ERRORS: u32 = 20;
/// Refused recipients, not counted among the former, before a message was taken: lists have dead addresses, guessers have thousands.
const MAX_REFUSED: u32 = 100;
/// Commands that lead nowhere (NOOP, RSET, HELP …) before a message was taken.
const MAX_IDLE: u32 = 100;
/// Recipients above the limit of one transaction. A client that pipelines a long list hears many 452 before it sees the
/// first; hung up on, it would come again with the same list, and nobody on it would ever get the message.
const MAX_SURPLUS: u32 = 10_000;
/// Messages of one session; who has more connects again, and others get their turn.
pub(super) const MAX_MESSAGES: u32 = 500;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Stop {
    /// With these last words.
    Say(Reply),
    Lost(Ended),
}

impl From<Ended> for Stop {
    fn from(e: Ended) -> Self {
        Self::Lost(e)
    }
}

/// Who the client says it is.
pub(super) struct Hello {
    pub(super) name: String,
    /// EHLO, not HELO.
    pub(super) extended: bool,
}

/// MAIL to 250.
pub(super) struct Open {
    pub(super) mail: mta::Transaction,
    /// There once BDAT began.
    pub(super) chunks: Option<(Chunks, Pace)>,
}

#[derive(Default)]
pub(super) struct Counts {
    errors: u32,
    refused: u32,
    idle: u32,
    surplus: u32,
    pub(super) messages: u32,
    pub(super) failed_logins: u32,
    /// The reply under way refuses a recipient.
    recipient: bool,
}

impl Counts {
    pub(super) fn recipient_refused(&mut self) {
        self.recipient = true;
    }
    /// One more recipient than a transaction may have.
    pub(super) fn recipient_surplus(&mut self) {
        self.surplus += 1;
    }
    fn too_many(&self) -> bool {
        self.errors >= MAX_ERRORS || self.refused >= MAX_REFUSED || self.surplus >= MAX_SURPLUS
    }
    fn count(&mut self, reply: &Reply) {
        match (reply.code >= 400, std::mem::take(&mut self.recipient)) {
            (true, false) if reply.code == 452 && reply.enhanced == Some((4, 5, 3)) => {}
            (true, true) => self.refused += 1,
            (true, false) => self.errors += 1,
            (false, _) => {}
        }
    }
}

pub(super) struct Session {
    pub(super) service: Rc<Service>,
    /// The configuration that the session began with.
    pub(super) config: Arc<Config>,
    pub(super) wire: Wire,
    framer: Framer,
    pub(super) hello: Option<Hello>,
    pub(super) account: Option<AccountId>,
    pub(super) transaction: Option<Open>,
    /// Whose content is being read: then its transaction is with the verb.
    pub(super) reading: Option<mta::QueueId>,
    pub(super) counts: Counts,
}

impl Session {
    pub(super) fn new(service: Rc<Service>, wire: Wire) -> Self {
        let config = service.mta.config.get();
        Self { service, config, wire, framer: Framer::new(), hello: None, account: None, transaction: None, reading: None, counts: Counts::default() }
    }

    pub(super) async fn run(mut self) {
        let stop = match self.dialogue().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        };
        events::end(&self, &stop);
        let mut last = match stop {
            Stop::Say(reply) => reply,
            Stop::Lost(Ended::Timeout) => Reply::new(421, (4, 4, 2), format!("{} Timed out, closing", self.config.hostname)),
            Stop::Lost(Ended::Draining) => Reply::new(421, (4, 3, 2), format!("{} Shutting down, try again soon", self.config.hostname)),
            Stop::Lost(Ended::Closed | Ended::Io(_)) => return self.wire.close().await,
        };
        if let Some(id) = self.current() {
            last = tagged(last, id);
        }
        // Who does not listen any more does not hear it.
        let _ = self.say(last).await;
        self.wire.close().await;
    }

    async fn dialogue(&mut self) -> Result<std::convert::Infallible, Stop> {
        self.greet().await?;
        loop {
            self.turn().await?;
        }
    }

    /// RFC 5321 §4.3.1: the client waits for the greeting. Who does not is a program that never reads replies.
    async fn greet(&mut self) -> Result<(), Stop> {
        let early = self.wire.next(Duration::ZERO, |bytes| (!bytes.is_empty()).then_some((0, ()))).await;
        match early {
            Ok(()) => return Err(out_of_turn(554)),
            Err(Ended::Timeout) => {}
            Err(e) => return Err(e.into()),
        }
        let greeting = format!("{} ESMTP gatepost", self.config.hostname);
        self.say(Reply::bare(220, greeting)).await
    }

    /// One command and its reply.
    async fn turn(&mut self) -> Result<(), Stop> {
        let command = match self.line(Framer::command).await? {
            Some(line) => Command::parse(&line),
            None => Err(Reply::new(500, (5, 5, 2), "Line too long")),
        };
        events::command(self, &command);
        match command {
            Err(reply) => self.answer(reply, None).await,
            Ok(command) => {
                // Of a transaction that this command ends, too, the reply carries the id.
                let before = self.current().cloned();
                self.idle(&command)?;
                match Box::pin(self.obey(command)).await? {
                    Some(reply) => self.answer(reply, before).await,
                    None => Ok(()),
                }
            }
        }
    }

    /// `None`: all was said already.
    async fn obey(&mut self, command: Command) -> Result<Option<Reply>, Stop> {
        let reply = match command {
            Command::Ehlo(name) => self.ehlo(name)?,
            Command::Helo(name) => self.helo(name)?,
            Command::Mail(path, params) => self.mail(path, params)?,
            Command::Rcpt(path, params) => self.rcpt(path, params).await,
            Command::Data => self.data().await?,
            Command::Bdat { size, last } => self.bdat(size, last).await?,
            Command::Rset => {
                self.transaction = None;
                Reply::new(250, (2, 0, 0), "Ok")
            }
            Command::Noop => Reply::new(250, (2, 0, 0), "Ok"),
            Command::Quit => return Err(Stop::Say(Reply::new(221, (2, 0, 0), "Bye"))),
            Command::Help => self.help(),
            // RFC 5321 §7.3: no word about who is here.
            Command::Vrfy => Reply::new(252, (2, 5, 0), "Send some mail, I will try my best"),
            Command::Expn => Reply::new(502, (5, 5, 1), "EXPN is not for strangers"),
            Command::StartTls => return self.start_tls().await,
            Command::Auth(mechanism, initial) => self.auth(&mechanism, initial).await?,
            Command::Unbounded => return Err(Stop::Say(Reply::new(501, (5, 5, 4), "Syntax: BDAT size [LAST]"))),
            Command::Foreign => return Err(Stop::Say(Reply::new(554, (5, 5, 1), "This is SMTP, not HTTP"))),
        };
        Ok(Some(reply))
    }

    /// A line, or `None` for one that was too long. A lone CR or LF ends the session: client and server would not
    /// agree on what is a command.
    pub(super) async fn line(&mut self, cut: impl Fn(&mut Framer, &[u8]) -> Option<(usize, Frame)>) -> Result<Option<Vec<u8>>, Stop> {
        let began = Instant::now();
        loop {
            let framer = &mut self.framer;
            // For the whole line, however much of it is thrown away.
            let left = self.config.smtp.timeout.saturating_sub(began.elapsed());
            match self.wire.next(left, |bytes| cut(framer, bytes)).await? {
                Frame::Line(line) => return Ok(Some(line)),
                Frame::TooLong => return Ok(None),
                Frame::Skipping => {}
                Frame::Endless => return Err(Stop::Say(Reply::new(500, (5, 5, 2), "Line too long"))),
                Frame::Bare => return Err(Stop::Say(Reply::new(500, (5, 5, 2), "Lines end with CRLF, a lone CR or LF is not allowed"))),
            }
        }
    }

    /// Writes the reply to a command: with the queue id, and counted.
    async fn answer(&mut self, mut reply: Reply, before: Option<mta::QueueId>) -> Result<(), Stop> {
        // Not into what EHLO announces, where a client would take it for a parameter.
        if let Some(id) = self.current().or(before.as_ref()).filter(|_| reply.enhanced.is_some()) {
            reply = tagged(reply, id);
        }
        self.counts.count(&reply);
        self.say(reply).await?;
        if self.counts.too_many() {
            return Err(too_many("errors"));
        }
        Ok(())
    }

    /// Writes; it goes out when the input that is there was answered.
    pub(super) async fn say(&mut self, reply: Reply) -> Result<(), Stop> {
        events::reply(self, &reply);
        self.wire.write(&reply.to_bytes()).await.map_err(Stop::Lost)
    }

    fn idle(&mut self, command: &Command) -> Result<(), Stop> {
        use Command as C;
        if matches!(command, C::Noop | C::Rset | C::Help | C::Vrfy | C::Expn | C::Ehlo(_) | C::Helo(_) | C::Bdat { size: 0, last: false }) {
            self.counts.idle += 1;
        }
        if self.counts.idle > MAX_IDLE { Err(too_many("commands without a message")) } else { Ok(()) }
    }

    /// The queue id of the transaction under way.
    pub(super) fn current(&self) -> Option<&mta::QueueId> {
        self.transaction.as_ref().map(|t| &t.mail.id).or(self.reading.as_ref())
    }

    /// A message was taken: the client means it.
    pub(super) fn earned_trust(&mut self) {
        self.counts.messages += 1;
        self.counts.errors = 0;
        self.counts.refused = 0;
        self.counts.idle = 0;
        self.counts.surplus = 0;
    }

    /// RFC 2920 §3.1: commands that change what may follow end a group. What is there already was sent blindly, by
    /// somebody who does not read our replies, or slipped in before TLS.
    pub(super) fn must_be_last(&self) -> Result<(), Stop> {
        if self.wire.buffered() > 0 { Err(out_of_turn(503)) } else { Ok(()) }
    }

    pub(super) fn is_submission(&self) -> bool {
        self.service.kind == Kind::Submission
    }
}

fn out_of_turn(code: u16) -> Stop {
    Stop::Say(Reply::new(code, (5, 5, 1), "You did not wait for the reply"))
}

pub(super) fn too_many(what: &str) -> Stop {
    Stop::Say(Reply::new(421, (4, 7, 0), format!("Too many {what}, closing")))
}

/// With the queue id on its last line, if it does not say it already.
pub(super) fn tagged(mut reply: Reply, id: &mta::QueueId) -> Reply {
    if !reply.text.contains(id.as_str()) {
        reply.text = format!("{} ({id})", reply.text);
    }
    reply
}

impl From<&mta::Refusal> for Reply {
    fn from(r: &mta::Refusal) -> Self {
        Self::new(r.code, r.enhanced, r.text.clone())
    }
}
