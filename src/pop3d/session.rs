//! The dialogue: greeting, turns, goodbye; CAPA, STLS, UTF8.

use super::{Service, events, maildrop::Maildrop};
use crate::{
    accounts::AccountId,
    net::{Ended, Wire},
    proto::pop3::{Code, Command, Frame, Framer, Response},
};
use std::{rc::Rc, time::Duration};

/// RFC 1939 §3: at least ten minutes.
const IDLE: Duration = Duration::from_secs(600);
/// Bad commands of one session.
const MAX_ERRORS: u32 = 20;

/// Why a session ends.
pub(super) enum Stop {
    /// With these last words.
    Say(Response),
    Lost(Ended),
}

impl From<Ended> for Stop {
    fn from(e: Ended) -> Self {
        Self::Lost(e)
    }
}

/// RFC 1939 §3; UPDATE is what QUIT does.
pub(super) enum State {
    /// The name of USER.
    Authorization(Option<String>),
    Transaction(Box<Maildrop>),
}

pub(super) struct Session {
    pub(super) service: Rc<Service>,
    pub(super) wire: Wire,
    framer: Framer,
    pub(super) state: State,
    pub(super) account: Option<AccountId>,
    utf8: bool,
    errors: u32,
    pub(super) failed_logins: u32,
}

impl Session {
    pub(super) fn new(service: Rc<Service>, wire: Wire) -> Self {
        Self { service, wire, framer: Framer::new(), state: State::Authorization(None), account: None, utf8: false, errors: 0, failed_logins: 0 }
    }

    pub(super) async fn run(mut self) {
        let stop = match self.dialogue().await {
            Ok(never) => match never {},
            Err(stop) => stop,
        };
        events::end(&self, &stop);
        let last = match stop {
            Stop::Say(response) => Some(response),
            Stop::Lost(Ended::Draining) => Some(Response::Err(Some(Code::SysTemp), "Shutting down, nothing was deleted".into())),
            // RFC 1939 §3: a client that timed out hears nothing.
            Stop::Lost(Ended::Timeout | Ended::Closed | Ended::Io(_)) => None,
        };
        if let Some(response) = last {
            let _ = self.say(&response).await;
        }
        self.wire.close().await;
    }

    async fn dialogue(&mut self) -> Result<std::convert::Infallible, Stop> {
        self.say(&Response::ok("gatepost ready")).await?;
        loop {
            let Some(line) = self.line(Framer::command).await? else {
                self.answer(&Response::err("Line too long")).await?;
                continue;
            };
            let command = Command::parse(&line);
            events::command(&self.wire, &command);
            match command {
                Err(why) => self.answer(&Response::err(why)).await?,
                Ok(command) => {
                    if let Some(response) = Box::pin(self.obey(command)).await? {
                        self.answer(&response).await?;
                    }
                }
            }
        }
    }

    /// `None`: all was said already.
    async fn obey(&mut self, command: Command) -> Result<Option<Response>, Stop> {
        match (command, &mut self.state) {
            (Command::Capa, _) => self.capa().await.map(|()| None),
            (Command::Quit, State::Authorization(_)) => Err(Stop::Say(Response::ok("Bye"))),
            (Command::Quit, State::Transaction(_)) => Err(Stop::Say(self.update().await)),
            (Command::Stls, State::Authorization(_)) => self.start_tls().await,
            (Command::Utf8, State::Authorization(_)) => {
                self.utf8 = true;
                Ok(Some(Response::ok("UTF-8 it is")))
            }
            (Command::User(name), State::Authorization(_)) => Ok(Some(self.user(name))),
            (Command::Pass(password), State::Authorization(_)) => self.pass(&password).await.map(Some),
            (Command::Auth(None, _), State::Authorization(_)) => self.mechanisms().await.map(|()| None),
            (Command::Auth(Some(mechanism), initial), State::Authorization(_)) => self.auth(&mechanism, initial).await.map(Some),
            (Command::Stls | Command::Utf8 | Command::User(_) | Command::Pass(_) | Command::Auth(..), State::Transaction(_)) => {
                Ok(Some(Response::err("Logged in already")))
            }
            (_, State::Authorization(_)) => Ok(Some(Response::err("Log in first"))),
            (command, State::Transaction(maildrop)) => maildrop.obey(command, &mut self.wire).await,
        }
    }

    /// A line, or `None` for one that was too long.
    pub(super) async fn line(&mut self, cut: impl Fn(&mut Framer, &[u8]) -> Option<(usize, Frame)>) -> Result<Option<Vec<u8>>, Stop> {
        loop {
            let framer = &mut self.framer;
            match self.wire.next(IDLE, |bytes| cut(framer, bytes)).await? {
                Frame::Line(line) => return Ok(Some(line)),
                Frame::TooLong => return Ok(None),
                Frame::Skipping => {}
                Frame::Endless => return Err(Stop::Say(Response::err("Line too long"))),
                Frame::Bare => return Err(Stop::Say(Response::err("Lines end with CRLF"))),
            }
        }
    }

    async fn answer(&mut self, response: &Response) -> Result<(), Stop> {
        self.say(response).await?;
        if matches!(response, Response::Err(..)) {
            self.errors += 1;
        }
        if self.errors >= MAX_ERRORS { Err(Stop::Say(Response::err("Too many errors, closing"))) } else { Ok(()) }
    }

    async fn say(&mut self, response: &Response) -> Result<(), Stop> {
        let mut out = Vec::new();
        response.write(&mut out);
        self.wire.write(&out).await.map_err(Stop::Lost)
    }

    /// May a password be sent here?
    pub(super) fn is_private(&self) -> bool {
        self.wire.is_private(&self.service.config.get().tls.plaintext)
    }

    /// RFC 2449 §5. Nothing that needs a password is shown where none may be sent.
    async fn capa(&mut self) -> Result<(), Stop> {
        let mut out = "+OK Capability list follows\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8 USER\r\n".to_owned();
        if self.is_private() {
            out.push_str("USER\r\nSASL PLAIN LOGIN\r\n");
        }
        if self.service.tls.is_some() && !self.wire.is_tls() {
            out.push_str("STLS\r\n");
        }
        out.push_str("IMPLEMENTATION gatepost\r\n.\r\n");
        self.wire.write(out.as_bytes()).await.map_err(Stop::Lost)
    }

    /// RFC 2595 §4. What was said before counts for nothing after it, and nothing that came in the clear is taken
    /// for encrypted.
    async fn start_tls(&mut self) -> Result<Option<Response>, Stop> {
        if self.wire.buffered() > 0 {
            return Err(Stop::Say(Response::err("You did not wait for the response")));
        }
        if self.wire.is_tls() {
            return Ok(Some(Response::err("TLS is active already")));
        }
        // RFC 6856 §2.1
        if self.utf8 {
            return Ok(Some(Response::err("STLS must come before UTF8")));
        }
        let Some(acceptor) = self.service.tls.clone() else {
            return Ok(Some(Response::err("TLS is not available")));
        };
        self.state = State::Authorization(None);
        self.say(&Response::ok("Begin TLS")).await?;
        self.wire.flush().await?;
        Box::pin(self.wire.start_tls(&acceptor, IDLE)).await?;
        Ok(None)
    }
}
