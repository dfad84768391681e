//! Where folders lie below `Maildir/`, in either of Dovecot's two layouts.
//!
//! Maildir++: all in one directory, `.Lists.rust`. Tree (`LAYOUT=fs`): `Lists/rust`, a directory being a folder when it
//! has a `cur/`; INBOX is at the root in both. A home is read as whatever is there, both kinds at once if need be (of
//! two folders with one name the Maildir++ one counts), and grows in the layout it has: as a tree when all its folders are
//! in a tree, else, and when it has none, as Maildir++. Names are in modified UTF-7, or in UTF-8 where they are already.
//!
//! In a tree links are not followed: no folder lies outside the home, and none in itself.

use super::{Error, Result, events, names};
use crate::disk;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Directories that are looked at for a list of folders; what is beyond is not shown.
const MAX_VISITS: usize = 100_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Layout {
    pub tree: bool,
    /// Names on disk in UTF-8.
    pub utf8: bool,
}

#[derive(Default)]
pub(super) struct Folders {
    /// Directories below `Maildir/` by folder name, without INBOX.
    pub dirs: BTreeMap<String, PathBuf>,
    pub layout: Layout,
}

/// The directories that make a folder.
fn is_part(name: &str) -> bool {
    matches!(name, "cur" | "new" | "tmp")
}

pub(super) fn is_maildirplusplus(maildir: &Path, dir: &Path) -> bool {
    dir.parent() == Some(maildir) && dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}

/// Reads what folders there are; none when there is no home.
pub(super) fn folders(maildir: &Path) -> Result<Folders> {
    let entries = match disk::list(maildir) {
        Err(e) if e.is_not_found() => return Ok(Folders::default()),
        entries => entries?,
    };
    let (mut flat, mut tops) = (BTreeMap::<String, PathBuf>::new(), BTreeMap::new());
    for dir in entries.into_iter().filter(|(_, is_dir)| *is_dir).filter_map(|(name, _)| name.into_string().ok()) {
        if !dir.starts_with('.') {
            top_or_child(&mut tops, maildir, "", dir);
        } else if let Some(name) = names::from_disk(&dir)
            // Of two spellings, the one that we would write.
            && (!flat.contains_key(&name) || names::to_disk(&name) == dir)
        {
            flat.insert(name, dir.into());
        }
    }
    let mut tree = walk(maildir, tops);
    let utf8 = is_utf8(flat.values().chain(tree.values()));
    let layout = Layout { tree: flat.is_empty() && !tree.is_empty(), utf8 };
    tree.append(&mut flat);
    Ok(Folders { dirs: tree, layout })
}

/// Notes a directory that may be a folder or have some below it: the name of its level leads to the directory's.
fn top_or_child(found: &mut BTreeMap<String, String>, above: &Path, name_above: &str, dir: String) {
    if is_part(&dir) || !disk::is_real_dir(&above.join(&dir)) {
        return;
    }
    let level = names::level_from_disk(&dir);
    let name = if name_above.is_empty() { level.clone() } else { format!("{name_above}/{level}") };
    let is_name = names::normalise(&name).is_ok_and(|n| n == name);
    if is_name && (!found.contains_key(&level) || names::level_to_disk(&level, false) == dir) {
        found.insert(level, dir);
    }
}

fn walk(maildir: &Path, tops: BTreeMap<String, String>) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut ahead: Vec<(String, PathBuf)> = tops.into_iter().map(|(name, dir)| (name, dir.into())).collect();
    let mut visits = 0;
    while let Some((name, dir)) = ahead.pop() {
        visits += 1;
        if visits > MAX_VISITS {
            events::too_many_folders(maildir);
            break;
        }
        let path = maildir.join(&dir);
        let Ok(entries) = disk::list(&path) else { continue };
        let mut children = BTreeMap::new();
        let mut is_folder = false;
        for sub in entries.into_iter().filter(|(_, is_dir)| *is_dir).filter_map(|(sub, _)| sub.into_string().ok()) {
            is_folder |= sub == "cur";
            top_or_child(&mut children, &path, &name, sub);
        }
        ahead.extend(children.into_iter().map(|(level, sub)| (format!("{name}/{level}"), dir.join(sub))));
        if is_folder && name != "INBOX" {
            found.insert(name, dir);
        }
    }
    found
}

/// Something beyond ASCII is there, and nothing in modified UTF-7.
fn is_utf8<'a>(dirs: impl Iterator<Item = &'a PathBuf>) -> bool {
    let mut utf8 = false;
    for dir in dirs.map(|d| d.to_string_lossy()) {
        if !dir.is_ascii() {
            utf8 = true;
        } else if dir.split(['/', '.']).any(|level| !names::level_from_disk(level).is_ascii()) {
            return false;
        }
    }
    utf8
}

/// Where a folder (normalised) is. In a tree that is one with a `cur/`.
pub(super) fn dir(maildir: &Path, name: &str) -> Option<PathBuf> {
    if name == "INBOX" {
        return Some(maildir.to_path_buf());
    }
    for dir in [names::to_disk(name), names::to_disk_plain(name)] {
        let path = maildir.join(&dir);
        if path.is_dir() && names::from_disk(&dir).as_deref() == Some(name) {
            return Some(path);
        }
    }
    tree_dir(maildir, name).filter(|dir| dir.join("cur").is_dir())
}

/// The directory of that name in the tree, be it a folder or only above some.
pub(super) fn tree_dir(maildir: &Path, name: &str) -> Option<PathBuf> {
    let mut dir = maildir.to_path_buf();
    for (n, level) in name.split('/').enumerate() {
        let hidden = if n == 0 { "." } else { ".." };
        let spellings = [names::level_to_disk(level, false), level.to_owned()];
        let usable = |l: &String| !is_part(l) && l != "." && !l.starts_with(hidden) && names::level_from_disk(l) == level;
        dir = spellings.into_iter().filter(usable).map(|l| dir.join(l)).find(|path| disk::is_real_dir(path))?;
    }
    Some(dir)
}

/// Where a new folder (checked by [`for_new`]) goes.
pub(super) fn new_dir(maildir: &Path, name: &str, layout: Layout) -> PathBuf {
    if name == "INBOX" {
        return maildir.to_path_buf();
    }
    if !layout.tree {
        let plain = Some(names::to_disk_plain(name)).filter(|p| layout.utf8 && names::from_disk(p).as_deref() == Some(name));
        return maildir.join(plain.unwrap_or_else(|| names::to_disk(name)));
    }
    // What is there of the way is used as it is spelt.
    let there = name.rmatch_indices('/').find_map(|(at, _)| Some((tree_dir(maildir, &name[..at])?, &name[at + 1..])));
    let (above, rest) = there.unwrap_or_else(|| (maildir.to_path_buf(), name));
    rest.split('/').fold(above, |dir, level| dir.join(names::level_to_disk(level, layout.utf8)))
}

/// Checks a name that is to be made, also against what Dovecot would not open and what has a name already.
pub(super) fn for_new(name: &str, layout: Layout) -> Result<String> {
    let bad = |why: &str| Err(Error::BadName(format!("not a folder name: {why}")));
    let name = names::normalise(name)?;
    if !layout.tree {
        if name.contains('.') {
            return bad("a dot, which is what separates levels on disk");
        }
        return if names::to_disk(&name).len() > names::MAX_NEW { bad("too long") } else { Ok(name) };
    }
    for level in name.split('/') {
        let taken = ["dovecot-", "dovecot.", "gatepost-", "courier"].iter().any(|p| level.starts_with(p));
        if is_part(level) || taken || matches!(level, "subscriptions" | "maildirfolder" | "maildirsize") {
            return bad("one of its levels is a file of the mail server's");
        }
        if level.starts_with(['.', '~']) {
            return bad("a dot or tilde at the beginning");
        }
        if names::level_to_disk(level, layout.utf8).len() > names::MAX_NEW {
            return bad("too long");
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(dirs: &[&str]) -> crate::store::scratch::Dir {
        let home = crate::store::scratch::Dir::new("layout");
        for dir in dirs {
            std::fs::create_dir_all(home.path().join(dir)).unwrap();
        }
        home
    }
    fn names_of(home: &Path) -> Vec<String> {
        folders(home).unwrap().dirs.into_keys().collect()
    }

    #[test]
    fn both_layouts_are_read() {
        const CASES: &[(&[&str], &[&str], Layout)] = &[
            (&["cur", "new", "tmp"], &[], Layout { tree: false, utf8: false }),
            (&["cur", ".Sent", ".A.b/cur"], &["A/b", "Sent"], Layout { tree: false, utf8: false }),
            (
                &["cur", "Sent/cur", "Lists/rust/cur", "v1.0/cur", "control/data", "Entw&APw-rfe/cur", "a/.b/cur", "INBOX/x/cur"],
                &["Entwürfe", "INBOX/x", "Lists/rust", "Sent", "a/.b", "v1.0"],
                Layout { tree: true, utf8: false },
            ),
            (&["Entwürfe/cur", "Entwürfe/a&b/cur"], &["Entwürfe", "Entwürfe/a&b"], Layout { tree: true, utf8: true }),
            (&[".Entwürfe", ".x"], &["Entwürfe", "x"], Layout { tree: false, utf8: true }),
            (&["é/cur", "&AOk-/cur", "é/in/cur"], &["é"], Layout { tree: true, utf8: false }),
            // Both: all is shown, and what is new goes where most programs look.
            (&["Sent/cur", ".Sent", ".Junk", "Old/x/cur"], &["Junk", "Old/x", "Sent"], Layout { tree: false, utf8: false }),
            (&["cur/cur", "new/x/cur", "inbox/cur", "INBOX/cur", "..x/cur", ".hidden/x/cur"], &["hidden"], Layout { tree: false, utf8: false }),
        ];
        for (dirs, names, layout) in CASES {
            let home = home(dirs);
            let found = folders(home.path()).unwrap();
            assert_eq!(found.dirs.keys().map(String::as_str).collect::<Vec<_>>(), *names, "{dirs:?}");
            assert_eq!(found.layout, *layout, "{dirs:?}");
            for (name, at) in &found.dirs {
                assert_eq!(dir(home.path(), name), Some(home.path().join(at)), "{name} leads back");
            }
        }
    }

    #[test]
    fn nothing_leads_out_or_round_in_circles() {
        use std::os::unix::fs::symlink;
        let outside = home(&["secret/cur"]);
        let home = home(&["cur", "a/cur", "a/b"]);
        symlink("..", home.path().join("a/loop")).unwrap();
        symlink(home.path(), home.path().join("self")).unwrap();
        symlink(outside.path().join("secret"), home.path().join("out")).unwrap();
        assert_eq!(names_of(home.path()), ["a"]);
        for name in ["self/a", "a/loop/a", "out", "..", "a/../a", "a/./cur", "a/cur", "../secret", "a/b", "."] {
            assert_eq!(dir(home.path(), name), None, "{name}");
        }
        let mut deep = home.path().join("a");
        for _ in 0..200 {
            deep.push("d");
        }
        std::fs::create_dir_all(deep.join("cur")).unwrap();
        assert_eq!(names_of(home.path()), ["a"], "deeper than a name may be");
    }

    #[test]
    fn what_may_be_made() {
        let tree = Layout { tree: true, utf8: false };
        for name in ["a/cur", "tmp", "subscriptions", "dovecot-uidlist/x", "gatepost-log", ".a", "a/..", "~a", "a//b"] {
            assert!(for_new(name, tree).is_err(), "{name}");
        }
        assert!(for_new("v1.0", Layout::default()).is_err());
        for name in ["v1.0", "dovecot", "Curry/new york"] {
            assert_eq!(for_new(name, tree).unwrap(), name);
        }
        for (len, ok) in [(200, true), (201, false)] {
            assert_eq!(for_new(&format!("a/{}", "x".repeat(len)), tree).is_ok(), ok);
        }
        let home = home(&["cur", "é/x"]);
        let at = |name: &str, layout| new_dir(home.path(), name, layout).strip_prefix(home.path()).unwrap().to_str().unwrap().to_owned();
        assert_eq!(at("é/x/ü/v1.0", tree), "é/x/&APw-/v1.0");
        assert_eq!(at("ü", Layout { tree: true, utf8: true }), "ü");
        assert_eq!(at("ü/a", Layout { tree: false, utf8: true }), ".ü.a");
        assert_eq!(at("ü/a", Layout::default()), ".&APw-.a");
        for tree in [false, true] {
            assert_eq!(at("&APw-", Layout { tree, utf8: true }), if tree { "&-APw-" } else { ".&-APw-" });
        }
    }
}
