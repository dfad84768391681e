//! USER, PASS, AUTH: over TLS only.

use super::{
    events,
    maildrop::Maildrop,
    session::{Session, State, Stop},
};
use crate::{
    accounts::LoginError,
    proto::{
        pop3::{Code, Framer, Response},
        sasl::{self, Credentials, Exchange, Mechanism, Step},
    },
};
use std::time::Instant;

/// Wrong passwords of one session.
const MAX_FAILED: u32 = 5;

impl Session {
    pub(super) fn user(&mut self, name: String) -> Response {
        if !self.is_private() {
            return tls_first();
        }
        self.state = State::Authorization(Some(name));
        Response::ok("Password?")
    }

    pub(super) async fn pass(&mut self, password: &str) -> Result<Response, Stop> {
        if !self.is_private() {
            return Ok(tls_first());
        }
        let State::Authorization(name) = &mut self.state else { return Ok(Response::err("Logged in already")) };
        let Some(name) = name.take() else { return Ok(Response::err("USER first")) };
        match Credentials::new(&name, password) {
            Some(credentials) => self.login(&credentials, "USER").await,
            None => self.failed(&name, "not a possible password", wrong()).await,
        }
    }

    /// RFC 5034 §4: AUTH alone lists the mechanisms, as old clients want it.
    pub(super) async fn mechanisms(&mut self) -> Result<(), Stop> {
        let list = if self.is_private() { "+OK\r\nPLAIN\r\nLOGIN\r\n.\r\n" } else { "+OK\r\n.\r\n" };
        self.wire.write(list.as_bytes()).await.map_err(Stop::Lost)
    }

    pub(super) async fn auth(&mut self, mechanism: &str, initial: Option<String>) -> Result<Response, Stop> {
        if !self.is_private() {
            return Ok(tls_first());
        }
        let Some(known) = Mechanism::parse(mechanism.as_bytes()) else {
            return Ok(Response::err("Mechanism not offered, want PLAIN or LOGIN"));
        };
        match self.exchange(known, initial).await? {
            Ok(credentials) => self.login(&credentials, known.name()).await,
            Err(sasl::Error::Forbidden(why)) => self.failed("", why, wrong()).await,
            Err(e) => Ok(Response::err(e.to_string())),
        }
    }

    async fn exchange(&mut self, mechanism: Mechanism, initial: Option<String>) -> Result<Result<Credentials, sasl::Error>, Stop> {
        let (mut exchange, mut step) = match Exchange::start(mechanism, initial.as_deref().map(str::as_bytes)) {
            Ok(begun) => begun,
            Err(e) => return Ok(Err(e)),
        };
        loop {
            let challenge = match step {
                Step::Done(credentials) => return Ok(Ok(credentials)),
                Step::Challenge(text) => text,
            };
            self.wire.write(format!("+ {challenge}\r\n").as_bytes()).await?;
            let Some(line) = self.line(Framer::response).await? else {
                return Ok(Err(sasl::Error::Malformed("Response too long")));
            };
            step = match exchange.answer(&line) {
                Ok(step) => step,
                Err(e) => return Ok(Err(e)),
            };
        }
    }

    async fn login(&mut self, credentials: &Credentials, mechanism: &'static str) -> Result<Response, Stop> {
        let accounts = self.service.accounts.clone();
        let login = Box::pin(accounts.login(&credentials.name, &credentials.password, self.wire.peer(), Instant::now())).await;
        let account = match login {
            Ok(account) => account,
            Err(LoginError::Wrong) => return self.failed(&credentials.name, "wrong", wrong()).await,
            Err(LoginError::Throttled) => {
                return self.failed(&credentials.name, "throttled", temporary("Too many failed logins, try again later")).await;
            }
            Err(LoginError::Temporary) => {
                return self.failed(&credentials.name, "temporary", temporary("Login is not possible now, try again later")).await;
            }
        };
        events::login(&self.wire, &account, mechanism);
        let (store, name, format) = (self.service.store.clone(), account.clone(), self.service.config.get().uidl_format.clone());
        match smol::unblock(move || Maildrop::open(&store, &name, format)).await {
            Ok(maildrop) => {
                let (count, size) = maildrop.stat();
                self.account = Some(account);
                self.state = State::Transaction(Box::new(maildrop));
                Ok(Response::ok(format!("{count} messages, {size} octets")))
            }
            Err(e) => {
                events::trouble(&self.wire, &account, "open", &e);
                Ok(temporary("The mailbox is not available, try again later"))
            }
        }
    }

    async fn failed(&mut self, name: &str, why: &str, response: Response) -> Result<Response, Stop> {
        events::login_failed(&self.wire, name, why);
        self.failed_logins += 1;
        if self.failed_logins >= MAX_FAILED { Err(Stop::Say(response)) } else { Ok(response) }
    }
}

/// RFC 8314 §3.3, RFC 3206.
fn tls_first() -> Response {
    Response::Err(Some(Code::Auth), "Plaintext login is disabled, use STLS or port 995".into())
}

/// The same for a wrong name and a wrong password.
fn wrong() -> Response {
    Response::Err(Some(Code::Auth), "Name or password is wrong".into())
}

fn temporary(text: &str) -> Response {
    Response::Err(Some(Code::SysTemp), text.into())
}
