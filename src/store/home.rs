//! One account's folders: LIST, CREATE, DELETE, RENAME, subscriptions.

use super::{Counts, Error, Folder, Home, Listed, Result, folder::Place, lock, maildirsize, names, subscriptions};
use crate::disk;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Made and subscribed at first login, so that clients find what they would otherwise each make under another name.
const SPECIAL: [&str; 5] = ["Drafts", "Sent", "Junk", "Trash", "Archive"];

pub(super) fn inbox_first(a: &str, b: &str) -> Ordering {
    (a != "INBOX").cmp(&(b != "INBOX")).then_with(|| a.cmp(b))
}

/// Makes a directory and all above it, each durable before anything is put in: also those that were there, because
/// another thread, or one killed, may have made them without coming to the fsync.
fn make_durable(dir: &Path, root: &Path) -> Result<()> {
    let mut missing: Vec<&Path> = dir.ancestors().take_while(|p| *p != root).collect();
    missing.reverse();
    if !root.is_dir() {
        disk::create_dir_all(root, 0o700)?;
    }
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

impl Home {
    /// The home's `Maildir/`.
    pub fn maildir(&self) -> &Path {
        &self.maildir
    }

    fn place(&self, name: String, dir: PathBuf) -> Place {
        Place { name, dir: dir.into(), account: Arc::clone(&self.account), maildir: Arc::clone(&self.maildir) }
    }

    /// Where a folder (normalised) is or would be: a directory in plain UTF-8 counts when there is no other.
    fn dir(&self, name: &str) -> PathBuf {
        let usual = self.maildir.join(names::to_disk(name));
        if name == "INBOX" || usual.is_dir() {
            return if name == "INBOX" { self.maildir.to_path_buf() } else { usual };
        }
        let plain = names::to_disk_plain(name);
        let leads_back = names::from_disk(&plain).as_deref() == Some(name);
        let plain = self.maildir.join(plain);
        if leads_back && plain.is_dir() { plain } else { usual }
    }

    /// Durable. `tmp/` comes last: who finds it may deliver, and everything above and beside it is on the disk.
    fn make_folder(&self, dir: &Path) -> Result<()> {
        make_durable(dir, &self.store.root)?;
        for sub in ["cur", "new"] {
            match disk::create_dir(&dir.join(sub), 0o700) {
                Err(e) if e.is_exists() => {}
                made => made?,
            }
        }
        if dir != &*self.maildir {
            // Maildir++: tells delivery agents that this is a folder of the Maildir above.
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
    /// once there is a `subscriptions` file, what the user removed stays away.
    pub fn prepare(&self) -> Result<()> {
        if subscriptions::exist(&self.maildir) {
            return Ok(());
        }
        self.make()?;
        for name in SPECIAL {
            let dir = self.dir(name);
            if !dir.is_dir() {
                self.make_folder(&dir)?;
            }
        }
        let all: Vec<&str> = ["INBOX"].into_iter().chain(SPECIAL).collect();
        subscriptions::set(&self.maildir, &all, true)
    }

    /// The folders that are there, by name, with their directories' names.
    fn folders(&self) -> Result<BTreeMap<String, String>> {
        let mut found = BTreeMap::new();
        let entries = match disk::list(&self.maildir) {
            Err(e) if e.is_not_found() => return Ok(found),
            entries => entries?,
        };
        for (dir, _) in entries.into_iter().filter(|(_, is_dir)| *is_dir) {
            let Ok(dir) = dir.into_string() else { continue };
            let Some(name) = names::from_disk(&dir) else { continue };
            // Of two spellings, the one that we would write.
            if !found.contains_key(&name) || names::to_disk(&name) == dir {
                found.insert(name, dir);
            }
        }
        Ok(found)
    }

    /// Job. All folders, INBOX first, then by name.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let folders = self.folders()?;
        let subscribed: HashSet<String> = subscriptions::read(&self.maildir)?.into_iter().collect();
        let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
        let new = |name: &str, selectable| Listed { name: name.to_owned(), selectable, subscribed: subscribed.contains(name), children: false };
        listed.insert("INBOX".to_owned(), new("INBOX", true));
        for name in folders.keys() {
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
        subscriptions::read(&self.maildir)
    }

    /// Job.
    pub fn subscribe(&self, name: &str, on: bool) -> Result<()> {
        let name = names::normalise(name)?;
        if !self.maildir.is_dir() {
            self.make()?;
        }
        subscriptions::set(&self.maildir, &[&name], on)
    }

    /// Job. Missing parents are made too (RFC 9051 §6.3.4).
    pub fn create(&self, name: &str) -> Result<()> {
        let name = names::for_new(name)?;
        if name == "INBOX" || self.dir(&name).is_dir() {
            return Err(Error::Exists(name));
        }
        self.make()?;
        for (at, _) in name.match_indices('/') {
            let parent = self.dir(&name[..at]);
            if &name[..at] != "INBOX" && !parent.is_dir() {
                self.make_folder(&parent)?;
            }
        }
        self.make_folder(&self.dir(&name))
    }

    /// Job. Children stay; then the name becomes non-selectable.
    pub fn delete(&self, name: &str) -> Result<()> {
        let name = names::normalise(name)?;
        if name == "INBOX" {
            return Err(Error::BadName("INBOX cannot be deleted".to_owned()));
        }
        let dir = self.dir(&name);
        // A file of some other program can have a name that a folder could have: `.dovecot.sieve`.
        if !dir.is_dir() {
            return Err(Error::NotFound(name));
        }
        self.empty_trash();
        // Away in one step, whatever happens while the files are removed. No folder can have a name with two dots.
        let trash = self.maildir.join(format!("..gatepost-trash.{:016x}", disk::unique()));
        let mut removal = self.limited().map(|a| a.removal());
        let folder = self.store.opened(&dir);
        let held = folder.as_ref().map(|f| lock(&f.disk));
        match disk::rename(&dir, &trash) {
            Err(e) if e.is_not_found() => return Err(Error::NotFound(name)),
            done => done?,
        }
        self.store.forget(&dir);
        if let Some(f) = &folder {
            f.mark_gone();
        }
        drop(held);
        if let Some(mut removal) = removal.take() {
            removal.add(maildirsize::count_folder(&trash).unwrap_or_default());
            removal.end();
        }
        disk::sync_dir(&self.maildir)?;
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

    /// Job. With its children. INBOX: its messages move to the new folder (RFC 9051 §6.3.6).
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (names::normalise(from)?, names::for_new(to)?);
        if from == "INBOX" {
            self.create(&to)?;
            let (inbox, target) = (self.open("INBOX")?, self.open(&to)?);
            let uids = inbox.uids().0;
            inbox.move_to(&uids, &target)?;
            return Ok(());
        }
        let below = format!("{from}/");
        let folders = self.folders()?;
        if to == "INBOX" || folders.contains_key(&to) {
            return Err(Error::Exists(to));
        }
        if to.starts_with(&below) {
            return Err(Error::BadName("a folder cannot be moved into itself".to_owned()));
        }
        let mut moves = Vec::new();
        for (name, dir) in folders.iter().filter(|(n, _)| **n == from || n.starts_with(&below)) {
            let target = names::normalise(&format!("{to}{}", &name[from.len()..]))?;
            if folders.contains_key(&target) {
                return Err(Error::Exists(target));
            }
            moves.push((self.maildir.join(dir), self.maildir.join(names::to_disk(&target)), target));
        }
        if moves.is_empty() {
            return Err(Error::NotFound(from));
        }
        for (at, _) in to.match_indices('/') {
            let parent = self.dir(&to[..at]);
            if &to[..at] != "INBOX" && !parent.is_dir() {
                self.make_folder(&parent)?;
            }
        }
        for (n, (old, new, name)) in moves.iter().enumerate() {
            if let Err(e) = self.rename_one(old, new, name) {
                for (old, new, _) in moves[..n].iter().rev() {
                    let _ = disk::rename_back(new, old);
                    self.store.forget(new);
                }
                return Err(e.into());
            }
        }
        Ok(disk::sync_dir(&self.maildir)?)
    }

    /// Sessions that have it open go on in the new place.
    fn rename_one(&self, old: &Path, new: &Path, name: &str) -> disk::Result<()> {
        let folder = self.store.opened(old);
        let held = folder.as_ref().map(|f| lock(&f.disk));
        disk::rename(old, new)?;
        self.store.forget(old);
        if let Some(f) = &folder {
            *lock(&f.place) = self.place(name.to_owned(), new.to_owned());
            self.store.moved(f, new);
        }
        drop(held);
        Ok(())
    }

    /// Job. Opens (and synchronises) a folder; sessions on one folder share it.
    pub fn open(&self, name: &str) -> Result<Arc<Folder>> {
        let name = names::normalise(name)?;
        let mut dir = self.dir(&name);
        if !dir.join("tmp").is_dir() || !dir.join("cur").is_dir() {
            match disk::stat(&dir) {
                _ if name == "INBOX" => {
                    self.make()?;
                    dir = self.dir(&name);
                }
                Ok(s) if s.is_dir => self.make_folder(&dir)?,
                Err(e) if !e.is_not_found() => return Err(e.into()),
                _ => return Err(Error::NotFound(name)),
            }
        }
        let folder = self.store.shared(self.place(name, dir));
        folder.load()?;
        Ok(folder)
    }

    /// Job. STATUS without keeping the folder open: from memory when some session has it open, or when nothing
    /// changed since one had.
    pub fn status(&self, name: &str) -> Result<Counts> {
        let normal = names::normalise(name)?;
        let dir = self.dir(&normal);
        if self.store.opened(&dir).is_none()
            && let Some(counts) = self.store.rest(&dir).and_then(|r| r.counts_if_unchanged(&dir))
        {
            return Ok(counts);
        }
        Ok(self.open(name)?.counts())
    }

    /// Whether this folder is there; the name may be anything.
    pub(super) fn delivery_dir(&self, name: Option<&str>) -> PathBuf {
        match name.map(names::normalise) {
            Some(Ok(name)) => {
                let dir = self.dir(&name);
                if dir.join("tmp").is_dir() { dir } else { self.maildir.to_path_buf() }
            }
            _ => self.maildir.to_path_buf(),
        }
    }
}
