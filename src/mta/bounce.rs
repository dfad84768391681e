//! Telling the sender: failures, delays and asked-for successes (RFC 3461, RFC 3464), through [`Mta::accept`] like any mail.
//!
//! Notices have the null sender and nobody is ever told of mail with a null sender, so there is no notice about a notice.

use super::{Client, MailParams, Mta, Notify, Origin, QueueId, Recipient, Refusal, Transaction, stamp};
use crate::{
    config::Config,
    disk::{self, Draft},
    message::dsn::{Action, MAX_RETURNED, Report, Reported, Returned},
    spool::{self, Entry, State, envelope::seconds},
};
use std::{io::Read as _, path::Path, rc::Rc, time::SystemTime};

/// Of a message whose header alone goes back, so much is read.
const MAX_HEADER: usize = 64 << 10;

/// One message about all recipients that have a notice due, and those that are `slow`.
pub(super) async fn tell(mta: &Rc<Mta>, config: &Config, entry: &Entry, slow: impl Fn(&spool::Recipient) -> bool) -> Result<QueueId, Refusal> {
    let Some(sender) = entry.sender.clone() else { return Err(Refusal::no_recipients()) };
    let id = mta.queue_id();
    let told: Vec<spool::Recipient> = entry.recipients.iter().filter(|r| r.notice || slow(r)).cloned().collect();
    let (path, about, hostname, to) = (mta.spool.message(&entry.id), entry.clone(), config.hostname.clone(), sender.clone());
    let until = entry.arrived.checked_add(config.queue.lifetime).unwrap_or(entry.arrived);
    let message_id = stamp::message_id(config, &id);
    let build = move || {
        // Of a success the header is enough, whatever RET says (RFC 3461 §6.2).
        let whole = about.ret_full == Some(true) && told.iter().any(|r| matches!(r.state, State::Failed(_)));
        // One octet more than is returned, and it is known to be too long.
        let original = read(&path, if whole { MAX_RETURNED + 1 } else { MAX_HEADER })?;
        let reported: Vec<Reported<'_>> = told.iter().map(|r| report(r, until)).collect();
        let report = Report {
            reporting_mta: &hostname,
            to: &to,
            date: unix(SystemTime::now()),
            message_id: message_id.trim_matches(['<', '>']),
            arrival: unix(about.arrived),
            envid: about.envid.as_deref(),
            queue_id: about.id.as_str(),
            recipients: &reported,
            returned: if whole { Returned::Full(&original) } else { Returned::Header(&original) },
            smtputf8: about.smtputf8,
        };
        Ok((report.build(), report.needs_utf8()))
    };
    let (bytes, smtputf8) = smol::unblock(build).await.map_err(|e: disk::Error| Refusal::from(&e))?;
    let body_8bit = !bytes.is_ascii();
    let transaction = Transaction {
        id: id.clone(),
        client: internal(config, &entry.id),
        sender: None,
        params: MailParams { smtputf8, body_8bit, ..MailParams::default() },
        recipients: vec![Recipient { address: sender, notify: Notify { never: true, ..Notify::default() }, orcpt: None }],
        draft: Draft::from_bytes(bytes),
    };
    mta.accept(transaction).await.map(|_| id)
}

/// As much as can go back. Nothing of a message that somebody removed: the sender is told all the same.
fn read(path: &Path, most: usize) -> disk::Result<Vec<u8>> {
    let file = match disk::open(path) {
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(most as u64).read_to_end(&mut bytes).map_err(|e| disk::Error::new("read", path, e))?;
    Ok(bytes)
}

fn report(r: &spool::Recipient, until: SystemTime) -> Reported<'_> {
    let (action, why, otherwise) = match &r.state {
        State::Failed(why) => (Action::Failed, Some(why), (5, 0, 0)),
        State::Pending => (Action::Delayed, r.last_error.as_ref(), (4, 0, 0)),
        State::Delivered if r.local => (Action::Delivered, None, (2, 0, 0)),
        // The next host announced no DSN: nobody will tell more (RFC 3461 §5.2.2).
        State::Delivered => (Action::Relayed, None, (2, 0, 0)),
    };
    Reported {
        recipient: &r.address,
        original: r.original.as_deref(),
        action,
        status: why.and_then(|w| status(w)).unwrap_or(otherwise),
        remote_mta: r.remote.as_deref(),
        diagnostic: why.map(|w| r.last_error.as_ref().unwrap_or(w).as_str()),
        last_attempt: None,
        will_retry_until: (action == Action::Delayed).then(|| unix(until)),
    }
}

/// The enhanced code of `550 5.1.1 text`. One that we gave up on has 4.4.7: another attempt could have succeeded.
fn status(said: &str) -> Option<(u8, u8, u8)> {
    let mut parts = said.split(' ').nth(1)?.split('.').map(|p| p.parse::<u8>().ok());
    let code = (parts.next()?.filter(|class| matches!(class, 4 | 5))?, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(code)
}

fn unix(t: SystemTime) -> i64 {
    i64::try_from(seconds(t)).unwrap_or(i64::MAX)
}

fn internal(config: &Config, about: &QueueId) -> Client {
    Client { origin: Origin::Internal, address: None, helo: config.hostname.clone(), tls: None, with: "LOCAL", conn: about.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_replies() {
        type Case = (&'static str, Option<(u8, u8, u8)>);
        const CASES: &[Case] = &[
            ("550 5.1.1 No such user", Some((5, 1, 1))),
            ("554 4.4.7 Not delivered within 5 days", Some((4, 4, 7))),
            ("550 No such user", None),
            ("550 2.0.0 x", None),
            ("550 5.1", None),
            ("550 5.1.1.1", None),
            ("550 5.1.999 x", None),
            ("450 4.2.0", Some((4, 2, 0))),
            ("", None),
        ];
        for (said, want) in CASES {
            assert_eq!(status(said), *want, "{said:?}");
        }
    }
}
