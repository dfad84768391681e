//! Durable files: the one room that opens, writes, renames and fsyncs.
//!
//! It knows nothing of mail. Every operation that can fail goes through here, so that an error always
//! names its path and operation, and so that a test can stop the program after the n-th operation
//! ([`fault`]) and look at what a crash leaves behind.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

/// A failed operation on a path. `Display` is fit for a log line and for a person.
#[derive(Debug)]
pub struct Error {
    pub path: PathBuf,
    pub op: &'static str,
    pub source: io::Error,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The same once more, for another that it hits too.
    #[must_use]
    pub fn again(&self) -> Self {
        let source =
            self.source.raw_os_error().map_or_else(|| io::Error::new(self.source.kind(), self.source.to_string()), io::Error::from_raw_os_error);
        Self { path: self.path.clone(), op: self.op, source }
    }
    pub fn new(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { path: path.into(), op, source }
    }
    /// No space, no inodes or over a file system quota: may pass, so the sender hears 452.
    pub fn is_full(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(e) if e == nix::errno::Errno::ENOSPC as i32 || e == nix::errno::Errno::EDQUOT as i32)
    }
    /// A file of its own has to do where a second name cannot be: another file system, one without hard links, as many
    /// names as a file can have, or a file of another owner (`fs.protected_hardlinks`).
    pub fn is_no_link(&self) -> bool {
        use nix::errno::Errno as E;
        [E::EXDEV, E::EMLINK, E::EPERM, E::EOPNOTSUPP].iter().any(|e| self.source.raw_os_error() == Some(*e as i32))
    }
    /// It is full there, read-only, another user's, or no place for a file, and was so a moment ago and will be.
    pub fn is_no_place(&self) -> bool {
        use nix::errno::Errno as E;
        self.is_full() || [E::EROFS, E::EACCES, E::EPERM, E::EISDIR].iter().any(|e| self.source.raw_os_error() == Some(*e as i32))
    }
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
    pub fn is_not_empty(&self) -> bool {
        self.source.kind() == io::ErrorKind::DirectoryNotEmpty
    }
    pub fn is_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.op, self.path.display(), self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

pub mod fault;

use fault::Does;

fn at<T>(op: &'static str, path: &Path, f: impl FnOnce() -> io::Result<T>) -> Result<T> {
    fault::step(Does::Write).and_then(|()| f()).map_err(|e| Error::new(op, path, e))
}

/// As [`at`] for what needs no space, so a full disk does not stop it.
fn at_free<T>(op: &'static str, path: &Path, f: impl FnOnce() -> io::Result<T>) -> Result<T> {
    fault::step(Does::Free).and_then(|()| f()).map_err(|e| Error::new(op, path, e))
}

/// As [`at`] for what changes nothing. Once more when the file was replaced on another host between our finding its
/// name and our asking for it (NFS).
fn look<T>(op: &'static str, path: &Path, mut f: impl FnMut() -> io::Result<T>) -> Result<T> {
    let mut tries = 0;
    let found = fault::step(Does::Read).and_then(|()| {
        loop {
            match f() {
                Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ESTALE as i32) && tries < 10 => tries += 1,
                done => return done,
            }
        }
    });
    found.map_err(|e| Error::new(op, path, e))
}

/// Whole file. Callers bound the size by what they put there.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    look("read", path, || fs::read(path))
}

/// As [`read`], for what other programs may have put there: nothing but a file, and at most `max` bytes.
pub fn read_bounded(path: &Path, max: u64) -> Result<Vec<u8>> {
    read_file(path, max, max)
}

/// As [`read_bounded`], but of a longer file the first `max` bytes.
pub fn read_head(path: &Path, max: u64) -> Result<Vec<u8>> {
    read_file(path, u64::MAX, max)
}

fn read_file(path: &Path, longest: u64, max: u64) -> Result<Vec<u8>> {
    look("read", path, || {
        // A pipe opens at once this way, and is refused below.
        let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?;
        let known = file.metadata()?;
        if !known.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if known.len() > longest {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(known.len().min(max)).unwrap_or(0));
        file.take(max).read_to_end(&mut bytes)?;
        Ok(bytes)
    })
}

/// As [`read_bounded`], where the size is known already, as it should be: three system calls.
pub fn read_expected(path: &Path, size: u64, max: u64) -> Result<Vec<u8>> {
    let read = || {
        let mut file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path).ok()?;
        // One more, so that a file that is longer shows.
        let mut bytes = vec![0; usize::try_from(size.min(max)).ok()?.checked_add(1)?];
        let n = file.read(&mut bytes).ok()?;
        bytes.truncate(n);
        (n as u64 == size).then_some(bytes)
    };
    read().map_or_else(|| read_bounded(path, max), Ok)
}

/// `None` when the file is not there.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(b) => Ok(Some(b)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// As [`read_bounded`]; `None` when the file is not there.
pub fn read_bounded_if_exists(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    match read_bounded(path, max) {
        Ok(b) => Ok(Some(b)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// As [`open`], for what other programs may have put there: nothing but a file, and without waiting for anybody. With
/// its size.
pub fn open_file(path: &Path) -> Result<(File, u64)> {
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?;
        let known = file.metadata()?;
        if known.is_file() { Ok((file, known.len())) } else { Err(io::ErrorKind::InvalidInput.into()) }
    };
    open().map_err(|e| Error::new("open", path, e))
}

pub fn open(path: &Path) -> Result<File> {
    look("open", path, || File::open(path))
}

/// Creates a file that must not exist yet, for writing and reading.
pub fn create_new(path: &Path, mode: u32) -> Result<File> {
    at("create", path, || OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path))
}

/// Opens for appending, creating it with `mode`.
pub fn append(path: &Path, mode: u32) -> Result<File> {
    at("open for appending", path, || OpenOptions::new().append(true).read(true).create(true).mode(mode).open(path))
}

/// Appends to a file that is there, in one write, so that writers side by side do not mix.
pub fn append_line(path: &Path, line: &[u8]) -> Result<()> {
    at("append to", path, || OpenOptions::new().append(true).open(path)?.write_all(line))
}

pub fn write_all(file: &mut File, path: &Path, bytes: &[u8]) -> Result<()> {
    at_torn("write", path, file, bytes)
}

fn at_torn(op: &'static str, path: &Path, file: &mut File, bytes: &[u8]) -> Result<()> {
    let half = bytes.split_at(bytes.len() / 2).0;
    let failed = fault::step(Does::Write);
    if failed.is_err() || fault::is_torn(bytes.len()) {
        file.write_all(half).and(failed).and_then(|()| fault::step(Does::Write)).map_err(|e| Error::new(op, path, e))?;
    }
    file.write_all(bytes).map_err(|e| Error::new(op, path, e))
}

/// Appends the whole of a file to another; the kernel copies.
pub fn copy(from: &Path, file: &mut File, path: &Path) -> Result<()> {
    let mut from = open(from)?;
    at("write", path, || io::copy(&mut from, file).map(drop))
}

/// Opens for reading and writing at any place, creating it with `mode` when it is not there.
pub fn open_update(path: &Path, mode: u32) -> Result<File> {
    let open = || OpenOptions::new().read(true).write(true).open(path);
    match at_free("open for writing", path, open) {
        // Another process may be quicker.
        Err(e) if e.is_not_found() => {
            at("create", path, || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).open(path))
        }
        opened => opened,
    }
}

pub fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    at("write", path, || file.write_all_at(bytes, offset))
}

/// As [`write_at`], over what is there already: a full disk does not stop it.
pub fn overwrite_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<()> {
    at_free("write", path, || file.write_all_at(bytes, offset))
}

/// Exactly so many bytes. Callers bound the number.
pub fn read_at(file: &File, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).map_err(|e| Error::new("read", path, e))?;
    Ok(bytes)
}

/// fdatasync: the data, and the size.
pub fn sync_data(file: &File, path: &Path) -> Result<()> {
    at("fsync", path, || file.sync_data())
}

/// What an open file is now. `links` is 0 when it has lost its last name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    pub ino: u64,
    pub size: u64,
    pub links: u64,
}

pub fn opened(file: &File, path: &Path) -> Result<Opened> {
    let m = file.metadata().map_err(|e| Error::new("stat", path, e))?;
    Ok(Opened { ino: m.ino(), size: m.size(), links: m.nlink() })
}

/// Locks the whole of a file against who else opened it, in this process or another, on this host or (NFSv4, CephFS)
/// another one. The file must be open for writing. Waits; ends with [`unlock_file`], or when the file is closed.
pub fn lock_file(file: &File, path: &Path) -> Result<()> {
    at_free("lock", path, || {
        loop {
            match nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLKW(&whole(nix::libc::F_WRLCK))) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    })
}

pub fn unlock_file(file: &File) {
    // It fails for no reason that leaves a lock behind.
    let _ = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&whole(nix::libc::F_UNLCK)));
}

fn whole(kind: nix::libc::c_int) -> nix::libc::flock {
    // A length of 0 reaches to the end, wherever that will be.
    nix::libc::flock { l_type: kind as _, l_whence: nix::libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 }
}

/// Changes at every boot of this host; what was not fsynced may be lost when it did. `None`: nobody can tell.
/// Read once, so the first call has to come before the sandbox.
pub fn boot_id() -> Option<[u8; 16]> {
    static ID: std::sync::OnceLock<Option<[u8; 16]>> = std::sync::OnceLock::new();
    *ID.get_or_init(|| {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let id = u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()?;
        Some(id.to_be_bytes())
    })
}

/// fsync of data and metadata.
pub fn sync(file: &File, path: &Path) -> Result<()> {
    at("fsync", path, || file.sync_all())
}

/// Makes creations, renames and removals in a directory durable.
pub fn sync_dir(dir: &Path) -> Result<()> {
    at("fsync directory", dir, || File::open(dir)?.sync_all())
}

pub fn rename(from: &Path, to: &Path) -> Result<()> {
    at("rename", from, || fs::rename(from, to))
}

pub fn hard_link(from: &Path, to: &Path) -> Result<()> {
    at("link", to, || fs::hard_link(from, to))
}

pub fn remove_file(path: &Path) -> Result<()> {
    at_free("remove", path, || fs::remove_file(path))
}

pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    at("create directory", path, || fs::DirBuilder::new().mode(mode).create(path))
}

/// Also its parents; durable when it returns. Nothing happens when it is there already.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir_all(parent, mode)?;
    }
    match create_dir(path, mode) {
        Err(e) if e.is_exists() => return Ok(()),
        r => r?,
    }
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => Ok(()),
    }
}

/// What the store wants of stat(2). Times in nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime: i64,
    /// Of the last change to the file or its names; no program can set it.
    pub ctime: i64,
    pub is_dir: bool,
}

/// Times without fractions, as some file systems have them.
#[cfg(test)]
pub(crate) static WHOLE_SECONDS: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Follows symbolic links.
pub fn stat(path: &Path) -> Result<Stat> {
    #[cfg(test)]
    fault::LOOKS.set((fault::LOOKS.get().0, fault::LOOKS.get().1 + 1));
    look("stat", path, || fs::metadata(path)).map(|m| known(&m))
}

/// As [`stat`], but what holds now also where another host has the file: opening is when an NFS client asks its server,
/// and not its cache (close-to-open).
pub fn stat_now(path: &Path) -> Result<Stat> {
    // Without reading: a pipe does not keep us.
    let open = || OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(path)?.metadata();
    look("stat", path, open).map(|m| known(&m))
}

fn known(m: &fs::Metadata) -> Stat {
    let ns = |seconds: i64, ns| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    #[cfg(test)]
    let ns = |seconds, n| if WHOLE_SECONDS.load(std::sync::atomic::Ordering::Relaxed) { ns(seconds, 0) } else { ns(seconds, n) };
    let (mtime, ctime) = (ns(m.mtime(), m.mtime_nsec()), ns(m.ctime(), m.ctime_nsec()));
    Stat { dev: m.dev(), ino: m.ino(), size: m.size(), mtime, ctime, is_dir: m.is_dir() }
}

/// Whether other machines may write to the file system below `path`, unseen by this kernel. False when that cannot be known.
pub fn is_shared(path: &Path) -> bool {
    /// Magic numbers of statfs(2): NFS, SMB (three), CephFS, 9P, FUSE, AFS, Coda, OCFS2, GFS2, Lustre, GPFS, BeeGFS, VirtualBox.
    const TYPES: [i64; 15] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x00c3_6400,
        0x0102_1997,
        0x6573_5546,
        0x5346_414f,
        0x7375_7245,
        0x7461_636f,
        0x0116_1970,
        0x0bd0_0bd0,
        0x4750_4653,
        0x1983_0326,
        0x786f_4256,
    ];
    // As 32 bits: where the field is signed, some of them come out negative.
    nix::sys::statfs::statfs(path).is_ok_and(|s| TYPES.contains(&(s.filesystem_type().0 & 0xffff_ffff)))
}

/// Whether this is a directory, and not a link to one.
pub fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.is_dir())
}

/// Hands on the names of files and directories in a directory, in no order, without `.` and `..`; and whether each is a
/// directory. Links count as what they lead to. What would block who reads it (pipes, devices) is left out, and so are
/// links to nothing. What the disk will not tell about is a file: it is there, and must not count as removed.
pub fn each_entry(dir: &Path, mut each: impl FnMut(&OsStr, bool)) -> Result<()> {
    use nix::{
        dir::{Dir, Type},
        fcntl::OFlag,
        sys::stat::Mode,
    };
    #[cfg(test)]
    fault::LOOKS.set((fault::LOOKS.get().0 + 1, fault::LOOKS.get().1));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = look("read directory", dir, || Ok(Dir::open(dir, flags, Mode::empty())?))?;
    for entry in entries.iter() {
        let entry = entry.map_err(|e| Error::new("read directory", dir, e.into()))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let is_dir = match entry.file_type() {
            Some(Type::File) => false,
            Some(Type::Directory) => true,
            // A link, or a file system that does not say.
            Some(Type::Symlink) | None => match fs::metadata(dir.join(name)) {
                Ok(m) if m.is_file() || m.is_dir() => m.is_dir(),
                Ok(_) => continue,
                Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => continue,
                Err(_) => false,
            },
            Some(_) => continue,
        };
        each(name, is_dir);
    }
    Ok(())
}

/// All that [`each_entry`] finds.
pub fn list(dir: &Path) -> Result<Vec<(OsString, bool)>> {
    let mut out = Vec::new();
    each_entry(dir, |name, is_dir| out.push((name.to_owned(), is_dir)))?;
    Ok(out)
}

/// Removes a directory and all below it.
pub fn remove_tree(dir: &Path) -> Result<()> {
    at_free("remove", dir, || fs::remove_dir_all(dir))
}

/// A rename that takes one back. A full disk does not stop it: the name it goes to was there a moment ago.
pub fn rename_back(from: &Path, to: &Path) -> Result<()> {
    at_free("rename", from, || fs::rename(from, to))
}

/// Cuts what a failed append has left behind.
pub fn truncate(file: &File, path: &Path, len: u64) -> Result<()> {
    at_free("truncate", path, || file.set_len(len))
}

pub fn set_modified(file: &File, path: &Path, seconds: i64) -> Result<()> {
    let t = std::time::Duration::from_secs(seconds.unsigned_abs());
    let t = if seconds < 0 { std::time::UNIX_EPOCH.checked_sub(t) } else { std::time::UNIX_EPOCH.checked_add(t) };
    let t = t.ok_or_else(|| Error::new("set time of", path, io::ErrorKind::InvalidInput.into()))?;
    at("set time of", path, || file.set_modified(t))
}

/// Moves the mtime on to now, by the clock of the file system's host.
pub fn touch(path: &Path) -> Result<()> {
    use nix::sys::{stat, time::TimeSpec};
    let now = TimeSpec::UTIME_NOW;
    let flags = stat::UtimensatFlags::NoFollowSymlink;
    stat::utimensat(nix::fcntl::AT_FDCWD, path, &now, &now, flags).map_err(|e| Error::new("touch", path, e.into()))
}

/// Nanoseconds since 1970, to compare with [`Stat::mtime`].
pub fn clock() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Since this host was started, sleep included.
pub fn uptime() -> std::time::Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(std::time::Duration::MAX, Into::into)
}

/// The host as lock files name it.
pub fn hostname() -> &'static str {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_else(|| "localhost".to_owned()))
}

/// False only when there is certainly no such process on this host.
pub fn process_is_there(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// Replaces a file so that a crash leaves the old or the new content, never a mixture:
/// temporary file beside it, fsync, rename, fsync of the directory.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace_with(path, bytes, mode, sync)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// As [`replace`] without an fsync, for what can be made again: after a power cut it may be anything.
pub fn replace_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    replace_with(path, bytes, mode, |_, _| Ok(()))
}

fn replace_with(path: &Path, bytes: &[u8], mode: u32, finish: impl FnOnce(&File, &Path) -> Result<()>) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // Unlike any other, also of a host that shares the directory and has a process of this number.
    let tmp = dir.join(format!(".{name}.{:016x}.tmp", unique()));
    let mut f = create_new(&tmp, mode)?;
    let done = write_all(&mut f, &tmp, bytes).and_then(|()| finish(&f, &tmp)).and_then(|()| rename(&tmp, path));
    if done.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    done
}

/// Bytes of a message that nobody has acknowledged yet: in memory up to a bound, above it in an
/// unlinked temporary file. Pushing never touches the disk, so a session may do it on the executor
/// thread; when [`Draft::wants_spill`] says so it moves the draft into a blocking job and calls
/// [`Draft::spill`].
#[derive(Debug, Default)]
pub struct Draft {
    tail: Vec<u8>,
    file: Option<(File, u64)>,
}

/// Above this many bytes in memory a draft goes to its file.
pub const DRAFT_IN_MEMORY: usize = 256 * 1024;

impl Draft {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { tail: bytes, file: None }
    }
    /// Where streaming code appends; never shrink it.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }
    pub fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }
    pub fn len(&self) -> u64 {
        self.tail.len() as u64 + self.file.as_ref().map_or(0, |(_, n)| *n)
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn wants_spill(&self) -> bool {
        self.tail.len() > DRAFT_IN_MEMORY
    }
    /// Blocking. Moves what is in memory to an unlinked file in `dir`.
    pub fn spill(&mut self, dir: &Path) -> Result<()> {
        if self.file.is_none() {
            let path = dir.join(format!("draft.{}.{:016x}", std::process::id(), unique()));
            let f = create_new(&path, 0o600)?;
            fs::remove_file(&path).map_err(|e| Error::new("remove", &path, e))?;
            self.file = Some((f, 0));
        }
        let (file, len) = self.file.as_mut().expect("made just above");
        // An attempt that failed may have left something behind.
        file.seek(SeekFrom::Start(*len)).map_err(|e| Error::new("write draft", dir, e))?;
        at_torn("write draft", dir, file, &self.tail)?;
        *len += self.tail.len() as u64;
        self.tail.clear();
        self.tail.shrink_to(64 * 1024);
        Ok(())
    }
    /// The first `max` bytes at most: enough for header work. Blocking when the draft has a file.
    pub fn head(&self, max: usize) -> io::Result<Vec<u8>> {
        let mut out = vec![0; (self.len() as usize).min(max)];
        let n = match &self.file {
            None => 0,
            Some((f, len)) => {
                let n = (*len as usize).min(out.len());
                f.read_exact_at(&mut out[..n], 0)?;
                n
            }
        };
        let rest = out.len() - n;
        out[n..].copy_from_slice(&self.tail[..rest]);
        Ok(out)
    }
    /// The whole message in memory. Blocking when the draft has a file.
    pub fn bytes(&self) -> io::Result<std::borrow::Cow<'_, [u8]>> {
        if self.file.is_none() {
            return Ok(std::borrow::Cow::Borrowed(&self.tail));
        }
        self.head(usize::MAX).map(std::borrow::Cow::Owned)
    }
    /// Blocking when the draft has a file. Hands the message on in pieces of bounded size.
    pub fn chunks(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        if let Some((f, len)) = &self.file {
            let mut buffer = vec![0; (*len).min(64 * 1024) as usize];
            let mut at = 0;
            while at < *len {
                let n = (*len - at).min(buffer.len() as u64) as usize;
                f.read_exact_at(&mut buffer[..n], at)?;
                each(&buffer[..n]);
                at += n as u64;
            }
        }
        each(&self.tail);
        Ok(())
    }
    /// Blocking. Appends the whole message to `to`; the kernel copies file to file.
    pub fn write_to(&self, to: &mut File, path: &Path) -> Result<()> {
        if let Some((f, len)) = &self.file {
            at("write", path, || {
                let mut src = f.try_clone()?;
                src.seek(SeekFrom::Start(0))?;
                let n = io::copy(&mut src.take(*len), to)?;
                if n == *len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
            })?;
        }
        write_all(to, path, &self.tail)
    }
}

/// Differs for every call on this host: mixes clock, process id and a counter. Not a secret.
pub fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static N: AtomicU64 = AtomicU64::new(0);
    let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    t.rotate_left(20) ^ (u64::from(std::process::id()) << 40) ^ N.fetch_add(1, Ordering::Relaxed)
}

/// A lock on a file, flock(2), which NFS clients turn into a lock on the server. Between threads of one process it
/// holds as well. Blocking; released on drop.
#[derive(Debug)]
pub struct Lock(nix::fcntl::Flock<File>);

impl Lock {
    pub fn exclusive(path: &Path) -> Result<Self> {
        Self::wait(path, nix::fcntl::FlockArg::LockExclusive)
    }
    /// Beside others that hold it shared.
    pub fn shared(path: &Path) -> Result<Self> {
        Self::wait(path, nix::fcntl::FlockArg::LockShared)
    }
    /// `None` when somebody else holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        match nix::fcntl::Flock::lock(Self::file(path)?, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(l) => Ok(Some(Self(l))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, e)) => Err(Error::new("lock", path, e.into())),
        }
    }
    fn wait(path: &Path, how: nix::fcntl::FlockArg) -> Result<Self> {
        let mut file = Self::file(path)?;
        loop {
            match nix::fcntl::Flock::lock(file, how) {
                Ok(l) => return Ok(Self(l)),
                Err((again, nix::errno::Errno::EINTR)) => file = again,
                Err((_, e)) => return Err(Error::new("lock", path, e.into())),
            }
        }
    }
    fn file(path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path).map_err(|e| Error::new("open lock", path, e))
    }
    /// The first `max` bytes of the locked file.
    pub fn read(&self, path: &Path, max: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; max];
        let mut n = 0;
        while n < max {
            match self.0.read_at(&mut bytes[n..], n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::new("read", path, e)),
            }
        }
        bytes.truncate(n);
        Ok(bytes)
    }
    /// Writes at the beginning of the locked file, in place: a crash may leave any part of it.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        at("write", path, || self.0.write_all_at(bytes, 0))
    }
}
