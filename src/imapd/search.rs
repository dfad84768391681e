//! SEARCH and UID SEARCH (RFC 3501 §6.4.4), ESEARCH (RFC 4731).

use super::{
    body::Loaded,
    matching::{self, Candidate, Content, Test},
    session::{Done, Outcome, Session, job},
    summary::Summary,
    uids::Uids,
};
use crate::{
    proto::imap::{
        response,
        search::{Returns, Search},
        sequence,
    },
    store::{Error, Folder, Meta, ModSeq, Result, Uid},
};
use std::sync::Arc;

/// Messages looked at in one job, and bytes read: then other sessions get their turn.
const SLICE: usize = 20_000;
const BYTES: u64 = 4 * 1024 * 1024;
/// A summary costs about as much as this many bytes of a message.
const SUMMARY_COST: u64 = 8 * 1024;

/// One search, shared by its jobs.
struct Query {
    folder: Arc<Folder>,
    test: Test,
    /// Tests in it: some clients ask for hundreds of Message-IDs at once.
    weight: u64,
    recent: Uids,
    messages: Vec<(u32, Uid)>,
}

/// A message that matches.
#[derive(Clone, Copy)]
struct Hit {
    seq: u32,
    uid: Uid,
    modseq: ModSeq,
}

/// What a job found.
struct Slice {
    looked_at: usize,
    found: Vec<Hit>,
    failed: Vec<Error>,
}

/// Those that a set at the top of the key leaves: `UID SEARCH UID 9000:*` is how clients look for what is new.
fn candidates(uids: &Uids, test: &Test) -> Vec<(u32, Uid)> {
    match test {
        Test::Uid(ranges) => uids.by_uid(ranges),
        Test::Seq(ranges) => uids.by_seq(ranges),
        Test::All(tests) => match tests.iter().find(|t| matches!(t, Test::Uid(_) | Test::Seq(_))) {
            Some(Test::Uid(ranges)) => uids.by_uid(ranges),
            Some(Test::Seq(ranges)) => uids.by_seq(ranges),
            _ => uids.by_uid(&[(1, u32::MAX)]),
        },
        _ => uids.by_uid(&[(1, u32::MAX)]),
    }
}

impl Query {
    /// From message `at` on. A message that cannot be read matches nothing, and the others are still found.
    fn run(&self, at: usize) -> Slice {
        let slice = self.messages.get(at..).unwrap_or_default();
        let slice = slice.get(..SLICE).unwrap_or(slice);
        let uids: Vec<Uid> = slice.iter().map(|(_, u)| *u).collect();
        let mut out = Slice { looked_at: slice.len(), found: Vec::new(), failed: Vec::new() };
        let mut spent = 0;
        for (i, (message, meta)) in slice.iter().zip(self.folder.meta(&uids)).enumerate() {
            spent += self.weight * 64;
            if spent > BYTES && i > 0 {
                out.looked_at = i;
                break;
            }
            let Some(meta) = meta else { continue };
            match self.matches(message.0, &meta, &mut spent) {
                Ok(true) => out.found.push(Hit { seq: message.0, uid: meta.uid, modseq: meta.modseq }),
                Ok(false) => {}
                Err(e) => out.failed.push(e),
            }
        }
        out
    }
    /// Reads what the answer takes: nothing, the summary, or the message.
    fn matches(&self, seq: u32, meta: &Meta, spent: &mut u64) -> Result<bool> {
        let recent = self.recent.contains(meta.uid);
        let candidate = Candidate { seq, meta, recent, fields: None, message: None };
        if let Some(yes) = candidate.matches(&self.test) {
            return Ok(yes);
        }
        *spent += SUMMARY_COST * (1 + self.weight / 16);
        let mut summaries = self.folder.summaries(&[meta.uid]);
        let Some(summary) = summaries.get(0)? else { return Ok(false) };
        let candidate = Candidate { fields: Summary::read(summary).and_then(|s| s.fields), ..candidate };
        if let Some(yes) = candidate.matches(&self.test) {
            return Ok(yes);
        }
        *spent += meta.size * (1 + self.weight / 16);
        let Some(bytes) = self.folder.read(meta.uid)? else { return Ok(false) };
        let content = Content::new(Loaded::new(bytes));
        Ok(Candidate { message: Some(&content), ..candidate }.matches(&self.test).unwrap_or(false))
    }
}

impl Session {
    pub(super) async fn search(&mut self, tag: &str, uid: bool, search: Search) -> Outcome {
        let view = self.view()?;
        let folder = view.folder.clone();
        let last_uid = view.uids.last().map_or(0, |u| u.0);
        let keywords = folder.keywords();
        let test = Test::of(&search.key, &matching::Folder { keywords: &keywords, last_seq: view.uids.len(), last_uid });
        let messages = candidates(&view.uids, &test);
        let weight = test.count();
        let query = Arc::new(Query { folder, test, weight, recent: view.recent.clone(), messages });
        let (mut at, mut found, mut failed) = (0, Vec::new(), None);
        while at < query.messages.len() {
            let work = query.clone();
            let slice = job(move || work.run(at)).await;
            at += slice.looked_at.max(1);
            found.extend(slice.found);
            for e in slice.failed {
                failed = Some(self.failed(&e));
            }
        }
        let modseq = if search.asks_modseq() { highest(&found, search.returns) } else { None };
        let found: Vec<u32> = found.into_iter().map(|hit| if uid { hit.uid.0 } else { hit.seq }).collect();
        let mut out = Vec::new();
        match search.returns {
            None => plain(&mut out, &found, modseq),
            Some(returns) => extended(&mut out, (tag, uid), returns, &found, modseq),
        }
        self.wire.write(&out).await?;
        Ok(failed.unwrap_or_else(|| Done::ok("Done.")))
    }
}

/// The highest mod-sequence of what the answer names (RFC 4731 §3.2): of one message or of two, when only these are asked for.
fn highest(found: &[Hit], returns: Option<Returns>) -> Option<ModSeq> {
    let some = returns.filter(|r| (r.min || r.max) && !r.all && !r.count);
    match some {
        Some(r) => [found.first().filter(|_| r.min), found.last().filter(|_| r.max)].into_iter().flatten().map(|hit| hit.modseq).max(),
        None => found.iter().map(|hit| hit.modseq).max(),
    }
}

fn plain(out: &mut Vec<u8>, found: &[u32], modseq: Option<ModSeq>) {
    out.extend_from_slice(b"* SEARCH");
    for n in found {
        out.push(b' ');
        response::number(out, (*n).into());
    }
    if let Some(modseq) = modseq {
        out.extend_from_slice(format!(" (MODSEQ {})", modseq.0).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn extended(out: &mut Vec<u8>, (tag, uid): (&str, bool), returns: Returns, found: &[u32], modseq: Option<ModSeq>) {
    out.extend_from_slice(b"* ESEARCH (TAG ");
    // A tag may hold what an atom may not; it is always a quoted string here.
    response::string(out, tag.as_bytes());
    out.push(b')');
    if uid {
        out.extend_from_slice(b" UID");
    }
    for (wanted, name, value) in [(returns.min, "MIN", found.first()), (returns.max, "MAX", found.last())] {
        if let (true, Some(n)) = (wanted, value) {
            out.extend_from_slice(format!(" {name} {n}").as_bytes());
        }
    }
    if returns.count {
        out.extend_from_slice(format!(" COUNT {}", found.len()).as_bytes());
    }
    if returns.all && !found.is_empty() {
        out.extend_from_slice(b" ALL ");
        sequence::write(out, found);
    }
    if let Some(modseq) = modseq {
        out.extend_from_slice(format!(" MODSEQ {}", modseq.0).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses() {
        let r = |min, max, all, count| Returns { min, max, all, count };
        let shown = |uid, returns, found: &[u32]| {
            let mut out = Vec::new();
            extended(&mut out, ("A282", uid), returns, found, None);
            String::from_utf8(out).unwrap()
        };
        // RFC 4731 §3.1
        assert_eq!(shown(false, r(true, false, false, true), &[2, 10, 11]), "* ESEARCH (TAG \"A282\") MIN 2 COUNT 3\r\n");
        assert_eq!(shown(false, r(false, false, true, false), &[2, 10, 11]), "* ESEARCH (TAG \"A282\") ALL 2,10:11\r\n");
        assert_eq!(shown(true, r(true, true, true, true), &[]), "* ESEARCH (TAG \"A282\") UID COUNT 0\r\n");
        let mut out = Vec::new();
        plain(&mut out, &[2, 84, 882], None);
        plain(&mut out, &[], None);
        assert_eq!(String::from_utf8(out).unwrap(), "* SEARCH 2 84 882\r\n* SEARCH\r\n");
    }
    #[test]
    fn mod_sequences() {
        let hit = |seq: u32, modseq| Hit { seq, uid: Uid(seq), modseq: ModSeq(modseq) };
        let found = [hit(2, 488), hit(5, 500), hit(23, 321)];
        let r = |min, max, all, count| Some(Returns { min, max, all, count });
        // RFC 4731 §3.2
        for (returns, want) in [
            (r(true, false, false, false), 488),
            (r(false, true, false, false), 321),
            (r(true, true, false, false), 488),
            (r(true, false, false, true), 500),
            (r(false, false, true, false), 500),
            (r(false, false, false, true), 500),
            (None, 500),
        ] {
            assert_eq!(highest(&found, returns), Some(ModSeq(want)), "{returns:?}");
            assert_eq!(highest(&[], returns), None);
        }
        let mut out = Vec::new();
        plain(&mut out, &[2, 5], Some(ModSeq(917_162_500)));
        extended(&mut out, ("a", true), Returns { all: true, ..Returns::default() }, &[1, 2, 3, 5], Some(ModSeq(1236)));
        assert_eq!(String::from_utf8(out).unwrap(), "* SEARCH 2 5 (MODSEQ 917162500)\r\n* ESEARCH (TAG \"a\") UID ALL 1:3,5 MODSEQ 1236\r\n");
    }
}
