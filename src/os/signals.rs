//! Signals as a stream.

use smol::stream::StreamExt;
use std::io;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Term,
    /// Reload.
    Hup,
    /// State into the log.
    Usr1,
}

/// From here on these signals no longer end the process. Starts smol's I/O thread: after `confine`.
#[derive(Debug)]
pub struct Signals(async_signal::Signals);

impl Signals {
    pub fn new() -> io::Result<Self> {
        use async_signal::Signal as S;
        Ok(Self(async_signal::Signals::new([S::Term, S::Int, S::Hup, S::Usr1])?))
    }
    /// The next one. Should the stream break, the daemon could not be stopped politely any more: that counts as TERM.
    pub async fn next(&mut self) -> Signal {
        use async_signal::Signal as S;
        loop {
            match self.0.next().await {
                Some(Ok(S::Hup)) => return Signal::Hup,
                Some(Ok(S::Usr1)) => return Signal::Usr1,
                Some(Ok(S::Term | S::Int)) | None => return Signal::Term,
                Some(Err(e)) if e.kind() != io::ErrorKind::Interrupted => return Signal::Term,
                Some(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal as S, raise};

    #[test]
    fn each_signal_arrives() {
        let mut signals = Signals::new().unwrap();
        smol::block_on(async {
            for (sent, want) in [(S::SIGHUP, Signal::Hup), (S::SIGUSR1, Signal::Usr1), (S::SIGTERM, Signal::Term), (S::SIGINT, Signal::Term)] {
                raise(sent).unwrap();
                assert_eq!(signals.next().await, want);
            }
        });
    }
}
