//! What the store says in the log.

use super::{Level, Limits, Usage};
use crate::{disk, journal::Line};
use nix::errno::Errno;
use std::path::Path;

pub(super) fn uidlist_lost(path: &Path) {
    Line::error("store", "uidlist-lost").with("path", path.display()).with("result", "new UIDVALIDITY, clients fetch everything anew").send();
}
pub(super) fn uidlist_damaged(path: &Path, bytes: usize) {
    Line::warn("store", "uidlist-damaged").with("path", path.display()).with("bytes", bytes).send();
}
pub(super) fn courier_taken_over(path: &Path) {
    Line::info("store", "courier-taken-over").with("path", path.display()).send();
}
pub(super) fn courier_unreadable(path: &Path) {
    Line::error("store", "courier-unreadable").with("path", path.display()).with("result", "new UIDs, clients fetch everything anew").send();
}
pub(super) fn keywords_not_taken(path: &Path, e: &super::Error) {
    Line::warn("store", "keywords-not-taken-over").with("path", path.display()).with("error", e).send();
}
pub(super) fn validity_changed(path: &Path, ours: u32, theirs: u32) {
    Line::error("store", "uidvalidity-changed").with("path", path.display()).with("was", ours).with("is", theirs).send();
}
pub(super) fn log_not_written(e: &disk::Error) {
    Line::warn("store", "log-not-written").with("error", e).with("result", "after a restart more counts as changed").send();
}
pub(super) fn log_damaged(path: &Path, bytes: u64) {
    Line::warn("store", "log-damaged").with("path", path.display()).with("bytes", bytes).with("result", "more counts as changed").send();
}
pub(super) fn too_many_folders(maildir: &Path) {
    Line::error("store", "too-many-folders").with("path", maildir.display()).with("result", "some are not shown").send();
}
/// What of it was lost is made anew when it is asked for.
pub(super) fn summaries_damaged(path: &Path, bytes: u64) {
    Line::warn("store", "summaries-damaged").with("path", path.display()).with("bytes", bytes).send();
}
pub(super) fn summary_not_stored(e: &disk::Error) {
    Line::debug("store", "summary-not-stored").with("error", e).send();
}
/// New messages are there but cannot be numbered; those that are numbered stay usable.
pub(super) fn not_taken_in(path: &Path, count: usize, e: &super::Error) {
    Line::warn("store", "not-taken-in").with("path", path.display()).with("messages", count).with("error", e).send();
}
pub(super) fn unreadable(e: &disk::Error) {
    Line::warn("store", "unreadable").with("error", e).send();
}
/// Two files with one name; one of them was given another.
pub(super) fn twin_renamed(path: &Path) {
    Line::warn("store", "twin-renamed").with("path", path.display()).send();
}
pub(super) fn wrong_size(path: &Path, named: u64, real: u64) {
    Line::warn("store", "wrong-size").with("path", path.display()).with("named", named).with("real", real).send();
}
pub(super) fn swept(path: &Path) {
    Line::info("store", "swept").with("path", path.display()).send();
}
/// Noticed by its checksums; a look at the folder makes it anew.
pub(super) fn index_damaged(path: &Path) {
    Line::warn("store", "index-damaged").with("path", path.display()).with("result", "rebuilt").send();
}
pub(super) fn index_not_stored(e: &disk::Error) {
    Line::debug("store", "index-not-stored").with("error", e).send();
}
pub(super) fn counted(account: &str, usage: Usage) {
    Line::debug("store", "counted").with("account", account).with("bytes", usage.bytes).with("messages", usage.messages).send();
}
/// A message did not fit, and this is the first.
pub(super) fn full(account: &str, usage: Usage, limits: Limits) {
    over(Line::warn("store", "over-quota"), account, usage, limits).send();
}
pub(super) fn warned(account: &str, level: &Level, failed: Option<&super::Error>) {
    let line = if failed.is_some() { Line::warn("store", "quota-warning") } else { Line::info("store", "quota-warning") };
    over(line, account, level.usage, level.limits).with("percent", level.percent).with_some("error", failed).send();
}
/// Mail goes on without.
pub(super) fn no_books(account: &str, e: &disk::Error) {
    Line::warn("store", "quota-unknown").with("account", account).with("error", e).send();
}
fn over(line: Line, account: &str, usage: Usage, limits: Limits) -> Line {
    line.with("account", account)
        .with("bytes", usage.bytes)
        .with("messages", usage.messages)
        .with("max-bytes", limits.bytes)
        .with("max-messages", limits.messages)
}
/// What other programs do in open folders is found by looking every 15 seconds.
pub(super) fn no_notices(e: Errno) {
    Line::warn("store", "no-inotify").with("error", e.desc()).with("note", "fs.inotify.max_user_instances, or open files").send();
}
pub(super) fn not_watched(path: &Path, e: Errno) {
    let note = if e == Errno::ENOSPC { "raise fs.inotify.max_user_watches" } else { "looked at every 15 s" };
    Line::warn("store", "not-watched").with("path", path.display()).with("error", e.desc()).with("note", note).send();
}
pub(super) fn not_looked(path: &Path, e: &super::Error) {
    Line::warn("store", "not-looked").with("path", path.display()).with("error", e).send();
}
