//! One attempt at an entry: group its recipients, deliver each group, keep what became of them, tell the sender.
//!
//! The order is the safety: an outcome is in the spool before anything is built on it. A recipient is `Delivered` on
//! disk before the next outcome is looked at; the sender is told before the entry is removed, and what he still has
//! to be told is in the spool until he was. So `kill -9` anywhere costs at most a second copy of one transaction
//! (the 250 was read, but not yet written), or a second notice.

use super::{
    Mta, Plan, bounce, events,
    queue::backoff,
    route::{Destination, Host},
    stamp,
};
use crate::{
    accounts::Resolved,
    config::Config,
    disk::{self, Draft},
    message::Address,
    smtpc::{self, Mail, Outcome, Peer, Reply},
    spool::{Entry, Notify, Recipient, State},
    store::Target,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

/// RFC 5321 §4.5.3.1.8: every host takes a hundred.
const MAX_RECIPIENTS: usize = 100;

/// A host that was not there is left alone for half of `queue.retry`, but no longer than this.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Of what a remote said, so many characters are kept, logged and told. A reply may have 32 KiB, and each recipient
/// has one.
const MAX_SAID: usize = 1000;

/// Which recipients (by number) share a transaction.
struct Group {
    /// `None`: homes of ours.
    destination: Option<Destination>,
    recipients: Vec<usize>,
}

/// What became of a group, one outcome per recipient.
struct Report {
    recipients: Vec<usize>,
    outcomes: Vec<Outcome>,
    host: Option<String>,
}

impl Mta {
    /// Called with the entry busy; leaves it in the table as it is then, or removed.
    pub(super) async fn attempt(self: &Rc<Self>, ex: Rc<smol::LocalExecutor<'static>>, mut entry: Entry) {
        let config = self.config.get();
        entry.attempts = entry.attempts.saturating_add(1);
        if self.expand(&mut entry) {
            self.keep(&mut entry).await;
        }
        let (tell, told) = smol::channel::unbounded();
        let shared = Rc::new(entry.clone());
        // Dropping them ends them, should this attempt end early.
        let mut tasks = Vec::new();
        for group in groups(&config, &entry) {
            let (mta, config, entry, tell) = (self.clone(), config.clone(), shared.clone(), tell.clone());
            tasks.push(ex.spawn(async move {
                let report = mta.deliver_group(&config, &entry, group).await;
                let _ = tell.send(report).await;
            }));
        }
        drop(tell);
        while let Ok(report) = told.recv().await {
            apply(&mut entry, report);
            if is_done(&entry) {
                // Its removal, which comes next, says the same, and is as durable.
                self.queue.reached(&mut entry);
            } else {
                self.keep(&mut entry).await;
            }
        }
        self.conclude(&config, entry).await;
    }

    /// Recipients at our own domains become the homes and addresses that they mean now. `true`: something changed.
    fn expand(&self, entry: &mut Entry) -> bool {
        let mut plan = Plan::default();
        let (old, mut kept): (Vec<Recipient>, Vec<Recipient>) = (std::mem::take(&mut entry.recipients), Vec::new());
        for mut r in old {
            // A home whose account was removed meanwhile must not come back to life; an alias may have taken its place.
            r.local = r.local && self.has_account(&r.address);
            if r.state != State::Pending || r.local {
                kept.push(r);
                continue;
            }
            match self.resolve(&r.address) {
                Resolved::NotOurs => kept.push(r),
                Resolved::To { .. } => {
                    plan.add(self, &r);
                }
                Resolved::Unknown => {
                    let no = super::Refusal::no_such_user(&r.address);
                    fail(entry.sender.is_some(), &mut r, no.to_string());
                    events::bounced(&entry.id, &r);
                    kept.push(r);
                }
            }
        }
        let changed = !plan.ours.is_empty() || kept.iter().any(|r| r.notice);
        let new = plan.locals.into_iter().map(|(_, r)| r).chain(plan.queued);
        for r in new {
            if !kept.iter().any(|k| k.address == r.address && k.local == r.local) {
                kept.push(r);
            }
        }
        entry.recipients = kept;
        changed
    }

    fn has_account(&self, address: &Address) -> bool {
        let name = address.to_string();
        self.accounts.list().iter().any(|a| *a.0 == name)
    }

    /// Table and spool. When the spool cannot be written the table still knows, and what was delivered is not sent again
    /// before a restart.
    async fn keep(&self, entry: &mut Entry) {
        self.queue.reached(entry);
        let (spool, copy) = (self.spool.clone(), entry.clone());
        if let Err(e) = smol::unblock(move || spool.update(&copy)).await {
            events::trouble(Some(&entry.id), &e);
        }
    }

    /// After the last report: too old? whom to tell? when again, or done?
    async fn conclude(self: &Rc<Self>, config: &Config, mut entry: Entry) {
        let now = SystemTime::now();
        let age = now.duration_since(entry.arrived).unwrap_or_default();
        let has_sender = entry.sender.is_some();
        if age >= config.queue.lifetime {
            for r in entry.recipients.iter_mut().filter(|r| r.state == State::Pending) {
                let last = r.last_error.take();
                fail(has_sender, r, format!("554 4.4.7 Not delivered within {}", span(config.queue.lifetime)));
                // What was heard last says more to people.
                r.last_error = last;
                events::bounced(&entry.id, r);
            }
            self.keep(&mut entry).await;
        }
        let slow = |r: &Recipient| r.state == State::Pending && (r.notify == Notify::default() || r.notify.delay);
        let warn =
            has_sender && !entry.warned && !config.queue.warn_after.is_zero() && age >= config.queue.warn_after && entry.recipients.iter().any(slow);
        if warn || entry.recipients.iter().any(|r| r.notice) {
            match bounce::tell(self, config, &entry, |r| warn && slow(r)).await {
                Ok(notice) => {
                    events::told(&entry, &notice);
                    entry.warned |= warn;
                    entry.recipients.iter_mut().for_each(|r| r.notice = false);
                }
                // It is asked again at the next attempt; the sender hears late rather than never. But not for ever.
                Err(e) => {
                    events::trouble(Some(&entry.id), &e);
                    if !e.is_temporary() || age >= config.queue.lifetime.saturating_mul(2) {
                        entry.recipients.iter_mut().for_each(|r| r.notice = false);
                    }
                }
            }
        }
        if is_done(&entry) {
            events::finished(&entry, age);
            self.remove(&entry.id).await;
            return;
        }
        entry.next = now + backoff(&config.queue, &entry);
        // The end of its life is a time to look, so that the bounce is not late.
        if let Some(end) = entry.arrived.checked_add(config.queue.lifetime).filter(|end| *end > now) {
            entry.next = entry.next.min(end);
        }
        self.keep(&mut entry).await;
    }

    async fn deliver_group(&self, config: &Config, entry: &Entry, group: Group) -> Report {
        let n = group.recipients.len();
        let Some(destination) = group.destination else {
            let outcomes = self.deliver_home(config, entry, &group.recipients).await;
            return Report { recipients: group.recipients, outcomes, host: None };
        };
        let all = |r: Reply| vec![if r.code >= 500 { Outcome::Refused(r) } else { Outcome::Deferred(r) }; n];
        let hosts = match destination.hosts(config, &self.dns, disk::unique()).await {
            Ok(hosts) => hosts,
            Err(no) => return Report { recipients: group.recipients, outcomes: all(no), host: None },
        };
        let mail = self.mail_for(config, entry, &group.recipients);
        let mut last = "no host to try".to_owned();
        for host in hosts {
            match self.try_host(config, &host, &mail).await {
                Ok(outcomes) => return Report { recipients: group.recipients, outcomes, host: Some(host.name) },
                Err(why) => last = why,
            }
        }
        // These are our words, not a host's.
        Report { recipients: group.recipients, outcomes: all(Reply::new(451, (4, 4, 1), last)), host: None }
    }

    /// `Err`: none of its addresses could be talked to.
    async fn try_host(&self, config: &Config, host: &Host, mail: &Mail) -> Result<Vec<Outcome>, String> {
        let addresses = host.addresses(&self.dns).await?;
        // The host's turn first: waiting for a slow host must not use up what all share.
        let _turn = self.limits.host(&host.name, config.queue.connections_per_host).await;
        // Asked now: it may have gone while we waited, with everybody before us.
        if let Some(why) = self.limits.is_down(&host.name, host.port, Instant::now()) {
            return Err(format!("{why} (not tried again so soon)"));
        }
        let _place = self.limits.all(config.queue.connections).await;
        let (mut last, mut down) = (format!("{} has no address", host.name), true);
        for ip in addresses {
            let address = SocketAddr::new(ip, host.port);
            let peer = Peer { host: host.name.clone(), address, tls: host.tls, auth: host.auth.clone() };
            match smtpc::deliver(&peer, mail).await {
                Ok(outcomes) if outcomes.len() == mail.recipients.len() => return Ok(outcomes),
                Ok(_) => (last, down) = (format!("{address}: not every recipient was answered"), false),
                Err(smtpc::Unreachable { why, down: gone }) => {
                    down &= gone;
                    last = format!("{}[{address}]: {why}", host.name);
                }
            }
        }
        if down {
            let pause = (config.queue.retry / 2).min(MAX_PAUSE);
            self.limits.set_down(&host.name, host.port, Instant::now(), pause, last.clone());
        }
        Err(last)
    }

    fn mail_for(&self, config: &Config, entry: &Entry, recipients: &[usize]) -> Mail {
        let recipients = recipients.iter().filter_map(|i| entry.recipients.get(*i));
        Mail {
            helo: config.hostname.clone(),
            sender: entry.sender.clone(),
            recipients: recipients.map(|r| (r.address.clone(), r.notify, r.original.clone())).collect(),
            message: self.spool.message(&entry.id),
            size: entry.size,
            body_8bit: entry.body_8bit,
            smtputf8: entry.smtputf8,
            ret_full: entry.ret_full,
            envid: entry.envid.clone(),
            timeout: config.smtp.timeout,
        }
    }

    /// Homes that could not be written before.
    async fn deliver_home(&self, config: &Config, entry: &Entry, recipients: &[usize]) -> Vec<Outcome> {
        let homes: Vec<String> = recipients.iter().filter_map(|i| Some(entry.recipients.get(*i)?.address.to_string())).collect();
        let mut prefix = stamp::return_path(entry.sender.as_ref());
        if let [one] = homes.as_slice() {
            prefix.push_str(&stamp::delivered_to(one));
        }
        let (store, path) = (self.store.clone(), self.spool.message(&entry.id));
        let targets: Vec<Target> = homes.iter().map(|h| Target { account: h.clone(), folder: None }).collect();
        let now = SystemTime::now();
        // Of mail that nobody would be told of nothing is given up before its time.
        let grace = if entry.sender.is_some() { config.quota.grace } else { Duration::MAX };
        let results =
            smol::unblock(move || disk::read(&path).map(|bytes| store.deliver(&targets, prefix.as_bytes(), &Draft::from_bytes(bytes), now))).await;
        let deferred = |r: super::Refusal| Outcome::Deferred(Reply::new(r.code, r.enhanced, r.cause.unwrap_or(r.text)));
        match results {
            Err(e) => vec![deferred((&e).into()); homes.len()],
            Ok(results) => results
                .iter()
                .zip(&homes)
                .map(|(r, home)| match r {
                    Ok(()) => {
                        events::delivered(&entry.id, home);
                        Outcome::Delivered { reply: Reply::new(250, (2, 0, 0), "Delivered"), dsn: false }
                    }
                    Err(e) => {
                        let no = super::Refusal::of(e, grace, now);
                        if no.is_temporary() { deferred(no) } else { Outcome::Refused(Reply::new(no.code, no.enhanced, no.text)) }
                    }
                })
                .collect(),
        }
    }
}

fn groups(config: &Config, entry: &Entry) -> Vec<Group> {
    let mut by: BTreeMap<Option<Destination>, Vec<usize>> = BTreeMap::new();
    for (i, r) in entry.recipients.iter().enumerate().filter(|(_, r)| r.state == State::Pending) {
        let destination = (!r.local).then(|| Destination::of(config, entry.sender.as_ref(), &r.address));
        by.entry(destination).or_default().push(i);
    }
    by.into_iter()
        .flat_map(|(destination, recipients)| {
            let chunks: Vec<_> = recipients.chunks(MAX_RECIPIENTS).map(<[usize]>::to_vec).collect();
            chunks.into_iter().map(move |recipients| Group { destination: destination.clone(), recipients })
        })
        .collect()
}

/// Nobody is waiting and nobody has to be told.
fn is_done(entry: &Entry) -> bool {
    entry.recipients.iter().all(|r| r.state != State::Pending && !r.notice)
}

fn apply(entry: &mut Entry, report: Report) {
    let has_sender = entry.sender.is_some();
    for (i, outcome) in report.recipients.into_iter().zip(report.outcomes) {
        let Some(r) = entry.recipients.get_mut(i) else { continue };
        r.remote = report.host.clone();
        match outcome {
            Outcome::Delivered { reply, dsn } => {
                r.state = State::Delivered;
                r.notice = has_sender && r.notify.success && !dsn;
                r.last_error = None;
                events::sent(&entry.id, r, &said(&reply));
            }
            Outcome::Refused(reply) => {
                fail(has_sender, r, said(&reply));
                events::bounced(&entry.id, r);
            }
            Outcome::Deferred(reply) => {
                r.last_error = Some(said(&reply));
                events::deferred(&entry.id, r, entry.attempts);
            }
        }
    }
}

fn said(reply: &Reply) -> String {
    reply.to_string().chars().take(MAX_SAID).collect()
}

/// RFC 3461 §4.1: NOTIFY without FAILURE (NEVER, or others alone) means no bounce; so does the null sender.
pub(super) fn fail(has_sender: bool, r: &mut Recipient, why: String) {
    r.notice = has_sender && (r.notify == Notify::default() || r.notify.failure);
    r.last_error = None;
    r.state = State::Failed(why);
}

/// `5 days`, `4 hours`, `30 seconds`.
pub(super) fn span(d: Duration) -> String {
    let s = d.as_secs();
    let (n, unit) =
        [(86_400, "day"), (3600, "hour"), (60, "minute")].into_iter().find(|(n, _)| s >= *n && s.is_multiple_of(*n)).unwrap_or((1, "second"));
    format!("{} {unit}{}", s / n, if s / n == 1 { "" } else { "s" })
}
