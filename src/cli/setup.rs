//! `gatepost setup`: from nothing to a server that starts. Configuration, first user, DKIM keys, a certificate to begin
//! with, and the DNS records to paste.
//!
//! What is there stays: only `--force` replaces gatepost.conf; users, aliases and keys are never overwritten.

mod host;
mod keys;
mod zone;

use super::{
    Exit, check, trouble,
    user::{Owner, Source, change, system_ids, write},
};
use crate::{
    accounts::{AccountId, edit, scheme},
    config::{self, Config, quote},
    disk, net,
};
use argh::FromArgs;
use std::{
    io::{BufRead, IsTerminal, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

/// write a first configuration, DKIM keys, certificate and user; print the DNS records.
/// `gatepost setup mail.example.org example.org --user alice` asks for nothing but the password
#[derive(FromArgs)]
#[argh(subcommand, name = "setup")]
pub(crate) struct Args {
    /// this host's full name, then the domains whose mail it takes
    #[argh(positional)]
    names: Vec<String>,
    /// a user to add: address, or local part in the first domain (may be given again)
    #[argh(option)]
    user: Vec<String>,
    /// read passwords from standard input, a line for each user
    #[argh(switch)]
    password_stdin: bool,
    /// make passwords and print them (as without a terminal)
    #[argh(switch)]
    generate: bool,
    /// folder of the configuration (default: that of --config, /etc/gatepost)
    #[argh(option)]
    dir: Option<PathBuf>,
    /// folder of mail, queue and keys (default: /var/lib/gatepost)
    #[argh(option, default = "PathBuf::from(\"/var/lib/gatepost\")")]
    state: PathBuf,
    /// certificate in PEM (default: one of its own, self-signed)
    #[argh(option)]
    cert: Option<PathBuf>,
    /// private key of --cert
    #[argh(option)]
    key: Option<PathBuf>,
    /// the system user that the daemon runs as (default: gatepost)
    #[argh(option, default = "\"gatepost\".to_owned()")]
    system_user: String,
    /// public address of this host, for the records (default: as seen from within; may be given again)
    #[argh(option)]
    address: Vec<IpAddr>,
    /// DKIM selector, to which a (RSA) and b (Ed25519) are added (default: gp and the year)
    #[argh(option)]
    selector: Option<String>,
    /// replace a gatepost.conf that is there; users, aliases and keys stay in any case
    #[argh(switch)]
    force: bool,
    /// do not ask before writing
    #[argh(switch)]
    yes: bool,
    /// do not ask DNS about this host
    #[argh(switch)]
    offline: bool,
    /// write nothing: print the DNS records for the configuration and keys that are there
    #[argh(switch)]
    records: bool,
}

pub(crate) fn run(args: &Args, file: &Path) -> Exit {
    let file = match &args.dir {
        Some(dir) => dir.join("gatepost.conf"),
        None => file.to_owned(),
    };
    let file = std::path::absolute(&file).unwrap_or(file);
    let done = if args.records { print_records(args, &file) } else { Plan::new(args, file).and_then(|plan| plan.run(args)) };
    match done {
        Ok(exit) => exit,
        Err(why) => trouble(&why),
    }
}

fn print_records(args: &Args, file: &Path) -> Result<Exit, String> {
    let (config, _) = config::load(file).map_err(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    print!("{}", records(args, &config)?);
    Ok(Exit::Ok)
}

fn records(args: &Args, config: &Config) -> Result<String, String> {
    let folder = config.state.join("keys");
    let of = |domain: &String| keys::records(&folder, domain).map(|keys| (domain.clone(), keys));
    let domains = config.domains.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    Ok(zone::lines(&config.hostname, &addresses(args), &domains))
}

fn addresses(args: &Args) -> Vec<IpAddr> {
    if args.address.is_empty() { host::addresses() } else { args.address.clone() }
}

/// Everybody may read it.
const PUBLIC: Owner = Owner { ids: None, mode: 0o644 };

/// Everything that will be written, before anything is.
struct Plan {
    file: PathBuf,
    hostname: String,
    domains: Vec<String>,
    users: Vec<AccountId>,
    state: PathBuf,
    selector: String,
    /// Whether something had to be asked for.
    asked: bool,
    /// The daemon's user and group, when we are root and it is there.
    ids: Option<(u32, u32)>,
    /// Whom files with secrets belong to.
    secret: Owner,
}

impl Plan {
    fn new(args: &Args, file: PathBuf) -> Result<Self, String> {
        if file.exists() && !args.force {
            return Err(format!("{} is there already: --force replaces it, --records prints its DNS records", file.display()));
        }
        if args.cert.is_some() != args.key.is_some() {
            return Err("--cert and --key go together".into());
        }
        let mut names = args.names.iter().cloned();
        let mut asked = false;
        let hostname = match names.next() {
            Some(name) => name,
            None => ask(&mut asked, "Full name of this host, as in mail.example.org", "gatepost setup mail.example.org example.org --user alice")?,
        };
        let mut domains: Vec<String> = names.collect();
        if domains.is_empty() {
            let answer = ask(&mut asked, "Domains whose mail it takes, as in example.org", "the domains follow the host's name")?;
            domains = answer.split([' ', ',']).filter(|d| !d.is_empty()).map(str::to_owned).collect();
        }
        // The loader's own words about names, and its spelling of them.
        let text = config_text(&hostname, &domains, None, &[], Path::new("c"), Path::new("k"));
        let (named, _) = config::parse(&file, &text).map_err(|p| p.iter().map(|p| p.text.clone()).collect::<Vec<_>>().join("\n"))?;
        let mut users = args.user.clone();
        if users.is_empty() && !file.with_file_name("users").exists() {
            users.push(ask(&mut asked, "First user, as in alice", "--user alice adds the first user")?);
        }
        let first = named.domains.first().cloned().unwrap_or_default();
        let full = |name: &String| if name.contains('@') { name.clone() } else { format!("{name}@{first}") };
        let users = users.iter().map(|u| edit::account(&full(u), &named.domains)).collect::<Result<Vec<_>, _>>()?;
        let selector = args.selector.clone().unwrap_or_else(|| format!("gp{}", year()));
        if selector.is_empty() || selector.len() > 60 || !selector.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(format!("--selector {selector} must be lower case letters and digits"));
        }
        let state = std::path::absolute(&args.state).unwrap_or_else(|_| args.state.clone());
        let (ids, secret) = (system_ids(&args.system_user), Owner::shared(Some(&args.system_user)));
        Ok(Self { file, hostname: named.hostname, domains: named.domains, users, state, selector, asked, ids, secret })
    }

    fn run(&self, args: &Args) -> Result<Exit, String> {
        println!(
            "{} takes mail for {}; configuration in {}, mail in {}.",
            self.hostname,
            self.domains.join(", "),
            self.folder().display(),
            self.state.display()
        );
        if self.asked && !args.yes && !agreed()? {
            return Ok(Exit::Found);
        }
        let source = if args.password_stdin || args.generate || std::io::stdin().is_terminal() {
            Source::of(args.password_stdin, args.generate)?
        } else {
            Source::Generate
        };
        let passwords = self.users.iter().map(|id| source.password(id)).collect::<Result<Vec<_>, _>>()?;
        self.folders()?;
        let (cert, key) = self.certificate(args)?;
        for domain in &self.domains {
            self.keys(domain)?;
        }
        for (id, (password, said)) in self.users.iter().zip(&passwords) {
            self.user(id, password)?;
            println!("User {id}{}", said.replace('\n', ", "));
        }
        self.new_file("aliases", "# name: target, target      see ALIASES in gatepost.conf(5)\n# info: alice, bob\n", &PUBLIC)?;
        self.new_file("users", "", &self.secret)?;
        write(&self.file, self.config(args, &cert, &key).as_bytes(), &PUBLIC)?;
        self.report(args)
    }

    fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    fn folders(&self) -> Result<(), String> {
        let make = |path: &Path, mode: u32, ids: Option<(u32, u32)>| -> Result<(), String> {
            if path.is_dir() {
                return Ok(());
            }
            if let Some(parent) = path.parent() {
                disk::create_dir_all(parent, 0o755).map_err(|e| e.to_string())?;
            }
            disk::create_dir(path, mode).map_err(|e| e.to_string())?;
            match ids {
                Some((uid, gid)) => {
                    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|e| format!("cannot give {} to its user: {e}", path.display()))
                }
                None => Ok(()),
            }
        };
        // As the package makes them: nobody else need read what is in there.
        let (mode, ids) = self.ids.map_or((0o755, None), |(_, gid)| (0o750, Some((0, gid))));
        make(self.folder(), mode, ids)?;
        make(&self.folder().join("conf.d"), mode, ids)?;
        make(&self.state, 0o750, self.ids)?;
        make(&self.state.join("keys"), 0o700, self.ids)
    }

    /// The one that was named, the one that is there, or a new one.
    fn certificate(&self, args: &Args) -> Result<(PathBuf, PathBuf), String> {
        if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
            let real = |p: &Path| std::path::absolute(p).unwrap_or_else(|_| p.to_owned());
            return Ok((real(cert), real(key)));
        }
        let (cert, key) = (self.folder().join("selfsigned.pem"), self.folder().join("selfsigned.key"));
        if !cert.exists() || !key.exists() {
            let (cert_pem, key_pem) = net::self_signed(&[&self.hostname])?;
            write(&key, key_pem.as_bytes(), &self.secret)?;
            write(&cert, cert_pem.as_bytes(), &PUBLIC)?;
        }
        Ok((cert, key))
    }

    fn keys(&self, domain: &str) -> Result<(), String> {
        let folder = self.state.join("keys");
        if keys::records(&folder, domain)?.is_empty() {
            keys::make(&folder, domain, &self.selector, &Owner { ids: self.ids, mode: 0o600 })?;
        }
        Ok(())
    }

    fn user(&self, id: &AccountId, password: &str) -> Result<(), String> {
        let hash = scheme::make(scheme::Scheme::Argon2id, &super::user::prepared(password)?)?;
        let set = |text: &str| edit::add(text, &self.domains, id, &hash, None).or_else(|_| edit::password(text, &self.domains, id, &hash));
        change(&self.folder().join("users"), &self.secret, set)
    }

    fn new_file(&self, name: &str, text: &str, owner: &Owner) -> Result<(), String> {
        let path = self.folder().join(name);
        if path.exists() { Ok(()) } else { write(&path, text.as_bytes(), owner) }
    }

    fn config(&self, args: &Args, cert: &Path, key: &Path) -> String {
        let mut more = Vec::new();
        if self.state != Path::new("/var/lib/gatepost") {
            more.push(format!("state = {}", quote(&self.state.to_string_lossy())));
            more.push(format!("run = {}", quote(&self.state.join("run").to_string_lossy())));
        }
        if args.system_user != "gatepost" {
            more.push(format!("user = {}", quote(&args.system_user)));
        }
        config_text(&self.hostname, &self.domains, self.users.first(), &more, cert, key)
    }

    /// What the new files are worth, the DNS records, and what to do next.
    fn report(&self, args: &Args) -> Result<Exit, String> {
        let (config, problems) = check::problems(&self.file);
        problems.iter().for_each(|p| println!("{p}"));
        let config = config.ok_or("the new configuration cannot be read back")?;
        println!("\nDNS records, as lines of a zone file:\n\n{}", records(args, &config)?);
        let addresses = addresses(args);
        if addresses.is_empty() {
            println!("The public address of this host is not to be seen from here: add A and AAAA records for {}.", self.hostname);
        }
        println!("The PTR record of its address must name {}. Raise p=none in _dmarc to p=quarantine once all is well.", self.hostname);
        if args.cert.is_none() {
            println!("The certificate is self-signed, and mail programs will warn of it: get one (certbot certonly), name it under [tls].");
        }
        let mut notes: Vec<String> = host::port_25().into_iter().collect();
        if !args.offline {
            notes.extend(host::look_up(&config.dns, &self.hostname, &addresses));
        }
        notes.iter().for_each(|n| println!("Note: {n}."));
        let ours = self.file == Path::new(super::DEFAULT_CONFIG);
        let start = if ours { "systemctl enable --now gatepost".to_owned() } else { format!("gatepost -c {} serve", self.file.display()) };
        println!("\nStart it: {start}");
        Ok(if problems.iter().any(|p| !p.warning) { Exit::Found } else { Exit::Ok })
    }
}

/// The file that setup writes.
fn config_text(hostname: &str, domains: &[String], postmaster: Option<&AccountId>, more: &[String], cert: &Path, key: &Path) -> String {
    let list: Vec<String> = domains.iter().map(|d| quote(d)).collect();
    let mut out = String::from(
        "# Written by gatepost setup. gatepost.conf(5) has every key; `gatepost check --defaults` prints them all with their\n\
         # values, `gatepost check` finds what is wrong.\n\n",
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("hostname = {}", quote(hostname)));
    line(format!("domains = [{}]", list.join(", ")));
    if let Some(id) = postmaster {
        line(format!("postmaster = {}", quote(&id.0)));
    }
    line("include = \"conf.d/*.conf\"".into());
    more.iter().for_each(|m| line(m.clone()));
    line(format!("\n[tls]\ncert = {}\nkey = {}", quote(&cert.to_string_lossy()), quote(&key.to_string_lossy())));
    out
}

/// An answer from the terminal; without one, `instead` says which flag to use.
fn ask(asked: &mut bool, question: &str, instead: &str) -> Result<String, String> {
    if !std::io::stdin().is_terminal() {
        return Err(format!("{question}: there is no terminal to ask: {instead}"));
    }
    *asked = true;
    let answer = line(&format!("{question}: "))?;
    if answer.is_empty() { Err("nothing was written".into()) } else { Ok(answer) }
}

fn agreed() -> Result<bool, String> {
    Ok(matches!(line("Write this? [Y/n] ")?.to_lowercase().as_str(), "" | "y" | "yes"))
}

fn line(prompt: &str) -> Result<String, String> {
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| format!("cannot read the answer: {e}"))?;
    Ok(line.trim().to_owned())
}

/// Of the Gregorian calendar, near enough for a selector.
fn year() -> u64 {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    1970 + seconds / 31_556_952
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(folder: &Path, more: &[&str]) -> Exit {
        let (etc, state) = (folder.join("etc"), folder.join("state"));
        let (etc, state) = (etc.to_string_lossy(), state.to_string_lossy());
        let mut words = vec!["--dir", &etc, "--state", &state, "--generate", "--offline", "--yes", "--address", "192.0.2.1"];
        words.extend(more);
        run(&Args::from_args(&["setup"], &words).unwrap(), Path::new("/nonexistent"))
    }

    #[test]
    fn what_is_there_stays() {
        let folder = std::env::temp_dir().join(format!("gatepost-setup-{:x}", disk::unique()));
        assert_eq!(setup(&folder, &["mail", "example.org", "--user", "alice"]), Exit::Trouble);
        assert_eq!(setup(&folder, &["mail.example.org", "example.org", "--user", "alice@example.net"]), Exit::Trouble);
        assert!(!folder.exists(), "nothing is written before all is known to be right");
        assert_ne!(setup(&folder, &["mail.example.org", "example.org", "--user", "alice"]), Exit::Trouble);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let (config, _) = config::load(&folder.join("etc/gatepost.conf")).unwrap();
        assert_eq!((config.hostname.as_str(), config.state), ("mail.example.org", folder.join("state")));
        let before = ["etc/users", "state/keys", "etc/selfsigned.key"];
        let list = |name: &str| {
            let path = folder.join(name);
            if path.is_dir() { keys::records(&path, "example.org").unwrap().iter().map(|r| r.text.clone()).collect() } else { read(name) }
        };
        let kept: Vec<String> = before.iter().map(|f| list(f)).collect();
        assert_eq!(setup(&folder, &["mail.example.org", "example.org", "--user", "bob"]), Exit::Trouble);
        assert_ne!(setup(&folder, &["mail.example.org", "example.org", "example.net", "--user", "bob", "--force"]), Exit::Trouble);
        assert!(read("etc/users").starts_with(&kept[0]) && read("etc/users").contains("bob@example.org:{ARGON2ID}"));
        assert_eq!((&list(before[1]), &list(before[2])), (&kept[1], &kept[2]));
        assert!(read("etc/gatepost.conf").contains("domains = [\"example.org\", \"example.net\"]"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
