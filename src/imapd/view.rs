//! The selected folder as one client knows it.

use super::{body::Loaded, modseq::Reckoning, session::Done, uids::Uids};
use crate::{
    proto::imap::SequenceSet,
    store::{Folder, ModSeq, Uid},
};
use std::{collections::HashMap, sync::Arc};

pub(super) struct View {
    pub(super) folder: Arc<Folder>,
    pub(super) read_only: bool,
    /// All that was told by EXISTS and not taken back by EXPUNGE.
    pub(super) uids: Uids,
    /// \Recent in this session.
    pub(super) recent: Uids,
    /// Up to where changes were told.
    pub(super) modseq: ModSeq,
    /// Up to where everything was told: below `modseq` while an EXPUNGE has to wait.
    pub(super) settled: ModSeq,
    /// What the client takes for HIGHESTMODSEQ.
    pub(super) reckoning: Reckoning,
    /// Gone from the folder, but not told yet. Ascending.
    pub(super) gone: Vec<Uid>,
    /// How many keywords FLAGS named.
    pub(super) keywords: usize,
    /// Flags that a command told on its own, with their mod-sequence: `sync` need not repeat them. Until the next sync.
    pub(super) told: HashMap<Uid, ModSeq>,
    /// The last message of which a part was asked by bytes: the next piece is likely to follow at once.
    pub(super) cached: Option<(Uid, Arc<Loaded>)>,
}

impl View {
    /// The messages a command names.
    pub(super) fn resolve(&self, set: &SequenceSet, uid: bool) -> Result<Vec<(u32, Uid)>, Done> {
        let ranges = self.ranges(set, uid)?;
        Ok(if uid { self.uids.by_uid(&ranges) } else { self.uids.by_seq(&ranges) })
    }
    /// The same as ascending ranges. A sequence number that no message has is the client's error (RFC 3501 §9,
    /// `seq-number`), but `1:*` in an empty folder is what several clients send on opening one.
    pub(super) fn ranges(&self, set: &SequenceSet, uid: bool) -> Result<Vec<(u32, u32)>, Done> {
        if uid {
            return Ok(set.ranges(self.uids.last().map_or(0, |u| u.0)));
        }
        if set.largest() > self.uids.len() && self.uids.len() > 0 {
            return Err(Done::bad("There is no such message."));
        }
        Ok(set.ranges(self.uids.len()))
    }
    /// New \Recent messages of ours. `EXAMINE` sees them and leaves them to others (RFC 3501 §6.3.2).
    pub(super) fn take_recent(&mut self) {
        self.recent.extend(if self.read_only { self.folder.peek_recent() } else { self.folder.take_recent() });
    }
    /// How many messages the client knows as \Recent.
    pub(super) fn recent_count(&self) -> usize {
        let last = self.uids.last();
        self.recent.iter().filter(|u| Some(*u) <= last).count()
    }
}
