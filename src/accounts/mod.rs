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
mod remember;
pub(crate) mod scheme;
mod throttle;
mod users;

use crate::{
    config::{Config, Live, Problem},
    message::Address,
};
use book::Book;
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
        let lifted = peer.is_some_and(|ip| throttle::contains(&rules.exempt, ip));
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

    /// Bytes that an account may keep; `None`: no limit, or no such account.
    pub fn quota(&self, account: &AccountId) -> Option<u64> {
        self.live.get().book.users.get(account).and_then(|u| u.quota)
    }
}

impl Rules {
    fn new(config: &Config, book: Book) -> Self {
        Self { book, limit: config.limits.login_failures, exempt: config.limits.exempt.clone() }
    }
}

async fn pause(delay: Duration) {
    if delay != Duration::ZERO {
        smol::Timer::after(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A folder that goes away with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(users: &str, aliases: &str) -> Self {
            let folder = Self(std::env::temp_dir().join(format!("gatepost-accounts-{:x}", crate::disk::unique())));
            std::fs::create_dir(&folder.0).unwrap();
            folder.write(users, aliases);
            folder
        }
        fn write(&self, users: &str, aliases: &str) {
            std::fs::write(self.0.join("users"), users).unwrap();
            std::fs::write(self.0.join("aliases"), aliases).unwrap();
        }
        fn config(&self, more: &str) -> Config {
            let text = format!("hostname = \"mail.example.org\"\npostmaster = \"alice@example.org\"\n{more}\n[tls]\ncert = \"c\"\nkey = \"k\"\n");
            crate::config::parse(&self.0.join("gatepost.conf"), &text).unwrap().0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const USERS: &str = "alice@example.org:{PLAIN}sesame:quota=1M\nbob@example.org:{PLAIN}hunter2\ncarol@example.org:!\n";
    const ONE: &str = "domains = [\"example.org\"]";

    fn id(name: &str) -> AccountId {
        AccountId(name.into())
    }

    #[test]
    fn logs_in_with_the_right_password_only() {
        let folder = Folder::new(USERS, "");
        let (accounts, problems) = Accounts::load(&folder.config(&format!("{ONE}\n[limits]\nlogin-failures = 0"))).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let now = Instant::now();
        let cases = [
            ("alice@example.org", "sesame", Ok(id("alice@example.org"))),
            ("ALICE@EXAMPLE.ORG", "sesame", Ok(id("alice@example.org"))),
            ("alice", "sesame", Ok(id("alice@example.org"))),
            ("alice", "sesame ", Err(LoginError::Wrong)),
            ("alice", "", Err(LoginError::Wrong)),
            ("carol", "!", Err(LoginError::Wrong)),
            ("dave", "sesame", Err(LoginError::Wrong)),
            ("alice@example.com", "sesame", Err(LoginError::Wrong)),
            ("", "", Err(LoginError::Wrong)),
        ];
        for (name, password, want) in cases {
            for _ in 0..2 {
                assert_eq!(smol::block_on(accounts.login(name, password, None, now)), want, "{name} {password}");
            }
        }
        assert_eq!(accounts.quota(&id("alice@example.org")), Some(1 << 20));
        assert_eq!(accounts.list().len(), 3);
    }

    /// Accounts, then external addresses, then the detail.
    fn show(resolved: &Resolved) -> String {
        match resolved {
            Resolved::Unknown => "unknown".into(),
            Resolved::NotOurs => "not ours".into(),
            Resolved::To { accounts, external, detail } => {
                let names = accounts.iter().map(ToString::to_string).chain(external.iter().map(|a| format!("<{a}>")));
                names.chain(detail.iter().map(|d| format!("+{d}"))).collect::<Vec<_>>().join(" ")
            }
        }
    }

    const TWO: &str = "domains = [\"example.org\", \"example.net\"]\nsubaddress = \"+-\"";
    const TWO_USERS: &str = "bob@example.net:!\nalice@example.org:!\njean-luc@example.org:!\n";
    const ALIASES: &str = "info: alice, bob\n\
        sales@example.org: info, Out@Example.com, info\n\
        alice+bills@example.org: bob\n\
        hr+jobs: bob@example.net\n\
        hr: alice\n\
        bob: bob, spy@example.com\n\
        @example.net: alice@example.org\n\
        abuse@example.org: postmaster\n";

    #[test]
    fn resolves() {
        let folder = Folder::new(TWO_USERS, ALIASES);
        let (accounts, problems) = Accounts::load(&folder.config(TWO)).unwrap();
        assert_eq!(problems, []);
        const CASES: &[(&str, &str)] = &[
            ("alice@example.org", "alice@example.org"),
            ("ALICE@example.org", "alice@example.org"),
            ("alice+Lists.rust@example.org", "alice@example.org +Lists.rust"),
            ("alice-lists+x@example.org", "alice@example.org +lists+x"),
            ("jean-luc@example.org", "jean-luc@example.org"),
            ("jean-luc+x-y@example.org", "jean-luc@example.org +x-y"),
            ("alice+bills@example.org", "bob@example.net <spy@example.com>"),
            // A bare name as target: in the same domain, else where it is.
            ("info@example.org", "alice@example.org bob@example.net <spy@example.com>"),
            ("info@example.net", "alice@example.org bob@example.net <spy@example.com>"),
            ("info+x@example.org", "alice@example.org bob@example.net <spy@example.com>"),
            ("sales@example.org", "alice@example.org bob@example.net <Out@example.com> <spy@example.com>"),
            ("hr+jobs@example.org", "bob@example.net <spy@example.com>"),
            ("hr@example.org", "alice@example.org"),
            ("hr+other@example.org", "alice@example.org"),
            ("nobody@example.org", "unknown"),
            ("nobody@example.net", "alice@example.org"),
            ("postmaster@example.org", "alice@example.org"),
            ("Postmaster@example.net", "alice@example.org"),
            ("postmaster@mail.example.org", "alice@example.org"),
            ("alice@mail.example.org", "not ours"),
            ("abuse@example.org", "alice@example.org"),
            ("alice@example.com", "not ours"),
        ];
        for (address, want) in CASES {
            assert_eq!(show(&accounts.resolve(&Address::parse(address).unwrap())), *want, "{address}");
        }
    }

    #[test]
    fn sends_as_whatever_reaches_the_account() {
        let folder = Folder::new(TWO_USERS, ALIASES);
        let (accounts, _) = Accounts::load(&folder.config(TWO)).unwrap();
        const CASES: &[(&str, &str, bool)] = &[
            ("alice@example.org", "alice@example.org", true),
            ("alice@example.org", "Alice+x@example.org", true),
            ("alice@example.org", "alice+bills@example.org", true),
            ("bob@example.net", "alice+bills@example.org", true),
            ("bob@example.net", "bob@example.net", true),
            ("alice@example.org", "sales@example.org", true),
            ("alice@example.org", "jean-luc@example.org", false),
            ("alice@example.org", "bob@example.net", false),
            ("alice@example.org", "anything@example.net", true),
            ("bob@example.net", "anything@example.net", false),
            ("alice@example.org", "anything@example.org", false),
            ("alice@example.org", "postmaster@example.net", true),
            ("bob@example.net", "postmaster@example.net", false),
            ("alice@example.org", "alice@example.com", false),
        ];
        for (account, address, want) in CASES {
            assert_eq!(accounts.may_send_as(&id(account), &Address::parse(address).unwrap()), *want, "{account} as {address}");
        }
    }

    #[test]
    fn says_what_does_not_fit_together() {
        const CASES: &[(&str, &str)] = &[
            ("info: alcie", "aliases:1: info: alcie is neither a user nor an alias"),
            ("info: alcie@example.org", "aliases:1: info: alcie@example.org is neither a user nor an alias"),
            (
                "a: b\nb: c\nc: a, alice",
                "aliases:1: a@example.org: goes round in a circle: a@example.org -> b@example.org -> c@example.org -> a@example.org",
            ),
            ("a@example.org: a", "aliases:1: a@example.org: goes round in a circle: a@example.org -> a@example.org"),
            (
                "alice: bob\nbob: alice",
                "aliases:1: alice@example.org: goes round in a circle: alice@example.org -> bob@example.org -> alice@example.org",
            ),
            ("alice: alice, bob", ""),
            ("postmaster: root\nroot: alice", ""),
            ("a: b, c\nb: alice\nc: b", ""),
            ("@example.org: alice\ninfo: alcie", ""),
        ];
        for (aliases, want) in CASES {
            let folder = Folder::new("alice:*\nbob:*", aliases);
            let got = match Accounts::load(&folder.config(ONE)) {
                Ok((_, problems)) | Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("|"),
            };
            assert_eq!(got.replace(&format!("{}/", folder.0.display()), ""), *want, "{aliases}");
        }
    }

    #[test]
    fn somebody_is_always_postmaster() {
        let folder = Folder::new("bob:!\nalice:!", "");
        let mut config = folder.config(ONE);
        let post = Address::parse("postmaster@example.org").unwrap();
        for (postmaster, want, warnings) in
            [(Some("alice@example.org"), "alice@example.org", 0), (Some("me@example.com"), "<me@example.com>", 0), (None, "bob@example.org", 1)]
        {
            config.postmaster = postmaster.map(str::to_owned);
            let (accounts, problems) = Accounts::load(&config).unwrap();
            assert_eq!((show(&accounts.resolve(&post)).as_str(), problems.len()), (want, warnings), "{postmaster:?}");
        }
        config.postmaster = Some("carol@example.org".into());
        let problems = Accounts::load(&config).err().unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].text.starts_with("postmaster: carol@example.org is neither a user nor an alias"));
        folder.write("", "");
        config.postmaster = None;
        let (accounts, problems) = Accounts::load(&config).unwrap();
        assert_eq!((accounts.resolve(&post), problems.len(), problems[0].warning), (Resolved::Unknown, 1, true));
    }

    /// What [`Accounts::quick`] says, without its pauses.
    fn quick(accounts: &Accounts, name: &str, password: &str, peer: &str, now: Instant) -> Option<Result<(), LoginError>> {
        let rules = accounts.live.get();
        let ip = peer.parse().unwrap();
        let limit = if throttle::contains(&rules.exempt, ip) { 0 } else { rules.limit };
        accounts.quick(&Guess { rules, account: id(name), password, net: Some(Net::of(ip)), limit, now }).map(|(answer, _)| answer)
    }

    #[test]
    fn guesses_of_others_do_not_lock_out_who_is_known() {
        let folder = Folder::new(USERS, "");
        let (accounts, _) = Accounts::load(&folder.config(&format!("{ONE}\n[limits]\nlogin-failures = 3\nexempt = [\"198.51.100.0/24\"]"))).unwrap();
        let now = Instant::now();
        let alice = id("alice@example.org");
        let home = Some("192.0.2.1".parse().unwrap());
        assert_eq!(smol::block_on(accounts.login("alice", "sesame", home, now)), Ok(alice.clone()));
        // A botnet guesses from everywhere, some of it next door.
        for n in 0..30u8 {
            accounts.throttle().charge(Some(Net::of([203, 0, 113, n].into())), &alice, 3, now);
            accounts.throttle().charge(Some(Net::of([192, 0, 2, 1].into())), &alice, 3, now);
        }
        assert_eq!(quick(&accounts, "alice@example.org", "sesame", "192.0.2.1", now), Some(Ok(())));
        assert_eq!(quick(&accounts, "alice@example.org", "guess", "192.0.2.1", now), Some(Err(LoginError::Throttled)));
        // A stranger is not even told that the password is right.
        assert_eq!(quick(&accounts, "alice@example.org", "sesame", "192.0.2.2", now), Some(Err(LoginError::Throttled)));
        assert_eq!(quick(&accounts, "alice@example.org", "guess", "198.51.100.1", now), None);
        assert_eq!(quick(&accounts, "bob@example.org", "hunter2", "192.0.2.2", now), None);
        // A reload forgets the remembered password: the hash decides again.
        accounts.reload(&folder.config(&format!("{ONE}\n[limits]\nlogin-failures = 0"))).unwrap();
        assert_eq!(quick(&accounts, "alice@example.org", "sesame", "192.0.2.1", now), None);
        folder.write("alice:", "");
        assert!(accounts.reload(&folder.config(ONE)).is_err());
        assert_eq!(accounts.list().len(), 3);
    }

    #[test]
    fn the_same_wrong_guess_counts_once() {
        let folder = Folder::new(USERS, "");
        let (accounts, _) = Accounts::load(&folder.config(&format!("{ONE}\n[limits]\nlogin-failures = 3"))).unwrap();
        let now = Instant::now();
        let (net, alice) = (Some(Net::of([192, 0, 2, 1].into())), id("alice@example.org"));
        accounts.throttle().charge(net, &alice, 3, now);
        accounts.live.get().book.remembered.wrong("192.0.2.1 alice@example.org", "old", now);
        assert_eq!(quick(&accounts, "alice@example.org", "old", "192.0.2.1", now), Some(Err(LoginError::Wrong)));
        assert_eq!(quick(&accounts, "alice@example.org", "other", "192.0.2.1", now), None);
        assert_eq!(quick(&accounts, "alice@example.org", "old", "192.0.2.2", now), None);
        assert_eq!(accounts.throttle().delay(net, &alice, 3, now).as_millis(), 250);
    }

    proptest::proptest! {
        /// Aliases at random, circles among them: refused, or every address ends at accounts that are there.
        #[test]
        fn resolving_ends(lines in proptest::collection::vec("(a|b|c|d|x|@example\\.org)(@example\\.org|@example\\.net|): (a|b|c|d|x|a@example\\.net|e@example\\.com)(, (a|b|c|d|x))?", 0..8)) {
            let file = std::path::Path::new("/nonexistent/gatepost.conf");
            let text = format!("hostname = \"mail.example.org\"\n{TWO}\n[tls]\ncert = \"c\"\nkey = \"k\"\n");
            let (config, _) = crate::config::parse(file, &text).unwrap();
            if let Ok((accounts, _)) = Accounts::parse(&config, "a@example.org:!\nb@example.net:!\n", &lines.join("\n")) {
                for name in ["a", "b", "c", "d", "x", "a+x", "postmaster", "nobody"] {
                    for domain in ["example.org", "example.net"] {
                        let address = Address { local: name.into(), domain: domain.into() };
                        if let Resolved::To { accounts: reached, external, .. } = accounts.resolve(&address) {
                            assert!(reached.iter().all(|id| accounts.list().contains(id)));
                            assert!(!reached.is_empty() || !external.is_empty());
                        }
                    }
                }
                // Whatever an alias names is somewhere: an alias never leads nowhere.
                for line in &lines {
                    let name = line.split(':').next().unwrap();
                    let full = if name.starts_with('@') { format!("nobody{name}") } else if name.contains('@') { name.to_owned() } else { format!("{name}@example.org") };
                    if let Some(address) = Address::parse(&full) {
                        assert_ne!(accounts.resolve(&address), Resolved::Unknown, "{line}");
                    }
                }
            }
        }
    }
}
