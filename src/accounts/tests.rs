//! The room as a whole: files in a folder, logins with a set clock, what addresses mean.

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
    assert_eq!(accounts.list().len(), 3);
}

#[test]
fn a_users_own_quota_goes_before_everybodys() {
    const USERS: &str = "alice:!:quota=1M\nbob:!\ncarol:!:quota=0,0\ndave:!:quota=,5\n";
    let folder = Folder::new(USERS, "");
    let (accounts, _) = Accounts::load(&folder.config(&format!("{ONE}\n[quota]\nstorage = \"1G\"\nmessages = 100"))).unwrap();
    let quota = |name: &str| {
        let q = accounts.quota(&format!("{name}@example.org"));
        (q.storage, q.messages)
    };
    assert_eq!(
        [quota("alice"), quota("bob"), quota("carol"), quota("dave"), quota("eve")],
        [(1 << 20, 100), (1 << 30, 100), (0, 0), (1 << 30, 5), (0, 0)]
    );
    assert!(accounts.reload(&folder.config(ONE)).is_ok());
    assert_eq!([quota("alice"), quota("bob")], [(1 << 20, 0), (0, 0)]);
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
        ("alice: bob\nbob: alice", "aliases:1: alice@example.org: goes round in a circle: alice@example.org -> bob@example.org -> alice@example.org"),
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
    let limit = if crate::config::contains(&rules.exempt, ip) { 0 } else { rules.limit };
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
                let full = match name.split_once('@') {
                    Some(("", _)) => vec![format!("nobody{name}")],
                    Some(_) => vec![name.to_owned()],
                    None => vec![format!("{name}@example.org"), format!("{name}@example.net")],
                };
                for address in full.iter().filter_map(|f| Address::parse(f)) {
                    assert_ne!(accounts.resolve(&address), Resolved::Unknown, "{line} {address}");
                }
            }
        }
    }
}
