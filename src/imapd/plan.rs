//! What a FETCH takes: which items, how much has to be read for them, how many messages make one job.

use super::{modseq::Enabled, summary};
use crate::{
    proto::imap::{Item, Section, Text},
    store::Meta,
};

/// Messages in one job: without opening a file, with their summaries, with their files.
const METAS: usize = 5000;
const SUMMARIES: usize = 400;
const MESSAGES: usize = 100;
/// Bytes of messages in one job; a larger one is a job by itself.
pub(super) const BYTES: u64 = 2 * 1024 * 1024;
/// Bytes of text that end a job, where \Seen does not bind it to the messages that it began with.
const OUTPUT: usize = 256 * 1024;

/// What a FETCH asks for, and what it takes.
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// What a message also shows that becomes \Seen by this.
    pub(super) with_seen: Vec<Item>,
    pub(super) needs: Needs,
    /// Something of the summary.
    pub(super) summarises: bool,
    /// Any section without PEEK, in a folder open for writing.
    pub(super) marks_seen: bool,
    /// Pieces of a message: keep it for the next.
    pub(super) partial: bool,
    /// Header fields out of the summary.
    pub(super) lists_fields: bool,
    /// The client hears of flags and mod-sequence, or of flags where it wants no mod-sequences.
    pub(super) tells_flags: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Needs {
    Meta,
    Summary,
    Message,
}

pub(super) fn needs(item: &Item) -> Needs {
    match item {
        Item::Flags | Item::Uid | Item::ModSeq | Item::InternalDate | Item::Size => Needs::Meta,
        Item::Envelope | Item::BodyStructure => Needs::Summary,
        Item::Section(s) if listed_fields(s).is_some() => Needs::Summary,
        Item::Body | Item::Section(_) => Needs::Message,
    }
}

/// The names, when the summary has all of them.
pub(super) fn listed_fields(section: &Section) -> Option<&[String]> {
    match &section.text {
        Text::Fields(names) if section.part.is_empty() && section.partial.is_none() => {
            names.iter().all(|n| summary::has_field(n)).then_some(names.as_slice())
        }
        _ => None,
    }
}

impl Plan {
    /// `since`: CHANGEDSINCE asks for the mod-sequence too (RFC 7162 §3.1.4.1).
    pub(super) fn of(mut asked: Vec<Item>, uid: bool, read_only: bool, since: bool, enabled: Enabled) -> Self {
        let mut items = Vec::with_capacity(asked.len() + 2);
        if uid && !asked.contains(&Item::Uid) {
            items.push(Item::Uid);
        }
        if since {
            asked.push(Item::ModSeq);
        }
        // Once is enough, however often it was asked for.
        for item in asked {
            if !items.contains(&item) {
                items.push(item);
            }
        }
        let summarises = items.iter().any(|i| needs(i) == Needs::Summary);
        let needs = items.iter().map(needs).max().unwrap_or(Needs::Meta);
        let marks_seen = !read_only && items.iter().any(|i| matches!(i, Item::Section(s) if !s.peek));
        let partial = items.iter().any(|i| matches!(i, Item::Section(s) if s.partial.is_some()));
        let lists_fields = items.iter().any(|i| matches!(i, Item::Section(s) if listed_fields(s).is_some()));
        // RFC 7162 §3.2.4
        let mut with_seen = if enabled.condstore { vec![Item::Flags, Item::Uid, Item::ModSeq] } else { vec![Item::Flags] };
        with_seen.retain(|i| !items.contains(i));
        let tells_flags = items.contains(&Item::Flags) && (!enabled.condstore || items.contains(&Item::ModSeq));
        Self { items, with_seen, needs, summarises, marks_seen, partial, lists_fields, tells_flags }
    }
    /// How many of `metas` make one job whose files are read, and how many bytes these have.
    pub(super) fn batch(metas: &[Option<Meta>]) -> (usize, u64) {
        let mut bytes = 0;
        for (i, meta) in metas.iter().enumerate() {
            let more = meta.map_or(0, |m| m.size);
            if i > 0 && (bytes + more > BYTES || i >= MESSAGES) {
                return (i, bytes);
            }
            bytes += more;
        }
        (metas.len(), bytes)
    }
    /// Whether a job that has written and read so much has done enough.
    pub(super) fn is_enough(&self, written: usize, read: u64) -> bool {
        self.needs != Needs::Message && !self.marks_seen && (written >= OUTPUT || read >= BYTES)
    }
    pub(super) fn most(&self) -> usize {
        match self.needs {
            _ if self.marks_seen => MESSAGES,
            Needs::Meta => METAS,
            Needs::Summary => SUMMARIES,
            Needs::Message => MESSAGES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        proto::imap::{cursor::Cursor, fetch},
        store::{Flags, ModSeq, Uid},
    };

    fn plan(text: &str, uid: bool, read_only: bool) -> Plan {
        Plan::of(fetch::items(&mut Cursor::new(text.as_bytes())).unwrap(), uid, read_only, false, Enabled::default())
    }

    #[test]
    fn plans() {
        let cases = [
            ("FLAGS", Needs::Meta, false),
            ("FAST", Needs::Meta, false),
            ("(UID ENVELOPE)", Needs::Summary, false),
            ("BODYSTRUCTURE", Needs::Summary, false),
            ("BODY", Needs::Message, false),
            ("BODY.PEEK[HEADER.FIELDS (From Subject)]", Needs::Summary, false),
            ("BODY[HEADER.FIELDS (From Subject)]", Needs::Summary, true),
            ("BODY.PEEK[HEADER.FIELDS (From X-Spam)]", Needs::Message, false),
            ("BODY.PEEK[1.HEADER.FIELDS (From)]", Needs::Message, false),
            ("RFC822.HEADER", Needs::Message, false),
            ("RFC822", Needs::Message, true),
            ("BODY[]", Needs::Message, true),
        ];
        for (text, needs, seen) in cases {
            let p = plan(text, false, false);
            assert_eq!((p.needs, p.marks_seen), (needs, seen), "{text}");
            assert!(!plan(text, false, true).marks_seen);
        }
        assert_eq!(plan("FLAGS", true, false).items, [Item::Uid, Item::Flags]);
        assert_eq!(plan("(FLAGS UID)", true, false).items, [Item::Flags, Item::Uid]);
        assert_eq!(plan("(UID ENVELOPE FLAGS ENVELOPE UID)", false, false).items, [Item::Uid, Item::Envelope, Item::Flags]);
    }
    #[test]
    fn mod_sequences_where_the_client_counts_on_them() {
        let condstore = Enabled { condstore: true, qresync: false };
        let of = |items: &[Item], since, enabled| Plan::of(items.to_vec(), true, false, since, enabled);
        let p = of(&[Item::Flags], false, Enabled::default());
        assert_eq!((p.items, p.with_seen, p.tells_flags), (vec![Item::Uid, Item::Flags], vec![], true));
        let p = of(&[Item::Flags], true, condstore);
        assert_eq!((p.items, p.with_seen, p.tells_flags), (vec![Item::Uid, Item::Flags, Item::ModSeq], vec![], true));
        // Flags without their mod-sequence: `sync` tells them again.
        let p = of(&[Item::Flags], false, condstore);
        assert_eq!((p.with_seen, p.tells_flags), (vec![Item::ModSeq], false));
        let p = of(&[Item::Size, Item::ModSeq], false, condstore);
        assert_eq!((p.with_seen, p.tells_flags), (vec![Item::Flags], false));
    }
    #[test]
    fn batches_are_bounded() {
        let meta = |size| Some(Meta { uid: Uid(1), modseq: ModSeq(1), flags: Flags::default(), keywords: 0, size, internal_date: 0 });
        assert_eq!(Plan::batch(&[meta(9_000_000), meta(1)]), (1, 9_000_000));
        assert_eq!(Plan::batch(&[meta(1), meta(1), meta(9_000_000)]), (2, 2));
        assert_eq!(Plan::batch(&vec![meta(1); 99]), (99, 99));
        assert_eq!(Plan::batch(&[None, meta(1)]), (2, 1));
        assert_eq!(Plan::batch(&[]), (0, 0));
    }
}
