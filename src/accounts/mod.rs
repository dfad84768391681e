//! Who has mail here: users, password schemes, aliases, who may send as whom, throttling of guesses.
//!
//! Knows nothing of protocols or mail files. `users` and `aliases` are static text that the daemon never writes;
//! [`Accounts::reload`] keeps the old ones when the new are wrong.
//!
//! Password schemes: `{SCHEME}hash` as Dovecot writes them (RFC 5803 and RFC 7677 for SCRAM-SHA-256, RFC 9106 for Argon2,
//! crypt(5) for the rest), passwords prepared by RFC 4013.

mod aliases;
mod book;
pub(crate) mod edit;
pub(crate) mod quota;
mod remember;
pub(crate) mod scheme;
#[cfg(test)]
mod tests;
mod throttle;
mod users;

use crate::{
    config::{Config, Live, Problem},
    message::Address,
};
use book::Book;
pub use quota::Quota;
use smol::lock::Semaphore;
use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use throttle::{Net, Throttle};

/// An account's name: its full address in lower case, `alice@example.org`. The home is `mail/DOMAIN/LOCALPART`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AccountId(pub Arc<str>);

/// So that a map can be asked by name. Equality and order are those of the text.
impl std::borrow::Borrow<str> for AccountId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

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

/// Hashes at the same time; each may need 64 MiB.
const HASHES: usize = 2;
/// Logins that wait for a hash. More would hear nothing for minutes.
const WAITING: usize = 100;
/// No password is longer; hashing megabytes is work for nothing.
const MAX_PASSWORD: usize = 1024;
/// RFC 5321 §4.5.3.1: 64 octets, `@`, 255 octets.
const MAX_NAME: usize = 320;

/// Users, aliases, and what is known about guesses.
pub struct Accounts {
    live: Live<Rules>,
    throttle: Mutex<Throttle>,
    hashes: Semaphore,
    waiting: Semaphore,
}

/// What a reload replaces.
struct Rules {
    book: Book,
    limit: u32,
    exempt: Vec<(IpAddr, u8)>,
    /// Of everybody whose line says nothing else.
    quota: crate::config::Quota,
}

/// One login on its way.
struct Guess<'a> {
    rules: Arc<Rules>,
    account: AccountId,
    password: &'a str,
    /// `None`: unknown (a UNIX socket).
    net: Option<Net>,
    /// 0: nothing is counted.
    limit: u32,
    now: Instant,
}

impl Guess<'_> {
    fn who(&self) -> String {
        self.net.map_or_else(|| self.account.to_string(), |net| format!("{net} {}", self.account))
    }
}

impl Accounts {
    /// `Err`: all problems in `users` and `aliases`. Blocking.
    pub fn load(config: &Config) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (book, problems) = Book::read(config)?;
        Ok((Self::new(Rules::new(config, book)), problems))
    }

    /// The same with the texts of both files at hand.
    pub fn parse(config: &Config, users: &str, aliases: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (book, problems) = Book::parse(config, users, aliases, Vec::new())?;
        Ok((Self::new(Rules::new(config, book)), problems))
    }

    fn new(rules: Rules) -> Self {
        Self { live: Live::new(rules), throttle: Mutex::default(), hashes: Semaphore::new(HASHES), waiting: Semaphore::new(HASHES + WAITING) }
    }

    /// Also forgets every remembered login. Blocking.
    pub fn reload(&self, config: &Config) -> Result<Vec<Problem>, Vec<Problem>> {
        let (book, problems) = Book::read(config)?;
        self.live.set(Rules::new(config, book));
        Ok(problems)
    }

    /// Verifies a password, off the executor, at most two hashes at a time; remembers success for minutes as a
    /// keyed hash. `name` may be a full address or, with a single domain, a local part alone. A wrong guess is
    /// answered late, and later with each one.
    pub async fn login(&self, name: &str, password: &str, peer: Option<IpAddr>, now: Instant) -> Result<AccountId, LoginError> {
        let rules = self.live.get();
        if password.len() > MAX_PASSWORD || password.contains('\0') || name.len() > MAX_NAME {
            smol::Timer::after(throttle::LONGEST_DELAY).await;
            return Err(LoginError::Wrong);
        }
        let account = rules.book.login_name(name).unwrap_or_else(|| AccountId(name.to_lowercase().into()));
        let lifted = peer.is_some_and(|ip| crate::config::contains(&rules.exempt, ip));
        let limit = if lifted { 0 } else { rules.limit };
        let guess = Guess { account, password, net: peer.map(Net::of), limit, now, rules };
        match self.quick(&guess) {
            Some((answer, delay)) => {
                pause(delay).await;
                answer.map(|()| guess.account)
            }
            None => self.slow(guess).await,
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said without a hash, and after which pause.
    fn quick(&self, g: &Guess<'_>) -> Option<(Result<(), LoginError>, Duration)> {
        let mut throttle = self.throttle();
        let full = g.limit != 0 && throttle.is_full(g.net, &g.account, g.limit, g.now);
        // From an address that the account knows, a remembered password works whatever others guess meanwhile.
        // Others must not try passwords on what is remembered once they were told to stop.
        let ask = !full || throttle.is_known(g.net, &g.account, g.now);
        if ask && g.rules.book.remembered.is_right(&g.account, g.password, g.now) {
            throttle.welcome(g.net, &g.account, g.now);
            return Some((Ok(()), Duration::ZERO));
        }
        if full {
            return Some((Err(LoginError::Throttled), throttle::LONGEST_DELAY));
        }
        if g.limit != 0 && g.rules.book.remembered.is_wrong(&g.who(), g.password, g.now) {
            return Some((Err(LoginError::Wrong), throttle.delay(g.net, &g.account, g.limit, g.now)));
        }
        None
    }

    /// By the hash.
    async fn slow(&self, g: Guess<'_>) -> Result<AccountId, LoginError> {
        let Some(_place) = self.waiting.try_acquire() else { return Err(LoginError::Temporary) };
        let turn = self.hashes.acquire().await;
        // Others may have guessed while this one stood in line.
        if let Some((answer, delay)) = self.quick(&g) {
            drop(turn);
            pause(delay).await;
            return answer.map(|()| g.account);
        }
        if g.limit != 0 {
            self.throttle().charge(g.net, &g.account, g.limit, g.now);
        }
        let (rules, account, password) = (g.rules.clone(), g.account.clone(), g.password.to_owned());
        let right = smol::unblock(move || rules.book.verify(&account, &password)).await;
        drop(turn);
        if right {
            g.rules.book.remembered.right(&g.account, g.password, g.now);
            let mut throttle = self.throttle();
            if g.limit == 0 {
                throttle.welcome(g.net, &g.account, g.now);
            } else {
                throttle.refund(g.net, &g.account, g.limit, g.now);
            }
            return Ok(g.account);
        }
        if g.limit != 0 {
            g.rules.book.remembered.wrong(&g.who(), g.password, g.now);
            let delay = self.throttle().delay(g.net, &g.account, g.limit, g.now);
            pause(delay).await;
        }
        Err(LoginError::Wrong)
    }

    /// What an address means: exact aliases, exact accounts, then the same without the detail, postmaster, catch-all.
    pub fn resolve(&self, address: &Address) -> Resolved {
        self.live.get().book.resolve(address)
    }

    /// Own address, its subaddresses, and aliases that reach this account: also any address of a domain whose
    /// catch-all reaches it.
    pub fn may_send_as(&self, account: &AccountId, address: &Address) -> bool {
        self.live.get().book.may_send_as(account, address)
    }

    /// In order of name.
    pub fn list(&self) -> Vec<AccountId> {
        self.live.get().book.users.keys().cloned().collect()
    }

    /// What an account may keep. Nothing is limited where there is no such account.
    pub fn quota(&self, account: &str) -> Quota {
        let rules = self.live.get();
        rules.book.users.get(account).map(|u| u.quota.or(&rules.quota)).unwrap_or_default()
    }
}

impl Rules {
    fn new(config: &Config, book: Book) -> Self {
        Self { book, limit: config.limits.login_failures, exempt: config.limits.exempt.clone(), quota: config.quota.clone() }
    }
}

async fn pause(delay: Duration) {
    if delay != Duration::ZERO {
        smol::Timer::after(delay).await;
    }
}
