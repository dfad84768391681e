//! STORE (RFC 3501 §6.4.6).

use super::{
    flags,
    session::{Done, Outcome, Session, Stop, job},
};
use crate::{
    proto::imap::{Flag, SequenceSet, command::Change, response::Fetch},
    store::{FlagOp, Flags, Folder, KeywordBits, Meta, ModSeq, Result, Uid},
};
use std::sync::Arc;

/// Messages in one job.
const SLICE: usize = 500;

/// What STORE does to a message.
#[derive(Clone)]
struct Request {
    op: FlagOp,
    flags: Flags,
    keywords: Vec<String>,
}

/// A message before and after.
struct Stored {
    before: Option<Meta>,
    after: Meta,
}

fn work(folder: &Arc<Folder>, request: &Request, uids: &[Uid]) -> Result<(Vec<Stored>, Vec<String>)> {
    let before = folder.meta(uids);
    folder.store_flags(uids, request.op, request.flags, &request.keywords)?;
    let after = folder.meta(uids);
    let stored = before.into_iter().zip(after).filter_map(|(before, after)| Some(Stored { before, after: after? })).collect();
    Ok((stored, folder.keywords()))
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
}

impl Session {
    pub(super) async fn store_flags(&mut self, uid: bool, set: &SequenceSet, change: Change, silent: bool, list: &[Flag]) -> Outcome {
        let view = self.view()?;
        if view.read_only {
            return Ok(Done::no("READ-ONLY", "The folder is open for reading only."));
        }
        let messages = view.resolve(set, uid)?;
        let folder = view.folder.clone();
        let (bits, keywords) = flags::split(list);
        let op = match change {
            Change::Set => FlagOp::Set,
            Change::Add => FlagOp::Add,
            Change::Remove => FlagOp::Remove,
        };
        let request = Arc::new(Request { op, flags: bits, keywords });
        let mut gone = false;
        for slice in messages.chunks(SLICE) {
            let (folder, request, uids) = (folder.clone(), request.clone(), slice.iter().map(|(_, u)| *u).collect::<Vec<_>>());
            let (stored, known) = {
                let request = request.clone();
                job(move || work(&folder, &request, &uids)).await?
            };
            gone |= stored.len() < slice.len();
            self.tell_stored(&request, &stored, &known, silent, uid).await?;
        }
        // RFC 2180 §4.2.3; UIDs that are not there are no error (RFC 3501 §6.4.8).
        if gone && !uid {
            return Ok(Done::no("EXPUNGEISSUED", "Some of the messages are gone."));
        }
        Ok(Done::ok("Done."))
    }
    async fn tell_stored(
        &mut self,
        request: &Request,
        stored: &[Stored],
        keywords: &[String],
        silent: bool,
        uid: bool,
    ) -> std::result::Result<(), Stop> {
        let view = self.view()?;
        let bits = request.keywords.iter().filter_map(|k| flags::keyword_bit(k, keywords)).fold(0, |a, b| a | b);
        let mut out = Vec::new();
        view.tell_new_keywords(&mut out);
        for s in stored {
            let known = view.told.get(&s.after.uid).copied().unwrap_or_default().max(view.modseq);
            if silent && !request.explains(bits, s, known) {
                continue; // `sync` tells
            }
            view.told.insert(s.after.uid, s.after.modseq);
            let Some(seq) = view.uids.seq(s.after.uid).filter(|_| !silent) else { continue };
            let mut fetch = Fetch::begin(&mut out, seq);
            if uid {
                fetch.value("UID", s.after.uid.0);
            }
            fetch.flags(flags::names(&s.after, keywords, &view.recent));
            fetch.end();
        }
        self.wire.write(&out).await?;
        Ok(())
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
            let stored = Stored { before, after: meta(6, now, keywords) };
            assert_eq!(Request { op, flags, keywords: vec![] }.explains(bits, &stored, ModSeq(told)), want, "{op:?}");
        }
    }
}
