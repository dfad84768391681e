//! Capabilities, STARTTLS, AUTHENTICATE, LOGIN (RFC 3501 §6.2, RFC 4959).

use super::{
    events,
    session::{Done, Login, Outcome, Session, State, Stop, job},
};
use crate::{
    accounts::LoginError,
    net::Ended,
    proto::{
        imap::{Framer, command::Secret, framer},
        sasl::{self, Credentials, Exchange, Mechanism, Step},
    },
};
use std::time::{Duration, Instant};

const BEFORE_LOGIN: &str = "CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE";
const AFTER_LOGIN: &str = "CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE UIDPLUS MOVE NAMESPACE UNSELECT CHILDREN SPECIAL-USE \
     ESEARCH LIST-EXTENDED LIST-STATUS STATUS=SIZE CONDSTORE QRESYNC";
/// A handshake, or one line of an authentication.
const PATIENCE: Duration = Duration::from_secs(60);
/// Wrong passwords on one connection.
const FAILURES_MAX: u32 = 5;

impl Session {
    /// What is true now: no password before TLS, no STARTTLS after it.
    pub(super) fn capability(&self) -> String {
        if self.login().is_some() {
            return AFTER_LOGIN.to_owned();
        }
        let start = if self.service.tls.is_some() && !self.wire.is_tls() { " STARTTLS" } else { "" };
        let login = if self.private().is_ok() { " AUTH=PLAIN AUTH=LOGIN" } else { " LOGINDISABLED" };
        format!("{BEFORE_LOGIN}{start}{login}")
    }
    /// What a client sent behind STARTTLS in the clear never counts as said under TLS (CVE-2011-0411): the wire
    /// refuses, and the connection ends.
    pub(super) async fn start_tls(&mut self, tag: &str) -> Result<(), Ended> {
        let Some(acceptor) = self.service.tls.clone().filter(|_| !self.wire.is_tls()) else {
            return self.tagged(tag, &Done::bad("TLS is on already, or there is none.")).await;
        };
        if self.wire.buffered() > 0 {
            self.tagged(tag, &Done::bad("Nothing may follow STARTTLS before the handshake.")).await?;
            return self.bye("Cannot go on after this.").await;
        }
        self.tagged(tag, &Done::ok("Begin TLS now.")).await?;
        self.wire.flush().await?;
        self.framer = Framer::new(framer::Limits::BEFORE_LOGIN);
        Box::pin(self.wire.start_tls(&acceptor, PATIENCE)).await
    }
    fn private(&self) -> Result<(), Stop> {
        if self.wire.is_private(&self.config.tls.plaintext) { Ok(()) } else { Err(Done::no("PRIVACYREQUIRED", "Use STARTTLS first.").into()) }
    }
    pub(super) async fn log_in(&mut self, name: String, password: Secret) -> Outcome {
        self.private()?;
        let credentials = std::str::from_utf8(&password.0).ok().and_then(|p| Credentials::new(&name, p));
        self.verify(credentials, &name, "LOGIN").await
    }
    pub(super) async fn authenticate(&mut self, mechanism: &str, initial: Option<Secret>) -> Outcome {
        self.private()?;
        let Some(known) = Mechanism::parse(mechanism.as_bytes()) else {
            return Ok(Done::no("CANNOT", "No such mechanism here."));
        };
        let method = match known {
            Mechanism::Plain => "PLAIN",
            // `LOGIN` in the log is the command.
            Mechanism::Login => "AUTH-LOGIN",
        };
        let (mut exchange, mut next) = match Exchange::start(known, initial.as_ref().map(|i| i.0.as_slice())) {
            Ok((exchange, next)) => (exchange, Ok(next)),
            Err(e) => return self.sasl_failed(e, method).await,
        };
        loop {
            match next {
                Ok(Step::Done(credentials)) => {
                    let name = credentials.name.clone();
                    return self.verify(Some(credentials), &name, method).await;
                }
                Ok(Step::Challenge(text)) => {
                    self.wire.write(format!("+ {text}\r\n").as_bytes()).await?;
                    let line = self.wire.next(PATIENCE, |b| framer::cut_line(b, sasl::MAX_LINE)).await?;
                    let Ok(line) = line else {
                        self.bye("Cannot go on after this.").await?;
                        return Ok(Done::bad("Response too long."));
                    };
                    next = exchange.answer(&line);
                }
                Err(e) => return self.sasl_failed(e, method).await,
            }
        }
    }
    async fn sasl_failed(&mut self, error: sasl::Error, method: &str) -> Outcome {
        match error {
            sasl::Error::Forbidden(_) => self.verify(None, "", method).await,
            other => Ok(Done::bad(other.to_string())),
        }
    }
    /// `None`: can never be right, and is answered like a wrong password.
    async fn verify(&mut self, credentials: Option<Credentials>, user: &str, method: &str) -> Outcome {
        let result = match credentials {
            Some(c) => Box::pin(self.service.accounts.login(&c.name, &c.password, self.wire.peer(), Instant::now())).await,
            None => Err(LoginError::Wrong),
        };
        let (code, text, reason) = match result {
            Ok(account) => return self.logged_in(account, method).await,
            Err(LoginError::Wrong) => ("AUTHENTICATIONFAILED", "Wrong name or password.", "wrong"),
            Err(LoginError::Throttled) => ("LIMIT", "Too many failed logins; try again later.", "throttled"),
            Err(LoginError::Temporary) => ("UNAVAILABLE", "Cannot check passwords at the moment.", "temporary"),
        };
        events::login_failed(&self.wire, user, reason);
        self.failures += u32::from(reason != "temporary");
        if self.failures >= FAILURES_MAX {
            self.bye("Too many failed logins.").await?;
        }
        Ok(Done::no(code, text))
    }
    async fn logged_in(&mut self, account: crate::accounts::AccountId, method: &str) -> Outcome {
        let store = self.service.store.clone();
        let name = account.clone();
        let prepared = job(move || {
            let home = store.home(&name.0)?;
            home.prepare().map(|()| home)
        });
        let home = match prepared.await {
            Ok(home) => home,
            Err(e) => {
                events::failed(&self.wire, Some(&account), &e);
                return Ok(Done::no("UNAVAILABLE", "The mail of this account cannot be opened at the moment."));
            }
        };
        events::login(&self.wire, &account, method);
        self.framer.limits = framer::Limits::AFTER_LOGIN;
        self.state = State::Authenticated(Login { account, home });
        Ok(Done::ok_code(AFTER_LOGIN, "Logged in."))
    }
}
