//! Configuration: `gatepost.conf` (TOML syntax, plain nouns), read once and again on SIGHUP.
//!
//! `keys.rs` is the ONE table (key, type, default, text): loader, errors with file:line,
//! `gatepost check --defaults` and gatepost.conf(5) come out of it. Knows no other room but `disk` and
//! `message` (an address is an address).

mod keys;
mod load;
mod man;
mod render;
mod rules;
#[cfg(test)]
mod tests;
mod uidl;
mod units;
mod value;

pub(crate) use load::denied;
pub use load::{load, parse};
pub use man::man;
pub use render::{needs_restart, render};
pub use uidl::UidlFormat;
pub use units::{about_size, parse_duration, parse_size, write_size};
pub use value::quote;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A value that is replaced whole on reload; a session keeps the `Arc` it began with.
#[derive(Debug)]
pub struct Live<T>(Mutex<Arc<T>>);

impl<T> Live<T> {
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }
    pub fn get(&self) -> Arc<T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    pub fn set(&self, value: T) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(value);
    }
}

/// The effective configuration: every key of `keys.rs` with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from; relative paths in it are relative to its folder.
    pub file: PathBuf,
    pub hostname: String,
    /// Domains whose mail is ours, lower case A-labels.
    pub domains: Vec<String>,
    /// Gets mail to postmaster of any of our domains when no alias says otherwise.
    pub postmaster: Option<String>,
    /// System user to become after binding; `None` or not root: stay.
    pub user: Option<String>,
    pub state: PathBuf,
    pub run: PathBuf,
    pub users: PathBuf,
    pub aliases: PathBuf,
    pub log: String,
    pub listen: Listen,
    pub tls: Tls,
    pub dns: Dns,
    pub limits: Limits,
    pub queue: Queue,
    pub quota: Quota,
    pub smtp: Smtp,
    /// Homes that have no folders yet get theirs in a tree.
    pub folders_as_tree: bool,
    /// How POP3 names messages for which no other server noted a name.
    pub uidl_format: UidlFormat,
    pub routes: Vec<Route>,
    /// `-`, `+` … : what separates the detail of a subaddress; empty: none.
    pub subaddress: String,
}

/// Is `address` in one of these networks (base and prefix length)? IPv4-mapped IPv6 counts as IPv4.
pub fn contains(networks: &[(IpAddr, u8)], address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let (there, family) = bits(address);
    networks.iter().any(|(network, length)| {
        let (network, of) = bits(*network);
        let mask = if *length == 0 { 0 } else { u128::MAX << (128 - u32::from(*length).min(128)) };
        of == family && (there ^ network) & mask == 0
    })
}

/// Each empty list: not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    pub smtp: Vec<SocketAddr>,
    pub submission: Vec<SocketAddr>,
    pub submissions: Vec<SocketAddr>,
    pub imap: Vec<SocketAddr>,
    pub imaps: Vec<SocketAddr>,
    pub pop3: Vec<SocketAddr>,
    pub pop3s: Vec<SocketAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Networks (CIDR) whose clients may log in without TLS.
    pub plaintext: Vec<(IpAddr, u8)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Empty: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub message_size: u64,
    pub recipients: usize,
    pub connections: usize,
    pub connections_per_address: usize,
    /// Failed logins of one address (and of one account) before they are slowed and refused; 0 lifts the limit.
    pub login_failures: u32,
    /// Networks (CIDR) that no per-address limit applies to.
    pub exempt: Vec<(IpAddr, u8)>,
    /// Blocking pool threads.
    pub threads: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// First wait; doubles up to `retry_max`.
    pub retry: Duration,
    pub retry_max: Duration,
    pub lifetime: Duration,
    /// Warn the sender of a delay once after this; zero: never.
    pub warn_after: Duration,
    pub connections: usize,
    pub connections_per_host: usize,
}

/// For accounts whose line in `users` says nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes; 0: no limit.
    pub storage: u64,
    /// 0: no limit.
    pub messages: u32,
    /// How long mail for a full account is refused for now, and not for good.
    pub grace: Duration,
    /// Percents at which a user is warned, ascending.
    pub warn: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// Port of MX hosts: 25 but for tests and demo.
    pub mx_port: u16,
    /// Idle time for one command or one stretch of data.
    pub timeout: Duration,
    /// Add the client's address to Received of submissions.
    pub submission_received_client: bool,
    /// The From field of submissions may name others; the envelope sender never may.
    pub submission_any_from: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RouteTls {
    /// Opportunistic.
    #[default]
    May,
    /// STARTTLS with a valid certificate, or no mail.
    Require,
    /// TLS from the first byte (465).
    Implicit,
    Never,
}

/// `[[route]]`: the first whose `to` or `from` matches; no match: by MX.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Recipient domains, `*` any, `.example.org` with its subdomains. Empty: any.
    pub to: Vec<String>,
    /// Sender domains or addresses. Empty: any.
    pub from: Vec<String>,
    /// `host` and port; `None`: by MX after all.
    pub via: Option<(String, u16)>,
    pub tls: RouteTls,
    pub user: Option<String>,
    /// Where `password` was read from.
    pub password_file: Option<PathBuf>,
    /// Read at load, never printed.
    pub password: Option<Secret>,
}

/// Prints as REDACTED.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("REDACTED")
    }
}

/// What is wrong: each problem `file:line: key: what, and what to write instead`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 when it is about the file as a whole.
    pub line: usize,
    pub text: String,
    /// A warning does not stop the daemon.
    pub warning: bool,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.warning { "warning: " } else { "" };
        if self.line == 0 {
            write!(f, "{}: {kind}{}", self.file.display(), self.text)
        } else {
            write!(f, "{}:{}: {kind}{}", self.file.display(), self.line, self.text)
        }
    }
}
