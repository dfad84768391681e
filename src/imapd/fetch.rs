//! FETCH (RFC 3501 §6.4.5): batches of messages, each one job, each written before the next is read.

use super::{
    body::{Loaded, Octets, fields},
    flags,
    session::{Done, Outcome, Session, job},
    summary::{self, Summary},
    uids::Uids,
};
use crate::{
    proto::imap::{
        Item, Section, SequenceSet, Text, date,
        response::{self, Fetch},
    },
    store::{self, FlagOp, Flags, Folder, Meta, ModSeq, Result, Uid},
};
use std::{ops::Range, sync::Arc};

/// Messages in one job: without opening a file, with their summaries, with their files.
const METAS: usize = 2000;
const SUMMARIES: usize = 200;
const MESSAGES: usize = 100;
/// Bytes of messages in one job; a larger one is a job by itself.
const BYTES: u64 = 2 * 1024 * 1024;
/// Parts above this go out from where they lie.
const COPY_MAX: usize = 64 * 1024;
/// Header fields of one message that are picked out for one FETCH, in bytes. Sixty-four different picks from a header
/// of fifty megabytes would be gigabytes; what does not fit behind the first is NIL.
const PICKED_MAX: usize = 16 * 1024 * 1024;

/// What a FETCH asks for, and what it takes.
struct Plan {
    items: Vec<Item>,
    needs: Needs,
    /// Any section without PEEK, in a folder open for writing.
    marks_seen: bool,
    /// Pieces of a message: keep it for the next.
    partial: bool,
    /// Header fields out of the summary.
    lists_fields: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Needs {
    Meta,
    Summary,
    Message,
}

fn needs(item: &Item) -> Needs {
    match item {
        Item::Flags | Item::Uid | Item::InternalDate | Item::Size => Needs::Meta,
        Item::Envelope | Item::BodyStructure => Needs::Summary,
        Item::Section(s) if listed_fields(s).is_some() => Needs::Summary,
        Item::Body | Item::Section(_) => Needs::Message,
    }
}

/// The names, when the summary has all of them.
fn listed_fields(section: &Section) -> Option<&[String]> {
    match &section.text {
        Text::Fields(names) if section.part.is_empty() && section.partial.is_none() => {
            names.iter().all(|n| summary::has_field(n)).then_some(names.as_slice())
        }
        _ => None,
    }
}

impl Plan {
    fn of(asked: Vec<Item>, uid: bool, read_only: bool) -> Self {
        let mut items = Vec::with_capacity(asked.len() + 1);
        if uid && !asked.contains(&Item::Uid) {
            items.push(Item::Uid);
        }
        // Once is enough, however often it was asked for.
        for item in asked {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        let needs = items.iter().map(needs).max().unwrap_or(Needs::Meta);
        let marks_seen = !read_only && items.iter().any(|i| matches!(i, Item::Section(s) if !s.peek));
        let partial = items.iter().any(|i| matches!(i, Item::Section(s) if s.partial.is_some()));
        let lists_fields = items.iter().any(|i| matches!(i, Item::Section(s) if listed_fields(s).is_some()));
        Self { items, needs, marks_seen, partial, lists_fields }
    }
    /// How many of `metas` make one job.
    fn batch(&self, metas: &[Option<Meta>]) -> usize {
        let mut bytes = 0;
        for (i, meta) in metas.iter().enumerate() {
            bytes += meta.map_or(0, |m| m.size);
            if self.needs == Needs::Message && i > 0 && (bytes > BYTES || i >= MESSAGES) {
                return i;
            }
        }
        metas.len()
    }
    fn most(&self) -> usize {
        match self.needs {
            Needs::Meta => METAS,
            Needs::Summary => SUMMARIES,
            Needs::Message => MESSAGES,
        }
    }
}

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
struct Batch {
    /// Messages dealt with.
    taken: usize,
    output: Vec<Piece>,
    /// Whose FLAGS are in the output.
    told: Vec<(Uid, ModSeq)>,
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
    kept: Option<(Uid, Arc<Loaded>)>,
}

impl Job {
    fn run(&self, messages: &[(u32, Uid)]) -> Batch {
        let uids: Vec<Uid> = messages.iter().take(self.plan.most()).map(|(_, u)| *u).collect();
        let mut metas = self.folder.meta(&uids);
        let taken = self.plan.batch(&metas);
        metas.truncate(taken);
        let mut batch = Batch { taken, output: Vec::new(), told: Vec::new(), gone: false, failed: Vec::new(), kept: self.kept.clone() };
        let mut newly_seen = Vec::new();
        if self.plan.marks_seen {
            newly_seen = metas.iter().flatten().filter(|m| !m.flags.has(Flags::SEEN)).map(|m| m.uid).collect();
            if !newly_seen.is_empty() {
                batch.failed.extend(self.folder.store_flags(&newly_seen, FlagOp::Add, Flags::SEEN, &[]).err());
                metas = self.folder.meta(uids.get(..taken).unwrap_or_default());
            }
        }
        let keywords = self.folder.keywords();
        let mut output = Output::default();
        for ((seq, uid), meta) in messages.iter().zip(metas) {
            let Some(meta) = meta else {
                batch.gone = true;
                continue;
            };
            let flags = self.plan.items.contains(&Item::Flags) || newly_seen.binary_search(uid).is_ok();
            match self.message(&mut output, &mut batch, *seq, &meta, flags.then_some(&keywords)) {
                Ok(true) if flags => batch.told.push((*uid, meta.modseq)),
                Ok(true) => {}
                Ok(false) => batch.gone = true,
                Err(e) => batch.failed.push(e),
            }
        }
        batch.output = output.end();
        batch
    }
    /// Reads all that is needed before the first byte is written; false: the message is gone.
    fn message(&self, out: &mut Output, batch: &mut Batch, seq: u32, meta: &Meta, keywords: Option<&Vec<String>>) -> Result<bool> {
        let mut stored = None;
        if self.plan.items.iter().any(|i| needs(i) == Needs::Summary) {
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
        let unasked = keywords.filter(|_| !self.plan.items.contains(&Item::Flags)).map(|_| Item::Flags);
        for (i, item) in self.plan.items.iter().chain(&unasked).enumerate() {
            if i > 0 {
                out.text.push(b' ');
            }
            match (item, keywords) {
                (Item::Flags, Some(keywords)) => response::flags(&mut out.text, flags::names(meta, keywords, &self.recent)),
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
        Item::Uid => text.extend_from_slice(format!("UID {}", meta.uid.0).as_bytes()),
        Item::Size => text.extend_from_slice(format!("RFC822.SIZE {}", meta.size).as_bytes()),
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
    pub(super) async fn fetch(&mut self, uid: bool, set: &SequenceSet, items: Vec<Item>) -> Outcome {
        let view = self.view()?;
        let messages = Arc::new(view.resolve(set, uid)?);
        let plan = Arc::new(Plan::of(items, uid, view.read_only));
        let (folder, recent) = (view.folder.clone(), Arc::new(view.recent.clone()));
        let mut at = 0;
        let (mut gone, mut failed) = (false, None);
        while at < messages.len() {
            let kept = self.view()?.cached.take();
            let work = Job { folder: folder.clone(), plan: plan.clone(), recent: recent.clone(), kept };
            let all = messages.clone();
            let batch = job(move || work.run(all.get(at..).unwrap_or_default())).await;
            at += batch.taken.max(1);
            gone |= batch.gone;
            let view = self.view()?;
            let known = view.modseq;
            view.told.extend(batch.told.into_iter().filter(|(_, modseq)| *modseq > known));
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
    use crate::proto::imap::{cursor::Cursor, fetch};

    fn plan(text: &str, uid: bool, read_only: bool) -> Plan {
        Plan::of(fetch::items(&mut Cursor::new(text.as_bytes())).unwrap(), uid, read_only)
    }

    #[test]
    fn plans() {
        let cases = [
            ("FLAGS", Needs::Meta, false),
            ("FAST", Needs::Meta, false),
            ("(UID ENVELOPE)", Needs::Summary, false),
            ("BODYSTRUCTURE", Needs::Summary, false),
            ("BODY", Needs::Message, false),
            ("BODY.PEEK[HEADER.FIELDS (From Subject)]", Needs::Summary, false),
            ("BODY[HEADER.FIELDS (From Subject)]", Needs::Summary, true),
            ("BODY.PEEK[HEADER.FIELDS (From X-Spam)]", Needs::Message, false),
            ("BODY.PEEK[1.HEADER.FIELDS (From)]", Needs::Message, false),
            ("RFC822.HEADER", Needs::Message, false),
            ("RFC822", Needs::Message, true),
            ("BODY[]", Needs::Message, true),
        ];
        for (text, needs, seen) in cases {
            let p = plan(text, false, false);
            assert_eq!((p.needs, p.marks_seen), (needs, seen), "{text}");
            assert!(!plan(text, false, true).marks_seen);
        }
        assert_eq!(plan("FLAGS", true, false).items, [Item::Uid, Item::Flags]);
        assert_eq!(plan("(FLAGS UID)", true, false).items, [Item::Flags, Item::Uid]);
        assert_eq!(plan("(UID ENVELOPE FLAGS ENVELOPE UID)", false, false).items, [Item::Uid, Item::Envelope, Item::Flags]);
    }
    #[test]
    fn what_is_picked_is_bounded() {
        let mut out = Output::default();
        out.picked(b"ab");
        out.picked(&vec![b'x'; PICKED_MAX]);
        assert_eq!(out.text, b"{2}\r\nabNIL");
    }
    #[test]
    fn batches_are_bounded() {
        let meta = |size| Some(Meta { uid: Uid(1), modseq: ModSeq(1), flags: Flags::default(), keywords: 0, size, internal_date: 0 });
        let p = plan("BODY[]", false, false);
        assert_eq!(p.batch(&[meta(9_000_000), meta(1)]), 1);
        assert_eq!(p.batch(&[meta(1), meta(1), meta(9_000_000)]), 2);
        assert_eq!(p.batch(&vec![meta(1); 99]), 99);
        assert_eq!(p.batch(&[]), 0);
    }
}
