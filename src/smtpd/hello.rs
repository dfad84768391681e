//! EHLO, HELO, HELP, STARTTLS.

use super::{
    events,
    session::{Hello, Session, Stop},
};
use crate::proto::smtp::Reply;

impl Session {
    /// RFC 5321 §4.1.1.1; §4.1.4: a later one is a RSET as well.
    pub(super) fn ehlo(&mut self, name: String) -> Result<Reply, Stop> {
        self.must_be_last()?;
        let mut lines = vec![format!("{} greets {name}", self.config.hostname)];
        lines.extend(["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN", "HELP"].map(String::from));
        lines.push(format!("SIZE {}", self.config.limits.message_size));
        if self.may_start_tls() {
            lines.push("STARTTLS".into());
        }
        if self.is_submission() && self.is_private() {
            lines.push("AUTH PLAIN LOGIN".into());
        }
        self.transaction = None;
        self.hello = Some(Hello { name, extended: true });
        Ok(Reply::bare(250, lines.join("\n")))
    }

    pub(super) fn helo(&mut self, name: String) -> Result<Reply, Stop> {
        self.must_be_last()?;
        self.transaction = None;
        self.hello = Some(Hello { name, extended: false });
        Ok(Reply::bare(250, self.config.hostname.clone()))
    }

    pub(super) fn help(&self) -> Reply {
        let verbs = "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP STARTTLS AUTH QUIT";
        let more = if self.is_submission() { "Log in, then send from your own addresses" } else { "To send mail to others use port 465 or 587" };
        Reply::new(214, (2, 0, 0), format!("{verbs}\n{more}\nRFC 5321"))
    }

    /// May a password be sent here?
    pub(super) fn is_private(&self) -> bool {
        self.wire.is_private(&self.config.tls.plaintext)
    }

    pub(super) fn may_start_tls(&self) -> bool {
        self.service.tls.is_some() && !self.wire.is_tls()
    }

    /// RFC 3207. What was said before counts for nothing after it (§4.2), and nothing that came in the clear is
    /// taken for encrypted (CVE-2011-0411).
    pub(super) async fn start_tls(&mut self) -> Result<Option<Reply>, Stop> {
        self.must_be_last()?;
        if self.wire.is_tls() {
            return Ok(Some(Reply::new(503, (5, 5, 1), "TLS is active already")));
        }
        let Some(acceptor) = self.service.tls.clone() else {
            return Ok(Some(Reply::new(502, (5, 5, 1), "TLS is not available")));
        };
        self.transaction = None;
        self.hello = None;
        self.account = None;
        self.say(Reply::new(220, (2, 0, 0), "Ready to start TLS")).await?;
        self.wire.flush().await?;
        if let Err(ended) = Box::pin(self.wire.start_tls(&acceptor, self.config.smtp.timeout)).await {
            events::tls_failed(self, &ended);
            return Err(ended.into());
        }
        Ok(None)
    }
}
