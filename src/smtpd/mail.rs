//! MAIL and RCPT: order, limits, SMTPUTF8. Who may send what to whom is for `mta`.

use super::{
    events,
    session::{MAX_MESSAGES, Open, Session, Stop, tagged, too_many},
};
use crate::{
    disk::Draft,
    message::Address,
    mta::{self, Client, Origin},
    proto::smtp::{MailParams, Notify, Path, RcptParams, Reply},
};

impl Session {
    /// RFC 5321 §4.1.1.2
    pub(super) fn mail(&mut self, path: Path, params: MailParams) -> Result<Reply, Stop> {
        if let Some(no) = self.not_yet() {
            return Ok(no);
        }
        if self.transaction.is_some() {
            return Ok(Reply::new(503, (5, 5, 1), "Sender was given already"));
        }
        if self.counts.messages >= MAX_MESSAGES {
            return Err(too_many("messages in one session"));
        }
        if needs_smtputf8(&path) && !params.smtputf8 {
            return Ok(utf8_wanted());
        }
        let sender = match path {
            Path::Mailbox { address, .. } => Some(address),
            Path::Null | Path::Postmaster => None,
        };
        let client = self.client(params.smtputf8);
        let params = mail_params(params);
        let id = self.service.mta.queue_id();
        if let Err(refusal) = self.service.mta.mail(&client, sender.as_ref(), &params) {
            events::sender_refused(self, &id, sender.as_ref(), &refusal);
            return Ok(tagged((&refusal).into(), &id));
        }
        let mail = mta::Transaction { id, client, sender, params, recipients: Vec::new(), draft: Draft::new() };
        self.transaction = Some(Open { mail, chunks: None });
        Ok(Reply::new(250, (2, 1, 0), "Ok"))
    }

    /// RFC 5321 §4.1.1.3
    pub(super) async fn rcpt(&mut self, path: Path, params: RcptParams) -> Reply {
        let Some(open) = &mut self.transaction else {
            return Reply::new(503, (5, 5, 1), "MAIL first");
        };
        if open.chunks.is_some() {
            return Reply::new(503, (5, 5, 1), "The message has begun already");
        }
        if open.mail.recipients.len() >= self.config.limits.recipients {
            self.counts.recipient_surplus();
            return Reply::new(452, (4, 5, 3), "Too many recipients, send the rest in another transaction");
        }
        if needs_smtputf8(&path) && !open.mail.params.smtputf8 {
            return utf8_wanted();
        }
        let address = match path {
            Path::Mailbox { address, .. } => address,
            Path::Null | Path::Postmaster => {
                let domain = self.config.domains.first().unwrap_or(&self.config.hostname);
                Address { local: "postmaster".into(), domain: domain.clone() }
            }
        };
        match self.service.mta.rcpt(&open.mail.client, &open.mail.params, &address).await {
            Ok(()) => {
                open.mail.recipients.push(mta::Recipient { address, notify: notify(params.notify), orcpt: params.orcpt });
                Reply::new(250, (2, 1, 5), "Ok")
            }
            Err(refusal) => {
                self.counts.recipient_refused();
                events::recipient_refused(self, &address, &refusal);
                (&refusal).into()
            }
        }
    }

    /// What must come before MAIL (RFC 5321 §4.1.4, RFC 6409 §4.3).
    fn not_yet(&self) -> Option<Reply> {
        if self.hello.is_none() {
            return Some(Reply::new(503, (5, 5, 1), "EHLO first"));
        }
        if self.is_submission() && self.account.is_none() {
            return Some(if self.is_private() { Reply::new(530, (5, 7, 0), "Authentication required") } else { Self::tls_first() });
        }
        None
    }

    /// RFC 3207 §4
    pub(super) fn tls_first() -> Reply {
        Reply::new(530, (5, 7, 0), "Must issue a STARTTLS command first")
    }

    fn client(&self, smtputf8: bool) -> Client {
        let (name, extended) = self.hello.as_ref().map_or(("", false), |h| (h.name.as_str(), h.extended));
        Client {
            origin: self.account.clone().map_or(Origin::Mx, Origin::Submission),
            address: self.wire.peer(),
            helo: name.to_owned(),
            tls: self.wire.tls_summary(),
            with: with(extended, smtputf8, self.wire.is_tls(), self.account.is_some()),
            conn: self.wire.conn().to_owned(),
        }
    }
}

/// RFC 3848, RFC 6531 §4.3.
fn with(extended: bool, smtputf8: bool, tls: bool, auth: bool) -> &'static str {
    match (extended, smtputf8, tls, auth) {
        (false, ..) => "SMTP",
        (true, false, false, false) => "ESMTP",
        (true, false, false, true) => "ESMTPA",
        (true, false, true, false) => "ESMTPS",
        (true, false, true, true) => "ESMTPSA",
        (true, true, false, false) => "UTF8SMTP",
        (true, true, false, true) => "UTF8SMTPA",
        (true, true, true, false) => "UTF8SMTPS",
        (true, true, true, true) => "UTF8SMTPSA",
    }
}

fn needs_smtputf8(path: &Path) -> bool {
    matches!(path, Path::Mailbox { ascii: false, .. })
}

/// RFC 6531 §3.5
fn utf8_wanted() -> Reply {
    Reply::new(553, (5, 6, 7), "A non-ASCII address needs MAIL with SMTPUTF8")
}

fn mail_params(p: MailParams) -> mta::MailParams {
    mta::MailParams { size: p.size, body_8bit: p.body_8bit, smtputf8: p.smtputf8, ret_full: p.ret_full, envid: p.envid }
}

fn notify(n: Notify) -> mta::Notify {
    mta::Notify { never: n.never, success: n.success, failure: n.failure, delay: n.delay }
}
