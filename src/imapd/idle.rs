//! IDLE (RFC 2177): tells changes as they come, until DONE.

use super::session::{Done, IDLE, Outcome, SLOW_READER, Session, State};
use crate::{net::Ended, proto::imap::framer};
use smol::future::FutureExt;
use std::{future::Future, time::Instant};

/// DONE is all that may come.
const LINE_MAX: usize = 1024;

enum Event {
    Line(Result<Vec<u8>, ()>),
    /// The store says so, whoever changed it.
    Changed,
}

impl Session {
    pub(super) async fn idle(&mut self) -> Outcome {
        self.wire.write(b"+ idling\r\n").await?;
        let until = Instant::now() + IDLE;
        loop {
            // Listening begins before looking, so that no change falls between the two.
            let changed = match &self.state {
                State::Selected(_, view) => Some(view.folder.listen()),
                _ => None,
            };
            self.wire.set_patience(SLOW_READER);
            Box::pin(self.sync(true, false)).await?;
            self.tell_highest_now().await?;
            if matches!(self.state, State::Logout) {
                return Ok(Done::ok("Done."));
            }
            self.wire.flush().await?;
            let left = until.saturating_duration_since(Instant::now());
            match event(&mut self.wire, left, changed).await? {
                Event::Changed => {}
                Event::Line(Ok(line)) if line.eq_ignore_ascii_case(b"DONE") => return Ok(Done::ok("Done.")),
                // The rest of an endless line must not be read as commands.
                Event::Line(Err(())) => {
                    self.bye("Cannot go on after this.").await?;
                    return Ok(Done::bad("Only DONE ends IDLE."));
                }
                Event::Line(Ok(_)) => return Ok(Done::bad("Only DONE ends IDLE.")),
            }
        }
    }
}

/// Whatever comes first. Dropping the other loses nothing: the wire keeps what it read.
async fn event(wire: &mut crate::net::Wire, left: std::time::Duration, changed: Option<impl Future<Output = ()>>) -> Result<Event, Ended> {
    let line = async { wire.next(left, |b| framer::cut_line(b, LINE_MAX)).await.map(Event::Line) };
    let Some(changed) = changed else { return line.await };
    let changed = async {
        changed.await;
        Ok(Event::Changed)
    };
    line.or(changed).await
}
