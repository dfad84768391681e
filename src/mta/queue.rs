//! When: the queue's table and its loop.

use super::QueueId;
use crate::spool::Entry;
use event_listener::Event;
use std::{cell::RefCell, collections::BTreeMap};

/// The entries of the spool in memory; what is on disk is the truth only at start.
#[derive(Default)]
pub(super) struct Table {
    entries: RefCell<BTreeMap<QueueId, Entry>>,
    changed: Event,
}

impl Table {
    pub(super) fn add(&self, entry: Entry) {
        self.entries.borrow_mut().entry(entry.id.clone()).or_insert(entry);
        self.changed.notify(usize::MAX);
    }
}
