//! Test hook: the n-th operation from now fails, or ends the process as `kill -9` would.
//!
//! A write that fails has put half of its bytes there, as it may on a real disk; a long one that is killed is so once
//! before it, once half-way and once after it. Reading is counted apart, because it changes nothing: only
//! [`Kind::Unreadable`] hits it.

use nix::errno::Errno;
use std::{
    io,
    sync::atomic::{AtomicI64, AtomicU8, Ordering},
};

static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);
static KIND: AtomicU8 = AtomicU8::new(0);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The process ends at once, without destructors.
    Kill = 1,
    /// EIO, once, from what writes.
    Io = 2,
    /// ENOSPC from there on, for every operation that needs space.
    Full = 3,
    /// EIO, once, from what reads.
    Unreadable = 4,
    /// EROFS from there on, for every operation that writes.
    ReadOnly = 5,
}

impl Kind {
    const ALL: [(Self, &str); 5] =
        [(Self::Kill, "kill"), (Self::Io, "io"), (Self::Full, "full"), (Self::Unreadable, "unreadable"), (Self::ReadOnly, "readonly")];

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(k, _)| *k)
    }
    fn of(n: u8) -> Option<Self> {
        Self::ALL.iter().find(|(k, _)| *k as u8 == n).map(|(k, _)| *k)
    }
}

/// Arms the hook for the whole process: operation number `n` (0 is the next one) fails.
pub fn arm(n: i64, kind: Kind) {
    KIND.store(kind as u8, Ordering::SeqCst);
    LEFT.store(n, Ordering::SeqCst);
}
/// Disarms; returns how many operations were left, so that a test knows when it has tried them all.
pub fn disarm() -> i64 {
    KIND.store(0, Ordering::SeqCst);
    LEFT.swap(i64::MAX, Ordering::SeqCst)
}
/// Arms from `GATEPOST_FAULT=kill:17`, for tests of the real daemon.
pub fn arm_from_env() {
    let Ok(v) = std::env::var("GATEPOST_FAULT") else { return };
    let Some((kind, n)) = v.split_once(':') else { return };
    if let (Some(kind), Ok(n)) = (Kind::parse(kind), n.parse()) {
        arm(n, kind);
    }
}

/// What an operation does, as far as the hook cares.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    /// Changes something and needs space.
    Write,
    /// Changes something that a full disk does not stop.
    Free,
}

#[cfg(test)]
thread_local! {
    pub(super) static LOOKS: std::cell::Cell<(u64, u64)> = const { std::cell::Cell::new((0, 0)) };
}
/// How many directories were listed and how many files looked at by this thread, since the last time.
#[cfg(test)]
pub(crate) fn looks() -> (u64, u64) {
    LOOKS.take()
}

pub(super) fn step(does: Does) -> io::Result<()> {
    let Some(kind) = Kind::of(KIND.load(Ordering::Relaxed)) else { return Ok(()) };
    let concerns = match kind {
        Kind::Unreadable => does == Does::Read,
        Kind::Full => does == Does::Write,
        Kind::Kill | Kind::Io | Kind::ReadOnly => does != Does::Read,
    };
    if !concerns {
        return Ok(());
    }
    let left = LEFT.fetch_sub(1, Ordering::SeqCst);
    let no = |e: Errno| Err(io::Error::from_raw_os_error(e as i32));
    match kind {
        Kind::Kill if left == 0 => {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
            Ok(())
        }
        Kind::Io | Kind::Unreadable if left == 0 => no(Errno::EIO),
        Kind::Full if left <= 0 => no(Errno::ENOSPC),
        Kind::ReadOnly if left <= 0 => no(Errno::EROFS),
        _ => Ok(()),
    }
}

/// Up to here a write is killed before it or after it: the kernel looks for a signal between pages.
const PAGE: usize = 4096;

/// The second step of a long write that is killed. True: now, and the caller puts half of it there before its next step.
pub(super) fn is_torn(len: usize) -> bool {
    if KIND.load(Ordering::Relaxed) != Kind::Kill as u8 || len <= PAGE {
        return false;
    }
    let now = LEFT.load(Ordering::SeqCst) == 0;
    if !now {
        LEFT.fetch_sub(1, Ordering::SeqCst);
    }
    now
}
