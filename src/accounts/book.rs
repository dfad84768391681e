//! Users and aliases together: what an address of ours means. Read once, replaced whole on reload.

use super::{
    AccountId, Resolved,
    aliases::{self, Alias, Aliases, Target},
    remember::Remembered,
    scheme::Stored,
    users::{self, Users},
};
use crate::{
    config::{self, Config, Problem},
    disk,
    message::Address,
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
};

/// What `users` and `aliases` say, and the keys of the configuration that go with them.
pub(super) struct Book {
    domains: Vec<String>,
    hostname: String,
    separators: String,
    postmaster: Option<Address>,
    pub(super) users: Users,
    aliases: Aliases,
    /// Verified in the place of an unknown user's hash, so that both take the same time.
    dummy: Stored,
    pub(super) remembered: Remembered,
}

/// What stands behind one name.
enum Found<'a> {
    /// The alias and the full name it was found under.
    Alias(&'a Alias, String),
    Account(&'a AccountId, Option<String>),
    Postmaster(Address),
    Nothing,
}

impl Book {
    /// Blocking.
    pub(super) fn read(config: &Config) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let users = text(&config.users, false, &mut problems);
        let aliases = text(&config.aliases, true, &mut problems);
        Self::parse(config, &users, &aliases, problems)
    }

    /// The same with both files' texts at hand, and what is known to be wrong already.
    pub(super) fn parse(config: &Config, users: &str, aliases: &str, mut problems: Vec<Problem>) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let (users, mut more) = users::parse(users, &config.users, &config.domains);
        problems.append(&mut more);
        let (aliases, mut more) = aliases::parse(aliases, &config.aliases, &config.domains);
        problems.append(&mut more);
        let book = Self {
            domains: config.domains.clone(),
            hostname: config.hostname.clone(),
            separators: config.subaddress.clone(),
            postmaster: config.postmaster.as_deref().and_then(Address::parse),
            dummy: dummy(&users),
            users,
            aliases,
            remembered: Remembered::new(),
        };
        // Targets that are missing because their lines could not be read would only mislead.
        if problems.iter().all(|p| p.warning) {
            book.check(config, &mut problems);
        }
        if problems.iter().all(|p| p.warning) { Ok((book, problems)) } else { Err(problems) }
    }

    /// The account that a login name means, whether it is there or not.
    pub(super) fn login_name(&self, name: &str) -> Option<AccountId> {
        let full = match &self.domains[..] {
            [domain] if !name.contains('@') => format!("{name}@{domain}"),
            _ => name.to_owned(),
        };
        let address = Address::parse(&full)?;
        Some(AccountId(format!("{}@{}", address.local.to_lowercase(), address.domain).into()))
    }

    /// Slow. An unknown or locked account takes as long as another.
    pub(super) fn verify(&self, account: &AccountId, password: &str) -> bool {
        match self.users.get(account).map(|u| &u.stored) {
            Some(stored) if *stored != Stored::Locked => stored.verify(password),
            _ => {
                std::hint::black_box(self.dummy.verify(password));
                false
            }
        }
    }

    pub(super) fn is_ours(&self, address: &Address) -> bool {
        self.domains.contains(&address.domain) || self.is_host_postmaster(address)
    }

    /// RFC 5321 §4.5.1: postmaster is there under the server's own name as well.
    fn is_host_postmaster(&self, address: &Address) -> bool {
        address.domain == self.hostname && address.local.eq_ignore_ascii_case("postmaster")
    }

    pub(super) fn resolve(&self, address: &Address) -> Resolved {
        if !self.is_ours(address) {
            return Resolved::NotOurs;
        }
        let mut start = address.clone();
        if let (true, Some(domain)) = (!self.domains.contains(&address.domain), self.domains.first()) {
            start.domain.clone_from(domain);
        }
        let mut accounts: Vec<AccountId> = Vec::new();
        let mut external: Vec<Address> = Vec::new();
        let mut detail = None;
        // Each name is looked at once, so the work is bounded by the size of the file.
        let mut seen = HashSet::from([key(&start)]);
        let mut work = VecDeque::from([start]);
        let mut first = true;
        while let Some(address) = work.pop_front() {
            match self.find(&address) {
                Found::Account(id, found) => {
                    if first {
                        detail = found;
                    }
                    add(&mut accounts, id.clone());
                }
                Found::Alias(alias, name) => {
                    for target in &alias.targets {
                        let target = self.full(target, &address.domain);
                        match self.users.get_key_value(&AccountId(key(&target).into())) {
                            // `alice: alice, bob` keeps a copy.
                            Some((id, _)) if key(&target) == name => add(&mut accounts, id.clone()),
                            _ if !self.domains.contains(&target.domain) => add(&mut external, target),
                            _ if seen.insert(key(&target)) => work.push_back(target),
                            _ => {}
                        }
                    }
                }
                Found::Postmaster(to) if !self.domains.contains(&to.domain) => add(&mut external, to),
                Found::Postmaster(to) if seen.insert(key(&to)) => work.push_back(to),
                Found::Postmaster(_) | Found::Nothing => {}
            }
            first = false;
        }
        if accounts.is_empty() && external.is_empty() { Resolved::Unknown } else { Resolved::To { accounts, external, detail } }
    }

    pub(super) fn may_send_as(&self, account: &AccountId, address: &Address) -> bool {
        if !self.is_ours(address) {
            return false;
        }
        // The own address stays one's own also when an alias sends its mail elsewhere.
        let own = self.bases(&address.local).any(|(base, _)| format!("{}@{}", base.to_lowercase(), address.domain) == *account.0);
        own || matches!(self.resolve(address), Resolved::To { accounts, .. } if accounts.contains(account))
    }

    /// The name as it is, then without its detail, longest first.
    fn bases<'a>(&self, local: &'a str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let separators = self.separators.clone();
        let cuts = local.char_indices().rev().filter(move |(at, c)| *at > 0 && separators.contains(*c));
        let parts = cuts.filter_map(|(at, c)| Some((local.get(..at)?, local.get(at + c.len_utf8()..))));
        std::iter::once((local, None)).chain(parts)
    }

    /// An address in a domain of ours: aliases before accounts, exact names before their bases, postmaster, all others.
    fn find(&self, address: &Address) -> Found<'_> {
        let domain = &address.domain;
        for (base, detail) in self.bases(&address.local) {
            let base = base.to_lowercase();
            let full = format!("{base}@{domain}");
            if let Some(alias) = self.aliases.get(&full).or_else(|| self.aliases.get(&base)) {
                return Found::Alias(alias, full);
            }
            if let Some((id, _)) = self.users.get_key_value(&AccountId(full.into())) {
                return Found::Account(id, detail.map(str::to_owned));
            }
        }
        if address.local.eq_ignore_ascii_case("postmaster") {
            let named = self.postmaster.clone().filter(|p| key(p) != key(address));
            if let Some(to) = named.or_else(|| self.first_user(domain)) {
                return Found::Postmaster(to);
            }
        }
        let all = format!("@{domain}");
        self.aliases.get(&all).map_or(Found::Nothing, |alias| Found::Alias(alias, all))
    }

    /// In the order of the file, those of the domain first.
    fn first_user(&self, domain: &str) -> Option<Address> {
        let there = |id: &AccountId| id.0.rsplit_once('@').is_some_and(|(_, d)| d == domain);
        let (id, _) = self.users.iter().min_by_key(|(id, user)| (!there(id), user.line))?;
        Address::parse(&id.0)
    }

    /// A target's full address, seen from a domain of ours.
    fn full(&self, target: &Target, domain: &str) -> Address {
        let name = match target {
            Target::Address(address) => return address.clone(),
            Target::Name(name) => name,
        };
        let at = |domain: &str| Address { local: name.clone(), domain: domain.to_owned() };
        let account = |domain: &str| self.users.contains_key(&AccountId(key(&at(domain)).into()));
        if account(domain) || self.aliases.contains_key(&key(&at(domain))) {
            return at(domain);
        }
        let elsewhere = self.domains.iter().find(|d| account(d)).or_else(|| self.domains.iter().find(|d| self.aliases.contains_key(&key(&at(d)))));
        match elsewhere {
            Some(other) if !self.aliases.contains_key(&name.to_lowercase()) || self.users.contains_key(&AccountId(key(&at(other)).into())) => {
                at(other)
            }
            _ => at(domain),
        }
    }

    /// What is wrong with the two files together.
    fn check(&self, config: &Config, problems: &mut Vec<Problem>) {
        let mut problem = |file: &Path, line, warning, text| problems.push(Problem { file: file.to_owned(), line, text, warning });
        let mut names: Vec<_> = self.aliases.iter().collect();
        names.sort_by_key(|(_, alias)| alias.line);
        for (name, alias) in &names {
            let domains = self.domains_of(name);
            for target in &alias.targets {
                let nowhere =
                    |d: &&str| Some(self.full(target, d)).filter(|to| self.domains.contains(&to.domain) && matches!(self.find(to), Found::Nothing));
                if let Some(to) = domains.iter().find_map(nowhere) {
                    let shown = match target {
                        // Where it is in one domain, say in which it is not.
                        Target::Name(n) if domains.len() == 1 || domains.iter().all(|d| nowhere(d).is_some()) => n.clone(),
                        _ => to.to_string(),
                    };
                    problem(&config.aliases, alias.line, false, format!("{name}: {shown} is neither a user nor an alias"));
                }
            }
        }
        for (name, line, circle) in self.circles(&names) {
            problem(&config.aliases, line, false, format!("{name}: goes round in a circle: {}", circle.join(" -> ")));
        }
        self.check_postmaster(config, problems);
    }

    fn check_postmaster(&self, config: &Config, problems: &mut Vec<Problem>) {
        let mut problem = |file: &Path, warning, text| problems.push(Problem { file: file.to_owned(), line: 0, text, warning });
        let post = Address { local: "postmaster".into(), domain: self.domains.first().cloned().unwrap_or_default() };
        match &self.postmaster {
            Some(to) if self.domains.contains(&to.domain) && matches!(self.find(to), Found::Nothing) => {
                problem(&config.file, false, format!("postmaster: {to} is neither a user nor an alias"));
            }
            Some(_) => {}
            None if self.users.is_empty() => problem(&config.users, true, "there is no user yet: gatepost user add alice".into()),
            None => {
                if let Found::Postmaster(to) = self.find(&post) {
                    problem(&config.file, true, format!("postmaster: is not set, so {to} gets that mail: set postmaster = \"{to}\""));
                }
            }
        }
    }

    /// Where an alias holds: a name without domain in every domain of ours.
    fn domains_of<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        name.rsplit_once('@').map_or_else(|| self.domains.iter().map(String::as_str).collect(), |(_, d)| vec![d])
    }

    /// Aliases that lead back to themselves by way of others: the name, its line, and the way. Iterative, each name once.
    fn circles(&self, names: &[(&String, &Alias)]) -> Vec<(String, usize, Vec<String>)> {
        const OPEN: bool = false;
        const DONE: bool = true;
        let mut out = Vec::new();
        let mut state: HashMap<String, bool> = HashMap::new();
        let starts = names.iter().flat_map(|(name, _)| {
            let domains = self.domains_of(name);
            let local = name.rsplit_once('@').map_or(name.as_str(), |(l, _)| l).to_owned();
            domains.into_iter().map(move |d| format!("{local}@{d}"))
        });
        for start in starts.collect::<Vec<_>>() {
            if state.contains_key(&start) {
                continue;
            }
            state.insert(start.clone(), OPEN);
            let mut path = vec![(start.clone(), self.next(&start))];
            while let Some((name, rest)) = path.last_mut() {
                let Some(next) = rest.pop() else {
                    state.insert(std::mem::take(name), DONE);
                    path.pop();
                    continue;
                };
                match state.get(&next) {
                    Some(&DONE) => {}
                    Some(_) => {
                        let mut way: Vec<String> = path.iter().map(|(n, _)| n.clone()).skip_while(|n| *n != next).collect();
                        way.push(next.clone());
                        out.push((next.clone(), self.alias_at(&next).map_or(0, |a| a.line), way));
                    }
                    None => {
                        state.insert(next.clone(), OPEN);
                        let targets = self.next(&next);
                        path.push((next, targets));
                    }
                }
            }
        }
        out
    }

    fn alias_at(&self, name: &str) -> Option<&Alias> {
        self.aliases.get(name).or_else(|| self.aliases.get(name.rsplit_once('@')?.0))
    }

    /// Full names of the aliases that the alias `name` leads to; itself only when no account of that name ends it.
    fn next(&self, name: &str) -> Vec<String> {
        let Some(alias) = self.alias_at(name) else { return Vec::new() };
        let domain = name.rsplit_once('@').map_or("", |(_, d)| d);
        let step = |target: &Target| {
            let to = self.full(target, domain);
            if !self.domains.contains(&to.domain) {
                return None;
            }
            if key(&to) == name && self.users.contains_key(&AccountId(name.into())) {
                return None;
            }
            match self.find(&to) {
                Found::Alias(_, found) => Some(found),
                _ => None,
            }
        };
        alias.targets.iter().filter_map(step).collect()
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// The whole address in lower case: what names are compared by.
fn key(address: &Address) -> String {
    format!("{}@{}", address.local.to_lowercase(), address.domain)
}

/// Stands for all who are not there when nobody has a hash to be compared with.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$FO7Jw92QLwGLJeQEHUhPXA$fCMeoF5ZuyUCeWFz/HV6AndRP9MnILOd1D4e64JVtno";

/// The hash that most users have; any one will do, for its answer is not looked at.
fn dummy(users: &Users) -> Stored {
    let mut count: HashMap<&str, usize> = HashMap::new();
    let real = || users.values().filter(|u| u.stored != Stored::Locked);
    real().for_each(|u| *count.entry(u.stored.name()).or_default() += 1);
    let most = real().max_by_key(|u| (count.get(u.stored.name()), std::cmp::Reverse(u.line)));
    most.map(|u| u.stored.clone()).unwrap_or_else(|| Stored::Argon2(NOBODY.to_owned()))
}

fn text(file: &Path, may_be_missing: bool, problems: &mut Vec<Problem>) -> String {
    let mut problem = |text: String| problems.push(Problem { file: file.to_owned(), line: 0, text, warning: false });
    match disk::read(file) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_else(|e| {
            let line = 1 + e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count();
            problem(format!("is not UTF-8 in line {line}: save it as UTF-8"));
            String::new()
        }),
        Err(e) if e.is_not_found() && may_be_missing => String::new(),
        Err(e) if e.is_not_found() => {
            problem("is not there: gatepost user add alice makes it, or set users to the right file".into());
            String::new()
        }
        Err(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => {
            problem(config::denied());
            String::new()
        }
        Err(e) => {
            problem(format!("cannot be read: {}", e.source));
            String::new()
        }
    }
}
