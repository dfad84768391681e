//! The dialogue itself, from connect to QUIT.

use super::{Mail, Outcome, Peer, Reply, body::Source, events, offer::Offer};
use crate::{
    config::RouteTls,
    message::Address,
    net::{Drain, Ended, Wire, tls::Connector},
    proto::smtp::ReplyParser,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use smol::{Timer, future::FutureExt as _};
use std::{
    fmt,
    time::{Duration, Instant},
};

const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(60);
/// RFC 5321 §4.5.3.2: greeting, EHLO, MAIL, RCPT.
pub(super) const COMMAND: Duration = Duration::from_secs(300);
const DATA: Duration = Duration::from_secs(120);
const BLOCK: Duration = Duration::from_secs(180);
/// Hosts that scan or fan out before the 250 are slow, and giving up early makes duplicates.
const FINAL: Duration = Duration::from_secs(600);
/// Octets per second that a host must take on average: one that reads a few now and then keeps its connection, of
/// which we have few, and its mail for ever.
const MIN_PACE: u64 = 1024;
/// For a last word after the connection broke while we wrote.
const LAST_WORD: Duration = Duration::from_secs(5);

/// Why a dialogue ended before any recipient was answered.
#[derive(Debug)]
pub(super) enum Stop {
    Unreachable(String),
    /// Not there: no connection, or nobody who speaks.
    Down(String),
    /// TLS could not be had, though it was announced; without it there may be a way.
    Handshake(String),
}

impl Stop {
    /// Some hosts' TLS is so broken that they hang up on STARTTLS, or right after the handshake.
    fn into_handshake(self) -> Self {
        Self::Handshake(self.to_string())
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) | Self::Down(why) => f.write_str(why),
            Self::Handshake(why) => write!(f, "TLS: {why}"),
        }
    }
}

pub(super) fn unreadable() -> Reply {
    Reply::new(451, (4, 3, 0), "The message cannot be read here")
}

pub(super) fn all(mail: &Mail, outcome: &Outcome) -> Vec<Outcome> {
    vec![outcome.clone(); mail.recipients.len()]
}

/// A remote's no, or anything that is not yes.
pub(super) fn no(reply: Reply) -> Outcome {
    if reply.is_permanent() { Outcome::Refused(reply) } else { Outcome::Deferred(reply) }
}

pub(super) fn is_yes(reply: &Reply) -> bool {
    reply.code / 100 == 2
}

pub(super) struct Dialogue<'a> {
    wire: Wire,
    peer: &'a Peer,
    pub(super) mail: &'a Mail,
    pub(super) offer: Offer,
    /// In the middle of a message nothing may follow, not even QUIT: it would be taken for a part of it.
    in_data: bool,
}

impl<'a> Dialogue<'a> {
    /// `connector`: TLS shall be tried, or must be had, as the peer's setting says.
    pub(super) async fn run(
        peer: &'a Peer,
        mail: &'a Mail,
        source: &mut Option<Source>,
        connector: Option<&Connector>,
    ) -> Result<Vec<Outcome>, Stop> {
        let connected = Wire::connect(peer.address, CONNECT.min(mail.timeout), Drain::new()).await;
        let wire = connected.map_err(|e| Stop::Down(format!("connecting to {} ({}): {e}", peer.host, peer.address)))?;
        events::connected(wire.conn(), peer);
        let mut this = Self { wire, peer, mail, offer: Offer::default(), in_data: false };
        let result = this.talk(source, connector).await;
        this.quit().await;
        result
    }

    async fn talk(&mut self, source: &mut Option<Source>, connector: Option<&Connector>) -> Result<Vec<Outcome>, Stop> {
        self.open(connector).await?;
        if let Some(refusal) = self.unfit(source).await {
            return Ok(all(self.mail, &refusal));
        }
        let mut outcomes = self.envelope().await?;
        if outcomes.iter().any(Option::is_none) {
            let rest = self.data(source).await;
            outcomes.iter_mut().filter(|o| o.is_none()).for_each(|o| *o = Some(rest.clone()));
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Greeting, EHLO, TLS, AUTH.
    async fn open(&mut self, connector: Option<&Connector>) -> Result<(), Stop> {
        if let (RouteTls::Implicit, Some(connector)) = (&self.peer.tls, connector) {
            self.encrypt(connector).await?;
        }
        let greeting = self.early("greeting").await.map_err(|stop| Stop::Down(stop.to_string()))?;
        if !is_yes(&greeting) {
            return Err(self.stop("greeting", &greeting));
        }
        self.hello().await?;
        if self.peer.tls != RouteTls::Implicit
            && let Some(connector) = connector
        {
            self.starttls(connector).await?;
        }
        match &self.peer.auth {
            Some((user, password)) => self.auth(user, &password.0).await,
            None => Ok(()),
        }
    }
    async fn hello(&mut self) -> Result<(), Stop> {
        let reply = self.early_ask(&format!("EHLO {}", self.mail.helo)).await?;
        if is_yes(&reply) {
            self.offer = Offer::parse(&reply.text);
            return Ok(());
        }
        self.offer = Offer::default();
        // RFC 5321 §3.2: hosts that know no EHLO say 5xx.
        let reply = if reply.is_permanent() { self.early_ask(&format!("HELO {}", self.mail.helo)).await? } else { reply };
        if is_yes(&reply) { Ok(()) } else { Err(self.stop("EHLO", &reply)) }
    }
    async fn starttls(&mut self, connector: &Connector) -> Result<(), Stop> {
        let must = self.peer.tls == RouteTls::Require;
        if !self.offer.starttls {
            return if must { Err(Stop::Unreachable(format!("{} does not offer STARTTLS, which is required", self.peer.host))) } else { Ok(()) };
        }
        let reply = self.early_ask("STARTTLS").await.map_err(Stop::into_handshake)?;
        if !is_yes(&reply) {
            return if must { Err(self.stop("STARTTLS", &reply)) } else { Ok(()) };
        }
        self.encrypt(connector).await?;
        self.hello().await.map_err(Stop::into_handshake)
    }
    async fn encrypt(&mut self, connector: &Connector) -> Result<(), Stop> {
        let timeout = self.within(HANDSHAKE);
        self.wire.start_tls_client(connector, &self.peer.host, timeout).await.map_err(|e| Stop::Handshake(e.to_string()))?;
        events::encrypted(self.wire.conn(), self.wire.tls_summary());
        Ok(())
    }
    async fn auth(&mut self, user: &str, password: &str) -> Result<(), Stop> {
        if !self.wire.is_tls() && !self.peer.address.ip().to_canonical().is_loopback() {
            return Err(Stop::Unreachable(format!("no TLS with {}: the password is not sent in the clear", self.peer.host)));
        }
        let reply = if self.offer.auth_plain {
            let secret = BASE64.encode(format!("\0{user}\0{password}"));
            self.early_secret("AUTH PLAIN *", &format!("AUTH PLAIN {secret}")).await?
        } else if self.offer.auth_login {
            let mut reply = self.early_ask("AUTH LOGIN").await?;
            for secret in [user, password] {
                if reply.code != 334 {
                    break;
                }
                reply = self.early_secret("*", &BASE64.encode(secret)).await?;
            }
            reply
        } else {
            return Err(Stop::Unreachable(format!("{} offers neither AUTH PLAIN nor LOGIN", self.peer.host)));
        };
        if is_yes(&reply) { Ok(()) } else { Err(self.stop("AUTH", &reply)) }
    }

    /// What this host cannot take, said by its own EHLO.
    async fn unfit(&mut self, source: &mut Option<Source>) -> Option<Outcome> {
        let (offer, mail) = (&self.offer, self.mail);
        if let Some(limit) = offer.size_limit.filter(|limit| mail.size > *limit) {
            let text = format!("Message of {} octets is too large for {}, which takes {limit}", mail.size, self.peer.host);
            return Some(Outcome::Refused(Reply::new(552, (5, 3, 4), text)));
        }
        if offer.smtputf8 {
            return None;
        }
        let mut ascii = mail.sender.iter().chain(mail.recipients.iter().map(|r| &r.0)).all(Address::is_ascii);
        // Clients ask for SMTPUTF8 to be on the safe side; only what needs it must be refused.
        if ascii
            && mail.smtputf8
            && let Some(mut file) = source.take()
        {
            let (file, answer) = smol::unblock(move || {
                let answer = file.header_is_ascii();
                (file, answer)
            })
            .await;
            *source = Some(file);
            match answer {
                Ok(yes) => ascii = yes,
                Err(e) => {
                    events::unreadable(&mail.message, &e);
                    return Some(Outcome::Deferred(unreadable()));
                }
            }
        }
        let text = || format!("{} does not take internationalised mail (SMTPUTF8)", self.peer.host);
        (!ascii).then(|| Outcome::Refused(Reply::new(550, (5, 6, 7), text())))
    }

    /// DATA to its last reply: what becomes of those who were accepted.
    async fn data(&mut self, source: &mut Option<Source>) -> Outcome {
        let Some(mut source) = source.take() else { return Outcome::Deferred(unreadable()) };
        let started = match self.say("DATA").await {
            Ok(()) => self.reply(self.within(DATA)).await,
            Err(e) => Err(e),
        };
        match started {
            Ok(reply) if reply.code == 354 => self.in_data = true,
            Ok(reply) => return no(reply),
            Err(e) => return Outcome::Deferred(self.lost_reply("DATA", &e)),
        }
        self.wire.set_patience(self.within(BLOCK));
        let (began, mut octets) = (Instant::now(), 0);
        loop {
            let (back, block) = smol::unblock(move || {
                let block = source.next();
                (source, block)
            })
            .await;
            source = back;
            match block {
                Ok(Some(block)) => {
                    octets += block.len() as u64;
                    let left = self.within(BLOCK).saturating_add(Duration::from_secs(octets / MIN_PACE)).saturating_sub(began.elapsed());
                    let late = async {
                        Timer::after(left).await;
                        Err(Ended::Timeout)
                    };
                    if let Err(e) = self.wire.write(&block).or(late).await {
                        return self.cut_short(&e).await;
                    }
                }
                Ok(None) => break,
                Err(e) => {
                    // No dot, so that half a message is not taken for a whole one.
                    events::unreadable(&self.mail.message, &e);
                    return Outcome::Deferred(unreadable());
                }
            }
        }
        let last = self.reply(FINAL.min(self.mail.timeout.saturating_mul(2))).await;
        self.in_data = last.is_err();
        match last {
            Ok(reply) if is_yes(&reply) => Outcome::Delivered { reply, dsn: self.offer.dsn },
            Ok(reply) => no(reply),
            // It may have been delivered: a duplicate is better than a loss.
            Err(e) => Outcome::Deferred(self.lost_reply("the end of data", &e)),
        }
    }
    /// Hosts that have seen enough say why and close while we still write.
    async fn cut_short(&mut self, e: &Ended) -> Outcome {
        self.wire.discard_output();
        match self.reply(self.within(LAST_WORD)).await {
            Ok(reply) if !reply.is_positive() => no(reply),
            _ => Outcome::Deferred(self.lost_reply("data", e)),
        }
    }

    async fn quit(mut self) {
        if self.in_data {
            return;
        }
        if self.say("QUIT").await.is_ok() {
            self.wire.set_patience(LAST_WORD);
        }
        // Waits for its 221 or its end, a second at most.
        self.wire.close().await;
    }

    pub(super) async fn say(&mut self, line: &str) -> Result<(), Ended> {
        self.say_secret(line, line).await
    }
    async fn say_secret(&mut self, shown: &str, line: &str) -> Result<(), Ended> {
        events::said(self.wire.conn(), shown);
        // No line of ours holds CR or LF: addresses and parameters cannot, and the rest is ours.
        self.wire.write(line.as_bytes()).await?;
        self.wire.write(b"\r\n").await
    }
    /// The next reply, whole; flushes what was said.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, Ended> {
        let cut = |bytes: &[u8]| {
            // From the start each time, so that the limit is for the whole reply and not for each of its lines.
            let (mut parser, mut used) = (ReplyParser::new(), 0);
            while let Some((n, reply)) = parser.cut(bytes.get(used..).unwrap_or_default()) {
                used += n;
                if let Some(reply) = reply {
                    return Some((used, reply));
                }
            }
            None
        };
        let reply = self.wire.next_undisturbed(limit, cut).await?;
        let reply = reply.map_err(|e| Ended::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
        events::heard(self.wire.conn(), &reply);
        Ok(reply)
    }
    /// Before anybody was answered, every failure sends us to the next host.
    pub(super) async fn early(&mut self, after: &str) -> Result<Reply, Stop> {
        self.reply(self.within(COMMAND)).await.map_err(|e| self.lost(after, &e))
    }
    async fn early_ask(&mut self, line: &str) -> Result<Reply, Stop> {
        self.early_secret(line, line).await
    }
    async fn early_secret(&mut self, shown: &str, line: &str) -> Result<Reply, Stop> {
        let verb = shown.split(' ').next().unwrap_or(shown);
        self.say_secret(shown, line).await.map_err(|e| self.lost(verb, &e))?;
        self.early(verb).await
    }
    pub(super) fn within(&self, limit: Duration) -> Duration {
        limit.min(self.mail.timeout)
    }
    pub(super) fn stop(&self, after: &str, reply: &Reply) -> Stop {
        Stop::Unreachable(format!("{} said to {after}: {reply}", self.peer.host))
    }
    pub(super) fn lost(&self, after: &str, e: &Ended) -> Stop {
        Stop::Unreachable(format!("{} after {after}: {e}", self.peer.host))
    }
    pub(super) fn lost_reply(&self, after: &str, e: &Ended) -> Reply {
        Reply::new(451, (4, 4, 2), format!("{} after {after}: {e}", self.peer.host))
    }
}
