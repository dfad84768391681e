//! SELECT, EXAMINE, CLOSE, UNSELECT, STATUS.

use super::{
    modseq::{self, Enabled, Reckoning},
    resync::{self, News},
    session::{Done, Outcome, Session, State, Stop, job},
    sync::{SLICE, Unasked},
    view::View,
};
use crate::{
    proto::imap::{condstore::Resync, list::StatusItem, response},
    store::{Counts, Flags, Folder, Home, Result, Uid},
};
use std::{collections::HashMap, sync::Arc};

/// What a job finds out about a folder that is being opened.
struct Opened {
    view: View,
    uid_validity: u32,
    uid_next: u32,
    /// Sequence number.
    first_unseen: Option<u32>,
    /// QRESYNC: what is new to the client.
    news: Option<News>,
}

fn open(home: &Home, name: &str, read_only: bool, known: Option<&Resync>) -> Result<Opened> {
    let folder = home.open_watched(name)?;
    // The order matters: a message that comes in between is in `uids`, and UIDNEXT is raised above it.
    let counts = folder.counts();
    let (uids, modseq) = folder.uids();
    let uid_next = counts.uid_next.max(uids.last().map_or(1, |u| u.0.saturating_add(1)));
    let first_unseen = if counts.unseen > 0 { first_unseen(&folder, &uids) } else { None };
    let mut view = View {
        folder,
        read_only,
        uids: uids.into_iter().collect(),
        recent: Default::default(),
        modseq,
        settled: modseq,
        reckoning: Reckoning::default(),
        gone: Vec::new(),
        keywords: 0,
        told: HashMap::new(),
        cached: None,
    };
    view.take_recent();
    view.reckoning.told(modseq);
    let news = known.and_then(|k| resync::since_last_time(&view, k, counts.uid_validity, uid_next));
    Ok(Opened { view, uid_validity: counts.uid_validity, uid_next, first_unseen, news })
}

fn first_unseen(folder: &Arc<Folder>, uids: &[Uid]) -> Option<u32> {
    let mut seq = 0;
    for slice in uids.chunks(1000) {
        for meta in folder.meta(slice) {
            seq += 1;
            if meta.is_some_and(|m| !m.flags.has(Flags::SEEN)) {
                return Some(seq);
            }
        }
    }
    None
}

impl Session {
    /// RFC 3501 §6.3.1. Whatever was selected before is not any more, also when this fails.
    pub(super) async fn select(&mut self, name: String, read_only: bool, known: Option<Resync>) -> Outcome {
        // Held until the other is open: on the same folder again it need not be read anew.
        let before = if let State::Selected(_, view) = &self.state { Some(view.folder.clone()) } else { None };
        if before.is_some() {
            // RFC 7162 §3.2.11: whether or not the client asked for any of it.
            self.wire.write(b"* OK [CLOSED] The folder before is closed.\r\n").await?;
        }
        self.deselect();
        let home = self.home()?;
        let Opened { mut view, uid_validity, uid_next, first_unseen, news } = job(move || open(&home, &name, read_only, known.as_ref())).await?;
        drop(before);
        let mut out = Vec::new();
        let keywords = view.folder.keywords();
        view.keywords = keywords.len();
        view.write_known_flags(&mut out, &keywords);
        response::line(&mut out, format_args!("* {} EXISTS", view.uids.len()));
        response::line(&mut out, format_args!("* {} RECENT", view.recent_count()));
        if let Some(seq) = first_unseen {
            response::status(&mut out, "*", "OK", Some(&format!("UNSEEN {seq}")), "First unseen.");
        }
        response::status(&mut out, "*", "OK", Some(&format!("UIDVALIDITY {uid_validity}")), "UIDs are valid.");
        response::status(&mut out, "*", "OK", Some(&format!("UIDNEXT {uid_next}")), "Predicted next UID.");
        response::status(&mut out, "*", "OK", Some(&modseq::code(view.modseq)), "Highest.");
        self.wire.write(&out).await?;
        if let Some(login) = self.login().cloned() {
            self.state = State::Selected(login, Box::new(view));
        }
        if let Some(news) = news {
            self.tell_news(&news).await?;
        }
        Ok(Done::ok_code(if read_only { "READ-ONLY" } else { "READ-WRITE" }, "Selected."))
    }
    /// RFC 7162 §3.2.5.1: what vanished comes first, and only what the client does not count.
    async fn tell_news(&mut self, news: &News) -> std::result::Result<(), Stop> {
        let mut out = Vec::new();
        response::vanished(&mut out, true, news.vanished.iter().copied());
        self.wire.write(&out).await?;
        let unasked = Unasked::of(true, Enabled { condstore: true, qresync: true });
        let uids: Vec<Uid> = news.changed.iter().map(|(_, uid)| *uid).collect();
        for slice in uids.chunks(SLICE) {
            let out = self.view()?.tell_flags(slice, unasked);
            self.wire.write(&out).await?;
        }
        Ok(())
    }
    /// RFC 3501 §6.4.2: expunges without telling.
    pub(super) async fn close(&mut self) -> Outcome {
        let view = self.view()?;
        if !view.read_only {
            let uids: Vec<Uid> = view.uids.iter().collect();
            let folder = view.folder.clone();
            job(move || super::copy::expunge_deleted(&folder, &uids)).await?;
        }
        self.deselect();
        Ok(Done::ok("Closed."))
    }
    pub(super) fn unselect(&mut self) -> Done {
        self.deselect();
        Done::ok("Unselected.")
    }
    pub(super) async fn status(&mut self, name: String, items: &[StatusItem]) -> Outcome {
        let home = self.home()?;
        let counts = {
            let name = name.clone();
            job(move || home.status(&name)).await?
        };
        let mut out = Vec::new();
        write_status(&mut out, &name, &counts, items);
        self.wire.write(&out).await.map_err(Stop::Ended)?;
        Ok(Done::ok("Done."))
    }
}

pub(super) fn write_status(out: &mut Vec<u8>, name: &str, counts: &Counts, items: &[StatusItem]) {
    out.extend_from_slice(b"* STATUS ");
    response::folder(out, name);
    out.extend_from_slice(b" (");
    response::words(out, items.iter().map(|item| format!("{} {}", item.name(), value(*item, counts))));
    out.extend_from_slice(b")\r\n");
}

fn value(item: StatusItem, counts: &Counts) -> u64 {
    match item {
        StatusItem::Messages => counts.messages.into(),
        StatusItem::Recent => counts.recent.into(),
        StatusItem::UidNext => counts.uid_next.into(),
        StatusItem::UidValidity => counts.uid_validity.into(),
        StatusItem::Unseen => counts.unseen.into(),
        StatusItem::Size => counts.size,
        StatusItem::HighestModSeq => counts.highest_modseq,
    }
}
