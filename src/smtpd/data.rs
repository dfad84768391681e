//! DATA and BDAT: content streams into the draft, then `mta` takes it.

use super::{
    events,
    session::{Open, Session, Stop, tagged},
};
use crate::{
    disk::Draft,
    proto::smtp::{Body, Chunks, Reply},
};
use std::time::{Duration, Instant};

/// Of a message that is refused already, so much more is read to let the client come to its end and hear why
/// (RFC 5321 §4.2.5); then it is hung up on.
const MAX_DISCARD: u64 = 64 * 1024 * 1024;
/// Octets per second that content must bring on average, after `smtp.timeout` of grace. One octet just before each
/// timeout would hold a session, its draft and a place among the connections for months.
const MIN_PACE: u64 = 1024;
/// No content takes longer than this, however steadily it comes.
const MAX_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// How long the content of one message has been coming, DATA or all BDAT together.
pub(super) struct Pace {
    began: Instant,
    octets: u64,
}

impl Pace {
    fn new() -> Self {
        Self { began: Instant::now(), octets: 0 }
    }
    /// The wait for the next stretch.
    fn left(&self, timeout: Duration) -> Duration {
        timeout.min(allowed(self.octets, timeout).saturating_sub(self.began.elapsed()))
    }
}

/// The time that so much content may have taken.
fn allowed(octets: u64, timeout: Duration) -> Duration {
    timeout.saturating_add(Duration::from_secs(octets / MIN_PACE)).min(MAX_TIME.max(timeout))
}

impl Session {
    /// RFC 5321 §4.1.1.4
    pub(super) async fn data(&mut self) -> Result<Reply, Stop> {
        if let Some(no) = self.no_content_yet() {
            return Ok(no);
        }
        if self.transaction.as_ref().is_some_and(|t| t.chunks.is_some()) {
            return Ok(Reply::new(503, (5, 5, 1), "BDAT has begun"));
        }
        self.must_be_last()?;
        let Some(open) = self.transaction.take() else { return Ok(mail_first()) };
        let id = open.mail.id.clone();
        self.reading = Some(id.clone());
        self.say(tagged(Reply::bare(354, "End data with <CR><LF>.<CR><LF>"), &id)).await?;
        let mut intake = Intake::new(open, self.config.limits.message_size);
        let (mut body, mut pace) = (Body::new(), Pace::new());
        loop {
            let taken = self.wire.next_undisturbed(pace.left(self.config.smtp.timeout), |bytes| {
                let (used, end) = body.push(bytes, intake.tail());
                (used > 0).then_some((used, (used, end)))
            });
            let (used, end) = taken.await?;
            pace.octets += used as u64;
            intake.settle(self).await?;
            if end {
                return Ok(self.finish(intake, body.bare()).await);
            }
        }
    }

    /// RFC 3030 §2: the chunk follows at once, so it is read whatever we think of the command.
    pub(super) async fn bdat(&mut self, size: u64, last: bool) -> Result<Reply, Stop> {
        let no = self.no_content_yet();
        let Some(open) = self.transaction.take().filter(|_| no.is_none()) else {
            self.skip(size).await?;
            return Ok(no.unwrap_or_else(mail_first));
        };
        self.reading = Some(open.mail.id.clone());
        let limit = self.config.limits.message_size;
        let mut intake = Intake::new(open, limit);
        let (mut chunks, mut pace) = intake.open.chunks.take().unwrap_or_else(|| (Chunks::new(), Pace::new()));
        chunks.begin(size);
        if size > limit.saturating_add(MAX_DISCARD) {
            return Err(Stop::Say(too_big(limit)));
        }
        while chunks.left() > 0 {
            let taken = self.wire.next_undisturbed(pace.left(self.config.smtp.timeout), |bytes| {
                let used = chunks.push(bytes, intake.tail());
                (used > 0).then_some((used, used))
            });
            pace.octets += taken.await? as u64;
            intake.settle(self).await?;
        }
        if last {
            return Ok(self.finish(intake, chunks.bare()).await);
        }
        self.reading = None;
        if let Some(no) = intake.trouble {
            return Ok(no);
        }
        intake.open.chunks = Some((chunks, pace));
        self.transaction = Some(intake.open);
        Ok(Reply::new(250, (2, 0, 0), format!("Ok: {size} octets")))
    }

    /// Reads a chunk that nobody wants.
    async fn skip(&mut self, size: u64) -> Result<(), Stop> {
        if size > MAX_DISCARD {
            return Err(Stop::Say(Reply::new(503, (5, 5, 1), "MAIL and RCPT first")));
        }
        let mut pace = Pace::new();
        while pace.octets < size {
            let taken = self.wire.next_undisturbed(pace.left(self.config.smtp.timeout), |bytes| {
                let used = usize::try_from(size - pace.octets).unwrap_or(usize::MAX).min(bytes.len());
                (used > 0).then_some((used, used))
            });
            pace.octets += taken.await? as u64;
        }
        Ok(())
    }

    fn no_content_yet(&self) -> Option<Reply> {
        match &self.transaction {
            None => Some(mail_first()),
            // RFC 5321 §3.3, RFC 2920 §3.1: a client that pipelines learns it here.
            Some(open) if open.mail.recipients.is_empty() => Some(Reply::new(554, (5, 5, 1), "No valid recipients")),
            Some(_) => None,
        }
    }

    /// The content is complete; the transaction is over, whatever comes of it.
    async fn finish(&mut self, intake: Intake, bare: bool) -> Reply {
        let mail = intake.open.mail;
        let id = mail.id.clone();
        let outcome = match intake.trouble {
            Some(no) => Err((no, None)),
            None if bare => Err((Reply::new(550, (5, 6, 11), "A lone CR or LF in the message; lines end with CRLF"), None)),
            None => Box::pin(self.service.mta.accept(mail)).await.map_err(|no| ((&no).into(), no.cause)),
        };
        self.reading = None;
        let reply = match outcome {
            Ok(text) => {
                self.earned_trust();
                Reply::new(250, (2, 0, 0), text)
            }
            Err((no, cause)) => {
                events::message_refused(self, &id, &no, cause.as_deref());
                no
            }
        };
        tagged(reply, &id)
    }
}

/// A message on its way into its draft: bounds its size, spills it to disk, and goes on reading, but not keeping,
/// when it cannot be taken.
struct Intake {
    open: Open,
    limit: u64,
    /// Where content goes that is not kept.
    scrap: Vec<u8>,
    discarded: u64,
    trouble: Option<Reply>,
}

impl Intake {
    fn new(open: Open, limit: u64) -> Self {
        Self { open, limit, scrap: Vec::new(), discarded: 0, trouble: None }
    }
    fn tail(&mut self) -> &mut Vec<u8> {
        if self.trouble.is_some() { &mut self.scrap } else { self.open.mail.draft.tail() }
    }
    /// After each stretch of content.
    async fn settle(&mut self, session: &mut Session) -> Result<(), Stop> {
        if let Some(no) = &self.trouble {
            self.discarded += self.scrap.len() as u64;
            self.scrap.clear();
            return if self.discarded > MAX_DISCARD { Err(Stop::Say(no.clone())) } else { Ok(()) };
        }
        if self.open.mail.draft.len() > self.limit {
            self.give_up(too_big(self.limit));
        } else if self.open.mail.draft.wants_spill() {
            let mut draft = std::mem::take(&mut self.open.mail.draft);
            let dir = session.service.mta.spool.tmp().to_owned();
            let (draft, spilled) = smol::unblock(move || {
                let spilled = draft.spill(&dir);
                (draft, spilled)
            })
            .await;
            self.open.mail.draft = draft;
            if let Err(e) = spilled {
                events::spill_failed(session, &self.open.mail.id, &e);
                let text = if e.is_full() { "The disk is full" } else { "The message cannot be stored now" };
                self.give_up(Reply::new(452, (4, 3, 1), format!("{text}, try again later")));
            }
        }
        Ok(())
    }
    fn give_up(&mut self, why: Reply) {
        self.trouble = Some(why);
        self.open.mail.draft = Draft::new();
    }
}

fn mail_first() -> Reply {
    Reply::new(503, (5, 5, 1), "MAIL and RCPT first")
}

/// RFC 1870 §6.1
fn too_big(limit: u64) -> Reply {
    Reply::new(552, (5, 3, 4), format!("Message is larger than the {limit} octets allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_content_has_its_time_and_no_more() {
        const CASES: &[(u64, u64, u64)] = &[
            // Octets, timeout, seconds allowed.
            (0, 300, 300),
            (1023, 300, 300),
            (10 * 1024, 300, 310),
            (50 * 1024 * 1024, 300, 7200),
            (u64::MAX, 300, 7200),
            (0, 10_000, 10_000),
            (u64::MAX, 1, 7200),
        ];
        for (octets, timeout, want) in CASES {
            assert_eq!(allowed(*octets, Duration::from_secs(*timeout)).as_secs(), *want, "{octets} {timeout}");
        }
    }
}
