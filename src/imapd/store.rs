//! STORE (RFC 3501 §6.4.6), also when a mod-sequence says what must not have changed (RFC 7162 §3.1.3).

use super::{
    flags::{self, Shown},
    session::{Done, Outcome, Session, job},
    sync::Unasked,
    view::View,
};
use crate::{
    proto::imap::{Flag, SequenceSet, command::Change, sequence},
    store::{FlagOp, Flags, Folder, KeywordBits, Meta, ModSeq, Result, Uid},
};
use std::sync::Arc;

/// Messages in one job.
const SLICE: usize = 1000;

/// What STORE does to a message.
#[derive(Clone)]
struct Request {
    op: FlagOp,
    flags: Flags,
    keywords: Vec<String>,
    /// Says of changes only what the client cannot know.
    silent: bool,
    /// UNCHANGEDSINCE.
    since: Option<ModSeq>,
}

/// A message before and after.
struct Stored {
    before: Option<Meta>,
    after: Meta,
    /// Left as it was: somebody changed it since.
    refused: bool,
}

fn work(folder: &Arc<Folder>, request: &Request, uids: &[Uid]) -> Result<(Vec<Stored>, Vec<String>)> {
    let before = folder.meta(uids);
    let refused = folder.store_flags_unless(uids, request.op, request.flags, &request.keywords, request.since)?.modified;
    let after = folder.meta(uids);
    let stored = |(before, after): (Option<Meta>, Option<Meta>)| {
        let after = after?;
        Some(Stored { before, after, refused: refused.binary_search(&after.uid).is_ok() })
    };
    Ok((before.into_iter().zip(after).filter_map(stored).collect(), folder.keywords()))
}

/// What a response says of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Tell {
    Flags,
    /// The client knows the flags: UID and mod-sequence.
    ModSeq,
    Nothing,
    /// Flags, with all that others changed.
    Later,
}

impl Request {
    /// Whether the flags now are what a client computes that knew those before. If not, somebody else was at work in
    /// between, and even .SILENT hears of it (RFC 3501 §6.4.6).
    fn explains(&self, bits: KeywordBits, stored: &Stored, told: ModSeq) -> bool {
        let Some(before) = stored.before.filter(|b| b.modseq <= told) else { return false };
        let (flags, keywords) = match self.op {
            FlagOp::Set => (self.flags, bits),
            FlagOp::Add => (before.flags.with(self.flags), before.keywords | bits),
            FlagOp::Remove => (before.flags.without(self.flags), before.keywords & !bits),
        };
        (flags, keywords) == (stored.after.flags, stored.after.keywords)
    }
    /// `known`: up to which mod-sequence the client knows the message.
    fn tell(&self, bits: KeywordBits, stored: &Stored, known: ModSeq, condstore: bool) -> Tell {
        if stored.refused || !self.silent {
            return Tell::Flags;
        }
        let changed = stored.before.is_none_or(|b| b.modseq != stored.after.modseq);
        match (self.explains(bits, stored, known), condstore) {
            (true, true) if changed || self.since.is_some() => Tell::ModSeq,
            (true, _) => Tell::Nothing,
            (false, true) => Tell::Flags,
            (false, false) => Tell::Later,
        }
    }
}

impl Session {
    pub(super) async fn store_flags(
        &mut self,
        uid: bool,
        set: &SequenceSet,
        (change, list): (Change, &[Flag]),
        silent: bool,
        since: Option<u64>,
    ) -> Outcome {
        let unasked = Unasked::of(uid, self.enabled);
        let view = self.view()?;
        if view.read_only {
            return Ok(Done::no("READ-ONLY", "The folder is open for reading only."));
        }
        let messages = view.resolve(set, uid)?;
        let folder = view.folder.clone();
        let (bits, mut keywords) = flags::split(list);
        flags::fit(&mut keywords, &folder.keywords());
        let op = match change {
            Change::Set => FlagOp::Set,
            Change::Add => FlagOp::Add,
            Change::Remove => FlagOp::Remove,
        };
        let request = Arc::new(Request { op, flags: bits, keywords, silent, since: since.map(ModSeq) });
        let (mut gone, mut refused) = (false, Vec::new());
        for slice in messages.chunks(SLICE) {
            let (folder, work_request, uids) = (folder.clone(), request.clone(), slice.iter().map(|(_, u)| *u).collect::<Vec<_>>());
            let (stored, known) = job(move || work(&folder, &work_request, &uids)).await?;
            gone |= stored.len() < slice.len();
            let view = self.view()?;
            refused.extend(stored.iter().filter(|s| s.refused).map(|s| s.after.uid));
            let out = view.tell_stored(&request, &stored, &known, unasked);
            self.wire.write(&out).await?;
        }
        let view = self.view()?;
        let refused: Vec<u32> = refused.iter().filter_map(|u| if uid { Some(u.0) } else { view.uids.seq(*u) }).collect();
        // RFC 2180 §4.2.3; UIDs that are not there are no error (RFC 3501 §6.4.8).
        let gone = gone && !uid;
        Ok(match (modified(&refused), gone) {
            (None, false) => Done::ok("Done."),
            (None, true) => Done::no("EXPUNGEISSUED", "Some of the messages are gone."),
            (Some(code), false) => Done::ok_code(code, "Some of the messages have changed since."),
            (Some(code), true) => Done::no(code, "Some of the messages are gone, and some have changed since."),
        })
    }
}

/// `MODIFIED` with those that were left alone.
fn modified(numbers: &[u32]) -> Option<String> {
    let mut set = Vec::new();
    sequence::write(&mut set, numbers);
    (!set.is_empty()).then(|| format!("MODIFIED {}", String::from_utf8_lossy(&set)))
}

impl View {
    fn tell_stored(&mut self, request: &Request, stored: &[Stored], keywords: &[String], unasked: Unasked) -> Vec<u8> {
        let bits = request.keywords.iter().filter_map(|k| flags::keyword_bit(k, keywords)).fold(0, |a, b| a | b);
        let mut out = Vec::new();
        self.tell_new_keywords(&mut out);
        let recent = std::mem::take(&mut self.recent);
        let mut shown = Shown::new(keywords, &recent);
        for s in stored {
            let uid = s.after.uid;
            let known = self.told.get(&uid).copied().unwrap_or_default().max(self.modseq);
            let tell = request.tell(bits, s, known, unasked.modseq);
            if tell == Tell::Later {
                continue;
            }
            self.note_told(uid, s.after.modseq);
            let Some(seq) = self.uids.seq(uid).filter(|_| tell != Tell::Nothing) else { continue };
            unasked.write(&mut out, seq, &s.after, (tell == Tell::Flags).then_some(&mut shown));
            if unasked.modseq {
                self.reckoning.heard(s.after.modseq);
            }
        }
        self.recent = recent;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_only_for_what_the_client_can_know() {
        let meta = |modseq, flags, keywords| Meta { uid: Uid(1), modseq: ModSeq(modseq), flags, keywords, size: 0, internal_date: 0 };
        let before = Some(meta(5, Flags::SEEN, 1));
        let cases = [
            (FlagOp::Add, Flags::DELETED, 2, Flags::SEEN.with(Flags::DELETED), 3, 5, true),
            (FlagOp::Remove, Flags::SEEN, 1, Flags::default(), 0, 9, true),
            (FlagOp::Set, Flags::DRAFT, 0, Flags::DRAFT, 0, 5, true),
            // Somebody flagged it at the same time.
            (FlagOp::Add, Flags::DELETED, 0, Flags::SEEN.with(Flags::DELETED).with(Flags::FLAGGED), 1, 5, false),
            // The client did not know what was there before.
            (FlagOp::Add, Flags::DELETED, 0, Flags::SEEN.with(Flags::DELETED), 1, 4, false),
        ];
        for (op, flags, bits, now, keywords, told, want) in cases {
            let stored = Stored { before, after: meta(6, now, keywords), refused: false };
            let request = Request { op, flags, keywords: vec![], silent: true, since: None };
            assert_eq!(request.explains(bits, &stored, ModSeq(told)), want, "{op:?}");
            assert_eq!(request.tell(bits, &stored, ModSeq(told), false), if want { Tell::Nothing } else { Tell::Later });
            assert_eq!(request.tell(bits, &stored, ModSeq(told), true), if want { Tell::ModSeq } else { Tell::Flags });
        }
        let same = Stored { before, after: meta(5, Flags::SEEN, 1), refused: false };
        let request = |silent, since| Request { op: FlagOp::Add, flags: Flags::SEEN, keywords: vec![], silent, since };
        let tell = |request: Request, stored: &Stored, condstore| request.tell(1, stored, ModSeq(5), condstore);
        assert_eq!(tell(request(true, None), &same, true), Tell::Nothing);
        // RFC 7162 §3.1.3: even then.
        assert_eq!(tell(request(true, Some(ModSeq(5))), &same, true), Tell::ModSeq);
        assert_eq!(tell(request(true, Some(ModSeq(4))), &Stored { refused: true, ..same }, true), Tell::Flags);
        assert_eq!(modified(&[7, 9]).as_deref(), Some("MODIFIED 7,9"));
        assert_eq!(modified(&[]), None);
    }
}
