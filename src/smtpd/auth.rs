//! AUTH (RFC 4954): submission only, over TLS only.

use super::{
    events,
    session::{Session, Stop, too_many},
};
use crate::{
    accounts::LoginError,
    proto::{
        sasl::{self, Credentials, Exchange, Mechanism, Step},
        smtp::{Framer, Reply},
    },
};
use std::time::Instant;

/// Wrong passwords of one session. `accounts` slows guessers down across sessions.
const MAX_FAILED: u32 = 5;

impl Session {
    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Result<Reply, Stop> {
        if let Some(no) = self.no_auth_now() {
            return Ok(no);
        }
        let Some(known) = Mechanism::parse(mechanism.as_bytes()) else {
            return Ok(Reply::new(504, (5, 5, 4), "Mechanism not offered, want PLAIN or LOGIN"));
        };
        self.must_be_last()?;
        match self.exchange(known, initial).await? {
            Ok(credentials) => self.login(&credentials, known.name()).await,
            Err(reply) => Ok(reply),
        }
    }

    fn no_auth_now(&self) -> Option<Reply> {
        if !self.is_submission() {
            return Some(Reply::new(502, (5, 5, 1), "No AUTH here; to send mail use port 465 or 587"));
        }
        if !self.is_private() {
            return Some(Self::tls_first());
        }
        if self.account.is_some() {
            return Some(Reply::new(503, (5, 5, 1), "Authenticated already"));
        }
        let extended = self.hello.as_ref().is_some_and(|h| h.extended);
        (!extended).then(|| Reply::new(503, (5, 5, 1), "EHLO first"))
    }

    /// The challenges; `Err`: it did not come to a password.
    async fn exchange(&mut self, mechanism: Mechanism, initial: Option<String>) -> Result<Result<Credentials, Reply>, Stop> {
        let mut begun = Exchange::start(mechanism, initial.as_deref().map(str::as_bytes));
        loop {
            let (mut exchange, challenge) = match begun {
                Ok((_, Step::Done(credentials))) => return Ok(Ok(credentials)),
                Ok((exchange, Step::Challenge(text))) => (exchange, text),
                Err(e) => return self.broken(e).await.map(Err),
            };
            self.say(Reply::bare(334, challenge)).await?;
            let Some(line) = self.line(Framer::response).await? else {
                return Ok(Err(Reply::new(500, (5, 5, 6), "Authentication line too long")));
            };
            self.must_be_last()?;
            begun = exchange.answer(&line).map(|step| (exchange, step));
        }
    }

    async fn broken(&mut self, e: sasl::Error) -> Result<Reply, Stop> {
        match e {
            sasl::Error::Cancelled => Ok(Reply::new(501, (5, 7, 0), e.to_string())),
            sasl::Error::Malformed(_) => Ok(Reply::new(501, (5, 5, 2), e.to_string())),
            sasl::Error::Forbidden(why) => self.failed("", why, wrong()).await,
        }
    }

    async fn login(&mut self, credentials: &Credentials, mechanism: &str) -> Result<Reply, Stop> {
        let accounts = self.service.mta.accounts.clone();
        let login = Box::pin(accounts.login(&credentials.name, &credentials.password, self.wire.peer(), Instant::now())).await;
        let (why, reply) = match login {
            Ok(account) => {
                events::login(self, &account, mechanism);
                self.account = Some(account);
                return Ok(Reply::new(235, (2, 7, 0), "Authentication successful"));
            }
            Err(LoginError::Wrong) => ("wrong", wrong()),
            Err(LoginError::Throttled) => ("throttled", Reply::new(454, (4, 7, 0), "Too many failed logins, try again later")),
            Err(LoginError::Temporary) => ("temporary", Reply::new(454, (4, 7, 0), "Authentication is not possible now, try again later")),
        };
        self.failed(&credentials.name, why, reply).await
    }

    async fn failed(&mut self, name: &str, why: &str, reply: Reply) -> Result<Reply, Stop> {
        events::login_failed(self, name, why);
        self.counts.failed_logins += 1;
        if self.counts.failed_logins >= MAX_FAILED {
            self.say(reply).await?;
            return Err(too_many("failed logins"));
        }
        Ok(reply)
    }
}

/// The same for a wrong name and a wrong password (RFC 4954 §6).
fn wrong() -> Reply {
    Reply::new(535, (5, 7, 8), "Name or password is wrong")
}
