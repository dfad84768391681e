//! SMTP sessions: MX on 25, submission on 587 and 465. State, order and limits; `mta` decides.
//!
//! RFC 5321, 6409 (submission), 2920 PIPELINING, 1870 SIZE, 6152 8BITMIME, 6531 SMTPUTF8, 3030 CHUNKING, 2034
//! ENHANCEDSTATUSCODES, 3207 STARTTLS, 4954 AUTH, 3461 DSN. Wire syntax and line ends are `proto::smtp`'s; this room
//! must not know files or DNS.
//!
//! State has three lifetimes: `Wire` per connection, [`Session`] per client, one [`mta::Transaction`](crate::mta::Transaction)
//! from MAIL to its 250, in an `Option`, so that RSET is `self.transaction = None`. A verb answers with a `Reply`,
//! which [`Session::answer`] alone writes, counts and marks with the queue id.
//!
//! Deviations: VRFY says 252 and EXPN 502 to everybody; a client that talks before it is its turn is hung up on.

mod auth;
mod data;
mod events;
mod hello;
mod mail;
mod session;

use crate::{
    mta::Mta,
    net::{Wire, tls::Acceptor},
};
use session::Session;
use std::rc::Rc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Mx,
    Submission,
}

/// What sessions share.
pub struct Service {
    pub mta: Rc<Mta>,
    /// `None`: STARTTLS is not offered, and so no AUTH on a plain connection.
    pub tls: Option<Acceptor>,
    pub kind: Kind,
}

/// One connection from greeting to goodbye.
pub async fn serve(service: Rc<Service>, wire: Wire) {
    Session::new(service, wire).run().await;
}

/// What a client hears whom `net::listen` turns away.
pub const BUSY: &[u8] = b"421 4.3.2 Too many connections; try again later\r\n";
