//! The dialogue itself, from connect to QUIT.

use super::{Mail, Outcome, Peer, Reply, body::Source, events, offer::Offer};
use crate::{
    config::RouteTls,
    message::Address,
    net::{Drain, Ended, Wire, tls::Connector},
    proto::smtp::ReplyParser,
    spool::Notify,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::{fmt, time::Duration};

const CONNECT: Duration = Duration::from_secs(30);
const HANDSHAKE: Duration = Duration::from_secs(60);
/// RFC 5321 §4.5.3.2: greeting, EHLO, MAIL, RCPT.
const COMMAND: Duration = Duration::from_secs(300);
const DATA: Duration = Duration::from_secs(120);
const BLOCK: Duration = Duration::from_secs(180);
/// Hosts that scan or fan out before the 250 are slow, and giving up early makes duplicates.
const FINAL: Duration = Duration::from_secs(600);
/// For a last word after the connection broke while we wrote.
const LAST_WORD: Duration = Duration::from_secs(5);
/// Recipients sent in one go: their replies must fit the sockets' buffers while we only write.
const BATCH: usize = 50;

/// Why a dialogue ended before any recipient was answered.
#[derive(Debug)]
pub(super) enum Stop {
    Unreachable(String),
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
            Self::Unreachable(why) => f.write_str(why),
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
fn no(reply: Reply) -> Outcome {
    if reply.is_permanent() { Outcome::Refused(reply) } else { Outcome::Deferred(reply) }
}

fn is_yes(reply: &Reply) -> bool {
    reply.code / 100 == 2
}

pub(super) struct Dialogue<'a> {
    wire: Wire,
    peer: &'a Peer,
    mail: &'a Mail,
    offer: Offer,
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
        let wire = connected.map_err(|e| Stop::Unreachable(format!("connecting to {} ({}): {e}", peer.host, peer.address)))?;
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
        let greeting = self.early("greeting").await?;
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

    /// MAIL and RCPT. `None`: accepted.
    async fn envelope(&mut self) -> Result<Vec<Option<Outcome>>, Stop> {
        let mail = self.mail;
        let mut outcomes = Vec::with_capacity(mail.recipients.len());
        let mut from = Some(self.mail_command());
        let batch = if self.offer.pipelining { BATCH } else { 1 };
        for group in mail.recipients.chunks(batch) {
            let lines: Vec<String> = group.iter().map(|r| self.rcpt_command(r)).collect();
            let asked_from = from.is_some();
            if let Some(line) = from.take() {
                self.say(&line).await.map_err(|e| self.lost("MAIL", &e))?;
                if !self.offer.pipelining
                    && let Some(refused) = self.mail_reply().await?
                {
                    return Ok(vec![Some(refused); mail.recipients.len()]);
                }
            }
            for line in &lines {
                if let Err(e) = self.say(line).await {
                    return self.rest_lost(outcomes, &e);
                }
            }
            if asked_from
                && self.offer.pipelining
                && let Some(refused) = self.mail_reply().await?
            {
                return Ok(vec![Some(refused); mail.recipients.len()]);
            }
            for _ in &lines {
                match self.reply(self.within(COMMAND)).await {
                    Ok(reply) if reply.code == 421 => return self.closing(outcomes, reply),
                    Ok(reply) => outcomes.push((!is_yes(&reply)).then(|| no(reply))),
                    Err(e) => return self.rest_lost(outcomes, &e),
                }
            }
        }
        Ok(outcomes)
    }
    async fn mail_reply(&mut self) -> Result<Option<Outcome>, Stop> {
        let reply = self.early("MAIL").await?;
        if reply.code == 421 {
            return Err(self.stop("MAIL", &reply));
        }
        Ok((!is_yes(&reply)).then(|| no(reply)))
    }
    /// 421 in the middle: nobody gets this mail here now, accepted or not.
    fn closing(&self, mut outcomes: Vec<Option<Outcome>>, reply: Reply) -> Result<Vec<Option<Outcome>>, Stop> {
        if outcomes.is_empty() {
            return Err(self.stop("RCPT", &reply));
        }
        let rest = Outcome::Deferred(reply);
        outcomes.iter_mut().filter(|o| o.is_none()).for_each(|o| *o = Some(rest.clone()));
        outcomes.resize(self.mail.recipients.len(), Some(rest));
        Ok(outcomes)
    }
    fn rest_lost(&self, outcomes: Vec<Option<Outcome>>, e: &Ended) -> Result<Vec<Option<Outcome>>, Stop> {
        if outcomes.is_empty() { Err(self.lost("RCPT", e)) } else { self.closing(outcomes, self.lost_reply("RCPT", e)) }
    }
    /// RFC 1870 §3, RFC 6152 §3, RFC 6531 §3.4, RFC 3461 §4.3 and §4.4.
    fn mail_command(&self) -> String {
        let (offer, mail) = (&self.offer, self.mail);
        let mut line = match &mail.sender {
            Some(sender) => format!("MAIL FROM:<{sender}>"),
            None => "MAIL FROM:<>".to_owned(),
        };
        if offer.size {
            line += &format!(" SIZE={}", mail.size);
        }
        if offer.eight_bit && mail.body_8bit {
            line += " BODY=8BITMIME";
        }
        if offer.smtputf8 && mail.smtputf8 {
            line += " SMTPUTF8";
        }
        if offer.dsn {
            line += if mail.ret_full { " RET=FULL" } else { " RET=HDRS" };
            if let Some(envid) = mail.envid.as_deref().filter(|e| self.is_value(e)) {
                line += &format!(" ENVID={envid}");
            }
        }
        line
    }
    fn rcpt_command(&self, (address, notify, original): &(Address, Notify, Option<String>)) -> String {
        let mut line = format!("RCPT TO:<{address}>");
        if !self.offer.dsn {
            return line;
        }
        let wanted = [(notify.never, "NEVER"), (notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
        // NEVER stands alone.
        let wanted: Vec<&str> = wanted.iter().filter(|(yes, word)| *yes && (!notify.never || *word == "NEVER")).map(|w| w.1).collect();
        if !wanted.is_empty() {
            line += &format!(" NOTIFY={}", wanted.join(","));
        }
        if let Some(original) = original.as_deref().filter(|o| o.contains(';') && self.is_value(o)) {
            line += &format!(" ORCPT={original}");
        }
        line
    }
    /// Whatever the spool holds, a parameter stays one.
    fn is_value(&self, text: &str) -> bool {
        let utf8 = self.offer.smtputf8 && self.mail.smtputf8;
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || utf8 && !c.is_ascii() && !c.is_control() && !c.is_whitespace())
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
        loop {
            let (back, block) = smol::unblock(move || {
                let block = source.next();
                (source, block)
            })
            .await;
            source = back;
            match block {
                Ok(Some(block)) => {
                    if let Err(e) = self.wire.write(&block).await {
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

    async fn say(&mut self, line: &str) -> Result<(), Ended> {
        self.say_secret(line, line).await
    }
    async fn say_secret(&mut self, shown: &str, line: &str) -> Result<(), Ended> {
        events::said(self.wire.conn(), shown);
        // No line of ours holds CR or LF: addresses and parameters cannot, and the rest is ours.
        self.wire.write(line.as_bytes()).await?;
        self.wire.write(b"\r\n").await
    }
    /// The next reply, whole; flushes what was said.
    async fn reply(&mut self, limit: Duration) -> Result<Reply, Ended> {
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
    async fn early(&mut self, after: &str) -> Result<Reply, Stop> {
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
    fn within(&self, limit: Duration) -> Duration {
        limit.min(self.mail.timeout)
    }
    fn stop(&self, after: &str, reply: &Reply) -> Stop {
        Stop::Unreachable(format!("{} said to {after}: {reply}", self.peer.host))
    }
    fn lost(&self, after: &str, e: &Ended) -> Stop {
        Stop::Unreachable(format!("{} after {after}: {e}", self.peer.host))
    }
    fn lost_reply(&self, after: &str, e: &Ended) -> Reply {
        Reply::new(451, (4, 4, 2), format!("{} after {after}: {e}", self.peer.host))
    }
}
