//! The one pipeline of every message: scan, check, complete, stamp, sign, file.
//!
//! [`Mta::plan`] runs on the executor thread (memory only); the rest is one job for the blocking pool. Its order
//! makes "acknowledged" mean "durable", and a refusal mean that nothing (or as little as can be) was filed:
//! the spool entry is written and fsynced, then local copies are delivered, then the entry is committed by a
//! rename. A crash in between leaves local copies that the peer, not having heard 250, will send again; that
//! window is as wide as the rename.

use super::{
    Client, MailParams, Mta, Origin, QueueId, Refusal, Transaction,
    attempt::fail,
    events,
    head::{Head, MAX_HEAD},
    sign::Keys,
    stamp,
};
use crate::{
    accounts::{AccountId, Accounts, Resolved},
    config::Config,
    disk::Draft,
    message::{Address, address_list, dsn},
    spool::{self, Entry, Spool, State},
    store::{self, Store, Target},
};
use std::{borrow::Cow, sync::Arc, time::SystemTime};

/// RFC 5321 §6.3 asks for a limit; half the hundred it names still lets every honest path through.
const MAX_HOPS: usize = 50;

/// Nobody writes a mail with more; a longer list is not read to its end.
const MAX_AUTHORS: usize = 100;

/// Where each copy goes.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// No account twice. Each as the spool entry that it becomes when its home cannot be written.
    pub(super) locals: Vec<(AccountId, spool::Recipient)>,
    /// Also addresses of ours that ceased to exist between RCPT and DATA: the queue bounces them.
    pub(super) queued: Vec<spool::Recipient>,
    /// Every address of ours by which it came: one of them in Delivered-To means a loop.
    pub(super) ours: Vec<String>,
}

impl Plan {
    /// Adds what the recipient means. `true`: it named something (else the address is unknown or not ours).
    pub(super) fn add(&mut self, mta: &Mta, to: &spool::Recipient) -> bool {
        let Resolved::To { accounts: homes, external, .. } = mta.resolve(&to.address) else { return false };
        let address = to.address.to_string();
        let original = || Some(to.original.clone().unwrap_or_else(|| dsn::orcpt(&to.address)));
        for account in homes {
            if self.locals.iter().any(|(a, _)| *a == account) {
                continue;
            }
            let mut r = to.clone();
            r.local = true;
            if let Some(a) = Address::parse(&account.0).filter(|a| *a != to.address) {
                r.original = original();
                r.address = a;
            }
            self.locals.push((account, r));
        }
        for a in external {
            let mut r = to.clone();
            r.original = original();
            r.address = a;
            self.queue(r);
        }
        self.ours.push(address);
        true
    }

    pub(super) fn queue(&mut self, r: spool::Recipient) {
        if !self.queued.iter().any(|q| q.address == r.address) {
            self.queued.push(r);
        }
    }
}

impl Mta {
    pub(super) fn plan(&self, recipients: &[super::Recipient]) -> Plan {
        let mut plan = Plan::default();
        for to in recipients {
            let r = spool::Recipient { original: to.orcpt.clone(), notify: to.notify, ..spool::Recipient::new(to.address.clone()) };
            if !plan.add(self, &r) {
                plan.queue(r);
            }
        }
        plan
    }

    /// See [`Mta::accept`].
    pub(super) async fn take(&self, t: Transaction) -> Result<String, Refusal> {
        if t.recipients.is_empty() {
            return Err(Refusal::no_recipients());
        }
        let rcpts = t.recipients.len();
        let only = if let [one] = t.recipients.as_slice() { Some(one.address.clone()) } else { None };
        let plan = self.plan(&t.recipients);
        let Transaction { id, client, sender, params, draft, .. } = t;
        let job = Job {
            config: self.config.get(),
            accounts: self.accounts.clone(),
            store: self.store.clone(),
            spool: self.spool.clone(),
            keys: self.keys.get(),
            now: SystemTime::now(),
            plan,
            only,
            id,
            client,
            sender,
            params,
            draft,
        };
        let text = format!("Ok: queued as {}", job.id);
        let (client, filed) = smol::unblock(move || job.run()).await?;
        events::accepted(&client, &filed, rcpts);
        if let Some(entry) = filed.entry {
            self.queue.add(entry);
        }
        Ok(text)
    }
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Filed {
    pub(super) id: QueueId,
    pub(super) sender: Option<Address>,
    pub(super) size: u64,
    pub(super) message_id: Option<String>,
    pub(super) delivered: Vec<AccountId>,
    /// Accounts whose home could not be written now, with the reason.
    pub(super) late: Vec<(AccountId, String)>,
    pub(super) signed: bool,
    pub(super) unsigned: Vec<String>,
    pub(super) entry: Option<Entry>,
}

/// Where copies lie now; as in [`Filed`].
struct Copies {
    delivered: Vec<AccountId>,
    late: Vec<(AccountId, String)>,
    entry: Option<Entry>,
}

/// All that one message needs, on its way to the pool.
struct Job {
    config: Arc<Config>,
    accounts: Arc<Accounts>,
    store: Arc<Store>,
    spool: Arc<Spool>,
    keys: Arc<Keys>,
    now: SystemTime,
    plan: Plan,
    only: Option<Address>,
    id: QueueId,
    client: Client,
    sender: Option<Address>,
    params: MailParams,
    draft: Draft,
}

impl Job {
    fn run(mut self) -> Result<(Client, Filed), Refusal> {
        let limit = self.config.limits.message_size;
        if self.draft.len() > limit && self.client.origin != Origin::Internal {
            return Err(Refusal::too_big(limit));
        }
        let bytes = self.draft.head(MAX_HEAD).map_err(|e| Refusal::from(&unreadable(e)))?;
        let head = Head::scan(&bytes);
        if head.end == MAX_HEAD {
            return Err(Refusal::head_too_big());
        }
        self.refuse_loops(&head)?;
        self.refuse_false_authors(&head, &bytes)?;
        let added = self.missing_fields(&head);
        let domain = self.signing_domain(&head, &bytes);
        if let Some(edited) = self.edit(&head)? {
            self.draft = edited;
        }
        let (signatures, unsigned) = match &domain {
            Some(d) => {
                let mut present = head.signed.clone();
                present.extend(["date", "message-id", "from"].into_iter().filter(|f| !head.signed.contains(f)));
                let message = self.draft.bytes().map_err(|e| Refusal::from(&unreadable(e)))?;
                self.keys.sign(d, &present, added.as_bytes(), &message)
            }
            None => Default::default(),
        };
        let stamp = format!("{signatures}{}{added}", stamp::received(&self.config, &self.client, &self.id, self.only.as_ref(), self.now));
        let message_id = head.message_id.clone().or_else(|| added_message_id(&added));
        let Copies { delivered, late, entry } = self.file(&stamp)?;
        let filed = Filed {
            id: self.id,
            sender: self.sender,
            size: stamp.len() as u64 + self.draft.len(),
            message_id,
            delivered,
            late,
            signed: !signatures.is_empty(),
            unsigned,
            entry,
        };
        Ok((self.client, filed))
    }

    /// A person's own mail cannot loop; what a program resends as theirs comes by port 25 or `sendmail`.
    fn refuse_loops(&self, head: &Head) -> Result<(), Refusal> {
        if head.hops > MAX_HOPS {
            return Err(Refusal::too_many_hops(head.hops));
        }
        if matches!(self.client.origin, Origin::Submission(_)) {
            return Ok(());
        }
        let accounts = self.plan.locals.iter().map(|(a, _)| &*a.0);
        let mut ours = self.plan.ours.iter().map(String::as_str).chain(accounts);
        match ours.find(|a| head.delivered_to.iter().any(|d| d.eq_ignore_ascii_case(a))) {
            Some(address) => Err(Refusal::mail_loop(address)),
            None => Ok(()),
        }
    }

    /// RFC 6409 §6.1: who submits may not write as somebody else. Not so for local users, whose envelope was checked:
    /// cron, web programs and list managers write what they must.
    fn refuse_false_authors(&self, head: &Head, bytes: &[u8]) -> Result<(), Refusal> {
        let Origin::Submission(account) = &self.client.origin else { return Ok(()) };
        let [from] = head.from.as_slice() else { return Err(Refusal::from_missing()) };
        let authors = authors(&bytes[from.clone()]).filter(|a| (1..=MAX_AUTHORS).contains(&a.len())).ok_or_else(Refusal::from_missing)?;
        if self.config.smtp.submission_any_from {
            return Ok(());
        }
        match authors.iter().find(|a| !self.accounts.may_send_as(account, a)) {
            Some(a) => Err(Refusal::from_not_owned(account, a)),
            None => Ok(()),
        }
    }

    /// RFC 6409 §8.
    fn missing_fields(&self, head: &Head) -> String {
        let mut added = String::new();
        if self.client.origin == Origin::Mx {
            return added;
        }
        if head.from.is_empty()
            && let Origin::Local(user) = &self.client.origin
        {
            let from = self.sender.as_ref().map_or_else(|| format!("{user}@{}", self.config.hostname), ToString::to_string);
            added.push_str(&format!("From: {from}\r\n"));
        }
        if !head.date {
            added.push_str(&format!("Date: {}\r\n", stamp::date(self.now)));
        }
        if head.message_id.is_none() {
            added.push_str(&format!("Message-ID: {}\r\n", stamp::message_id(&self.config, &self.id)));
        }
        added
    }

    /// The author's domain when it is ours and has keys; without author (DSNs of others' programs) the sender's.
    fn signing_domain(&self, head: &Head, bytes: &[u8]) -> Option<String> {
        if self.client.origin == Origin::Mx {
            return None;
        }
        let author = head.from.first().and_then(|r| authors(&bytes[r.clone()])?.into_iter().next());
        let domain = author.or_else(|| self.sender.clone())?.domain;
        self.keys.has(&domain).then_some(domain)
    }

    /// The message without what must not leave us: Return-Path, and Bcc of what was written here. `None`: nothing to change.
    ///
    /// Where the first line is no header field, our fields would make it look like one: an empty line goes before it.
    /// A broken line further down is mended too, but not in others' mail, where it could be signed.
    fn edit(&self, head: &Head) -> Result<Option<Draft>, Refusal> {
        let written_here = matches!(self.client.origin, Origin::Submission(_) | Origin::Local(_));
        let mut cuts = head.return_path.clone();
        if written_here {
            cuts.extend(head.bcc.iter().cloned());
        }
        cuts.sort_by_key(|r| r.start);
        let divide = !head.separated && (head.end as u64) < self.draft.len() && (head.end == 0 || written_here);
        if cuts.is_empty() && !divide {
            return Ok(None);
        }
        let bytes = self.draft.bytes().map_err(|e| Refusal::from(&unreadable(e)))?;
        let mut out = Vec::with_capacity(bytes.len() + 2);
        let mut at = 0;
        for cut in cuts {
            out.extend_from_slice(&bytes[at..cut.start]);
            at = cut.end;
        }
        out.extend_from_slice(&bytes[at..head.end]);
        if divide {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&bytes[head.end..]);
        Ok(Some(Draft::from_bytes(out)))
    }

    /// Spool, Maildir, commit; see the top of this file.
    fn file(&self, stamp: &str) -> Result<Copies, Refusal> {
        let notices = self.sender.is_some() && self.plan.locals.iter().any(|(_, r)| r.notify.success);
        let mut prepared = None;
        if !self.plan.queued.is_empty() || notices {
            prepared = Some(self.prepare(self.plan.queued.clone(), stamp).map_err(|e| Refusal::from(&e))?);
        }
        let results = self.deliver(stamp);
        let (mut delivered, mut late, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        let mut refusals = Vec::new();
        for ((account, r), result) in self.plan.locals.iter().zip(results) {
            match result {
                Ok(()) => {
                    delivered.push(account.clone());
                    if self.sender.is_some() && r.notify.success {
                        rest.push(spool::Recipient { state: State::Delivered, notice: true, ..r.clone() });
                    }
                }
                Err(e) => refusals.push((account, r, Refusal::of(&e, self.config.quota.grace, self.now))),
            }
        }
        if delivered.is_empty() && self.plan.queued.is_empty() && !refusals.is_empty() {
            // One that may still succeed is worth that the whole comes again.
            let worth = refusals.iter().position(|(.., no)| no.is_temporary()).unwrap_or(0);
            return Err(refusals.swap_remove(worth).2);
        }
        for (account, r, no) in refusals {
            let mut r = r.clone();
            // With nobody to tell, giving up would lose it: it waits like any that is late.
            if no.is_temporary() || self.sender.is_none() {
                late.push((account.clone(), no.cause.clone().unwrap_or_else(|| no.to_string())));
                r.last_error = Some(no.to_string());
            } else {
                fail(true, &mut r, no.to_string());
                events::bounced(&self.id, &r);
            }
            rest.push(r);
        }
        rest.retain(|r| r.state == State::Pending || r.notice);
        if !rest.is_empty() {
            match &mut prepared {
                Some(p) => p.add(rest).map_err(|e| Refusal::from(&e))?,
                None => prepared = Some(self.prepare(rest, stamp).map_err(|e| Refusal::from(&e))?),
            }
        }
        let entry = match prepared {
            Some(p) if !p.entry().recipients.is_empty() => Some(p.commit().map_err(|e| Refusal::from(&e))?),
            _ => None,
        };
        Ok(Copies { delivered, late, entry })
    }

    /// Two accounts and more share one file, so only a single one is named in it.
    fn deliver(&self, stamp: &str) -> Vec<store::Result<()>> {
        if self.plan.locals.is_empty() {
            return Vec::new();
        }
        let mut prefix = stamp::return_path(self.sender.as_ref());
        if let [(account, _)] = self.plan.locals.as_slice() {
            let to = self.plan.ours.first().filter(|_| self.plan.ours.len() == 1).map_or(&*account.0, String::as_str);
            prefix.push_str(&stamp::delivered_to(to));
        }
        prefix.push_str(stamp);
        let targets: Vec<Target> = self.plan.locals.iter().map(|(a, _)| Target { account: a.to_string(), folder: None }).collect();
        // What we have to say to a user must reach also one whose mailbox is full.
        if self.client.origin == Origin::Internal {
            return self.store.deliver_anyway(&targets, prefix.as_bytes(), &self.draft, self.now);
        }
        self.store.deliver(&targets, prefix.as_bytes(), &self.draft, self.now)
    }

    /// What one alias of ours sends on says so, for when it comes back.
    fn prepare(&self, recipients: Vec<spool::Recipient>, stamp: &str) -> crate::disk::Result<spool::Prepared> {
        let mut prefix = Cow::Borrowed(stamp);
        if let [alias] = self.plan.ours.as_slice()
            && self.only.is_some()
            && recipients.iter().any(|r| !r.local)
        {
            prefix = Cow::Owned(format!("{}{stamp}", stamp::delivered_to(alias)));
        }
        let entry = Entry {
            id: self.id.clone(),
            arrived: self.now,
            sender: self.sender.clone(),
            size: 0,
            body_8bit: self.params.body_8bit,
            smtputf8: self.params.smtputf8,
            ret_full: self.params.ret_full,
            envid: self.params.envid.clone(),
            recipients,
            attempts: 0,
            next: self.now,
            held: false,
            warned: false,
        };
        self.spool.prepare(entry, prefix.as_bytes(), &self.draft)
    }
}

fn unreadable(e: std::io::Error) -> crate::disk::Error {
    crate::disk::Error::new("read", "draft", e)
}

/// Addresses of a From value. `None`: one of them is no address that could be checked.
fn authors(value: &[u8]) -> Option<Vec<Address>> {
    address_list::mailboxes(value).map(|m| m.address()).collect()
}

fn added_message_id(added: &str) -> Option<String> {
    added.lines().find_map(|l| l.strip_prefix("Message-ID: ")).map(str::to_owned)
}
