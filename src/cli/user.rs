//! `gatepost user`: lines of the `users` file, the only thing here that writes it.

use super::{Exit, queue::quote, trouble};
use crate::{
    accounts::{AccountId, Accounts, edit, scheme},
    config::{self, Config},
    disk,
    proto::sasl,
};
use argh::FromArgs;
use ring::rand::SecureRandom;
use std::{
    io::{BufRead, IsTerminal, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// add, list, remove users and change passwords
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
    Remove(Remove),
}

/// add a user; asks for the password unless --stdin or --generate is given
#[derive(FromArgs)]
#[argh(subcommand, name = "add")]
struct Add {
    /// address; with a single domain the local part will do
    #[argh(positional)]
    address: String,
    /// what the user may keep: 2G, 500M (default: no limit)
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

/// list users
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// as a JSON array of objects with address and quota, in bytes or null
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
        config::parse_size(quota).filter(|n| *n > 0).ok_or_else(|| format!("--quota {quota} is not a size: write 2G or 500M"))?;
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

fn show(config: &Config, json: bool) -> Exit {
    let accounts = match Accounts::load(config) {
        Ok((accounts, _)) => accounts,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("{p}"));
            return trouble("users and aliases must be right first");
        }
    };
    let list = accounts.list();
    if json {
        let quota = |id| accounts.quota(id).map_or("null".to_owned(), |q| q.to_string());
        let items = list.iter().map(|id| format!("{{\"address\": {}, \"quota\": {}}}", quote(&id.0), quota(id)));
        println!("[{}]", items.collect::<Vec<_>>().join(",\n "));
    } else {
        for id in &list {
            match accounts.quota(id) {
                Some(bytes) => println!("{id}  quota {}", config::write_size(bytes)),
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
