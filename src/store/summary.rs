//! Summaries (ENVELOPE and the like, opaque here): made once of each message, at its delivery where that can be, and
//! read many at a time. [`super::summary_file`] is where they lie.
//!
//! Where the summary of a message is stands in its record in memory. What is appended to the file is looked at when
//! somebody asks next; keys that belong to no message that we know of wait for theirs, some of them.

use super::{
    Folder, Result, Store, Uid, events, file, lock,
    summary_file::{self, BEGIN, SummaryFile},
    sync::STEP,
};
use crate::disk::{self, Draft};
use std::{collections::HashMap, ops::Range, path::Path, sync::MutexGuard};

/// In one answer, about: summaries, and messages that had to be read for them.
const BYTES: usize = 4 << 20;
const READ: usize = 16 << 20;
/// A larger message is summarised when somebody first asks.
const AT_DELIVERY: u64 = 4 << 20;
/// Keys that wait for their messages.
const LOOSE: usize = 1024;
/// Fewer dead records do no harm.
const DEAD: usize = 1000;
/// A file with no more than this for each message, and this, is not looked at for its own sake.
const TIDY: u64 = 2 << 10;
const TIDY_AT_LEAST: u64 = 64 << 10;
/// So much a message, and so much more, is nothing that we have written.
const MOST: u64 = 16 << 10;
const MOST_AT_LEAST: u64 = 16 << 20;

/// More is read when somebody asks for summaries.
const TO_SAVE: u64 = 16 << 20;

/// What is known of a folder's file.
#[derive(Default)]
pub(super) struct Book {
    /// Which file; 0: none.
    id: u64,
    /// Up to where its records are known.
    end: u64,
    /// Its size then; more than `end` when the last record is not whole.
    size: u64,
    /// All of them, also those of messages that are gone.
    records: usize,
    /// Places of records whose messages are not known (yet), by key.
    loose: HashMap<u64, u64>,
}

/// What the index keeps of it: for this file the places in the messages' records are good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Saved {
    pub id: u64,
    pub end: u64,
    pub records: u64,
}

impl Book {
    pub(super) fn save(&self) -> Saved {
        Saved { id: self.id, end: self.end, records: self.records as u64 }
    }
    pub(super) fn restore(saved: Saved) -> Self {
        let records = usize::try_from(saved.records).unwrap_or(usize::MAX);
        Self { id: saved.id, end: saved.end, size: saved.end, records, loose: HashMap::new() }
    }
}

/// Summaries of some messages, read in one go.
#[derive(Default)]
pub struct Summaries {
    bytes: Vec<u8>,
    each: Vec<Result<Option<Range<usize>>>>,
}

impl Summaries {
    /// Of how many messages, of those that were asked for. At least of one.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.each.len()
    }
    /// Of the n-th of those asked for; `None`: it is not there any more. An error is told once.
    pub fn get(&mut self, n: usize) -> Result<Option<&[u8]>> {
        let Some(one) = self.each.get_mut(n) else { return Ok(None) };
        let range = std::mem::replace(one, Ok(None))?;
        *one = Ok(range.clone());
        Ok(range.and_then(|r| self.bytes.get(r)))
    }
}

/// Records on their way into the file.
#[derive(Default)]
struct Made {
    records: Vec<u8>,
    /// Whose they are, and where among the bytes.
    of: Vec<(Uid, usize)>,
}

impl Made {
    fn add(&mut self, uid: Uid, base: &[u8], summary: &[u8]) {
        let at = self.records.len();
        if summary_file::write(&mut self.records, summary_file::key(base), summary) {
            self.of.push((uid, at));
        }
    }
}

impl Store {
    /// Summaries of another form than this program writes are made anew: their first byte says which it is.
    fn is_current(&self, summary: &[u8]) -> bool {
        self.form.is_none() || summary.first() == self.form.as_ref()
    }

    /// The record for a message that is in memory, or not much larger; else `None`: it is made when somebody asks.
    pub(super) fn summary_record(&self, base: &[u8], prefix: &[u8], draft: &Draft) -> Option<Vec<u8>> {
        if prefix.len() as u64 + draft.len() > AT_DELIVERY {
            return None;
        }
        let bytes = draft.bytes().ok()?;
        let message = file::to_crlf([prefix, &bytes].concat());
        let mut record = Vec::new();
        summary_file::write(&mut record, summary_file::key(base), &(self.summarise)(&message)).then_some(record)
    }
}

/// Adds records; failing costs whoever asks first a look at the message.
pub(super) fn append(dir: &Path, records: &[u8]) {
    if let Err(e) = summary_file::append(dir, records) {
        events::summary_not_stored(&e);
    }
}

impl Folder {
    /// Job. The summaries of these messages, of as many as fit, from the file or made now. Cheap for messages that follow one another.
    pub fn summaries(&self, uids: &[Uid]) -> Summaries {
        let dir = self.dir();
        let (file, places) = self.places(&dir, uids);
        let mut all = Summaries::default();
        let found = match file {
            Some(file) => file.read(&places, BYTES, &mut all.bytes),
            None => vec![None; uids.len()],
        };
        let (mut made, mut read, mut damaged) = (Made::default(), 0, Vec::new());
        for ((uid, place), range) in uids.iter().zip(&places).zip(found) {
            match range.filter(|r| all.bytes.get(r.clone()).is_some_and(|s| self.store.is_current(s))) {
                Some(range) => all.each.push(Ok(Some(range))),
                None if !all.each.is_empty() && (read > READ || all.bytes.len() > BYTES) => break,
                None => {
                    damaged.extend(place.is_some().then_some(*uid));
                    let one = self.make(*uid, &mut made, &mut read);
                    all.each.push(one.map(|summary| {
                        let begin = all.bytes.len();
                        all.bytes.extend_from_slice(&summary?);
                        Some(begin..all.bytes.len())
                    }));
                }
            }
        }
        if !damaged.is_empty() {
            self.forget_some(&damaged);
        }
        self.file_made(&dir, &made);
        all
    }

    fn make(&self, uid: Uid, made: &mut Made, read: &mut usize) -> Result<Option<Vec<u8>>> {
        let Some(message) = self.read(uid)? else { return Ok(None) };
        *read += message.len();
        let summary = (self.store.summarise)(&message);
        if let Some((_, name)) = lock(&self.state).file(uid.0) {
            made.add(uid, file::base(&name), &summary);
        }
        Ok(Some(summary))
    }

    /// What lies where their summaries should be is damaged, or of another form.
    fn forget_some(&self, uids: &[Uid]) {
        let mut state = lock(&self.state);
        for uid in uids {
            if let Some(at) = state.at(uid.0) {
                state.set_summary(at, None);
            }
        }
    }

    fn file_made(&self, dir: &Path, made: &Made) {
        if made.of.is_empty() {
            return;
        }
        let mut book = lock(&self.summaries);
        let done = match summary_file::append(dir, &made.records) {
            Ok(done) => done,
            Err(e) => return events::summary_not_stored(&e),
        };
        if let Some(id) = done.id.filter(|_| book.id == 0) {
            *book = Book { id, end: BEGIN, size: BEGIN, ..Book::default() };
        }
        // Only where nobody else has written in between; else they are found when the file is next looked at.
        if book.id == 0 || done.id.is_some_and(|id| id != book.id) || book.end != done.at || book.size != done.at {
            return;
        }
        let mut state = lock(&self.state);
        for (uid, at) in &made.of {
            if let Some(message) = state.at(uid.0) {
                state.set_summary(message, Some(done.at + *at as u64));
            }
        }
        book.end = done.at + made.records.len() as u64;
        book.size = book.end;
        book.records += made.of.len();
    }

    /// Where the summaries of these messages are, as far as that is known.
    fn places(&self, dir: &Path, uids: &[Uid]) -> (Option<SummaryFile>, Vec<Option<u64>>) {
        let mut book = lock(&self.summaries);
        let file = self.look_at_file(&mut book, dir);
        let (mut state, mut name) = (lock(&self.state), Vec::new());
        let place = |uid: &Uid| {
            let at = state.at(uid.0)?;
            let message = &state.messages()[at];
            if message.summary().is_none() && !book.loose.is_empty() {
                state.name_into(message, &mut name);
                let found = book.loose.remove(&summary_file::key(file::base(&name)));
                state.set_summary(at, found);
            }
            state.messages()[at].summary()
        };
        let places = uids.iter().map(place).collect();
        (file, places)
    }

    /// Takes in what others have appended, or another file.
    fn look_at_file(&self, book: &mut Book, dir: &Path) -> Option<SummaryFile> {
        let messages = lock(&self.state).messages().len();
        let mut file = SummaryFile::open(dir);
        let path = dir.join(summary_file::NAME);
        if let Some(f) = file.take_if(|f| f.size > MOST_AT_LEAST + MOST * messages as u64) {
            events::summaries_damaged(&path, f.size);
            let _ = disk::remove_file(&path);
        }
        let Some(file) = file else {
            self.forget_places(book);
            return None;
        };
        if file.id != book.id || file.size < book.end {
            self.forget_places(book);
            (book.id, book.end) = (file.id, BEGIN);
        }
        if file.size != book.size {
            let Some(scan) = file.scan(book.end, |key, place| {
                book.loose.insert(key, place);
            }) else {
                events::summaries_damaged(&path, file.size);
                let _ = disk::remove_file(&path);
                self.forget_places(book);
                return None;
            };
            if scan.damaged > 0 {
                events::summaries_damaged(&path, scan.damaged);
            }
            (book.end, book.size) = (scan.end, file.size);
            book.records += scan.records;
        }
        if book.loose.len() > LOOSE {
            self.settle(book);
        }
        if book.records > 2 * messages + DEAD {
            return self.compact(book, dir, &file);
        }
        Some(file)
    }

    /// Where mail comes and goes that nobody lists, nobody would notice that the file is of messages that are gone.
    pub(super) fn tidy_summaries(&self, dir: &Path) {
        let messages = lock(&self.state).messages().len() as u64;
        if disk::stat(&dir.join(summary_file::NAME)).is_ok_and(|s| s.size > TIDY_AT_LEAST + TIDY * messages) {
            self.look_at_file(&mut lock(&self.summaries), dir);
        }
    }

    /// For the index: places as they are known after a look at the file, unless that is much to read.
    pub(super) fn book_to_save(&self, dir: &Path) -> MutexGuard<'_, Book> {
        let mut book = lock(&self.summaries);
        let end = book.end;
        if disk::stat(&dir.join(summary_file::NAME)).is_ok_and(|s| s.size != book.size && s.size.saturating_sub(end) < TO_SAVE) {
            self.look_at_file(&mut book, dir);
        }
        if !book.loose.is_empty() {
            self.settle(&mut book);
        }
        book
    }

    fn forget_places(&self, book: &mut Book) {
        if std::mem::take(book).id == 0 {
            return;
        }
        self.each_message(|state, at| state.set_summary(at, None));
    }

    /// Gives messages their places. What belongs to none is of messages that are gone, or that are just coming.
    fn settle(&self, book: &mut Book) {
        let mut name = Vec::new();
        self.each_message(|state, at| {
            let message = &state.messages()[at];
            if message.summary().is_none() {
                state.name_into(message, &mut name);
                let place = book.loose.remove(&summary_file::key(file::base(&name)));
                state.set_summary(at, place);
            }
        });
        if book.loose.len() > LOOSE {
            book.loose = HashMap::new();
        }
    }

    /// Most of the file is of messages that are gone.
    fn compact(&self, book: &mut Book, dir: &Path, file: &SummaryFile) -> Option<SummaryFile> {
        self.settle(book);
        let (mut uids, mut places) = (Vec::new(), Vec::new());
        self.each_message(|state, at| {
            let message = &state.messages()[at];
            uids.push(message.uid());
            places.push(message.summary());
        });
        match file.rewrite(dir, &places) {
            Ok(new) => {
                let mut state = lock(&self.state);
                for (uid, place) in uids.into_iter().zip(&new.places) {
                    if let Some(at) = state.at(uid) {
                        state.set_summary(at, *place);
                    }
                }
                let records = new.places.iter().flatten().count();
                *book = Book { id: new.id, end: new.end, size: new.end, records, loose: HashMap::new() };
            }
            Err(e) => {
                events::summary_not_stored(&e);
                // Not again before as much has come once more.
                book.records = 0;
            }
        }
        SummaryFile::open(dir).filter(|f| f.id == book.id)
    }

    /// Job, with the disk locks of both held. Their summaries under the names that messages are about to get. Failing
    /// costs time only.
    pub(super) fn carry_summaries<'a>(&self, to: &Path, mut messages: impl Iterator<Item = (Uid, &'a [u8])>) {
        loop {
            let (uids, names): (Vec<Uid>, Vec<&[u8]>) = messages.by_ref().take(STEP).unzip();
            let (Some(file), places) = self.places(&self.dir(), &uids) else { return };
            if uids.is_empty() {
                return;
            }
            let (mut done, mut bytes, mut records) = (0, Vec::new(), Vec::new());
            while let Some(left) = places.get(done..).filter(|l| !l.is_empty()) {
                bytes.clear();
                for (range, name) in file.read(left, BYTES, &mut bytes).into_iter().zip(&names[done..]) {
                    done += 1;
                    if let Some(summary) = range.and_then(|r| bytes.get(r)).filter(|s| self.store.is_current(s)) {
                        summary_file::write(&mut records, summary_file::key(file::base(name)), summary);
                    }
                }
            }
            if !records.is_empty() {
                append(to, &records);
            }
        }
    }

    /// Every message, without keeping the sessions from the state for long.
    fn each_message(&self, mut each: impl FnMut(&mut super::state::State, usize)) {
        let mut from = 0;
        loop {
            let mut state = lock(&self.state);
            let upto = state.messages().len().min(from + STEP);
            if from >= upto {
                return;
            }
            (from..upto).for_each(|at| each(&mut state, at));
            from = upto;
        }
    }
}
