//! FETCH (RFC 3501 §6.4.5): batches of messages, each one job, each written before the next is read.

use super::{
    body::{Loaded, Octets, fields},
    flags::Shown,
    plan::{Needs, Plan, listed_fields},
    session::{Done, Outcome, Session, job},
    summary::{self, Summary},
    uids::Uids,
};
use crate::{
    proto::imap::{
        Item, Section, SequenceSet,
        condstore::Since,
        date,
        response::{self, Fetch},
    },
    store::{self, FlagOp, Flags, Folder, Meta, ModSeq, Result, Uid},
};
use std::{ops::Range, sync::Arc};

/// Parts above this go out from where they lie.
const COPY_MAX: usize = 64 * 1024;
/// Header fields of one message that are picked out for one FETCH, in bytes. Sixty-four different picks from a header
/// of fifty megabytes would be gigabytes; what does not fit behind the first is NIL.
const PICKED_MAX: usize = 16 * 1024 * 1024;

/// Output: text, or octets that stay in their message.
enum Piece {
    Bytes(Vec<u8>),
    Part(Arc<Vec<u8>>, Range<usize>),
}

#[derive(Default)]
struct Output {
    done: Vec<Piece>,
    text: Vec<u8>,
    /// Bytes picked out of the header of the message at hand.
    picked: usize,
}

impl Output {
    fn part(&mut self, message: &Arc<Vec<u8>>, range: Range<usize>) {
        let octets = message.get(range.clone()).unwrap_or_default();
        response::literal_head(&mut self.text, octets.len() as u64);
        if octets.len() <= COPY_MAX {
            return self.text.extend_from_slice(octets);
        }
        self.done.push(Piece::Bytes(std::mem::take(&mut self.text)));
        self.done.push(Piece::Part(message.clone(), range));
    }
    fn picked(&mut self, octets: &[u8]) {
        let first = self.picked == 0;
        self.picked += octets.len();
        if self.picked > PICKED_MAX && !first {
            return self.text.extend_from_slice(b"NIL");
        }
        response::literal_head(&mut self.text, octets.len() as u64);
        self.text.extend_from_slice(octets);
    }
    fn end(mut self) -> Vec<Piece> {
        self.done.push(Piece::Bytes(self.text));
        self.done
    }
}

/// What a job hands back.
#[derive(Default)]
struct Batch {
    /// Messages dealt with.
    taken: usize,
    output: Vec<Piece>,
    /// Whose flags are in the output, where the client may not know them yet.
    told: Vec<(Uid, ModSeq)>,
    /// The highest MODSEQ in the output.
    highest: ModSeq,
    /// Bytes of messages that were opened.
    read: u64,
    /// Some are not there any more.
    gone: bool,
    /// Messages that could not be read, or \Seen that could not be stored: one bad file must not hide the others.
    failed: Vec<store::Error>,
    kept: Option<(Uid, Arc<Loaded>)>,
}

/// What a job works on.
struct Job {
    folder: Arc<Folder>,
    plan: Arc<Plan>,
    recent: Arc<Uids>,
    /// Up to where the client knows the flags.
    known: ModSeq,
    kept: Option<(Uid, Arc<Loaded>)>,
}

impl Job {
    fn run(&self, messages: &[(u32, Uid)]) -> Batch {
        let uids: Vec<Uid> = messages.iter().take(self.plan.most()).map(|(_, u)| *u).collect();
        let mut metas = self.folder.meta(&uids);
        let taken = self.plan.batch(&metas);
        metas.truncate(taken);
        let mut batch = Batch { taken, kept: self.kept.clone(), ..Batch::default() };
        let mut newly_seen = Vec::new();
        if self.plan.marks_seen {
            newly_seen = metas.iter().flatten().filter(|m| !m.flags.has(Flags::SEEN)).map(|m| m.uid).collect();
            if !newly_seen.is_empty() {
                batch.failed.extend(self.folder.store_flags(&newly_seen, FlagOp::Add, Flags::SEEN, &[]).err());
                metas = self.folder.meta(uids.get(..taken).unwrap_or_default());
            }
        }
        let keywords = self.folder.keywords();
        let mut shown = Shown::new(&keywords, &self.recent);
        let mut output = Output::default();
        for (i, ((seq, uid), meta)) in messages.iter().zip(metas).enumerate() {
            if self.plan.is_enough(output.text.len(), batch.read) {
                batch.taken = i;
                break;
            }
            let Some(meta) = meta else {
                batch.gone = true;
                continue;
            };
            let seen = newly_seen.binary_search(uid).is_ok();
            match self.message(&mut output, &mut batch, *seq, &meta, seen, &mut shown) {
                Ok(true) => self.note(&mut batch, &meta, seen),
                Ok(false) => batch.gone = true,
                Err(e) => batch.failed.push(e),
            }
        }
        batch.output = output.end();
        batch
    }
    /// What the client knows after this message.
    fn note(&self, batch: &mut Batch, meta: &Meta, seen: bool) {
        if (self.plan.tells_flags || seen) && meta.modseq > self.known {
            batch.told.push((meta.uid, meta.modseq));
        }
        if self.plan.items.contains(&Item::ModSeq) || seen && self.plan.with_seen.contains(&Item::ModSeq) {
            batch.highest = batch.highest.max(meta.modseq);
        }
    }
    /// Reads all that is needed before the first byte is written; false: the message is gone.
    fn message(&self, out: &mut Output, batch: &mut Batch, seq: u32, meta: &Meta, seen: bool, shown: &mut Shown<'_>) -> Result<bool> {
        let mut stored = None;
        if self.plan.summarises {
            stored = self.folder.summaries(&[meta.uid]).get(0)?.map(<[u8]>::to_vec);
            if stored.is_none() {
                return Ok(false);
            }
        }
        let mut summary = stored.as_deref().and_then(Summary::read);
        let incomplete = stored.is_some() && summary.is_none_or(|s| self.plan.lists_fields && s.fields.is_none());
        let mut loaded = None;
        if self.plan.needs == Needs::Message || incomplete {
            loaded = self.load(batch, meta)?;
            if loaded.is_none() {
                return Ok(false);
            }
        }
        let made = match (&loaded, summary) {
            (Some(l), None) if stored.is_some() => summary::make(&l.bytes),
            _ => Vec::new(),
        };
        summary = summary.or_else(|| Summary::read(&made));
        out.picked = 0;
        Fetch::begin(&mut out.text, seq);
        let extra = if seen { &self.plan.with_seen[..] } else { &[] };
        for (i, item) in self.plan.items.iter().chain(extra).enumerate() {
            if i > 0 {
                out.text.push(b' ');
            }
            match item {
                Item::Flags => shown.write(&mut out.text, meta),
                _ => write_item(out, item, meta, summary, loaded.as_deref()),
            }
        }
        out.text.extend_from_slice(b")\r\n");
        Ok(true)
    }
    fn load(&self, batch: &mut Batch, meta: &Meta) -> Result<Option<Arc<Loaded>>> {
        if let Some((uid, loaded)) = &batch.kept
            && *uid == meta.uid
        {
            return Ok(Some(loaded.clone()));
        }
        batch.read += meta.size;
        let loaded = self.folder.read(meta.uid)?.map(|bytes| Arc::new(Loaded::new(bytes)));
        batch.kept = match &loaded {
            Some(l) if self.plan.partial && l.bytes.len() > COPY_MAX => Some((meta.uid, l.clone())),
            _ => None,
        };
        Ok(loaded)
    }
}

fn write_item(out: &mut Output, item: &Item, meta: &Meta, summary: Option<Summary<'_>>, loaded: Option<&Loaded>) {
    let text = &mut out.text;
    match item {
        Item::Flags => {}
        Item::Uid => {
            text.extend_from_slice(b"UID ");
            response::number(text, meta.uid.0.into());
        }
        Item::ModSeq => response::modseq(text, meta.modseq.0),
        Item::Size => {
            text.extend_from_slice(b"RFC822.SIZE ");
            response::number(text, meta.size);
        }
        Item::InternalDate => {
            text.extend_from_slice(b"INTERNALDATE ");
            date::write_date_time(text, meta.internal_date);
        }
        Item::Envelope => {
            text.extend_from_slice(b"ENVELOPE ");
            text.extend_from_slice(summary.map_or(b"NIL", |s| s.envelope));
        }
        Item::BodyStructure => {
            text.extend_from_slice(b"BODYSTRUCTURE ");
            text.extend_from_slice(summary.map_or(b"NIL", |s| s.structure));
        }
        Item::Body => {
            text.extend_from_slice(b"BODY ");
            text.extend_from_slice(&loaded.map_or_else(|| b"NIL".to_vec(), |l| summary::body(&l.bytes, l.structure())));
        }
        Item::Section(section) => write_section(out, section, summary, loaded),
    }
}

fn write_section(out: &mut Output, section: &Section, summary: Option<Summary<'_>>, loaded: Option<&Loaded>) {
    section.write_name(&mut out.text);
    out.text.push(b' ');
    let kept = listed_fields(section).zip(summary.and_then(|s| s.fields));
    let octets = match (kept, loaded) {
        (Some((names, known)), _) => Some(Octets::Own(fields(known, &(0..known.len()), names, true))),
        (None, Some(l)) => l.section(section),
        (None, None) => None,
    };
    match (octets, loaded) {
        (Some(Octets::Own(bytes)), _) => out.picked(&bytes),
        (Some(Octets::InMessage(range)), Some(l)) => out.part(&l.bytes, range),
        _ => out.text.extend_from_slice(b"NIL"),
    }
}

impl Session {
    pub(super) async fn fetch(&mut self, uid: bool, set: &SequenceSet, items: Vec<Item>, since: Option<Since>) -> Outcome {
        let enabled = self.enabled;
        let view = self.view()?;
        let mut out = Vec::new();
        let messages = Arc::new(match since {
            None => view.resolve(set, uid)?,
            Some(since) => {
                let news = view.news(set, uid, since)?;
                response::vanished(&mut out, true, news.vanished);
                news.changed
            }
        });
        let plan = Arc::new(Plan::of(items, uid, view.read_only, since.is_some(), enabled));
        let (folder, recent, known) = (view.folder.clone(), Arc::new(view.recent.clone()), view.modseq);
        self.wire.write(&out).await?;
        drop(out);
        let mut at = 0;
        let (mut gone, mut failed) = (false, None);
        while at < messages.len() {
            let kept = self.view()?.cached.take();
            let work = Job { folder: folder.clone(), plan: plan.clone(), recent: recent.clone(), known, kept };
            let all = messages.clone();
            let batch = job(move || work.run(all.get(at..).unwrap_or_default())).await;
            at += batch.taken.max(1);
            gone |= batch.gone;
            let view = self.view()?;
            view.told.extend(batch.told);
            view.reckoning.heard(batch.highest);
            view.cached = batch.kept;
            let mut news = Vec::new();
            view.tell_new_keywords(&mut news);
            self.wire.write(&news).await?;
            for piece in batch.output {
                match piece {
                    Piece::Bytes(bytes) => self.wire.write(&bytes).await?,
                    Piece::Part(message, range) => self.wire.write(message.get(range).unwrap_or_default()).await?,
                }
            }
            for e in batch.failed {
                failed = Some(self.failed(&e));
            }
        }
        if let Some(done) = failed {
            return Ok(done);
        }
        // RFC 2180 §4.1.2; UIDs that are not there are no error (RFC 3501 §6.4.8).
        if gone && !uid {
            return Ok(Done::no("EXPUNGEISSUED", "Some of the messages are gone."));
        }
        Ok(Done::ok("Done."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_picked_is_bounded() {
        let mut out = Output::default();
        out.picked(b"ab");
        out.picked(&vec![b'x'; PICKED_MAX]);
        assert_eq!(out.text, b"{2}\r\nabNIL");
    }
}
