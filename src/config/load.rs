//! Reads the file and its includes into a [`Config`], collecting every problem with its file and line.

use super::{
    Config, Dns, Limits, Listen, Problem, Queue, Quota, Route, Secret, Smtp, Tls,
    keys::{KEYS, Key, ROUTE_KEYS, SECTIONS, find},
    rules,
    value::{Fault, Slot, quote},
};
use crate::disk;
use std::{
    collections::HashMap,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// More than that is not a configuration.
const MAX_FILE: usize = 4 << 20;
const MISSING: &str = "is not there";
/// Syntax errors shown of one file.
const MAX_SLIPS: usize = 10;

/// Reads the file and its includes. `Err` holds every problem found (errors and warnings), not only the first. Blocking.
pub fn load(file: &Path) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    match read_text(file) {
        Ok(text) => parse(file, &text),
        Err(mut text) => {
            if text == MISSING {
                text.push_str(": gatepost setup writes one, gatepost -c FILE takes another");
            }
            Err(vec![Problem { file: file.to_owned(), line: 0, text, warning: false }])
        }
    }
}

/// The same with the main file's text at hand; `file` names it and its folder. Blocking: includes and passwords are read.
pub fn parse(file: &Path, text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let mut loader = Loader::new(file);
    let file = loader.config.file.clone();
    loader.file(&file, text, true);
    loader.includes();
    loader.finish()
}

/// Where a key was set.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

/// What loading gathers.
pub(super) struct Loader {
    pub(super) config: Config,
    pub(super) problems: Vec<Problem>,
    /// By path; a route's by `route.N.key`, N from 0.
    pub(super) places: HashMap<String, Place>,
    /// Relative paths start here: the folder of the main file.
    folder: PathBuf,
    include: Vec<String>,
}

impl Loader {
    fn new(file: &Path) -> Self {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        let config = defaults(&file);
        Self { config, problems: Vec::new(), places: HashMap::new(), folder, include: Vec::new() }
    }

    pub(super) fn problem(&mut self, place: Option<&Place>, warning: bool, text: String) {
        let (file, line) = place.map_or((self.config.file.clone(), 0), |p| (p.file.clone(), p.line));
        self.problems.push(Problem { file, line, text, warning });
    }

    fn error_at(&mut self, source: &Source<'_>, at: &Range<usize>, text: String) {
        self.problem(Some(&source.place(at)), false, text);
    }

    /// One file's keys.
    fn file(&mut self, file: &Path, text: &str, main: bool) {
        let source = Source { file, text, main };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            // What the parser made of a broken file would only give misleading faults.
            // Nor does it help to hear of everything that follows from the first slip.
            let mut told: Vec<(usize, String)> = Vec::new();
            for e in errors {
                let at = e.span().unwrap_or(0..0);
                let slip = (source.place(&at).line, syntax(e.message()));
                if told.len() < MAX_SLIPS && !told.contains(&slip) {
                    self.error_at(&source, &at, slip.1.clone());
                    told.push(slip);
                }
            }
            return;
        }
        for (name, value) in table.get_ref() {
            self.top(&source, name.get_ref(), &name.span(), value);
        }
    }

    fn top(&mut self, source: &Source<'_>, name: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        match (name, value.get_ref()) {
            ("include", _) if source.main => match Slot::Files(&mut self.include).read(value, Path::new("")) {
                Ok(()) => drop(self.places.insert("include".into(), source.place(at))),
                Err(fault) => self.error_at(source, &fault.at, format!("include: {}", fault.text)),
            },
            ("include", _) => self.error_at(source, at, "include: stands only in the main file: move it there".into()),
            ("route", DeValue::Array(routes)) => {
                for route in routes {
                    self.route(source, route);
                }
            }
            ("route", DeValue::Table(_)) => self.error_at(source, at, "route: is a list of sections: write [[route]] with two brackets".into()),
            ("route", _) => self.error_at(source, at, "route: is a list of sections: write [[route]] and its keys below".into()),
            (_, DeValue::Table(keys)) if SECTIONS.iter().any(|(s, _)| *s == name) => {
                for (key, value) in keys {
                    self.key(source, &format!("{name}.{}", key.get_ref()), &key.span(), value);
                }
            }
            _ if SECTIONS.iter().any(|(s, _)| *s == name) => {
                self.error_at(source, at, format!("{name}: is a section: write [{name}] and its keys below"));
            }
            (_, DeValue::Table(_)) if find(KEYS, name).is_none() => self.error_at(source, at, format!("[{name}]: {}", unknown_section(name))),
            _ => self.key(source, name, at, value),
        }
    }

    fn key(&mut self, source: &Source<'_>, path: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) {
        if path == "routes" {
            return self.error_at(source, at, "routes: is not a key: did you mean [[route]]?".into());
        }
        let Some(key) = find(KEYS, path) else {
            return self.error_at(source, at, format!("{path}: {}", unknown_key(path)));
        };
        if let Some(first) = self.places.get(path) {
            let text = format!("{path}: is set already at {}:{}: remove one of them", first.file.display(), first.line);
            return self.error_at(source, at, text);
        }
        self.places.insert(path.to_owned(), source.place(at));
        if let Err(fault) = (key.slot)(&mut self.config).read(value, &self.folder) {
            self.error_at(source, &fault.at, format!("{path}: {}", fault.text));
        }
    }

    fn route(&mut self, source: &Source<'_>, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(keys) = value.get_ref() else {
            return self.error_at(source, &value.span(), "route: must be a section: write [[route]] and its keys below".into());
        };
        let number = self.config.routes.len();
        let mut route = Route::default();
        for key in ROUTE_KEYS {
            set_default(key, &mut route, &self.folder);
        }
        self.places.insert(format!("route.{number}"), source.place(&value.span()));
        for (name, value) in keys {
            let (name, at) = (name.get_ref(), name.span());
            self.places.insert(format!("route.{number}.{name}"), source.place(&at));
            match find(ROUTE_KEYS, name) {
                None if name == "password" => {
                    let text = "route.password: secrets stand in a file of their own: write password-file = \"relay.secret\"";
                    self.error_at(source, &at, text.into());
                }
                None => {
                    let near = nearest(name, ROUTE_KEYS.iter().map(|k| k.path));
                    let hint = near.map_or_else(|| "there are to, from, via, tls, user and password-file".into(), |n| format!("did you mean {n}?"));
                    self.error_at(source, &at, format!("route.{name}: is not a key: {hint}"));
                }
                Some(key) => {
                    if let Err(Fault { at, text }) = (key.slot)(&mut route).read(value, &self.folder) {
                        self.error_at(source, &at, format!("route.{name}: {text}"));
                    }
                }
            }
        }
        if let Some(file) = route.password_file.clone() {
            route.password = self.password(&file, number);
        }
        self.config.routes.push(route);
    }

    /// The first line of a password file.
    fn password(&mut self, file: &Path, route: usize) -> Option<Secret> {
        use std::os::unix::fs::PermissionsExt;
        let place = self.places.get(&format!("route.{route}.password-file")).cloned();
        let text = match read_text(file) {
            Ok(text) => text,
            Err(why) => {
                self.problem(place.as_ref(), false, format!("route.password-file: {}: {why}", file.display()));
                return None;
            }
        };
        if std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o004 != 0) {
            let text = format!("route.password-file: everybody on this host can read {}: chmod o-rwx it", file.display());
            self.problem(place.as_ref(), true, text);
        }
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() || line.contains('\0') {
            self.problem(place.as_ref(), false, format!("route.password-file: the first line of {} must be the password", file.display()));
            return None;
        }
        Some(Secret(line.to_owned()))
    }

    /// The files that `include` names, each pattern's in order of name.
    fn includes(&mut self) {
        let place = self.places.get("include").cloned();
        for pattern in std::mem::take(&mut self.include) {
            match expand(&self.folder.join(&pattern)) {
                Err(text) => self.problem(place.as_ref(), false, format!("include: {}: {text}", quote(&pattern))),
                Ok(files) => {
                    let main = std::fs::canonicalize(&self.config.file).ok();
                    for file in files {
                        // `include = "*.conf"` matches the main file as well.
                        if main.is_some() && std::fs::canonicalize(&file).ok() == main {
                            continue;
                        }
                        match read_text(&file) {
                            Ok(text) => self.file(&file, &text, false),
                            Err(text) => self.problem(place.as_ref(), false, format!("include: {}: {text}", file.display())),
                        }
                    }
                }
            }
        }
    }

    fn finish(mut self) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
        // Rules about what is missing make no sense while what is there could not be read.
        if self.problems.iter().all(|p| p.warning) {
            rules::check(&mut self);
        }
        let main = self.config.file.clone();
        self.problems.sort_by(|a, b| (a.file != main, &a.file, a.line).cmp(&(b.file != main, &b.file, b.line)));
        if self.problems.iter().all(|p| p.warning) { Ok((self.config, self.problems)) } else { Err(self.problems) }
    }
}

/// A file being read: turns byte offsets into lines.
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    main: bool,
}

impl Source<'_> {
    fn place(&self, at: &Range<usize>) -> Place {
        let before = self.text.as_bytes().get(..at.start).unwrap_or(self.text.as_bytes());
        Place { file: self.file.to_owned(), line: 1 + before.iter().filter(|b| **b == b'\n').count() }
    }
}

/// Every key at its default.
pub(super) fn defaults(file: &Path) -> Config {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut config = blank(file.to_owned());
    KEYS.iter().for_each(|key| set_default(key, &mut config, folder));
    config
}

/// Nothing set yet.
fn blank(file: PathBuf) -> Config {
    Config {
        file,
        hostname: String::new(),
        domains: Vec::new(),
        postmaster: None,
        user: None,
        state: PathBuf::new(),
        run: PathBuf::new(),
        users: PathBuf::new(),
        aliases: PathBuf::new(),
        log: String::new(),
        listen: Listen::default(),
        tls: Tls::default(),
        dns: Dns::default(),
        limits: Limits {
            message_size: 0,
            recipients: 0,
            connections: 0,
            connections_per_address: 0,
            login_failures: 0,
            exempt: Vec::new(),
            threads: 0,
        },
        queue: Queue {
            retry: Duration::ZERO,
            retry_max: Duration::ZERO,
            lifetime: Duration::ZERO,
            warn_after: Duration::ZERO,
            connections: 0,
            connections_per_host: 0,
        },
        quota: Quota::default(),
        folders_as_tree: false,
        uidl_format: super::UidlFormat::default(),
        smtp: Smtp { mx_port: 0, timeout: Duration::ZERO, submission_received_client: false, submission_any_from: false },
        routes: Vec::new(),
        subaddress: String::new(),
    }
}

fn set_default<T>(key: &Key<T>, into: &mut T, folder: &Path) {
    if !key.default.is_empty() {
        let value = DeValue::parse(key.default).expect("defaults are TOML, a test reads them all");
        (key.slot)(into).read(&value, folder).expect("defaults fit their keys, a test reads them all");
    }
}

/// Why a file cannot be read, and what to do.
pub(crate) fn denied() -> String {
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |u| u.name);
    format!("cannot be read: permission denied: let user {name} read it and enter its folders")
}

/// Text of a file, or why not.
fn read_text(file: &Path) -> Result<String, String> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => MISSING.to_owned(),
        std::io::ErrorKind::PermissionDenied => denied(),
        _ => format!("cannot be read: {e}"),
    };
    // A device may have no end.
    let mut bytes = Vec::new();
    let file = disk::open(file).map_err(|e| failed(e.source))?;
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE {
        return Err(format!("is larger than {} MiB", MAX_FILE >> 20));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
        format!("is not UTF-8 in line {line}: save it as UTF-8")
    })
}

/// A path, or all files that `folder/*.conf` matches (one `*`, in the last part), sorted.
fn expand(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = pattern.parent().unwrap_or(Path::new("/"));
    if folder.to_string_lossy().contains('*') || name.matches('*').count() > 1 {
        return Err("may have one *, in its last part: write \"conf.d/*.conf\"".into());
    }
    let Some((head, tail)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // An empty drop-in folder need not exist.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(format!("{} cannot be read: {e}", folder.display())),
    };
    let matches = |n: &str| n.len() >= head.len() + tail.len() && n.starts_with(head) && n.ends_with(tail) && !n.starts_with('.');
    let mut files: Vec<PathBuf> = entries.flatten().filter(|e| matches(&e.file_name().to_string_lossy())).map(|e| e.path()).collect();
    files.sort();
    Ok(files)
}

/// The TOML parser's words in ours.
fn syntax(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    match message {
        "duplicate key" => "duplicate key: remove one of them".into(),
        m => format!("not TOML: {m} (a value is \"text in quotes\", a number, true, false or a [\"list\"])"),
    }
}

fn unknown_section(name: &str) -> String {
    match nearest(name, SECTIONS.iter().map(|(s, _)| *s).filter(|s| !s.is_empty())) {
        Some(near) => format!("is not a section: did you mean [{near}]?"),
        None => format!("is not a section: there are {}, and [[route]]", sections()),
    }
}

fn sections() -> String {
    SECTIONS.iter().filter(|(s, _)| !s.is_empty()).map(|(s, _)| format!("[{s}]")).collect::<Vec<_>>().join(" ")
}

/// A key at the wrong place, a slip of the finger, or nothing we know.
fn unknown_key(path: &str) -> String {
    let name = path.rsplit_once('.').map_or(path, |(_, n)| n);
    if find(KEYS, name).is_some() && name != path {
        return format!("is not a key of this section: write {name} above the first [section]");
    }
    let homes: Vec<&str> = KEYS.iter().map(|k| k.path).filter(|p| p.rsplit_once('.').is_some_and(|(_, n)| n == name)).collect();
    if let [home] = homes[..] {
        let section = home.split('.').next().unwrap_or_default();
        return format!("is not a key here: write {name} under [{section}]");
    }
    match nearest(path, KEYS.iter().map(|k| k.path)) {
        Some(near) => format!("is not a key: did you mean {near}?"),
        None => "is not a key: gatepost.conf(5) lists all keys".into(),
    }
}

/// The candidate at most a third of the letters away.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(64).collect::<String>().to_lowercase().replace('_', "-");
    candidates.map(|c| (distance(&name, c), c)).min().filter(|(d, c)| *d <= c.len().max(3) / 3).map(|(_, c)| c)
}

/// Levenshtein's, by bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{needs_restart, render};

    const GOOD: &str = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n";

    #[test]
    fn every_default_reads() {
        let (config, problems) = parse(Path::new("/etc/gatepost/gatepost.conf"), GOOD).unwrap();
        assert_eq!(problems, []);
        assert_eq!(config.limits.message_size, 50 << 20);
        assert_eq!(config.queue.lifetime, Duration::from_secs(5 * 86_400));
        assert_eq!(config.listen.imaps, ["0.0.0.0:993".parse().unwrap(), "[::]:993".parse().unwrap()]);
        assert_eq!(config.users, Path::new("/etc/gatepost/users"));
        assert_eq!(config.tls.cert.as_deref(), Some(Path::new("/etc/gatepost/c.pem")));
    }

    #[test]
    fn what_is_rendered_loads_back() {
        let secret = std::env::temp_dir().join(format!("gatepost-secret-{}", std::process::id()));
        std::fs::write(&secret, "sesame\n").unwrap();
        let odd = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\", \"b\u{fc}cher.example\"]\npostmaster = \"alice@example.org\"\nsubaddress = \"+-\"\n\
             state = \"/srv/m\\\"ail\"\n[listen]\npop3 = []\nsmtp = \"127.0.0.1:2525\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n[dns]\nservers = [\"::1\", \"127.0.0.1:5353\"]\n\
             [limits]\nexempt = [\"10.0.0.0/8\", \"::1\"]\n[queue]\nretry = \"90s\"\nwarn-after = \"0\"\n[smtp]\nsubmission-received-client = true\n\
             [[route]]\nto = [\".outlook.com\", \"*\"]\nfrom = \"Alice@example.org\"\nvia = \"[::1]:587\"\ntls = \"require\"\nuser = \"alice\"\npassword-file = {:?}\n[[route]]\n",
            secret
        );
        for text in [GOOD, &odd] {
            let (config, _) = parse(Path::new("/etc/gatepost/gatepost.conf"), text).unwrap();
            let printed = render(&config);
            assert!(!printed.contains("sesame"));
            let (again, _) = parse(Path::new("/etc/gatepost/gatepost.conf"), &printed).unwrap_or_else(|e| panic!("{e:?}\n{printed}"));
            assert_eq!(config, again, "{printed}");
            assert!(needs_restart(&config, &again).is_empty());
        }
        std::fs::remove_file(&secret).unwrap();
    }

    #[test]
    fn a_file_may_match_its_own_include_and_slips_are_told_once() {
        let folder = std::env::temp_dir().join(format!("gatepost-load-{:x}", disk::unique()));
        std::fs::create_dir(&folder).unwrap();
        let (main, other) = (folder.join("a.conf"), folder.join("b.conf"));
        std::fs::write(&main, format!("include = \"*.conf\"\n{GOOD}")).unwrap();
        std::fs::write(&other, "log = \"warn\"\n").unwrap();
        assert_eq!(load(&main).map(|(c, p)| (c.log, p)), Ok(("warn".to_owned(), vec![])));
        std::fs::write(&main, format!("x = {}", "[".repeat(5000))).unwrap();
        let problems = load(&main).unwrap_err();
        assert!(problems.len() < 4 && problems.iter().all(|p| p.line == 1 && p.file == main), "{problems:?}");
        let endless = load(Path::new("/dev/zero")).unwrap_err();
        assert!(endless[0].text.contains("larger than 4 MiB"), "{endless:?}");
        let missing = load(&folder.join("none.conf")).unwrap_err();
        assert!(missing[0].text.starts_with("is not there: gatepost setup"), "{missing:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
