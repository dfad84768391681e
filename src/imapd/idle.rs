//! IDLE (RFC 2177): tells changes as they come, until DONE.

use super::session::{Done, IDLE, Outcome, SLOW_READER, Session, State};
use crate::{net::Ended, proto::imap::framer};
use smol::{Timer, future::FutureExt};
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// When the directory is looked at for what other programs did; our own deliveries wake at once. What they do comes
/// in bursts: soon after a change, then less and less often.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LAST: Duration = Duration::from_secs(15);
/// DONE is all that may come.
const LINE_MAX: usize = 1024;

enum Event {
    Line(Result<Vec<u8>, ()>),
    Changed,
    Look,
}

impl Session {
    pub(super) async fn idle(&mut self) -> Outcome {
        self.wire.write(b"+ idling\r\n").await?;
        let until = Instant::now() + IDLE;
        let mut look = LOOK_FIRST;
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
            match event(&mut self.wire, left, look, changed).await? {
                Event::Changed => look = LOOK_FIRST,
                Event::Look => {
                    look = (look * 2).min(LOOK_LAST);
                    self.refresh().await?;
                }
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

/// Whatever comes first. Dropping the others loses nothing: the wire keeps what it read.
async fn event(wire: &mut crate::net::Wire, left: Duration, look: Duration, changed: Option<impl Future<Output = ()>>) -> Result<Event, Ended> {
    let line = async { wire.next(left, |b| framer::cut_line(b, LINE_MAX)).await.map(Event::Line) };
    let Some(changed) = changed else { return line.await };
    let changed = async {
        changed.await;
        Ok(Event::Changed)
    };
    let look = async {
        Timer::after(look).await;
        Ok(Event::Look)
    };
    line.or(changed).or(look).await
}
