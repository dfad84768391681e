//! Mod-sequences as one client knows them (RFC 7162): what it enabled, and what it takes for HIGHESTMODSEQ.
//!
//! A client that is cut off comes back with that number and asks for what happened since. So it must never be above
//! what it was told: when an EXPUNGE has to wait, a later FETCH with its MODSEQ would lead the client beyond it, and
//! the code HIGHESTMODSEQ leads it back (§3.2, §6).

use super::{
    session::{Done, Outcome, Session, State},
    view::View,
};
use crate::{
    net::Ended,
    proto::imap::response,
    store::{ModSeq, Uid},
};

/// Never taken back (RFC 5161 §3.1).
#[derive(Clone, Copy, Default)]
pub(super) struct Enabled {
    /// FETCH responses that nobody asked for carry UID and MODSEQ.
    pub(super) condstore: bool,
    /// VANISHED in place of EXPUNGE.
    pub(super) qresync: bool,
}

/// A client's HIGHESTMODSEQ by the rules of RFC 7162 §6.
#[derive(Default, Debug)]
pub(super) struct Reckoning {
    value: ModSeq,
    /// VANISHED came since the code was sent.
    vanished: bool,
}

impl Reckoning {
    /// MODSEQ of a FETCH response.
    pub(super) fn heard(&mut self, modseq: ModSeq) {
        self.value = self.value.max(modseq);
    }
    pub(super) fn vanished(&mut self) {
        self.vanished = true;
    }
    /// The code itself.
    pub(super) fn told(&mut self, modseq: ModSeq) {
        *self = Self { value: modseq, vanished: false };
    }
    /// Whether the code is due, all being told up to `settled`. Who has enabled QRESYNC also hears that it may go on
    /// from further up: what VANISHED and EXISTS brought has no MODSEQ.
    fn is_due(&self, settled: ModSeq, enabled: Enabled) -> bool {
        enabled.condstore && (self.value > settled || enabled.qresync && (self.vanished || self.value < settled))
    }
}

impl View {
    /// The number to tell, once.
    fn due(&mut self, enabled: Enabled) -> Option<ModSeq> {
        let due = self.reckoning.is_due(self.settled, enabled);
        due.then(|| {
            self.reckoning.told(self.settled);
            self.settled
        })
    }
    /// Notes that a response carried the flags of a message: `sync` need not repeat them.
    pub(super) fn note_told(&mut self, uid: Uid, modseq: ModSeq) {
        if modseq > self.modseq {
            self.told.insert(uid, modseq);
        }
    }
}

fn write_code(out: &mut Vec<u8>, modseq: ModSeq) {
    response::status(out, "*", "OK", Some(&code(modseq)), "Highest.");
}

pub(super) fn code(modseq: ModSeq) -> String {
    format!("HIGHESTMODSEQ {}", modseq.0)
}

impl Session {
    /// RFC 5161; what is not known here is passed over.
    pub(super) async fn enable(&mut self, names: &[String]) -> Outcome {
        let mut enabled = Vec::new();
        for name in names {
            let known = ["CONDSTORE", "QRESYNC"].into_iter().find(|k| k == name);
            enabled.extend(known.filter(|k| !enabled.contains(k)));
        }
        let mut out = Vec::new();
        response::line(&mut out, format_args!("* ENABLED{}", enabled.iter().map(|e| format!(" {e}")).collect::<String>()));
        self.wire.write(&out).await?;
        self.enabled.qresync |= enabled.contains(&"QRESYNC");
        if !enabled.is_empty() {
            self.enable_condstore().await?;
        }
        Ok(Done::ok("Done."))
    }
    /// The first command of the kind tells where the client stands in the folder it has selected (RFC 7162 §3.1).
    pub(super) async fn enable_condstore(&mut self) -> Result<(), Ended> {
        if std::mem::replace(&mut self.enabled.condstore, true) {
            return Ok(());
        }
        let State::Selected(_, view) = &mut self.state else { return Ok(()) };
        let mut out = Vec::new();
        view.reckoning.told(view.settled);
        write_code(&mut out, view.settled);
        self.wire.write(&out).await
    }
    /// Before the tagged response, or in it where that has room (RFC 7162 §3.2.7).
    pub(super) async fn tell_highest(&mut self, done: &mut Done) -> Result<(), Ended> {
        let State::Selected(_, view) = &mut self.state else { return Ok(()) };
        let Some(modseq) = view.due(self.enabled) else { return Ok(()) };
        if done.take_code(|| code(modseq)) {
            return Ok(());
        }
        self.write_highest(modseq).await
    }
    /// While IDLE goes on there is no tagged response.
    pub(super) async fn tell_highest_now(&mut self) -> Result<(), Ended> {
        let State::Selected(_, view) = &mut self.state else { return Ok(()) };
        match view.due(self.enabled) {
            Some(modseq) => self.write_highest(modseq).await,
            None => Ok(()),
        }
    }
    async fn write_highest(&mut self, modseq: ModSeq) -> Result<(), Ended> {
        let mut out = Vec::new();
        write_code(&mut out, modseq);
        self.wire.write(&out).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_told_when_the_client_would_reckon_wrongly() {
        let (condstore, qresync) = (Enabled { condstore: true, qresync: false }, Enabled { condstore: true, qresync: true });
        let at = |heard, vanished| {
            let mut r = Reckoning::default();
            r.told(ModSeq(10));
            r.heard(ModSeq(heard));
            if vanished {
                r.vanished();
            }
            [Enabled::default(), condstore, qresync].map(|e| r.is_due(ModSeq(15), e))
        };
        assert_eq!(at(15, false), [false, false, false]);
        assert_eq!(at(12, false), [false, false, true]);
        assert_eq!(at(16, false), [false, true, true]);
        // RFC 7162 §3.2.7: must, after an EXPUNGE.
        assert_eq!(at(15, true), [false, false, true]);
    }
}
