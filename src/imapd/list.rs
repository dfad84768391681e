//! LIST with its extensions (RFC 5258, RFC 5819, RFC 6154) and LSUB.

use super::{
    select,
    session::{Done, Outcome, Session, job},
};
use crate::{
    proto::imap::{list::List, mailbox, response},
    store::{Error, Home, Listed, Result},
};
use std::collections::{BTreeMap, BTreeSet};

/// RFC 6154: by name, as `Home::prepare` makes them.
const SPECIAL: [(&str, &str); 5] = [("Archive", "\\Archive"), ("Drafts", "\\Drafts"), ("Junk", "\\Junk"), ("Sent", "\\Sent"), ("Trash", "\\Trash")];

fn special_use(name: &str) -> Option<&'static str> {
    SPECIAL.iter().find(|(n, _)| *n == name).map(|(_, attribute)| *attribute)
}

/// One LIST response, before it is written.
#[derive(Debug, PartialEq, Eq, Default)]
struct Entry {
    exists: bool,
    selectable: bool,
    subscribed: bool,
    children: bool,
    /// RECURSIVEMATCH: stands for something selected below it.
    child_info: bool,
}

/// What LIST shows of `listed` and of `subscriptions`, by name.
fn entries<'a>(list: &List, listed: &'a [Listed], subscriptions: &'a [String]) -> BTreeMap<&'a str, Entry> {
    let mut all: BTreeMap<&str, Entry> = BTreeMap::new();
    for f in listed {
        let entry = Entry { exists: true, selectable: f.selectable, subscribed: f.subscribed, children: f.children, child_info: false };
        all.insert(&f.name, entry);
    }
    if list.subscribed {
        for name in subscriptions {
            all.entry(name).or_default().subscribed = true;
        }
    }
    let chosen = |name: &str, e: &Entry| (!list.subscribed || e.subscribed) && (!list.special_use || special_use(name).is_some());
    let patterns: Vec<String> = list.patterns.iter().map(|p| format!("{}{p}", list.reference)).collect();
    let matches = |name: &str| patterns.iter().any(|p| mailbox::matches(p, name));
    let mut parents: BTreeSet<&str> = BTreeSet::new();
    if list.recursive_match {
        for (name, _) in all.iter().filter(|(name, e)| chosen(name, e) && !matches(name)) {
            parents.extend(parents_of(name).filter(|p| matches(p)));
        }
    }
    for parent in &parents {
        all.entry(parent).or_default().child_info = true;
    }
    all.retain(|name, e| matches(name) && (e.child_info || chosen(name, e)));
    all
}

/// `a/b/c` → `a`, `a/b`.
fn parents_of(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').filter_map(|(i, _)| name.get(..i)).filter(|p| !p.is_empty())
}

fn write(out: &mut Vec<u8>, verb: &str, attributes: &[&str], name: &str) {
    out.extend_from_slice(format!("* {verb} (").as_bytes());
    response::words(out, attributes);
    out.extend_from_slice(b") \"/\" ");
    response::folder(out, name);
}

fn attributes(list: &List, name: &str, e: &Entry) -> Vec<&'static str> {
    let mut out = Vec::new();
    if !e.exists {
        out.push("\\NonExistent");
    } else if !e.selectable {
        out.push("\\Noselect");
    }
    // What is not there may yet have children, CHILDINFO even says so: nothing is claimed.
    if e.exists {
        out.push(if e.children { "\\HasChildren" } else { "\\HasNoChildren" });
    }
    if (list.subscribed || list.returns.subscribed) && e.subscribed {
        out.push("\\Subscribed");
    }
    if let Some(use_) = special_use(name).filter(|_| e.exists) {
        out.push(use_);
    }
    out
}

/// The whole answer, and the errors of folders whose STATUS could not be had.
fn answer(home: &Home, list: &List) -> Result<(Vec<u8>, Vec<Error>)> {
    let listed = home.list()?;
    let subscriptions = if list.subscribed { home.subscriptions()? } else { Vec::new() };
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    for (name, entry) in in_order(entries(list, &listed, &subscriptions)) {
        write(&mut out, "LIST", &attributes(list, name, &entry), name);
        if entry.child_info {
            let what = if list.subscribed { "SUBSCRIBED" } else { "SPECIAL-USE" };
            out.extend_from_slice(format!(" (\"CHILDINFO\" (\"{what}\"))").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if entry.selectable && !list.returns.status.is_empty() {
            match home.status(name) {
                Ok(counts) => select::write_status(&mut out, name, &counts, &list.returns.status),
                Err(e) => errors.push(e),
            }
        }
    }
    Ok((out, errors))
}

/// INBOX first: people and simple clients look there.
fn in_order<T>(all: BTreeMap<&str, T>) -> impl Iterator<Item = (&str, T)> {
    let (inbox, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| *name == "INBOX");
    inbox.into_iter().chain(others)
}

/// LSUB's `%` names a parent of what is subscribed, as \Noselect, though it is not subscribed itself (RFC 3501 §6.3.9).
fn subscribed<'a>(subscriptions: &'a [String], pattern: &str) -> BTreeMap<&'a str, bool> {
    let mut out = BTreeMap::new();
    for name in subscriptions {
        if mailbox::matches(pattern, name) {
            out.insert(name.as_str(), true);
        } else if pattern.ends_with('%') {
            for parent in parents_of(name).filter(|p| mailbox::matches(pattern, p)) {
                out.entry(parent).or_insert(false);
            }
        }
    }
    out
}

fn lsub_answer(subscriptions: &[String], pattern: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, itself) in in_order(subscribed(subscriptions, pattern)) {
        write(&mut out, "LSUB", if itself { &[] } else { &["\\Noselect"] }, name);
        out.extend_from_slice(b"\r\n");
    }
    out
}

impl Session {
    pub(super) async fn list(&mut self, list: List) -> Outcome {
        // The question for the separator (RFC 3501 §6.3.8).
        if !list.extended && matches!(&list.patterns[..], [only] if only.is_empty()) {
            self.wire.write(b"* LIST (\\Noselect) \"/\" \"\"\r\n").await?;
            return Ok(Done::ok("Done."));
        }
        let home = self.home()?;
        let (out, errors) = job(move || answer(&home, &list)).await?;
        for e in errors {
            self.failed(&e);
        }
        self.wire.write(&out).await?;
        Ok(Done::ok("Done."))
    }
    pub(super) async fn lsub(&mut self, reference: &str, pattern: &str) -> Outcome {
        let home = self.home()?;
        let pattern = format!("{reference}{pattern}");
        let out = job(move || home.subscriptions().map(|all| lsub_answer(&all, &pattern))).await?;
        self.wire.write(&out).await?;
        Ok(Done::ok("Done."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::imap::{cursor::Cursor, list::parse_list};

    fn home() -> (Vec<Listed>, Vec<String>) {
        let f = |name: &str, selectable, subscribed, children| Listed { name: name.into(), selectable, subscribed, children };
        let listed = vec![
            f("INBOX", true, true, false),
            f("Sent", true, false, false),
            f("a", false, false, true),
            f("a/b", true, true, false),
            f("z", true, false, false),
        ];
        (listed, vec!["INBOX".into(), "a/b".into(), "lost/one".into()])
    }

    #[test]
    fn lists() {
        const CASES: &[(&str, &[&str])] = &[
            (
                "\"\" *",
                &["INBOX \\HasNoChildren", "Sent \\HasNoChildren \\Sent", "a \\Noselect \\HasChildren", "a/b \\HasNoChildren", "z \\HasNoChildren"],
            ),
            ("\"\" %", &["INBOX \\HasNoChildren", "Sent \\HasNoChildren \\Sent", "a \\Noselect \\HasChildren", "z \\HasNoChildren"]),
            ("a/ %", &["a/b \\HasNoChildren"]),
            ("\"\" (a z)", &["a \\Noselect \\HasChildren", "z \\HasNoChildren"]),
            (
                "(SUBSCRIBED) \"\" *",
                &["INBOX \\HasNoChildren \\Subscribed", "a/b \\HasNoChildren \\Subscribed", "lost/one \\NonExistent \\Subscribed"],
            ),
            ("(SUBSCRIBED RECURSIVEMATCH) \"\" %", &["INBOX \\HasNoChildren \\Subscribed", "a \\Noselect \\HasChildren +", "lost \\NonExistent +"]),
            ("(SPECIAL-USE) \"\" *", &["Sent \\HasNoChildren \\Sent"]),
            ("\"\" a/b RETURN (SUBSCRIBED)", &["a/b \\HasNoChildren \\Subscribed"]),
        ];
        let (listed, subscriptions) = home();
        for (text, want) in CASES {
            let list = parse_list(&mut Cursor::new(text.as_bytes())).unwrap();
            let got: Vec<String> = in_order(entries(&list, &listed, &subscriptions))
                .map(|(name, e)| format!("{name} {}{}", attributes(&list, name, &e).join(" "), if e.child_info { " +" } else { "" }))
                .collect();
            assert_eq!(got, *want, "{text}");
        }
    }
    #[test]
    fn lsub() {
        let (_, subscriptions) = home();
        let names = |pattern: &str| subscribed(&subscriptions, pattern).into_iter().collect::<Vec<_>>();
        assert_eq!(names("*"), [("INBOX", true), ("a/b", true), ("lost/one", true)]);
        assert_eq!(names("%"), [("INBOX", true), ("a", false), ("lost", false)]);
        assert_eq!(names("a/%"), [("a/b", true)]);
    }
}
