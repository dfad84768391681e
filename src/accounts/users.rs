//! The `users` file: `alice@example.org:{SCHEME}hash:quota=2G,10000`, one line each.
//!
//! Lenient as Dovecot's passwd-file, so that one can be taken over: empty fields for uid, gid, home and shell,
//! `userdb_quota_rule=*:storage=2G`.

use super::{
    AccountId,
    quota::{Own, Reader},
    scheme::Stored,
};
use crate::config::Problem;
use crate::message::Address;
use std::{collections::BTreeMap, path::Path};

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) stored: Stored,
    pub(crate) quota: Own,
    pub(crate) line: usize,
}

pub(crate) type Users = BTreeMap<AccountId, User>;

/// Every line that can be read, and every problem.
pub(crate) fn parse(text: &str, file: &Path, domains: &[String]) -> (Users, Vec<Problem>) {
    let mut users = Users::new();
    let mut problems = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let number = index + 1;
        let mut problem = |warning, text| problems.push(Problem { file: file.to_owned(), line: number, text, warning });
        let (id, user) = match entry(line, number, domains, &mut |text| problem(true, text)) {
            Ok(entry) => entry,
            Err(text) => {
                problem(false, text);
                continue;
            }
        };
        if let Some(first) = users.get(&id) {
            problem(false, format!("{id}: stands in line {} already: remove one of them", first.line));
            continue;
        }
        users.insert(id, user);
    }
    (users, problems)
}

fn entry(line: &str, number: usize, domains: &[String], warn: &mut dyn FnMut(String)) -> Result<(AccountId, User), String> {
    let (name, rest) = line.split_once(':').ok_or("must be alice@example.org:{SCHEME}hash")?;
    let id = account(name.trim(), domains)?;
    let (password, fields) = rest.split_once(':').unwrap_or((rest, ""));
    let stored = Stored::parse(password.trim()).map_err(|e| format!("{id}: {e}"))?;
    if matches!(stored, Stored::Plain(_)) {
        warn(format!("{id}: the password stands here in plain text: gatepost user passwd {id} hashes it"));
    }
    let quota = extra(fields, warn).map_err(|e| format!("{id}: {e}"))?;
    Ok((id, User { stored, quota, line: number }))
}

/// The account that a line's name means. A local part alone will do with a single domain.
pub(crate) fn account(name: &str, domains: &[String]) -> Result<AccountId, String> {
    let full = match (name.contains('@'), domains) {
        (true, _) => name.to_owned(),
        (false, [domain]) => format!("{name}@{domain}"),
        (false, _) => return Err(format!("{name}: lacks its domain: write {name}@{}", domains.first().map_or("example.org", String::as_str))),
    };
    let address = Address::parse(&full).ok_or_else(|| format!("{name}: is not an address: write alice@example.org"))?;
    if !domains.contains(&address.domain) {
        return Err(format!("{name}: {} is not one of domains: add it there, or remove this line", address.domain));
    }
    let local = address.local.to_lowercase();
    // The local part names a folder, and no folder of ours may hide, climb or nest.
    let fit = !local.starts_with('.')
        && local.len() <= 64
        && local.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, '/' | '\\' | ':' | '"' | '@'));
    if !fit {
        return Err(format!("{name}: cannot name a mailbox: letters, digits and . _ + - = ~ up to 64 bytes, no dot in front"));
    }
    Ok(AccountId(format!("{local}@{}", address.domain).into()))
}

/// The fields after the password.
fn extra(fields: &str, warn: &mut dyn FnMut(String)) -> Result<Own, String> {
    let mut quota = Reader::default();
    let mut ignored = false;
    for field in fields.split([':', ' ', '\t']).filter(|f| !f.is_empty()) {
        match field.split_once('=') {
            None => ignored |= !quota.word(field),
            Some((key, value)) if quota.field(key, value)? => {}
            Some((key, _)) => return Err(format!("{key} is not a field: there is quota=2G,10000")),
        }
    }
    if ignored {
        warn("fields after the password are ignored: gatepost keeps all mail under its own user and folder".into());
    }
    if quota.folder_rules {
        warn("quota rules of single folders are ignored: all folders count alike".into());
    }
    Ok(quota.end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{accounts::Quota, config};
    use proptest::prelude::*;

    fn read(text: &str, domains: &[&str]) -> (Vec<String>, Vec<String>) {
        let domains: Vec<String> = domains.iter().map(|d| (*d).to_owned()).collect();
        let (users, problems) = parse(text, Path::new("users"), &domains);
        let quota = |u: &User| {
            let [none, some] = [0, 7].map(|n| u.quota.or(&config::Quota { storage: n, messages: n as u32, ..config::Quota::default() }));
            match (none, some) {
                (Quota { storage: 0, messages: 0 }, Quota { storage: 7, messages: 7 }) => "None".to_owned(),
                (_, q) => format!("{} {}", q.storage, q.messages),
            }
        };
        (users.iter().map(|(id, u)| format!("{id} {} {}", u.stored.name(), quota(u))).collect(), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines() {
        const CASES: &[(&str, &str)] = &[
            ("alice@example.org:{CRYPT}!", "users:1: alice@example.org: is not a crypt(3) hash: it would begin with $y$, $6$, $5$ or $2y$"),
            ("alice@example.org:!", "alice@example.org locked None"),
            ("Alice@EXAMPLE.org:*:quota=2G\r\n", "alice@example.org locked 2147483648 7"),
            ("# comment\n\n  # another\n alice :!", "alice@example.org locked None"),
            ("alice:!::::::", "alice@example.org locked None"),
            ("alice:!::::::userdb_quota_rule=*:storage=1M", "alice@example.org locked 1048576 7"),
            ("alice:!::::::userdb_quota_storage_size=1M", "alice@example.org locked 1048576 7"),
            (
                "alice:!:1000:1000::/home/alice::",
                "alice@example.org locked None|users:1: warning: fields after the password are ignored: gatepost keeps all mail under its own user and folder",
            ),
            ("alice", "users:1: must be alice@example.org:{SCHEME}hash"),
            (":!", "users:1: : is not an address: write alice@example.org"),
            ("alice@example.com:!", "users:1: alice@example.com: example.com is not one of domains: add it there, or remove this line"),
            ("../etc:!", "users:1: ../etc: is not an address: write alice@example.org"),
            ("a/b:!", "users:1: a/b: cannot name a mailbox: letters, digits and . _ + - = ~ up to 64 bytes, no dot in front"),
            ("alice:!:quotta=1G", "users:1: alice@example.org: quotta is not a field: there is quota=2G,10000"),
            ("alice:!:quota=lots", "users:1: alice@example.org: quota=lots is not a size and a number of messages: write quota=2G or quota=2G,10000"),
            ("alice:!:quota=2G,10000", "alice@example.org locked 2147483648 10000"),
            ("alice:!:quota=0,0", "alice@example.org locked 0 0"),
            ("alice:!:quota=,5", "alice@example.org locked 7 5"),
            ("alice:!:quota=", "users:1: alice@example.org: quota= is not a size and a number of messages: write quota=2G or quota=2G,10000"),
            ("alice:!::::::userdb_quota_rule=*:storage=1000:messages=9", "alice@example.org locked 1024000 9"),
            ("alice:!::::::userdb_quota_rule=*:bytes=1000 userdb_quota_rule2=*:messages=9", "alice@example.org locked 1000 9"),
            ("alice:!::::::userdb_quota_storage_size=1M userdb_quota_message_count=9", "alice@example.org locked 1048576 9"),
            ("alice:!::::::userdb_quota_rule=*:ignore", "alice@example.org locked 0 0"),
            (
                "alice:!::::::userdb_quota_rule=*:storage=1G userdb_quota_rule2=Trash:storage=+10%",
                "alice@example.org locked 1073741824 7|users:1: warning: quota rules of single folders are ignored: all folders count alike",
            ),
            ("alice:!:storage=1G", "users:1: alice@example.org: storage is not a field: there is quota=2G,10000"),
            ("alice:!:quota=1G:quota=2G", "users:1: alice@example.org: the quota is given twice"),
            (
                "alice:!\nALICE@example.org:!",
                "alice@example.org locked None|users:2: alice@example.org: stands in line 1 already: remove one of them",
            ),
            (
                "alice:{PLAIN}x",
                "alice@example.org PLAIN None|users:1: warning: alice@example.org: the password stands here in plain text: \
                 gatepost user passwd alice@example.org hashes it",
            ),
        ];
        for (text, want) in CASES {
            let (users, problems) = read(text, &["example.org"]);
            assert_eq!([users, problems].concat().join("|"), *want, "{text}");
        }
        let (_, problems) = read("alice:!", &["example.org", "example.net"]);
        assert_eq!(problems, ["users:1: alice: lacks its domain: write alice@example.org"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(alice|@|example\\.org|:|\\{PLAIN\\}|\\$6\\$|\\$y\\$|\\{SCRAM-SHA-256\\}|,|=|quota|\\r?\\n|\\PC){0,40}") {
            read(&text, &["example.org"]);
        }
    }
}
