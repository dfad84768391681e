//! An open folder: one copy of its state for all its sessions, one disk job at a time.

use super::{
    Changes, Counts, Error, Meta, ModSeq, Result, Store, Uid,
    enter::Arrival,
    file, index, keywords,
    leave::Left,
    ledger::{self, Ledger},
    lock, notice, scan,
    state::State,
    summary::Book,
    sync::{Disk, Resume},
    uidlist,
    watch::Watch,
};
use crate::disk;
use event_listener::{Event, EventListener};
use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Where it lies; changes when the folder is renamed.
#[derive(Clone)]
pub(super) struct Place {
    pub name: String,
    pub dir: Arc<Path>,
    pub account: Arc<str>,
    /// The home's `Maildir/`.
    pub maildir: Arc<Path>,
}

/// An open folder, shared by all its sessions; its state is given back when the last one closes it.
pub struct Folder {
    pub(super) store: Arc<Store>,
    pub(super) place: Mutex<Place>,
    /// Held for a whole disk job. Taken before `state`; of two folders, the one with the lower address first.
    pub(super) disk: Mutex<Disk>,
    /// Held for memory work only, so sessions may take it on the executor thread.
    pub(super) state: Mutex<State>,
    /// Deliveries on their way into `new/`: whoever takes a name out, delivery or scan, numbers that file.
    pub(super) under_way: Mutex<HashSet<Box<[u8]>>>,
    /// Deliveries that are durable and wait to be numbered.
    pub(super) ready: Mutex<Vec<Arrival>>,
    /// Held for jobs only.
    pub(super) summaries: Mutex<Book>,
    pub(super) event: Event,
    /// Under which it is watched.
    pub(super) watch: Mutex<notice::Key>,
}

/// The bytes of a file, and the name it had.
type Content = (Vec<u8>, Vec<u8>);

/// Far above what is accepted. A larger file of another program is listed, and refused to who wants to read it.
const READ_MAX: u64 = 256 << 20;

impl Folder {
    pub(super) fn new(store: &Arc<Store>, place: Place) -> Self {
        Self {
            store: Arc::clone(store),
            place: Mutex::new(place),
            disk: Mutex::default(),
            state: Mutex::default(),
            under_way: Mutex::default(),
            ready: Mutex::default(),
            summaries: Mutex::default(),
            event: Event::new(),
            watch: Mutex::default(),
        }
    }
    /// Goes on where it was left.
    pub(super) fn again(store: &Arc<Store>, left: Left) -> Self {
        let mut folder = Self::new(store, left.place);
        let disk = Disk { lingered: true, ..left.disk };
        (folder.disk, folder.state, folder.summaries) = (Mutex::new(disk), Mutex::new(left.state), Mutex::new(left.summaries));
        folder
    }
    pub(super) fn dir(&self) -> Arc<Path> {
        Arc::clone(&lock(&self.place).dir)
    }
    /// Memory. The folder's name, UTF-8.
    pub fn name(&self) -> String {
        lock(&self.place).name.clone()
    }
    pub(super) fn host(&self) -> &str {
        &self.store.host
    }
    pub(super) fn new_validity(&self) -> Result<u32> {
        let maildir = Arc::clone(&lock(&self.place).maildir);
        ledger::new_validity(&maildir, u32::try_from(disk::clock() / 1_000_000_000).unwrap_or(u32::MAX))
    }

    /// The first session's look at the disk, or one more for the next.
    pub(super) fn load(&self) -> Result<()> {
        let mut d = lock(&self.disk);
        self.check()?;
        // Closed in between, it is as if it were read anew: the list, when somebody else wrote it, is right.
        let lingered = std::mem::take(&mut d.lingered);
        if d.loaded && !(lingered && d.ledger.is_changed(&self.dir())?) {
            if lingered {
                let Disk { log, heard, .. } = &mut *d;
                drop(log.lock(&self.dir(), &mut |e| heard.push(e)));
            }
            return self.take_in(&mut d, false);
        }
        // Another session's look may have failed half-way: what it knew of the list it had not told the state yet.
        *lock(&self.summaries) = Book::default();
        let dir = self.dir();
        *d = Disk::default();
        for sub in ["cur", "new", "tmp"] {
            match disk::create_dir(&dir.join(sub), 0o700) {
                Err(e) if e.is_not_found() => return Err(Error::NotFound(self.name())),
                // A read-only Maildir can be read; a missing directory shows below, with its path.
                _ => {}
            }
        }
        let now = disk::clock();
        let rest = self.store.rest(&dir);
        d.resume = rest.as_ref().map(|r| Resume::of(&r.seen));
        *lock(&self.state) = State::default();
        self.recall(&mut d, &dir)?;
        self.take_in(&mut d, false)?;
        let mut state = lock(&self.state);
        state.next = state.next.max(d.next);
        let rest_of_it = rest.as_ref().filter(|r| r.seen.counts.uid_validity == state.validity);
        if let Some((r, ranges)) = rest_of_it.and_then(|r| Some((r, r.recent.as_ref()?))) {
            state.resume_recent(r.seen.counts.uid_next, ranges);
        }
        drop(state);
        self.begin_history(&mut d, &dir);
        d.loaded = true;
        d.swept = rest.as_ref().map_or(0, |r| r.swept);
        if now - d.swept > super::sweep::EVERY_NS {
            super::sweep::run(&dir, now);
            self.tidy_summaries(&dir);
            d.swept = now;
        }
        Ok(())
    }

    /// What the index tells, as far as it can be believed before anybody looks.
    fn recall(&self, d: &mut Disk, dir: &Path) -> Result<()> {
        let Some(index) = index::read(dir) else { return Ok(()) };
        let seen = index.header.seen;
        let validity = seen.counts.uid_validity;
        if d.resume.as_ref().is_none_or(|r| r.validity != validity) {
            // Also when all else is outdated: should somebody put an older list back, that many UIDs were given since.
            d.resume = Some(Resume { next: index.header.next(), ..Resume::of(&seen) });
        }
        let Some(mut state) = index.state() else { return Ok(()) };
        *lock(&self.summaries) = Book::restore(index.header.summaries);
        let Some(mut ledger) = Ledger::restore(dir, &index.header) else {
            // It says which messages there are.
            d.facts = Some((validity, state));
            return Ok(());
        };
        d.open_log(dir, validity)?;
        let logged = d.log.next_uid(ledger.list_next()).0;
        let next =
            [index.header.next(), d.resume.as_ref().map_or(0, |r| r.next), logged, ledger.floor(dir)].into_iter().filter(|n| *n < uidlist::MAX_NEXT);
        (d.ledger, d.next) = (ledger, next.max().unwrap_or(1));
        (state.validity, state.next) = (validity, d.next);
        // Otherwise the look that is due reads them, and gives every message its own.
        if let Some(keywords) = keywords::Files::restore(dir, &index.header.keywords) {
            d.keywords = keywords;
            state.keywords.clone_from(&index.header.names);
            for (watch, (time, is_settled)) in [(&mut d.new, seen.new), (&mut d.cur, seen.cur)] {
                if is_settled {
                    *watch = Watch::settled(time);
                }
            }
        }
        d.written = Some(index.header);
        *lock(&self.state) = state;
        Ok(())
    }

    pub(super) fn check(&self) -> Result<()> {
        if lock(&self.state).gone { Err(Error::NotFound(self.name())) } else { Ok(()) }
    }

    pub(super) fn mark_gone(&self) {
        lock(&self.state).gone = true;
        // Whoever opens it from now on looks anew, whether sessions of this one linger or not.
        self.store.closed(&self.dir(), self, None);
        self.event.notify(usize::MAX);
    }
    /// Memory. The folder was deleted, or is no longer the one that was selected: the session has to close it.
    pub fn is_gone(&self) -> bool {
        lock(&self.state).gone
    }
    /// Memory.
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts()
    }
    /// Memory. Keyword names; the index is the bit.
    pub fn keywords(&self) -> Vec<String> {
        lock(&self.state).keywords.clone()
    }
    /// Memory. All UIDs ascending, and up to which mod-sequence that is.
    pub fn uids(&self) -> (Vec<Uid>, ModSeq) {
        let state = lock(&self.state);
        (state.messages().iter().map(|m| Uid(m.uid())).collect(), ModSeq(state.modseq))
    }
    /// Memory. `None` for what is not there any more.
    pub fn meta(&self, uids: &[Uid]) -> Vec<Option<Meta>> {
        let state = lock(&self.state);
        let messages = state.messages();
        // Nearly always the next one asked for is the next one there.
        let mut next = 0;
        let meta = |uid: &Uid| {
            if messages.get(next).is_none_or(|m| m.uid() != uid.0) {
                next = state.at(uid.0)?;
            }
            let meta = messages.get(next).map(super::state::Message::meta);
            next += 1;
            meta
        };
        uids.iter().map(meta).collect()
    }
    /// Memory. What happened since this mod-sequence, be it before a restart; for one that was not given yet, nothing. It is
    /// exact, but that after many thousand expunges every UID that is not there counts as expunged. When it was given in a
    /// history that was lost, so does every message as new. What came before the folder was opened may count as changed.
    /// Costs what happened since then, not what is in the folder, unless that is more than is remembered.
    pub fn changes_since(&self, modseq: ModSeq) -> Changes {
        lock(&self.state).changes_since(modseq.0)
    }
    /// Memory. What [`Folder::take_recent`] would take, ascending; for who must not take them (EXAMINE, RFC 3501 §6.3.2).
    pub fn peek_recent(&self) -> Vec<Uid> {
        let mut recent: Vec<Uid> = lock(&self.state).recent.iter().copied().map(Uid).collect();
        recent.sort_unstable();
        recent
    }
    /// Memory. Messages that no session was told as \Recent yet (they came to `new/`, or by APPEND, COPY and MOVE): takes
    /// them, ascending. The next [`Folder::sync`] moves those in `new/` to `cur/`.
    pub fn take_recent(&self) -> Vec<Uid> {
        let mut state = lock(&self.state);
        let recent: BTreeSet<u32> = std::mem::take(&mut state.recent).into_iter().collect();
        state.told.extend(&recent);
        drop(state);
        if !recent.is_empty() {
            self.store.notices.soon(*lock(&self.watch));
        }
        recent.into_iter().map(Uid).collect()
    }
    /// Notified after every change (delivery, flags, expunge, other programs).
    pub fn listen(&self) -> EventListener {
        self.event.listen()
    }
    /// Job. Looks whether the directory changed (ctime of new/ and cur/) and takes in what did. Cheap when nothing did.
    pub fn sync(&self) -> Result<()> {
        let mut d = lock(&self.disk);
        self.check()?;
        self.move_told(&mut d);
        self.take_in(&mut d, false)
    }
    /// Job. [`Folder::sync`], and in how much time to look again when this look leaves a doubt.
    pub(super) fn noticed(&self) -> Result<Option<Duration>> {
        let mut d = lock(&self.disk);
        self.check()?;
        self.move_told(&mut d);
        self.take_in(&mut d, false)?;
        if d.unfinished {
            return Ok(Some(Duration::ZERO));
        }
        let now = disk::clock();
        Ok([&d.new, &d.cur].into_iter().filter_map(|w| w.again(now)).min())
    }

    /// Job. The message with CRLF line ends; `None`: not there any more.
    pub fn read(&self, uid: Uid) -> Result<Option<Vec<u8>>> {
        let Some((bytes, name)) = self.read_file(uid)? else { return Ok(None) };
        // Whatever the name says of its size.
        let bytes = file::to_crlf(bytes);
        let mut state = lock(&self.state);
        if let Some(at) = state.at(uid.0) {
            let (named, real) = (state.messages()[at].size(), bytes.len() as u64);
            if named != real {
                // A name that lies; from now on RFC822.SIZE is what we send.
                state.set_size(at, real);
                drop(state);
                super::events::wrong_size(&scan::path(&self.dir(), false, &name), named, real);
            }
        }
        Ok(Some(bytes))
    }

    /// The file as it is. A name that is not there any more was changed by somebody: wait for our own disk job, or look.
    fn read_file(&self, uid: Uid) -> Result<Option<Content>> {
        let name_now = || lock(&self.state).file(uid.0);
        for attempt in 0..3 {
            let Some((is_new, name)) = name_now() else { return Ok(None) };
            let path = scan::path(&self.dir(), is_new, &name);
            match file::sizes(&name).0.map_or_else(|| disk::read_bounded(&path, READ_MAX), |size| disk::read_expected(&path, size, READ_MAX)) {
                Ok(bytes) => return Ok(Some((bytes, name))),
                Err(e) if !e.is_not_found() => return Err(e.into()),
                Err(_) => {
                    let mut d = lock(&self.disk);
                    self.check()?;
                    if attempt > 0 || name_now() == Some((is_new, name)) {
                        self.take_in(&mut d, true)?;
                    }
                }
            }
        }
        Ok(None)
    }
}
