//! MAIL and RCPT, with what the host offers for them.

use super::{
    Outcome, Reply,
    dialogue::{COMMAND, Dialogue, Stop, is_yes, no},
};
use crate::{message::Address, net::Ended, spool::Notify};

/// Recipients sent in one go: their replies must fit the sockets' buffers while we only write.
const BATCH: usize = 50;

impl Dialogue<'_> {
    /// MAIL and RCPT. `None`: accepted.
    pub(super) async fn envelope(&mut self) -> Result<Vec<Option<Outcome>>, Stop> {
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
            // What was not asked of us we do not ask (RFC 3461 §5.2.1); of a notice nothing is to be returned (§6.1).
            if let (Some(full), true) = (mail.ret_full, mail.sender.is_some()) {
                line += if full { " RET=FULL" } else { " RET=HDRS" };
            }
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
}
