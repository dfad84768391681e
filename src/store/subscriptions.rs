//! `subscriptions` beside INBOX, as Dovecot writes it.
//!
//! Version 2 begins with `V<TAB>2` and an empty line; then a name per line, modified UTF-7, levels between tabs.
//! Older files have no header; in Maildir++ a dot (or slash) separates their levels, in a tree a slash. Names are spelt as
//! on disk, read in either spelling. Lines we cannot read are kept as they are.

use super::{Result, dotlock::Dotlock, layout::Layout, names};
use crate::disk;
use std::path::Path;

const NAME: &str = "subscriptions";
/// Some hundred thousand names.
const MAX: u64 = 16 << 20;
const HEADER: &[u8] = b"V\t2\n\n";

fn is_v2(text: &[u8]) -> bool {
    text.starts_with(b"V\t2\n")
}

/// What a line means; `None` for headers, damage and names that cannot be.
fn name(line: &[u8], v2: bool, layout: Layout) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    if line.is_empty() || (v2 && line == "V\t2") {
        return None;
    }
    let level = |l: &str| names::decode_or_plain(&if v2 { unescape(l) } else { l.to_owned() });
    let separators: &[char] = match (v2, layout.tree) {
        (true, _) => &['\t'],
        (false, true) => &['/'],
        (false, false) => &['.', '/'],
    };
    let levels: Vec<String> = line.split(separators).map(level).collect();
    let name = levels.join("/");
    names::normalise(&name).ok().filter(|n| n.matches('/').count() + 1 == levels.len())
}

/// Dovecot's escapes in tab-separated text.
fn unescape(level: &str) -> String {
    level.replace("\u{1}t", "\t").replace("\u{1}n", "\n").replace("\u{1}r", "\r").replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}")
}

fn line(name: &str, v2: bool, layout: Layout) -> String {
    let levels: Vec<String> = name.split('/').map(|l| names::level_to_disk(l, layout.utf8)).collect();
    levels.join(match (v2, layout.tree) {
        (true, _) => "\t",
        (false, true) => "/",
        (false, false) => ".",
    })
}

/// Whether there is a file at all: a home that somebody logged into has one.
pub(super) fn exist(maildir: &Path) -> bool {
    disk::stat(&maildir.join(NAME)).is_ok()
}

/// `layout` is asked for when the file does not say how levels are separated.
pub(super) fn read(maildir: &Path, layout: impl FnOnce() -> Result<Layout>) -> Result<Vec<String>> {
    let text = disk::read_bounded_if_exists(&maildir.join(NAME), MAX)?.unwrap_or_default();
    let v2 = is_v2(&text);
    let layout = if v2 || text.is_empty() { Layout::default() } else { layout()? };
    let mut names: Vec<String> = text.split(|b| *b == b'\n').filter_map(|l| name(l, v2, layout)).collect();
    names.sort_by(|a, b| super::home::inbox_first(a, b));
    names.dedup();
    Ok(names)
}

/// Adds or takes out names (normalised), in one write.
pub(super) fn set(maildir: &Path, wanted: &[&str], on: bool, layout: Layout) -> Result<()> {
    let path = maildir.join(NAME);
    let _lock = Dotlock::take(&path)?;
    let before = disk::read_bounded_if_exists(&path, MAX)?;
    let text = before.clone().filter(|t| !t.is_empty()).unwrap_or_else(|| HEADER.to_vec());
    let v2 = is_v2(&text);
    let (mut out, mut there) = (Vec::new(), Vec::new());
    for l in text.split_inclusive(|b| *b == b'\n') {
        let bare = l.strip_suffix(b"\n").unwrap_or(l);
        match name(bare, v2, layout).filter(|n| wanted.contains(&n.as_str())) {
            Some(_) if !on => continue,
            Some(n) => there.push(n),
            None => {}
        }
        out.extend_from_slice(bare);
        out.push(b'\n');
    }
    for n in wanted.iter().filter(|n| on && !there.iter().any(|t| t == *n)) {
        out.extend_from_slice(line(n, v2, layout).as_bytes());
        out.push(b'\n');
    }
    if before.as_deref() != Some(&out[..]) {
        disk::replace(&path, &out, 0o600)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_the_file() {
        const FLAT: Layout = Layout { tree: false, utf8: false };
        const TREE: Layout = Layout { tree: true, utf8: false };
        const CASES: &[(Layout, &str, &[&str], &str)] = &[
            (FLAT, "", &[], "V\t2\n\nNeu&AOk-\tx\n"),
            (
                FLAT,
                "V\t2\n\nEntw&APw-rfe\nLists\trust\nA&-B\nINBOX\n",
                &["INBOX", "A&B", "Entwürfe", "Lists/rust"],
                "V\t2\n\nEntw&APw-rfe\nLists\trust\nA&-B\nINBOX\nNeu&AOk-\tx\n",
            ),
            (FLAT, "Lists.rust\nSent\n\u{7f}x\n", &["Lists/rust", "Sent"], "Lists.rust\nSent\n\u{7f}x\nNeu&AOk-.x\n"),
            (FLAT, "Sent", &["Sent"], "Sent\nNeu&AOk-.x\n"),
            (TREE, "Lists/v1.0\nSent\n", &["Lists/v1.0", "Sent"], "Lists/v1.0\nSent\nNeu&AOk-/x\n"),
            (TREE, "V\t2\n\nLists\tv1.0\n", &["Lists/v1.0"], "V\t2\n\nLists\tv1.0\nNeu&AOk-\tx\n"),
            (Layout { tree: true, utf8: true }, "V\t2\n\né\tv1.0\n", &["é/v1.0"], "V\t2\n\né\tv1.0\nNeué\tx\n"),
        ];
        let dir = crate::store::scratch::Dir::new("subscriptions");
        let file = dir.path().join(NAME);
        for (layout, text, names, after) in CASES {
            std::fs::write(&file, text).unwrap();
            let read = || read(dir.path(), || Ok(*layout)).unwrap();
            assert_eq!(read(), *names, "{text:?}");
            for _ in 0..2 {
                set(dir.path(), &["Neué/x"], true, *layout).unwrap();
                assert_eq!(std::fs::read_to_string(&file).unwrap(), *after, "{text:?}");
            }
            set(dir.path(), &["Neué/x"], false, *layout).unwrap();
            assert_eq!(read(), *names, "{text:?}");
        }
    }
}
