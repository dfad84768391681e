//! Who has mail here: users, password schemes, aliases, who may send as whom, throttling of guesses.
//!
//! Knows nothing of protocols or mail files. `users` and `aliases` are static text that the daemon never writes;
//! [`Accounts::reload`] keeps the old ones when the new are wrong.

use crate::{
    config::{Config, Live, Problem},
    message::Address,
};
use std::{net::IpAddr, sync::Arc, time::Instant};

/// An account's name: its full address in lower case, `alice@example.org`. The home is `mail/DOMAIN/LOCALPART`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AccountId(pub Arc<str>);

impl std::fmt::Display for AccountId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an address of ours means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolved {
    /// Flattened: every account and external address that it reaches, without doubles.
    /// `detail`: of `alice+detail@`, for the account itself only.
    To { accounts: Vec<AccountId>, external: Vec<Address>, detail: Option<String> },
    /// The domain is ours, the user is not there.
    Unknown,
    /// Not a domain of ours.
    NotOurs,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoginError {
    /// Wrong name or password; the same for both, after the same time.
    Wrong,
    /// Too many wrong guesses from this address or for this account.
    Throttled,
    /// Not the client's fault.
    Temporary,
}

pub struct Accounts {
    _inner: Live<()>,
}

impl Accounts {
    /// `Err`: all problems in `users` and `aliases`.
    pub fn load(config: &Config) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let _ = config;
        todo!("accounts room")
    }
    /// Also forgets every remembered login.
    pub fn reload(&self, config: &Config) -> Result<Vec<Problem>, Vec<Problem>> {
        let _ = config;
        todo!("accounts room")
    }
    /// Verifies a password, off the executor, at most two hashes at a time; remembers success for minutes as a
    /// keyed hash. `name` may be a full address or, with a single domain, a local part alone.
    pub async fn login(&self, name: &str, password: &str, peer: Option<IpAddr>, now: Instant) -> Result<AccountId, LoginError> {
        let _ = (name, password, peer, now);
        todo!("accounts room")
    }
    pub fn resolve(&self, address: &Address) -> Resolved {
        let _ = address;
        todo!("accounts room")
    }
    /// Own address, its subaddresses, and aliases that reach this account.
    pub fn may_send_as(&self, account: &AccountId, address: &Address) -> bool {
        let _ = (account, address);
        todo!("accounts room")
    }
    pub fn list(&self) -> Vec<AccountId> {
        todo!("accounts room")
    }
}
