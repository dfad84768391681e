//! Tells a client what changed in its folder: the one place where EXPUNGE, EXISTS, RECENT and unasked FETCH come from.

use super::{
    flags::{self, Shown},
    modseq::Enabled,
    session::{Session, State, job},
    view::View,
};
use crate::{
    net::Ended,
    proto::imap::{
        response::{self, Fetch},
        sequence,
    },
    store::{self, Meta, ModSeq, Uid},
};

/// Messages whose flags are told in one go before other sessions get their turn: some 100 KiB.
pub(super) const SLICE: usize = 2000;
/// Output that is gathered before it goes to the wire.
const CHUNK: usize = 16 * 1024;

impl Session {
    /// Looks for what other programs did in the selected folder.
    pub(super) async fn refresh(&mut self) -> Result<(), Ended> {
        let State::Selected(_, view) = &self.state else { return Ok(()) };
        let folder = view.folder.clone();
        match job(move || folder.sync()).await {
            // Gone: the sync that follows says so.
            Ok(()) | Err(store::Error::NotFound(_)) => Ok(()),
            Err(e) => {
                self.failed(&e);
                Ok(())
            }
        }
    }
    /// What the store knows by now. Without `expunge` messages that are gone keep their sequence numbers until a
    /// later sync.
    pub(super) async fn sync(&mut self, expunge: bool, with_uid: bool) -> Result<(), Ended> {
        let enabled = self.enabled;
        let unasked = Unasked::of(with_uid, enabled);
        let State::Selected(_, view) = &mut self.state else { return Ok(()) };
        if view.folder.is_gone() {
            return self.bye("The selected folder is gone.").await;
        }
        let changes = view.folder.changes_since(view.modseq);
        view.modseq = changes.modseq;
        view.note_gone(&changes.expunged);
        let mut out = Vec::new();
        if expunge && !view.gone.is_empty() {
            let gone = std::mem::take(&mut view.gone);
            if enabled.qresync {
                // Nobody puts there what the client does not count (RFC 7162 §3.2.10.2).
                response::vanished(&mut out, false, sequence::runs(gone.iter().map(|u| u.0)));
                view.reckoning.vanished();
            } else {
                // From the last to the first, so that no number moves before it is told.
                for seq in gone.iter().rev().filter_map(|u| view.uids.seq(*u)) {
                    out.extend_from_slice(b"* ");
                    response::number(&mut out, seq.into());
                    out.extend_from_slice(b" EXPUNGE\r\n");
                    if out.len() > CHUNK {
                        self.wire.write(&out).await?;
                        out.clear();
                    }
                }
            }
            view.uids.remove(&gone);
            view.recent.remove(&gone);
        }
        if view.gone.is_empty() {
            view.settled = view.modseq;
        }
        if view.arrive(&changes.arrived) {
            response::line(&mut out, format_args!("* {} EXISTS", view.uids.len()));
            response::line(&mut out, format_args!("* {} RECENT", view.recent_count()));
        }
        view.tell_new_keywords(&mut out);
        self.wire.write(&out).await?;
        drop(out);
        for slice in changes.changed.chunks(SLICE) {
            let out = view.tell_flags(slice, unasked);
            self.wire.write(&out).await?;
        }
        if !view.told.is_empty() {
            view.told = Default::default();
        }
        Ok(())
    }
}

/// What a FETCH response carries beside the flags when nobody asked for it.
#[derive(Clone, Copy)]
pub(super) struct Unasked {
    pub(super) uid: bool,
    pub(super) modseq: bool,
}

impl Unasked {
    /// RFC 7162 §3.2.4: both, once CONDSTORE is enabled.
    pub(super) fn of(with_uid: bool, enabled: Enabled) -> Self {
        Self { uid: with_uid || enabled.condstore, modseq: enabled.condstore }
    }
    /// Without `shown` the client can tell the flags itself.
    pub(super) fn write(self, out: &mut Vec<u8>, seq: u32, meta: &Meta, shown: Option<&mut Shown<'_>>) {
        let mut fetch = Fetch::begin(out, seq);
        if self.uid {
            fetch.uid(meta.uid.0);
        }
        if let Some(shown) = shown {
            shown.write(fetch.item(), meta);
        }
        if self.modseq {
            fetch.modseq(meta.modseq.0);
        }
        fetch.end();
    }
}

impl View {
    /// Of what the store says is not there, what the client knows.
    fn note_gone(&mut self, ranges: &[(Uid, Uid)]) {
        if ranges.is_empty() {
            return;
        }
        let ranges: Vec<(u32, u32)> = ranges.iter().map(|(first, last)| (first.0, last.0)).collect();
        self.gone.extend(self.uids.by_uid(&ranges).into_iter().map(|(_, uid)| uid));
        self.gone.sort_unstable();
        self.gone.dedup();
    }
    /// Whether any message is new to the client.
    fn arrive(&mut self, arrived: &[Uid]) -> bool {
        let before = self.uids.len();
        self.uids.extend(arrived.iter().copied());
        if self.uids.len() == before {
            return false;
        }
        self.take_recent();
        true
    }
    /// FLAGS and PERMANENTFLAGS again when there are more keywords than the client knows (RFC 3501 §7.2.6).
    pub(super) fn tell_new_keywords(&mut self, out: &mut Vec<u8>) {
        let keywords = self.folder.keywords();
        if keywords.len() > self.keywords {
            self.keywords = keywords.len();
            self.write_known_flags(out, &keywords);
        }
    }
    pub(super) fn write_known_flags(&self, out: &mut Vec<u8>, keywords: &[String]) {
        let known = flags::known(keywords);
        let mut list = Vec::new();
        response::words(&mut list, &known);
        let list = String::from_utf8_lossy(&list);
        response::line(out, format_args!("* FLAGS ({list})"));
        if self.read_only {
            response::status(out, "*", "OK", Some("PERMANENTFLAGS ()"), "Read-only.");
        } else {
            let more = if keywords.len() < flags::KEYWORDS_MAX { " \\*" } else { "" };
            response::status(out, "*", "OK", Some(&format!("PERMANENTFLAGS ({list}{more})")), "Flags are kept.");
        }
    }
    /// FETCH responses for flags that changed, unless a command told these already.
    pub(super) fn tell_flags(&mut self, uids: &[Uid], unasked: Unasked) -> Vec<u8> {
        let mut out = Vec::new();
        let keywords = self.folder.keywords();
        let mut shown = Shown::new(&keywords, &self.recent);
        let mut highest = ModSeq(0);
        for meta in self.folder.meta(uids).into_iter().flatten() {
            let known = self.told.get(&meta.uid).is_some_and(|told| *told >= meta.modseq);
            let Some(seq) = self.uids.seq(meta.uid).filter(|_| !known) else { continue };
            unasked.write(&mut out, seq, &meta, Some(&mut shown));
            highest = highest.max(meta.modseq);
        }
        self.reckoning.heard(highest);
        out
    }
}
