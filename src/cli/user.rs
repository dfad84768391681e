//! `gatepost user`: lines of the `users` file, the only thing here that writes it.

use super::{Exit, queue::quote, trouble};
use crate::{
    accounts::{AccountId, Accounts, edit, quota::Own, scheme},
    config::{self, Config, Live},
    disk,
    mta::Quotas,
    proto::sasl,
    store::{Limits, Store, Usage},
};
use argh::FromArgs;
use ring::rand::SecureRandom;
use std::{
    io::{BufRead, IsTerminal, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

/// add, list, remove users, change passwords and quotas
#[derive(FromArgs)]
#[argh(subcommand, name = "user")]
pub(crate) struct Args {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    Add(Add),
    Passwd(Passwd),
    List(List),
    Quota(Quota),
    Remove(Remove),
}

/// add a user; asks for the password unless --stdin or --generate is given
#[derive(FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// address; with a single domain the local part will do
    #[argh(positional)]
    address: String,
    /// what the user may keep: 2G, or with a number of messages 2G,10000 (default: as everybody)
    #[argh(option)]
    quota: Option<String>,
    #[argh(option, default = "\"ARGON2ID\".to_owned()")]
    /// ARGON2ID (default), SHA512-CRYPT, BLF-CRYPT, CRYPT (yescrypt) or SCRAM-SHA-256
    scheme: String,
    /// read the password from the first line of standard input
    #[argh(switch)]
    stdin: bool,
    /// make a password and print it
    #[argh(switch)]
    generate: bool,
}

/// change a password
#[derive(FromArgs)]
#[argh(subcommand, name = "passwd")]
struct Passwd {
    /// address; with a single domain the local part will do
    #[argh(positional)]
    address: String,
    #[argh(option, default = "\"ARGON2ID\".to_owned()")]
    /// ARGON2ID (default), SHA512-CRYPT, BLF-CRYPT, CRYPT (yescrypt) or SCRAM-SHA-256
    scheme: String,
    /// read the password from the first line of standard input
    #[argh(switch)]
    stdin: bool,
    /// make a password and print it
    #[argh(switch)]
    generate: bool,
}

/// show what a user keeps, or set what the user may keep
#[derive(FromArgs)]
#[argh(subcommand, name = "quota")]
struct Quota {
    /// address; with a single domain the local part will do
    #[argh(positional)]
    address: String,
    /// the new limit: 2G, or with a number of messages 2G,10000; 0 for none, default for what everybody has
    #[argh(positional)]
    limit: Option<String>,
    /// count again what is kept, as after files were put there or removed by hand
    #[argh(switch)]
    recount: bool,
}

/// list users
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// as a JSON array of objects with address, quota and messages (null for none), used and used_messages (null without quota)
    #[argh(switch)]
    json: bool,
}

/// remove a user; the mail stays where it is
#[derive(FromArgs)]
#[argh(subcommand, name = "remove")]
struct Remove {
    /// address; with a single domain the local part will do
    #[argh(positional)]
    address: String,
}

pub(crate) fn run(args: &Args, file: &Path) -> Exit {
    let config = match config::load(file) {
        Ok((config, _)) => config,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("{p}"));
            return trouble("the configuration must be right first");
        }
    };
    let done = match &args.verb {
        Verb::List(list) => return show(&config, list.json),
        Verb::Quota(Quota { address, limit: None, recount }) => return keeps(&config, address, *recount),
        Verb::Quota(Quota { address, limit: Some(limit), recount: false }) => set_quota(&config, address, limit),
        Verb::Quota(_) => return trouble("a new limit and --recount exclude each other"),
        Verb::Add(a) => add(&config, a),
        Verb::Passwd(p) => passwd(&config, p),
        Verb::Remove(r) => remove(&config, r),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            println!("It counts after `systemctl reload gatepost` (SIGHUP).");
            Exit::Ok
        }
        Err(why) => trouble(&why),
    }
}

fn add(config: &Config, args: &Add) -> Result<String, String> {
    let id = edit::account(&args.address, &config.domains)?;
    let scheme = scheme_named(&args.scheme)?;
    if let Some(quota) = &args.quota {
        Own::parse(quota)?;
    }
    // Before a password is asked for in vain.
    edit::add(&text(config)?, &config.domains, &id, "", None)?;
    let (password, made) = Source::of(args.stdin, args.generate)?.password(&id)?;
    let hash = scheme::make(scheme, &prepared(&password)?)?;
    change(&config.users, &Owner::shared(config.user.as_deref()), |text| edit::add(text, &config.domains, &id, &hash, args.quota.as_deref()))?;
    Ok(format!("{id} is added to {}.{made}", config.users.display()))
}

fn passwd(config: &Config, args: &Passwd) -> Result<String, String> {
    let id = edit::account(&args.address, &config.domains)?;
    let scheme = scheme_named(&args.scheme)?;
    edit::password(&text(config)?, &config.domains, &id, "")?;
    let (password, made) = Source::of(args.stdin, args.generate)?.password(&id)?;
    let hash = scheme::make(scheme, &prepared(&password)?)?;
    change(&config.users, &Owner::shared(config.user.as_deref()), |text| edit::password(text, &config.domains, &id, &hash))?;
    Ok(format!("{id} has a new password.{made}"))
}

fn remove(config: &Config, args: &Remove) -> Result<String, String> {
    let id = edit::account(&args.address, &config.domains)?;
    change(&config.users, &Owner::shared(config.user.as_deref()), |text| edit::remove(text, &config.domains, &id))?;
    let (local, domain) = id.0.rsplit_once('@').unwrap_or((&id.0, ""));
    Ok(format!("{id} is removed; its mail is still in {}.", config.state.join("mail").join(domain).join(local).display()))
}

fn set_quota(config: &Config, address: &str, limit: &str) -> Result<String, String> {
    let id = edit::account(address, &config.domains)?;
    let limit = Some(limit).filter(|l| *l != "default");
    limit.map(Own::parse).transpose()?;
    change(&config.users, &Owner::shared(config.user.as_deref()), |text| edit::quota(text, &config.domains, &id, limit))?;
    Ok(format!("{id} has another quota."))
}

fn load(config: &Config) -> Result<Arc<Accounts>, Exit> {
    Accounts::load(config).map(|(accounts, _)| Arc::new(accounts)).map_err(|problems| {
        problems.iter().for_each(|p| eprintln!("{p}"));
        trouble("users and aliases must be right first")
    })
}

/// The mail, as the daemon sees it; whoever asks may be root, so nothing is written there.
fn store(config: &Config, accounts: &Arc<Accounts>) -> Result<Arc<Store>, String> {
    let store = Store::open(&config.state.join("mail"), &config.hostname, |_| Vec::new()).map_err(|e| e.to_string())?;
    store.set_quotas(Quotas::new(accounts.clone(), Arc::new(Live::new(config.clone()))));
    Ok(store)
}

fn keeps(config: &Config, address: &str, recount: bool) -> Exit {
    let accounts = match load(config) {
        Ok(accounts) => accounts,
        Err(exit) => return exit,
    };
    let said = edit::account(address, &config.domains).and_then(|id| {
        if !accounts.list().contains(&id) {
            return Err(format!("{id} is not in the users file: gatepost user list shows who is"));
        }
        let home = store(config, &accounts)?.home(&id.0).map_err(|e| e.to_string())?;
        let usage = if recount { home.recount() } else { home.usage() }.map_err(|e| e.to_string())?;
        Ok(format!("{id}  {}", of(usage, home.limits())))
    });
    match said {
        Ok(said) => {
            println!("{said}");
            Exit::Ok
        }
        Err(why) => trouble(&why),
    }
}

/// `820M of 2G (40 %), 1234 messages of 10000`
fn of(usage: Usage, limits: Limits) -> String {
    let mut out = config::about_size(usage.bytes);
    if limits.bytes != 0 {
        out.push_str(&format!(" of {}", config::about_size(limits.bytes)));
    }
    out.push_str(&format!(", {} messages", usage.messages));
    if limits.messages != 0 {
        out.push_str(&format!(" of {}", limits.messages));
    }
    if limits != Limits::default() {
        out.push_str(&format!(" ({} %)", limits.percent(usage)));
    }
    out
}

fn show(config: &Config, json: bool) -> Exit {
    let accounts = match load(config) {
        Ok(accounts) => accounts,
        Err(exit) => return exit,
    };
    let list = accounts.list();
    let store = match store(config, &accounts) {
        Ok(store) => store,
        Err(why) => return trouble(&why),
    };
    // Nobody is counted for this who is not counted anyway.
    let used = |id: &AccountId| {
        let home = store.home(&id.0).ok().filter(|h| h.limits() != Limits::default())?;
        home.usage().map(|usage| (usage, home.limits())).inspect_err(|e| eprintln!("{id}: {e}")).ok()
    };
    if json {
        let limit = |n: u64| if n == 0 { "null".to_owned() } else { n.to_string() };
        let items = list.iter().map(|id| {
            let (quota, used) = (accounts.quota(&id.0), used(id));
            let number = |n: Option<u64>| n.map_or("null".to_owned(), |n| n.to_string());
            format!(
                "{{\"address\": {}, \"quota\": {}, \"messages\": {}, \"used\": {}, \"used_messages\": {}}}",
                quote(&id.0),
                limit(quota.storage),
                limit(quota.messages),
                number(used.map(|(u, _)| u.bytes)),
                number(used.map(|(u, _)| u.messages)),
            )
        });
        println!("[{}]", items.collect::<Vec<_>>().join(",\n "));
    } else {
        for id in &list {
            match used(id) {
                Some((usage, limits)) => println!("{id}  {}", of(usage, limits)),
                None => println!("{id}"),
            }
        }
    }
    if list.is_empty() { Exit::Found } else { Exit::Ok }
}

fn text(config: &Config) -> Result<String, String> {
    let bytes = disk::read_if_exists(&config.users).map_err(|e| e.to_string())?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8: save it as UTF-8", config.users.display()))
}

/// As a login prepares what it compares with (RFC 4013), so that it does not matter how a client types an umlaut.
pub(super) fn prepared(password: &str) -> Result<String, String> {
    sasl::prepare(password).ok_or_else(|| "the password has characters that no login may send (control characters)".to_owned())
}

fn scheme_named(name: &str) -> Result<scheme::Scheme, String> {
    let known = scheme::SCHEMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, s)| *s);
    known.ok_or_else(|| format!("--scheme {name} cannot be written: take {}", scheme::SCHEMES.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ")))
}

/// Edits a file in place: other commands wait meanwhile, a crash leaves the old or the new one, mode and owner stay.
/// `new` is how a file comes into being.
pub(super) fn change(file: &Path, new: &Owner, edit: impl FnOnce(&str) -> Result<String, String>) -> Result<(), String> {
    // Through a link to the file itself, or the rename would replace the link.
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/"));
    let handle = disk::open(folder).map_err(|e| e.to_string())?;
    let _lock =
        nix::fcntl::Flock::lock(handle, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| format!("cannot lock {}: {e}", folder.display()))?;
    let old = disk::read_if_exists(&file).map_err(|e| e.to_string())?.unwrap_or_default();
    let old = String::from_utf8(old).map_err(|_| format!("{} is not UTF-8: save it as UTF-8", file.display()))?;
    let text = edit(&old)?;
    write(&file, text.as_bytes(), &Owner::of(&file).unwrap_or(*new))
}

/// Whom a new file belongs to, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) ids: Option<(u32, u32)>,
    pub(super) mode: u32,
}

impl Owner {
    /// As the file that is there.
    fn of(file: &Path) -> Option<Self> {
        let m = std::fs::metadata(file).ok()?;
        Some(Self { ids: Some((m.uid(), m.gid())), mode: m.permissions().mode() & 0o7777 })
    }

    /// A secret that the daemon may read and not change: root's, and its group may read it.
    pub(super) fn shared(system_user: Option<&str>) -> Self {
        Self { ids: system_user.and_then(system_ids).map(|(_, gid)| (0, gid)), mode: 0o640 }
    }
}

/// Uid and gid of the daemon's user, when it is there and we are root and can give files to it.
pub(super) fn system_ids(name: &str) -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    nix::unistd::User::from_name(name).ok().flatten().map(|u| (u.uid.as_raw(), u.gid.as_raw()))
}

/// Replaces a file whole; it never stands under its name with another owner or mode.
pub(super) fn write(file: &Path, bytes: &[u8], owner: &Owner) -> Result<(), String> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let draft = folder.join(format!(".{name}.{:x}.new", disk::unique()));
    let write = || -> disk::Result<()> {
        let mut new = disk::create_new(&draft, 0o600)?;
        disk::write_all(&mut new, &draft, bytes)?;
        if let Some((uid, gid)) = owner.ids {
            std::os::unix::fs::fchown(&new, Some(uid), Some(gid)).map_err(|e| disk::Error::new("change the owner of", &draft, e))?;
        }
        new.set_permissions(PermissionsExt::from_mode(owner.mode)).map_err(|e| disk::Error::new("change the mode of", &draft, e))?;
        disk::sync(&new, &draft)?;
        disk::rename(&draft, file)?;
        disk::sync_dir(folder)
    };
    write().map_err(|e| {
        let _ = std::fs::remove_file(&draft);
        e.to_string()
    })
}

/// Where a password comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Stdin,
    Generate,
    Ask,
}

impl Source {
    pub(super) fn of(stdin: bool, generate: bool) -> Result<Self, String> {
        match (stdin, generate) {
            (true, true) => Err("--stdin and --generate exclude each other".into()),
            (true, false) => Ok(Self::Stdin),
            (false, true) => Ok(Self::Generate),
            (false, false) if std::io::stdin().is_terminal() => Ok(Self::Ask),
            (false, false) => Err("there is no terminal to ask for the password: add --stdin or --generate".into()),
        }
    }

    /// The password, and what to tell about it.
    pub(super) fn password(self, id: &AccountId) -> Result<(String, String), String> {
        let (password, said) = match self {
            Self::Generate => {
                let made = generate()?;
                let said = format!("\nPassword: {made}");
                (made, said)
            }
            Self::Stdin => {
                let mut line = String::new();
                std::io::stdin().lock().take(4096).read_line(&mut line).map_err(|e| format!("cannot read the password: {e}"))?;
                (line.trim_end_matches(['\r', '\n']).to_owned(), String::new())
            }
            Self::Ask => {
                let first = silent(&format!("Password for {id}: "))?;
                if first != silent("Once more: ")? {
                    return Err("the two differ; nothing was changed".into());
                }
                (first, String::new())
            }
        };
        if password.is_empty() {
            return Err("the password is empty; nothing was changed".into());
        }
        if password.len() > 1024 || password.contains('\0') {
            return Err("the password is longer than 1024 bytes, or holds a NUL".into());
        }
        Ok((password, said))
    }
}

/// A line from the terminal, not shown.
fn silent(prompt: &str) -> Result<String, String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let failed = |e| format!("cannot hide what is typed: {e}");
    let stdin = std::io::stdin();
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let before = tcgetattr(&stdin).map_err(failed)?;
    let mut hidden = before.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden).map_err(failed)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    let _ = tcsetattr(&stdin, SetArg::TCSAFLUSH, &before);
    eprintln!();
    read.map_err(|e| format!("cannot read the password: {e}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Four groups of five out of 32 letters and digits that nobody confuses: 100 bits.
fn generate() -> Result<String, String> {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 20];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
    let letters: Vec<String> =
        bytes.chunks(5).map(|c| c.iter().filter_map(|b| LETTERS.get(usize::from(b % 32)).copied().map(char::from)).collect()).collect();
    Ok(letters.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_passwords_differ_and_can_be_typed() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 23);
        assert!(a.bytes().all(|c| c == b'-' || c.is_ascii_lowercase() || c.is_ascii_digit()), "{a}");
    }

    #[test]
    fn a_change_keeps_mode_and_link() {
        let folder = std::env::temp_dir().join(format!("gatepost-user-{:x}", disk::unique()));
        std::fs::create_dir(&folder).unwrap();
        let (real, link) = (folder.join("real"), folder.join("users"));
        let new = Owner { ids: None, mode: 0o640 };
        std::fs::write(&real, "a").unwrap();
        std::fs::set_permissions(&real, PermissionsExt::from_mode(0o604)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        change(&link, &new, |text| Ok(format!("{text}b"))).unwrap();
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "ab");
        assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o604);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(change(&link, &new, |_| Err("no".into())), Err("no".into()));
        change(&folder.join("new"), &new, |_| Ok("x".into())).unwrap();
        assert_eq!(std::fs::metadata(folder.join("new")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
