//! `subscriptions` beside INBOX, as Dovecot writes it.
//!
//! Version 2 begins with `V<TAB>2` and an empty line; then a name per line, modified UTF-7, levels between tabs.
//! Older files have no header and a dot (or slash) between levels. Lines we cannot read are kept as they are.

use super::{Result, dotlock::Dotlock, names};
use crate::disk;
use std::path::Path;

const NAME: &str = "subscriptions";
const HEADER: &[u8] = b"V\t2\n\n";

fn is_v2(text: &[u8]) -> bool {
    text.starts_with(b"V\t2\n")
}

/// What a line means; `None` for headers, damage and names that cannot be.
fn name(line: &[u8], v2: bool) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    if line.is_empty() || (v2 && line == "V\t2") {
        return None;
    }
    let level = |l: &str| names::decode_or_plain(&if v2 { unescape(l) } else { l.to_owned() });
    let levels: Vec<String> = if v2 { line.split('\t').map(level).collect() } else { line.split(['.', '/']).map(level).collect() };
    let name = levels.join("/");
    names::normalise(&name).ok().filter(|n| n.matches('/').count() + 1 == levels.len())
}

/// Dovecot's escapes in tab-separated text.
fn unescape(level: &str) -> String {
    level.replace("\u{1}t", "\t").replace("\u{1}n", "\n").replace("\u{1}r", "\r").replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}")
}

fn line(name: &str, v2: bool) -> String {
    let levels: Vec<String> = name.split('/').map(names::encode).collect();
    levels.join(if v2 { "\t" } else { "." })
}

/// Whether there is a file at all: a home that somebody logged into has one.
pub(super) fn exist(maildir: &Path) -> bool {
    disk::stat(&maildir.join(NAME)).is_ok()
}

pub(super) fn read(maildir: &Path) -> Result<Vec<String>> {
    let text = disk::read_if_exists(&maildir.join(NAME))?.unwrap_or_default();
    let v2 = is_v2(&text);
    let mut names: Vec<String> = text.split(|b| *b == b'\n').filter_map(|l| name(l, v2)).collect();
    names.sort_by(|a, b| super::home::inbox_first(a, b));
    names.dedup();
    Ok(names)
}

/// Adds or takes out names (normalised), in one write.
pub(super) fn set(maildir: &Path, wanted: &[&str], on: bool) -> Result<()> {
    let path = maildir.join(NAME);
    let _lock = Dotlock::take(&path)?;
    let before = disk::read_if_exists(&path)?;
    let text = before.clone().filter(|t| !t.is_empty()).unwrap_or_else(|| HEADER.to_vec());
    let v2 = is_v2(&text);
    let (mut out, mut there) = (Vec::new(), Vec::new());
    for l in text.split_inclusive(|b| *b == b'\n') {
        let bare = l.strip_suffix(b"\n").unwrap_or(l);
        match name(bare, v2).filter(|n| wanted.contains(&n.as_str())) {
            Some(_) if !on => continue,
            Some(n) => there.push(n),
            None => {}
        }
        out.extend_from_slice(bare);
        out.push(b'\n');
    }
    for n in wanted.iter().filter(|n| on && !there.iter().any(|t| t == *n)) {
        out.extend_from_slice(line(n, v2).as_bytes());
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
        const CASES: &[(&str, &[&str], &str)] = &[
            ("", &[], "V\t2\n\nNeu&AOk-\tx\n"),
            (
                "V\t2\n\nEntw&APw-rfe\nLists\trust\nA&-B\nINBOX\n",
                &["INBOX", "A&B", "Entwürfe", "Lists/rust"],
                "V\t2\n\nEntw&APw-rfe\nLists\trust\nA&-B\nINBOX\nNeu&AOk-\tx\n",
            ),
            ("Lists.rust\nSent\n\u{7f}x\n", &["Lists/rust", "Sent"], "Lists.rust\nSent\n\u{7f}x\nNeu&AOk-.x\n"),
            ("Sent", &["Sent"], "Sent\nNeu&AOk-.x\n"),
        ];
        let dir = crate::store::scratch::Dir::new("subscriptions");
        let file = dir.path().join(NAME);
        for (text, names, after) in CASES {
            std::fs::write(&file, text).unwrap();
            assert_eq!(read(dir.path()).unwrap(), *names, "{text:?}");
            for _ in 0..2 {
                set(dir.path(), &["Neué/x"], true).unwrap();
                assert_eq!(std::fs::read_to_string(&file).unwrap(), *after, "{text:?}");
            }
            set(dir.path(), &["Neué/x"], false).unwrap();
            assert_eq!(read(dir.path()).unwrap(), *names, "{text:?}");
        }
    }
}
