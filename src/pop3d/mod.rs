//! POP3 sessions (RFC 1939, 2449, 2595, 5034, 6856). Deletes only at QUIT.
//!
//! A session sees the INBOX as it was at login: numbers and sizes stay, whatever others do. Several sessions may use
//! one maildrop at a time, as Maildir allows, so there is no [IN-USE]. A connection that is lost deletes nothing.
//! Wire syntax is `proto::pop3`'s; this room must not know files.
//!
//! Deviations: no APOP (it would need passwords in the clear on disk). A message with UTF-8 in its header goes out as
//! it is, also to a client that did not say UTF8 (RFC 6856 §2.1): refusing it would hide spam and mail alike.

mod events;
mod login;
mod maildrop;
mod session;

use crate::{
    accounts::Accounts,
    config::{Config, Live},
    net::{Wire, tls::Acceptor},
    store::Store,
};
use std::{rc::Rc, sync::Arc};

pub struct Service {
    pub config: Arc<Live<Config>>,
    pub accounts: Arc<Accounts>,
    pub store: Arc<Store>,
    /// `None`: STLS is not offered, and so no login on a plain connection.
    pub tls: Option<Acceptor>,
}

/// One connection from greeting to goodbye.
pub async fn serve(service: Rc<Service>, wire: Wire) {
    session::Session::new(service, wire).run().await;
}

/// What a client hears whom `net::listen` turns away.
pub const BUSY: &[u8] = b"-ERR [SYS/TEMP] too many connections; try again later\r\n";
