//! COPY, MOVE, EXPUNGE and their UID forms (RFC 3501 §6.4.7, RFC 6851, RFC 4315).

use super::{
    refusal,
    session::{Done, Outcome, Session, Stop, job},
};
use crate::{
    proto::imap::{SequenceSet, sequence},
    store::{Error, Flags, Folder, Result, Uid},
};
use std::sync::Arc;

/// Removes those of `uids` that are \Deleted: a session never removes what it has not been told of.
pub(super) fn expunge_deleted(folder: &Arc<Folder>, uids: &[Uid]) -> Result<Vec<Uid>> {
    let deleted: Vec<Uid> = folder.meta(uids).into_iter().flatten().filter(|m| m.flags.has(Flags::DELETED)).map(|m| m.uid).collect();
    if deleted.is_empty() { Ok(deleted) } else { folder.expunge(&deleted) }
}

/// `COPYUID` (RFC 4315 §3): pairs in the order of the source.
fn copy_uid(uid_validity: u32, pairs: &[(Uid, Uid)]) -> String {
    let (mut from, mut to) = (Vec::new(), Vec::new());
    sequence::write(&mut from, &pairs.iter().map(|(a, _)| a.0).collect::<Vec<_>>());
    sequence::write(&mut to, &pairs.iter().map(|(_, b)| b.0).collect::<Vec<_>>());
    format!("COPYUID {uid_validity} {} {}", String::from_utf8_lossy(&from), String::from_utf8_lossy(&to))
}

/// Other sessions removed all that was named. UIDs that are not there are no error (RFC 3501 §6.4.8); who named
/// sequence numbers must not believe that there is a copy.
fn all_gone(uid: bool) -> Done {
    if uid { Done::ok("Nothing is there any more.") } else { Done::no("EXPUNGEISSUED", "The messages are gone.") }
}

/// What both verbs begin with.
struct Job {
    uids: Vec<Uid>,
    from: Arc<Folder>,
    to: Arc<Folder>,
}

impl Session {
    async fn copy_job(&mut self, uid: bool, set: &SequenceSet, name: String) -> std::result::Result<Job, Stop> {
        let home = self.home()?;
        let view = self.view()?;
        let uids = view.resolve(set, uid)?.into_iter().map(|(_, u)| u).collect();
        let from = view.folder.clone();
        let to = match job(move || home.open(&name)).await {
            Ok(to) => to,
            Err(e @ Error::NotFound(_)) => return Err(refusal::no_destination(&e).into()),
            Err(e) => return Err(e.into()),
        };
        Ok(Job { uids, from, to })
    }
    pub(super) async fn copy(&mut self, uid: bool, set: &SequenceSet, name: String) -> Outcome {
        let Job { uids, from, to } = self.copy_job(uid, set, name).await?;
        if uids.is_empty() {
            return Ok(Done::ok("Nothing to copy."));
        }
        let uid_validity = to.counts().uid_validity;
        let pairs = job(move || from.copy(&uids, &to)).await?;
        if pairs.is_empty() {
            return Ok(all_gone(uid));
        }
        Ok(Done::ok_code(copy_uid(uid_validity, &pairs), "Copied."))
    }
    /// RFC 6851 §4.3: COPYUID comes before the EXPUNGE responses.
    pub(super) async fn move_to(&mut self, uid: bool, set: &SequenceSet, name: String) -> Outcome {
        if self.view()?.read_only {
            return Ok(Done::no("READ-ONLY", "The folder is open for reading only."));
        }
        let Job { uids, from, to } = self.copy_job(uid, set, name).await?;
        if uids.is_empty() {
            return Ok(Done::ok("Nothing to move."));
        }
        let uid_validity = to.counts().uid_validity;
        let pairs = job(move || from.move_to(&uids, &to)).await?;
        if pairs.is_empty() {
            return Ok(all_gone(uid));
        }
        self.wire.write(format!("* OK [{}] Moved.\r\n", copy_uid(uid_validity, &pairs)).as_bytes()).await?;
        Ok(Done::ok("Done."))
    }
    /// `sync` tells what is gone.
    pub(super) async fn expunge(&mut self, set: Option<SequenceSet>) -> Outcome {
        let view = self.view()?;
        if view.read_only {
            return Ok(Done::no("READ-ONLY", "The folder is open for reading only."));
        }
        let uids: Vec<Uid> = match set {
            Some(set) => view.resolve(&set, true)?.into_iter().map(|(_, u)| u).collect(),
            None => view.uids.iter().collect(),
        };
        let folder = view.folder.clone();
        job(move || expunge_deleted(&folder, &uids)).await?;
        Ok(Done::ok("Expunged."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_uid_names_pairs() {
        let pairs: Vec<_> = [(304, 3956), (319, 3957), (320, 3958)].into_iter().map(|(a, b)| (Uid(a), Uid(b))).collect();
        assert_eq!(copy_uid(38505, &pairs), "COPYUID 38505 304,319:320 3956:3958");
    }
}
