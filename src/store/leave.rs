//! What becomes of a folder that its last session has closed: a background job writes its index, and only then its
//! memory goes. Whoever opens it before that takes the memory back.
//!
//! Between two writings of one folder's index lies a time that grows with it, so that a program which opens a large
//! folder every few seconds, changes one flag and closes it again does not have it written every few seconds.

use super::{
    Folder, Store, events,
    folder::Place,
    index::{self, Header, Seen},
    lock,
    state::State,
    summary::Book,
    sync::Disk,
};
use crate::disk;
use event_listener::EventListener;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

/// A closed folder whose index is not written yet.
pub(super) struct Left {
    pub place: Place,
    pub disk: Disk,
    pub state: State,
    pub summaries: Book,
    /// When its index may be written; nanoseconds since 1970.
    due: i64,
}

/// Messages of closed folders that are kept in memory for their index; some 32 MiB. What is above that is found out
/// anew when it is next opened.
const MESSAGES: usize = 500_000;
/// What a folder costs beside its messages, in messages.
const FOLDER: usize = 50;
/// Nanoseconds between two writings, for each message: half a minute for 200,000.
const PAUSE: i64 = 150_000;

#[derive(Default)]
pub(super) struct Leaving {
    folders: HashMap<PathBuf, Left>,
    /// In messages.
    weight: usize,
}

#[cfg(test)]
impl Leaving {
    pub(super) fn len(&self) -> usize {
        self.folders.len()
    }
    /// As if there were no more room.
    pub(super) fn crowd(&mut self) {
        self.weight = self.weight.max(MESSAGES);
    }
}

fn weight(left: &Left) -> usize {
    left.state.messages().len() + FOLDER
}

fn pause(state: &State) -> i64 {
    i64::try_from(state.messages().len()).unwrap_or(i64::MAX).saturating_mul(PAUSE)
}

impl Leaving {
    /// False when there is no room.
    fn add(&mut self, dir: &Path, left: Left) -> bool {
        let more = weight(&left);
        // A folder larger than all that may at least be here by itself.
        if self.weight > 0 && self.weight + more > MESSAGES {
            return false;
        }
        self.weight += more;
        self.folders.insert(dir.to_owned(), left);
        true
    }
    pub(super) fn take(&mut self, dir: &Path) -> Option<Left> {
        let left = self.folders.remove(dir)?;
        self.weight = if self.folders.is_empty() { 0 } else { self.weight - weight(&left) };
        Some(left)
    }
}

/// What is remembered of a folder that nobody has open: numbering goes on without a gap also where no index can be
/// written, \Recent is told once, and STATUS costs three stats.
#[derive(Clone)]
pub(super) struct Rest {
    pub seen: Seen,
    pub swept: i64,
    pub recent: Option<Vec<(u32, u32)>>,
}

fn seen(d: &Disk, state: &State) -> Seen {
    Seen {
        counts: state.counts(),
        reserved: d.ledger.list_next(),
        list: d.ledger.stamp().map(Into::into).unwrap_or_default(),
        log: d.log.mark(),
        new: d.new.save().unwrap_or_default(),
        cur: d.cur.save().unwrap_or_default(),
    }
}

fn header(d: &Disk, state: &State, book: &Book) -> Header {
    let mut seen = seen(d, state);
    seen.counts.recent = state.in_new();
    let (list, keywords, summaries) = (d.ledger.save(), d.keywords.save(), book.save());
    Header { boot: disk::boot_id(), seen, list, keywords, summaries, names: state.keywords.clone() }
}

impl Store {
    /// The folder, if some session has it open or had it a moment ago.
    pub(super) fn lingering(self: &Arc<Self>, dir: &Path) -> Option<Arc<Folder>> {
        let mut open = lock(&self.open);
        if let Some(folder) = open.get(dir).and_then(Weak::upgrade) {
            return Some(folder);
        }
        let folder = Arc::new(Folder::again(self, lock(&self.leaving).take(dir)?));
        open.insert(dir.to_owned(), Arc::downgrade(&folder));
        Some(folder)
    }

    /// Memory. `left`: what it knew, unless it is gone or was never loaded.
    pub(super) fn closed(&self, dir: &Path, folder: *const Folder, left: Option<Left>) {
        let mut open = lock(&self.open);
        if !open.get(dir).is_some_and(|w| std::ptr::eq(w.as_ptr(), folder)) {
            return; // opened anew meanwhile, renamed or deleted
        }
        open.remove(dir);
        let mut rests = lock(&self.rests);
        let Some(mut left) = left else {
            rests.remove(dir);
            return;
        };
        if rests.len() >= super::RESTS {
            rests.clear();
        }
        let (d, state) = (&left.disk, &left.state);
        rests.insert(dir.to_owned(), Rest { seen: seen(d, state), swept: d.swept, recent: state.recent_ranges() });
        let written = d.written.as_ref().is_some_and(|w| state.unsaved == 0 && *w == header(d, state, &left.summaries));
        if written || d.ledger.must_write() {
            return;
        }
        left.due = d.written_at.saturating_add(pause(state));
        // With the map of open folders held: nobody opens it in between.
        if lock(&self.leaving).add(dir, left) {
            self.untidy.notify(usize::MAX);
        }
    }

    /// Told when there is something for [`Store::tidy`] to do.
    pub fn untidy(&self) -> EventListener {
        self.untidy.listen()
    }

    /// Job. Writes the indexes of folders that were closed, whose memory then goes, and of open ones in which much
    /// changed. `all`: also those that were written a short while ago. `Some`: so long until there is more to do.
    pub fn tidy(self: &Arc<Self>, all: bool) -> Option<Duration> {
        let now = disk::clock();
        let (mut due, mut next) = (Vec::new(), None::<i64>);
        for (dir, left) in &lock(&self.leaving).folders {
            // Further off than any can be, when the clock was set back.
            if all || left.due <= now || left.due - now > pause(&left.state) {
                due.push(dir.clone());
            } else {
                next = Some(next.map_or(left.due, |n| n.min(left.due)));
            }
        }
        for dir in due {
            // Closing it again is what lets the memory go.
            if let Some(folder) = self.lingering(&dir) {
                folder.write_index();
            }
        }
        let open: Vec<Arc<Folder>> = lock(&self.open).values().filter_map(Weak::upgrade).collect();
        open.iter().filter(|f| f.changed_much()).for_each(|f| f.write_index());
        next.map(|at| Duration::from_nanos(u64::try_from(at - now).unwrap_or_default()))
    }
}

impl Folder {
    /// Tells the sessions that something changed.
    pub(super) fn tell(&self) {
        self.event.notify(usize::MAX);
        if self.changed_much() {
            self.store.untidy.notify(usize::MAX);
        }
    }

    fn changed_much(&self) -> bool {
        let state = lock(&self.state);
        state.unsaved > 1000.max(state.messages().len() / 10)
    }

    /// Job. After one more look where the last one was made so soon after a change that it leaves a doubt: then the
    /// next to open the folder need not look. Whether it works or not, it is not tried again before something changes.
    fn write_index(&self) {
        let mut d = lock(&self.disk);
        if !d.loaded || self.check().is_err() {
            return;
        }
        let now = disk::clock();
        d.new.settle(now);
        d.cur.settle(now);
        let looked = self.take_in(&mut d, false);
        let dir = self.dir();
        let book = self.book_to_save(&dir);
        let mut state = lock(&self.state);
        let header = header(&d, &state, &book);
        let bytes = looked.ok().filter(|()| !d.ledger.must_write()).and_then(|()| index::encode(&header, &state));
        state.unsaved = 0;
        drop((state, book));
        (d.written, d.written_at) = (Some(header), now);
        if let Some(Err(e)) = bytes.map(|bytes| index::write(&dir, &bytes)) {
            events::index_not_stored(&e);
        }
    }
}

impl Drop for Folder {
    /// Memory only: the last session may close it on the executor thread.
    fn drop(&mut self) {
        self.store.notices.closed(*lock(&self.watch));
        let place = lock(&self.place).clone();
        let dir = Arc::clone(&place.dir);
        let take = |d: &mut Disk, state: &mut State| (std::mem::take(d), std::mem::take(state));
        // A job that panicked leaves what nobody should build on.
        let parts = self.disk.get_mut().ok().zip(self.state.get_mut().ok()).filter(|(d, state)| d.loaded && !state.gone);
        let summaries = self.summaries.get_mut().map(std::mem::take).unwrap_or_default();
        let left = parts.map(|(d, state)| take(d, state)).map(|(mut disk, state)| {
            disk.log.close();
            Left { place, disk, state, summaries, due: 0 }
        });
        self.store.closed(&dir, self, left);
    }
}
