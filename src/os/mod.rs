//! The operating system: privileges, sandbox, activation, signals. Knows nothing of mail. The only `unsafe`.
//!
//! Order at start, all before the first smol call (which starts threads that keep what they were born with):
//! [`blocking_threads`], configuration and secrets read, [`sockets::Activated::from_env`] or `net::listen::bind`,
//! [`confine`]; then the executor, and [`signals::Signals`] in it.

pub mod notify;
pub mod sockets;

mod environment;
mod privileges;
mod sandbox;
pub mod signals;

pub use environment::blocking_threads;
pub use privileges::{Confinement, Report, confine, files, own_directories};

use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::{Uid, User},
};
use std::{env, io, os::fd::AsFd};

/// The user id at the other end of a UNIX stream socket (SO_PEERCRED: as it was at connect).
pub fn peer_uid(stream: &impl AsFd) -> io::Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

/// The name of a system user, if it has one. Reads the user database: blocking.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|u| u.name)
}

/// Does systemd's journal read what we write on stderr? JOURNAL_STREAM alone does not say so: programs inherit it whose
/// stderr leads elsewhere, to a file or a terminal.
pub fn stderr_is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    nix::sys::stat::fstat(io::stderr()).is_ok_and(|s| stream == format!("{}:{}", s.st_dev, s.st_ino))
}

/// Our effective user id.
pub fn uid() -> u32 {
    Uid::effective().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_of_a_pair_is_us() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_uid(&a).unwrap(), uid());
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(4_000_000_000), None);
    }
}
