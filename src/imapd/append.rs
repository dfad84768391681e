//! APPEND (RFC 3501 §6.3.11): the message goes from the wire into a draft as it comes.

use super::{
    commands, flags, refusal,
    session::{Done, Outcome, SLOW_READER, Session, State, Stop, job},
};
use crate::{
    disk::Draft,
    net::Ended,
    proto::imap::{Append, framer},
    store::{self, Error, Folder},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// For one stretch of the message.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// What follows the message is the end of the line.
const REST_MAX: usize = 1024;

impl Session {
    pub(super) async fn append(&mut self, append: Append) -> Result<(), Ended> {
        let tag = append.tag.clone();
        if let State::Selected(_, view) = &mut self.state {
            view.cached = None;
        }
        let too_big = append.size > self.config.limits.message_size;
        // Without a continuation to wait for, the octets are on their way already.
        let fatal = too_big && !append.sync;
        let outcome = if too_big {
            Ok(Done::no("TOOBIG", format!("More than {} bytes.", self.config.limits.message_size)))
        } else {
            self.append_message(append).await
        };
        self.wire.set_patience(SLOW_READER);
        self.finish(&tag, outcome, &commands::APPEND).await?;
        if fatal { self.bye("Cannot go on after this.").await } else { Ok(()) }
    }
    async fn append_message(&mut self, append: Append) -> Outcome {
        // A client that waits hears of a missing folder before it sends megabytes.
        let home = self.home()?;
        let name = append.folder.clone();
        let size = append.size;
        let folder = match job(move || home.open(&name).and_then(|folder| folder.room(size).map(|()| folder))).await {
            Ok(folder) => Ok(folder),
            Err(e @ Error::Disk(_)) => Err(self.failed(&e)),
            Err(e) => Err(refusal::no_destination(&e)),
        };
        if let (Err(_), true) = (&folder, append.sync) {
            return folder.map(|_| Done::ok("")).map_err(Stop::Refused);
        }
        if append.sync {
            self.wire.write(b"+ OK\r\n").await?;
        }
        let draft = self.receive(append.size, folder.is_ok()).await?;
        let rest = self.wire.next_undisturbed(PATIENCE, |b| framer::cut_line(b, REST_MAX)).await?;
        if !matches!(rest.as_deref(), Ok([])) {
            // Another literal may be on its way (MULTIAPPEND): its octets must not be read as commands.
            self.bye("Cannot go on after this.").await?;
            return Ok(Done::bad("One message at a time."));
        }
        let (folder, draft) = (folder?, draft?);
        self.appended = Some(folder.clone());
        if append.size == 0 {
            return Ok(Done::no("CANNOT", "There is no message."));
        }
        let (uid_validity, uid) = self.file(folder, draft, append).await?;
        Ok(Done::ok_code(format!("APPENDUID {uid_validity} {uid}"), "Appended."))
    }
    /// The octets of the message. All of them are read whatever happens: what is left on the wire would be taken
    /// for commands.
    async fn receive(&mut self, size: u64, mut keep: bool) -> Result<store::Result<Draft>, Ended> {
        let (mut draft, mut failure) = (Draft::new(), None);
        let mut left = size;
        while left > 0 {
            let tail = &mut draft;
            let got = self
                .wire
                .next_undisturbed(PATIENCE, |b| {
                    take(b, left, |part| {
                        if keep {
                            tail.push(part)
                        }
                    })
                })
                .await?;
            left -= got;
            if draft.wants_spill() {
                let dir = self.config.state.clone();
                let (back, done) = job(move || {
                    let done = draft.spill(&dir);
                    (draft, done)
                })
                .await;
                draft = back;
                if let Err(e) = done {
                    (draft, keep, failure) = (Draft::new(), false, Some(e));
                }
            }
        }
        Ok(failure.map_or(Ok(draft), |e| Err(e.into())))
    }
    async fn file(&mut self, folder: Arc<Folder>, draft: Draft, append: Append) -> Result<(u32, u32), Stop> {
        let (flags, mut keywords) = flags::split(&append.flags);
        flags::fit(&mut keywords, &folder.keywords());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
        let internal_date = append.date.unwrap_or(now);
        let uids = {
            let folder = folder.clone();
            job(move || folder.append(&[store::Append { draft: &draft, flags, keywords, internal_date }])).await?
        };
        Ok((folder.counts().uid_validity, uids.first().map_or(0, |u| u.0)))
    }
}

/// Hands on what has arrived, at most `left` bytes of it.
fn take(buffered: &[u8], left: u64, mut part: impl FnMut(&[u8])) -> Option<(usize, u64)> {
    let n = buffered.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    if n == 0 {
        return None;
    }
    part(buffered.get(..n)?);
    Some((n, n as u64))
}
