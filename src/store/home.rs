//! One account's folders: LIST, CREATE, DELETE, RENAME, subscriptions.

use super::{
    Counts, Error, Folder, Home, Listed, Result, Store, courier,
    folder::Place,
    index,
    layout::{self, Folders, Layout},
    ledger, lock, maildirsize, names, subscriptions,
};
use crate::disk;
use std::{
    cmp,
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

/// Made and subscribed at first login, so that clients find what they would otherwise each make under another name.
const SPECIAL: [&str; 5] = ["Drafts", "Sent", "Junk", "Trash", "Archive"];

pub(super) fn inbox_first(a: &str, b: &str) -> cmp::Ordering {
    (a != "INBOX").cmp(&(b != "INBOX")).then_with(|| a.cmp(b))
}

/// Makes a directory and all above it, each durable before anything is put in: also those that were there, because
/// another thread, or one killed, may have made them without coming to the fsync.
fn make_durable(dir: &Path, root: &Path) -> Result<()> {
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|p| *p != root).chain([root]).collect();
    missing.reverse();
    root.parent().map_or(Ok(()), |above| disk::create_dir_all(above, 0o700))?;
    for path in missing {
        match disk::create_dir(path, 0o700) {
            Err(e) if e.is_exists() => {}
            made => made?,
        }
        if let Some(parent) = path.parent() {
            disk::sync_dir(parent)?;
        }
    }
    Ok(())
}

/// A rename of one directory, and which folders go with it: old and new place and new name.
struct Move {
    from: PathBuf,
    to: PathBuf,
    folders: Vec<(PathBuf, PathBuf, String)>,
}

/// A folder of a tree goes, its children stay. Without `new/` nothing comes any more, without `cur/` it is no folder;
/// until the UID list is gone too, a folder made here would go on where that ends.
fn take_apart(dir: &Path, trash: &Path) -> disk::Result<()> {
    let files = disk::list(dir)?.into_iter().filter(|(_, is_dir)| !is_dir).map(|(name, _)| PathBuf::from(name));
    disk::create_dir(trash, 0o700)?;
    let mut taken: Vec<PathBuf> = Vec::new();
    for part in ["new", "cur", "tmp"].into_iter().map(PathBuf::from).chain(files) {
        match disk::rename(&dir.join(&part), &trash.join(&part)) {
            Ok(()) => taken.push(part),
            Err(e) if e.is_not_found() => {}
            Err(e) => {
                for part in taken.iter().rev() {
                    let _ = disk::rename_back(&trash.join(part), &dir.join(part));
                }
                return Err(e);
            }
        }
    }
    Ok(())
}

impl Store {
    /// Whether homes that have no folders yet get theirs in a tree (Dovecot's `LAYOUT=fs`) or side by side (Maildir++).
    pub fn set_tree(&self, tree: bool) {
        self.tree.store(tree, Ordering::Relaxed);
    }
}

impl Home {
    /// The home's `Maildir/`.
    pub fn maildir(&self) -> &Path {
        &self.maildir
    }

    fn place(&self, name: String, dir: PathBuf) -> Place {
        Place { name, dir: dir.into(), account: Arc::clone(&self.account), maildir: Arc::clone(&self.maildir) }
    }

    /// Durable. `tmp/` comes last: who finds it may deliver, and everything above and beside it is on the disk.
    fn make_folder(&self, dir: &Path) -> Result<()> {
        make_durable(dir, &self.store.root)?;
        for sub in ["cur", "new"] {
            // In a tree, what makes it a folder.
            match disk::create_dir(&dir.join(sub), 0o700) {
                Err(e) if e.is_exists() => {}
                made => made?,
            }
        }
        if layout::is_maildirplusplus(&self.maildir, dir) {
            // Tells delivery agents that this is a folder of the Maildir above.
            disk::append(&dir.join("maildirfolder"), 0o600)?;
        }
        disk::sync_dir(dir)?;
        match disk::create_dir(&dir.join("tmp"), 0o700) {
            Err(e) if e.is_exists() => Ok(()),
            made => Ok(made?),
        }
    }

    /// Job. Makes the home with its INBOX, durable.
    pub(super) fn make(&self) -> Result<()> {
        self.make_folder(&self.maildir)
    }

    /// Job. Makes INBOX and the special-use folders (Drafts Sent Junk Trash Archive, subscribed) at first login:
    /// once there is a `subscriptions` file, what the user removed stays away. A home that another server filled stays
    /// as it is; Courier's subscriptions are taken over.
    pub fn prepare(&self) -> Result<()> {
        if subscriptions::exist(&self.maildir) {
            return Ok(());
        }
        let folders = self.folders()?;
        if let Some(names) = courier::subscribed(&self.maildir) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return subscriptions::set(&self.maildir, &names, true, folders.layout);
        }
        if !folders.dirs.is_empty() || courier::was_here(&self.maildir) || disk::stat(&self.maildir.join(ledger::NAME)).is_ok() {
            return Ok(());
        }
        self.make()?;
        for name in SPECIAL {
            self.make_folder(&layout::new_dir(&self.maildir, name, folders.layout))?;
        }
        let all: Vec<&str> = ["INBOX"].into_iter().chain(SPECIAL).collect();
        subscriptions::set(&self.maildir, &all, true, folders.layout)
    }

    fn folders(&self) -> Result<Folders> {
        let mut folders = layout::folders(&self.maildir)?;
        folders.layout.tree |= folders.dirs.is_empty() && self.store.tree.load(Ordering::Relaxed);
        Ok(folders)
    }

    fn dir(&self, name: &str) -> Option<PathBuf> {
        layout::dir(&self.maildir, name)
    }

    /// A home that cannot be read is trouble; its folders have not gone.
    fn existing(&self, name: &str) -> Result<PathBuf> {
        if let Some(dir) = self.dir(name) {
            return Ok(dir);
        }
        match disk::stat(&self.maildir) {
            Err(e) if !e.is_not_found() => Err(e.into()),
            _ => Err(Error::NotFound(name.to_owned())),
        }
    }

    /// Job. All folders, INBOX first, then by name.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let folders = self.folders()?;
        let subscribed: HashSet<String> = subscriptions::read(&self.maildir, || Ok(folders.layout))?.into_iter().collect();
        let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
        let new = |name: &str, selectable| Listed { name: name.to_owned(), selectable, subscribed: subscribed.contains(name), children: false };
        listed.insert("INBOX".to_owned(), new("INBOX", true));
        for name in folders.dirs.keys() {
            for (at, _) in name.match_indices('/') {
                let parent = &name[..at];
                listed.entry(parent.to_owned()).or_insert_with(|| new(parent, false)).children = true;
            }
            listed.entry(name.clone()).or_insert_with(|| new(name, true)).selectable = true;
        }
        let mut all: Vec<Listed> = listed.into_values().collect();
        all.sort_by(|a, b| inbox_first(&a.name, &b.name));
        Ok(all)
    }

    /// Job. Names in `subscriptions`, whether the folders are there or not.
    pub fn subscriptions(&self) -> Result<Vec<String>> {
        subscriptions::read(&self.maildir, || Ok(self.folders()?.layout))
    }

    /// Job.
    pub fn subscribe(&self, name: &str, on: bool) -> Result<()> {
        let name = names::normalise(name)?;
        if !self.maildir.is_dir() {
            self.make()?;
        }
        subscriptions::set(&self.maildir, &[&name], on, self.folders()?.layout)
    }

    /// Job. In the layout of the home; missing parents are made too (RFC 9051 §6.3.4).
    pub fn create(&self, name: &str) -> Result<()> {
        let layout = self.folders()?.layout;
        let name = layout::for_new(name, layout)?;
        if self.dir(&name).is_some() {
            return Err(Error::Exists(name));
        }
        self.make()?;
        self.make_parents(&name, layout)?;
        self.make_folder(&layout::new_dir(&self.maildir, &name, layout))
    }

    fn make_parents(&self, name: &str, layout: Layout) -> Result<()> {
        for (at, _) in name.match_indices('/') {
            let parent = &name[..at];
            if self.dir(parent).is_none() {
                self.make_folder(&layout::new_dir(&self.maildir, parent, layout))?;
            }
        }
        Ok(())
    }

    /// Job. Children stay; then the name becomes non-selectable.
    pub fn delete(&self, name: &str) -> Result<()> {
        let name = names::normalise(name)?;
        if name == "INBOX" {
            return Err(Error::BadName("INBOX cannot be deleted".to_owned()));
        }
        // A file of some other program can have a name that a folder could have: `.dovecot.sieve`.
        let dir = self.existing(&name)?;
        self.empty_trash();
        // No folder can have a name with two dots.
        let trash = self.maildir.join(format!("..gatepost-trash.{:016x}", disk::unique()));
        let relative = dir.strip_prefix(&self.maildir).unwrap_or(&dir);
        let has_children = self.folders()?.dirs.values().any(|d| d != relative && d.starts_with(relative));
        let removal = self.limited().map(|a| a.removal());
        let folder = self.store.opened(&dir);
        let held = folder.as_ref().map(|f| lock(&f.disk));
        // Away in one step, whatever happens while the files are removed.
        let moved = if has_children { take_apart(&dir, &trash) } else { disk::rename(&dir, &trash) };
        match moved {
            Err(e) if e.is_not_found() => return Err(Error::NotFound(name)),
            done => done?,
        }
        self.store.forget(&dir);
        if let Some(f) = &folder {
            f.mark_gone();
        }
        drop(held);
        if let Some(mut removal) = removal {
            removal.add(maildirsize::count_folder(&trash).unwrap_or_default());
            removal.end();
        }
        disk::sync_dir(dir.parent().unwrap_or(&dir))?;
        // The folder is deleted; files that cannot be removed now go with the next one.
        let _ = disk::remove_tree(&trash);
        Ok(())
    }

    fn empty_trash(&self) {
        let Ok(entries) = disk::list(&self.maildir) else { return };
        for (name, _) in entries.iter().filter(|(name, _)| name.to_string_lossy().starts_with("..gatepost-trash.")) {
            let _ = disk::remove_tree(&self.maildir.join(name));
        }
    }

    /// Job. With its children. INBOX: its messages move to the new folder (RFC 9051 §6.3.6). In a tree the new name must not
    /// be above other folders.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let folders = self.folders()?;
        let (from, to) = (names::normalise(from)?, layout::for_new(to, folders.layout)?);
        if from == "INBOX" {
            self.create(&to)?;
            let (inbox, target) = (self.open("INBOX")?, self.open(&to)?);
            let uids = inbox.uids().0;
            inbox.move_to(&uids, &target)?;
            return Ok(());
        }
        if to == "INBOX" || folders.dirs.contains_key(&to) {
            return Err(Error::Exists(to));
        }
        if to.starts_with(&format!("{from}/")) {
            return Err(Error::BadName("a folder cannot be moved into itself".to_owned()));
        }
        let moves = self.moves(&folders, &from, &to)?;
        self.make_parents(&to, folders.layout)?;
        for (n, step) in moves.iter().enumerate() {
            if let Err(e) = self.take_step(step, &to) {
                for step in moves[..n].iter().rev() {
                    let _ = disk::rename_back(&step.to, &step.from);
                    step.folders.iter().for_each(|(_, new, _)| self.store.forget(new));
                }
                return Err(e);
            }
        }
        for step in &moves {
            [&step.from, &step.to].into_iter().filter_map(|p| p.parent()).try_for_each(disk::sync_dir)?;
        }
        Ok(())
    }

    /// What has to be renamed: each Maildir++ folder by itself, those in a tree together.
    fn moves(&self, folders: &Folders, from: &str, to: &str) -> Result<Vec<Move>> {
        let below = format!("{from}/");
        let mut moves = Vec::new();
        let top = layout::tree_dir(&self.maildir, from);
        let new_top = layout::new_dir(&self.maildir, to, Layout { tree: true, ..folders.layout });
        let mut in_tree = Vec::new();
        for (name, dir) in folders.dirs.iter().filter(|(n, _)| *n == from || n.starts_with(&below)) {
            let target = names::normalise(&format!("{to}{}", &name[from.len()..]))?;
            if folders.dirs.contains_key(&target) {
                return Err(Error::Exists(target));
            }
            let dir = self.maildir.join(dir);
            if let Some(rest) = top.as_ref().and_then(|top| dir.strip_prefix(top).ok()) {
                let new = if rest.as_os_str().is_empty() { new_top.clone() } else { new_top.join(rest) };
                in_tree.push((dir, new, target));
            } else {
                let new = layout::new_dir(&self.maildir, &target, Layout { tree: false, ..folders.layout });
                moves.push(Move { from: dir.clone(), to: new.clone(), folders: vec![(dir, new, target)] });
            }
        }
        if let Some(top) = top.filter(|_| !in_tree.is_empty()) {
            moves.push(Move { from: top, to: new_top, folders: in_tree });
        }
        if moves.is_empty() { Err(Error::NotFound(from.to_owned())) } else { Ok(moves) }
    }

    /// Sessions that have one of them open go on in the new place.
    fn take_step(&self, step: &Move, to: &str) -> Result<()> {
        if let Some(above) = step.to.parent() {
            make_durable(above, &self.store.root)?;
        }
        let mut open: Vec<_> = step.folders.iter().filter_map(|(old, new, name)| Some((self.store.opened(old)?, new, name))).collect();
        open.sort_by_key(|(folder, ..)| Arc::as_ptr(folder));
        let held: Vec<_> = open.iter().map(|(folder, ..)| lock(&folder.disk)).collect();
        disk::rename(&step.from, &step.to).map_err(|e| if e.is_exists() || e.is_not_empty() { Error::Exists(to.to_owned()) } else { e.into() })?;
        step.folders.iter().for_each(|(old, ..)| self.store.forget(old));
        for (folder, new, name) in &open {
            *lock(&folder.place) = self.place((*name).clone(), (*new).clone());
            self.store.moved(folder, new);
        }
        drop(held);
        Ok(())
    }

    /// Job. Opens (and synchronises) a folder; sessions on one folder share it.
    pub fn open(&self, name: &str) -> Result<Arc<Folder>> {
        let folder = self.shared(name)?;
        folder.load()?;
        Ok(folder)
    }

    /// Job. As [`Home::open`]; until it is closed, what other programs do there is told within a second or so.
    pub fn open_watched(&self, name: &str) -> Result<Arc<Folder>> {
        let folder = self.shared(name)?;
        // Before it is read, so that nothing falls between.
        self.store.notices.watch(&folder);
        folder.load()?;
        Ok(folder)
    }

    fn shared(&self, name: &str) -> Result<Arc<Folder>> {
        let name = names::normalise(name)?;
        let dir = self.existing(&name)?;
        if !dir.join("tmp").is_dir() || !dir.join("cur").is_dir() {
            self.make_folder(&dir)?;
        }
        Ok(self.store.shared(self.place(name, dir)))
    }

    /// Job. STATUS without keeping the folder open: from memory when some session has it open, or when nothing
    /// changed since one had.
    pub fn status(&self, name: &str) -> Result<Counts> {
        let normal = names::normalise(name)?;
        let dir = self.existing(&normal)?;
        if self.store.opened(&dir).is_none() {
            let seen = self.store.rest(&dir).map(|r| r.seen).or_else(|| index::seen(&dir));
            if let Some(counts) = seen.and_then(|s| s.counts_if_unchanged(&dir)) {
                return Ok(counts);
            }
        }
        Ok(self.open(name)?.counts())
    }

    /// The directory of this folder, or of INBOX when it is not there; the name may be anything. Backups leave out
    /// directories that are empty: they are made again.
    pub(super) fn delivery_dir(&self, name: Option<&str>) -> PathBuf {
        let dir = name.and_then(|n| names::normalise(n).ok()).and_then(|n| self.dir(&n));
        let is_whole = |dir: &Path| ["tmp", "new"].iter().all(|sub| dir.join(sub).is_dir()) || self.make_folder(dir).is_ok();
        if let Some(dir) = dir.filter(|d| is_whole(d)) {
            return dir;
        }
        if self.maildir.is_dir() {
            is_whole(&self.maildir);
        }
        self.maildir.to_path_buf()
    }
}
