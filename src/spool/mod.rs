//! The outbound queue on disk: one message file and one readable envelope file per entry (`ID.msg`, `ID.env`).
//!
//! Synchronous; every call is a job for the blocking pool. Knows neither DNS nor sockets nor when to retry.
//!
//! What a crash may leave behind, and why nothing is lost or seen twice:
//! - An entry is its envelope: `ID.env` under the spool is an entry, everything else is not. Both files are
//!   written and fsynced under `tmp/`; then the message is renamed into place, then the envelope. That second
//!   rename is the commit. A crash before it leaves files under `tmp/` or a message without envelope, which
//!   [`Spool::open`] sweeps; the peer was not told 250 and sends again.
//! - A change of state replaces the envelope (write, fsync, rename, fsync of the folder) before anything is done
//!   that builds on it.
//! - Removal takes the envelope first, durably, then the message.
//! - An envelope that cannot be read, or has no message, is moved to `corrupt/` with its message and logged.
//!   The message goes first: left alone, it would look like one to sweep.

use crate::{
    disk::{self, Draft},
    journal,
    message::Address,
};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

pub mod envelope;
mod id;
pub use id::QueueId;

/// RFC 3461 NOTIFY of one recipient. All false and not `never`: the default (failure and delay).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Notify {
    pub never: bool,
    pub success: bool,
    pub failure: bool,
    pub delay: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum State {
    Pending,
    Delivered,
    /// Bounced or given up; the text is the last reply.
    Failed(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    pub address: Address,
    /// RFC 3461 ORCPT as given (`rfc822;…`), or the address before aliases.
    pub original: Option<String>,
    pub notify: Notify,
    pub state: State,
    /// Last reply or error, for `queue show` and delay warnings.
    pub last_error: Option<String>,
    /// The host that said it.
    pub remote: Option<String>,
    /// `address` is an account of ours whose home could not be written; aliases are not asked again.
    pub local: bool,
    /// The sender still has to be told of the state (a bounce, or success when it was asked for). Written
    /// together with the state, so a crash between the two costs at most a second notice.
    pub notice: bool,
}

impl Recipient {
    /// Pending, default notices.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            original: None,
            notify: Notify::default(),
            state: State::Pending,
            last_error: None,
            remote: None,
            local: false,
            notice: false,
        }
    }
}

/// The envelope of one spooled message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub id: QueueId,
    pub arrived: SystemTime,
    /// `None`: the null sender `<>`; never bounced.
    pub sender: Option<Address>,
    /// Of the message file, in bytes; [`Spool::prepare`] sets it.
    pub size: u64,
    pub body_8bit: bool,
    pub smtputf8: bool,
    /// RFC 3461 RET, if given: FULL, not HDRS.
    pub ret_full: Option<bool>,
    pub envid: Option<String>,
    pub recipients: Vec<Recipient>,
    pub attempts: u32,
    pub next: SystemTime,
    pub held: bool,
    /// The delay warning went out.
    pub warned: bool,
}

#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    tmp: PathBuf,
    /// Two daemons on one spool would send everything twice and sweep each other's work.
    _lock: disk::Lock,
}

impl Spool {
    /// Makes the folders, sweeps what a crash left of uncommitted entries. `Err` also when another process has it open.
    pub fn open(dir: &Path) -> disk::Result<Self> {
        let tmp = dir.join("tmp");
        for d in [dir, &tmp] {
            disk::create_dir_all(d, 0o700)?;
            // Also what was made before: by one who was killed before the fsync.
            d.parent().map_or(Ok(()), disk::sync_dir)?;
        }
        let lock = dir.join("lock");
        let Some(held) = disk::Lock::try_exclusive(&lock)? else {
            return Err(disk::Error::new("lock", lock, std::io::Error::other("another gatepost has this spool open")));
        };
        let spool = Self { dir: dir.to_owned(), tmp, _lock: held };
        spool.sweep()?;
        Ok(spool)
    }

    /// Everything under `tmp/`, messages without an envelope, and temporary files of [`disk::replace`].
    fn sweep(&self) -> disk::Result<()> {
        for name in names(&self.tmp)? {
            disk::remove_file(&self.tmp.join(name))?;
        }
        let mut swept = 0;
        for name in names(&self.dir)? {
            let path = self.dir.join(&name);
            let orphan = match id_of(&name) {
                Some((id, "msg")) => !self.path(&id, "env").exists(),
                Some((id, _)) => {
                    id.seen();
                    false
                }
                None => name.starts_with('.') && name.ends_with(".tmp"),
            };
            if orphan {
                disk::remove_file(&path)?;
                swept += 1;
            }
        }
        if swept > 0 {
            journal::Line::info("spool", "swept").with("files", swept).send();
        }
        Ok(())
    }

    /// Where drafts spill.
    pub fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// Writes `prefix` and the draft as the entry's message, and its envelope; all of it durable, none of it in the queue.
    pub fn prepare(&self, mut entry: Entry, prefix: &[u8], draft: &Draft) -> disk::Result<Prepared> {
        entry.size = prefix.len() as u64 + draft.len();
        let taken = self.path(&entry.id, "env");
        if taken.exists() {
            return Err(disk::Error::new("create", taken, std::io::ErrorKind::AlreadyExists.into()));
        }
        // From here on dropping it removes what was written.
        let prepared = Prepared { entry, dir: self.dir.clone(), tmp: self.tmp.clone(), committed: false };
        let message = prepared.tmp("msg");
        let mut f = disk::create_new(&message, 0o600)?;
        disk::write_all(&mut f, &message, prefix)?;
        draft.write_to(&mut f, &message)?;
        disk::sync(&f, &message)?;
        let path = prepared.tmp("env");
        let mut f = disk::create_new(&path, 0o600)?;
        disk::write_all(&mut f, &path, envelope::write(&prepared.entry).as_bytes())?;
        disk::sync(&f, &path)?;
        Ok(prepared)
    }

    /// Every entry, oldest first. What makes no sense is set aside and logged; what the disk will not give is logged
    /// and left for the next start. Neither keeps the others from going out.
    pub fn list(&self) -> disk::Result<Vec<Entry>> {
        let (entries, broken) = read_all(&self.dir)?;
        for (id, why) in broken {
            match why {
                Why::Senseless(why) => self.set_aside(&id, &why)?,
                Why::Unreadable(e) => {
                    let note = "it waits for the next start";
                    journal::Line::error("spool", "unreadable").with("qid", &id).with("error", e).with("note", note).send();
                }
            }
        }
        Ok(entries)
    }

    fn set_aside(&self, id: &QueueId, why: &str) -> disk::Result<()> {
        let aside = self.dir.join("corrupt");
        disk::create_dir_all(&aside, 0o700)?;
        for ext in ["msg", "env"] {
            let from = self.path(id, ext);
            if from.exists() {
                disk::rename(&from, &aside.join(format!("{id}.{ext}")))?;
                disk::sync_dir(&aside)?;
            }
        }
        disk::sync_dir(&self.dir)?;
        journal::Line::error("spool", "corrupt").with("qid", id).with("moved", aside.display()).with("reason", why).send();
        Ok(())
    }

    /// `None`: not in the queue (any more).
    pub fn load(&self, id: &QueueId) -> disk::Result<Option<Entry>> {
        match read_entry(&self.dir, id)? {
            Some(Ok(entry)) => Ok(Some(entry)),
            Some(Err(why)) => self.set_aside(id, &why).map(|()| None),
            None => Ok(None),
        }
    }

    /// Replaces the envelope; durable when it returns.
    pub fn update(&self, entry: &Entry) -> disk::Result<()> {
        disk::replace(&self.path(&entry.id, "env"), envelope::write(entry).as_bytes(), 0o600)
    }

    /// Ends an entry; durable when it returns. Nothing happens when it is gone already.
    pub fn remove(&self, id: &QueueId) -> disk::Result<()> {
        self.remove_all(std::slice::from_ref(id))
    }

    /// The same for many at the price of one.
    pub fn remove_all(&self, ids: &[QueueId]) -> disk::Result<()> {
        ids.iter().try_for_each(|id| gone(disk::remove_file(&self.path(id, "env"))))?;
        disk::sync_dir(&self.dir)?;
        ids.iter().try_for_each(|id| gone(disk::remove_file(&self.path(id, "msg"))))
    }

    /// The message file.
    pub fn message(&self, id: &QueueId) -> PathBuf {
        self.path(id, "msg")
    }

    fn path(&self, id: &QueueId, ext: &str) -> PathBuf {
        self.dir.join(format!("{id}.{ext}"))
    }
}

fn gone(r: disk::Result<()>) -> disk::Result<()> {
    match r {
        Err(e) if e.is_not_found() => Ok(()),
        r => r,
    }
}

/// Reads a spool that a daemon may be working on: changes nothing, skips what it cannot read. Entries oldest first.
pub fn peek(dir: &Path) -> disk::Result<Vec<Entry>> {
    read_all(dir).map(|(entries, _)| entries)
}

/// `ID.env` or `ID.msg`, with the id in its own spelling.
fn id_of(name: &str) -> Option<(QueueId, &str)> {
    let (stem, ext) = name.split_once('.')?;
    let id = QueueId::parse(stem).filter(|id| id.as_str() == stem)?;
    matches!(ext, "env" | "msg").then_some((id, ext))
}

type Broken = Vec<(QueueId, Why)>;

/// Why there is an envelope, but no entry.
enum Why {
    Senseless(String),
    Unreadable(disk::Error),
}

fn read_all(dir: &Path) -> disk::Result<(Vec<Entry>, Broken)> {
    let (mut entries, mut broken) = (Vec::new(), Broken::new());
    for name in names(dir)? {
        let Some((id, "env")) = id_of(&name) else { continue };
        match read_entry(dir, &id) {
            Ok(Some(Ok(e))) => entries.push(e),
            Ok(Some(Err(why))) => broken.push((id, Why::Senseless(why))),
            // Sent and removed since we read the folder.
            Ok(None) => {}
            Err(e) => broken.push((id, Why::Unreadable(e))),
        }
    }
    entries.sort_by(|a, b| a.arrived.cmp(&b.arrived).then_with(|| a.id.cmp(&b.id)));
    Ok((entries, broken))
}

fn read_entry(dir: &Path, id: &QueueId) -> disk::Result<Option<Result<Entry, String>>> {
    let path = dir.join(format!("{id}.env"));
    let Some(bytes) = disk::read_if_exists(&path)? else { return Ok(None) };
    let entry = envelope::parse(&bytes).and_then(|e| {
        if e.id != *id {
            return Err(format!("it says `id: {}`", e.id));
        }
        Ok(e)
    });
    // Asked after the envelope was read: removal goes the other way.
    if entry.is_ok() && !dir.join(format!("{id}.msg")).exists() {
        return Ok(path.exists().then(|| Err("its message file is missing".to_owned())));
    }
    Ok(Some(entry))
}

/// File names in a folder; others than UTF-8 are not ours.
fn names(dir: &Path) -> disk::Result<Vec<String>> {
    Ok(disk::list(dir)?.into_iter().filter(|(_, is_dir)| !is_dir).filter_map(|(name, _)| name.into_string().ok()).collect())
}

/// A prepared entry: on disk and fsynced, but not yet part of the queue. [`Prepared::commit`] is one rename;
/// dropping it removes the files. After a crash before commit nothing of it is found again.
#[derive(Debug)]
pub struct Prepared {
    entry: Entry,
    dir: PathBuf,
    tmp: PathBuf,
    committed: bool,
}

impl Prepared {
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// More recipients before the commit; durable when it returns. After an error drop it.
    pub fn add(&mut self, recipients: Vec<Recipient>) -> disk::Result<()> {
        self.entry.recipients.extend(recipients);
        disk::replace(&self.tmp("env"), envelope::write(&self.entry).as_bytes(), 0o600)
    }

    /// Puts the entry into the queue; durable when it returns `Ok`. After an error it is not in the queue.
    pub fn commit(mut self) -> disk::Result<Entry> {
        disk::rename(&self.tmp("msg"), &self.path("msg"))?;
        disk::rename(&self.tmp("env"), &self.path("env"))?;
        disk::sync_dir(&self.dir)?;
        self.committed = true;
        Ok(self.entry.clone())
    }

    fn tmp(&self, ext: &str) -> PathBuf {
        self.tmp.join(format!("{}.{ext}", self.entry.id))
    }
    fn path(&self, ext: &str) -> PathBuf {
        self.dir.join(format!("{}.{ext}", self.entry.id))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        // The envelope first, as ever. What cannot be removed now is swept at the next start.
        for path in [self.path("env"), self.tmp("env"), self.path("msg"), self.tmp("msg")] {
            let _ = disk::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// A folder of its own for each test, removed at the end.
    struct Dir(PathBuf);
    impl Dir {
        fn new(name: &str) -> Self {
            let d = std::env::temp_dir().join(format!("gatepost-spool-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&d);
            Self(d)
        }
        fn files(&self) -> Vec<String> {
            let mut f = names(&self.0).expect("readable");
            f.retain(|n| n.contains('.'));
            f.sort();
            f
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn entry(id: &str) -> Entry {
        let now = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        Entry {
            id: QueueId::parse(id).expect("an id"),
            arrived: now,
            sender: Address::parse("a@b.example"),
            size: 0,
            body_8bit: false,
            smtputf8: false,
            ret_full: None,
            envid: None,
            recipients: vec![Recipient::new(Address::parse("c@d.example").expect("an address"))],
            attempts: 0,
            next: now,
            held: false,
            warned: false,
        }
    }

    fn put(spool: &Spool, id: &str) -> Entry {
        spool
            .prepare(entry(id), b"Received: x\r\n", &Draft::from_bytes(b"A: b\r\n\r\nbody\r\n".to_vec()))
            .expect("prepared")
            .commit()
            .expect("committed")
    }

    #[test]
    fn an_entry_lives() {
        let d = Dir::new("lives");
        let spool = Spool::open(&d.0).expect("opened");
        let mut e = put(&spool, "0000000001");
        assert_eq!(std::fs::read(spool.message(&e.id)).expect("there"), b"Received: x\r\nA: b\r\n\r\nbody\r\n");
        assert_eq!(e.size, 27);
        assert_eq!(spool.list().expect("listed"), [e.clone()]);
        e.recipients[0].state = State::Delivered;
        e.attempts = 1;
        spool.update(&e).expect("updated");
        assert_eq!(spool.load(&e.id).expect("loaded"), Some(e.clone()));
        assert_eq!(peek(&d.0).expect("peeked"), [e.clone()]);
        assert_eq!(d.files(), ["0000000001.env", "0000000001.msg"]);
        spool.remove(&e.id).expect("removed");
        spool.remove(&e.id).expect("removed again");
        assert_eq!(spool.load(&e.id).expect("loaded"), None);
        assert!(d.files().is_empty());
    }

    #[test]
    fn a_dropped_entry_leaves_nothing() {
        let d = Dir::new("dropped");
        let spool = Spool::open(&d.0).expect("opened");
        let mut p = spool.prepare(entry("0000000001"), b"", &Draft::new()).expect("prepared");
        p.add(vec![Recipient::new(Address::parse("e@f.example").expect("an address"))]).expect("added");
        assert_eq!(names(spool.tmp()).expect("readable").len(), 2);
        drop(p);
        assert!(names(spool.tmp()).expect("readable").is_empty() && d.files().is_empty());
    }

    #[test]
    fn an_id_is_never_taken_twice() {
        let d = Dir::new("twice");
        let spool = Spool::open(&d.0).expect("opened");
        put(&spool, "0000000001");
        assert!(spool.prepare(entry("0000000001"), b"", &Draft::new()).is_err());
        assert_eq!(spool.list().expect("listed").len(), 1);
    }

    #[test]
    fn one_daemon_at_a_time() {
        let d = Dir::new("lock");
        let spool = Spool::open(&d.0).expect("opened");
        assert!(Spool::open(&d.0).is_err());
        drop(spool);
        assert!(Spool::open(&d.0).is_ok());
    }

    #[test]
    fn opening_sweeps_what_is_no_entry_and_nothing_else() {
        let d = Dir::new("sweep");
        let spool = Spool::open(&d.0).expect("opened");
        put(&spool, "0000000001");
        drop(spool);
        for name in ["tmp/0000000002.msg", "tmp/0000000002.env", "0000000003.msg", ".0000000001.env.7.tmp", "README.txt", "lower00000.msg"] {
            std::fs::write(d.0.join(name), "x").expect("written");
        }
        let spool = Spool::open(&d.0).expect("opened");
        assert_eq!(d.files(), ["0000000001.env", "0000000001.msg", "README.txt", "lower00000.msg"]);
        assert!(names(spool.tmp()).expect("readable").is_empty());
        assert_eq!(spool.list().expect("listed").len(), 1);
    }

    #[test]
    fn an_envelope_that_the_disk_does_not_give_stops_no_other() {
        let d = Dir::new("unreadable");
        let spool = Spool::open(&d.0).expect("opened");
        put(&spool, "0000000001");
        // A link to itself cannot be read, whoever asks.
        std::fs::rename(d.0.join("0000000001.env"), d.0.join("tmp/moved")).expect("renamed");
        std::os::unix::fs::symlink(d.0.join("0000000001.env"), d.0.join("0000000001.env")).expect("linked");
        put(&spool, "0000000002");
        assert_eq!(spool.list().expect("listed").len(), 1);
        assert!(d.0.join("0000000001.msg").exists(), "left where it is");
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_with_its_message() {
        let d = Dir::new("aside");
        let spool = Spool::open(&d.0).expect("opened");
        for id in ["0000000001", "0000000002", "0000000003", "0000000004"] {
            put(&spool, id);
        }
        std::fs::write(d.0.join("0000000001.env"), "garbage").expect("written");
        std::fs::copy(d.0.join("0000000004.env"), d.0.join("0000000002.env")).expect("copied");
        std::fs::remove_file(d.0.join("0000000003.msg")).expect("removed");
        assert_eq!(peek(&d.0).expect("peeked").len(), 1, "peeking only looks");
        assert!(!d.0.join("corrupt").exists());
        let left: Vec<String> = spool.list().expect("listed").iter().map(|e| e.id.to_string()).collect();
        assert_eq!(left, ["0000000004"]);
        let mut aside = names(&d.0.join("corrupt")).expect("readable");
        aside.sort();
        assert_eq!(aside, ["0000000001.env", "0000000001.msg", "0000000002.env", "0000000002.msg", "0000000003.env"]);
        assert_eq!(d.files(), ["0000000004.env", "0000000004.msg"]);
    }
}
