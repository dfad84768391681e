//! IMAP sessions (RFC 3501, CONDSTORE and QRESYNC of RFC 7162): state, order and limits over the store. `proto::imap` reads and writes the bytes.
//!
//! One task per connection. What touches the disk or takes long (search, parts of large messages) is cut into jobs
//! for the blocking pool, each bounded in messages and bytes, so that one client cannot hold the others up; what a
//! job brings goes out before the next begins. A session that waits holds no buffer and no message.
//!
//! Sequence numbers are the session's own: they move only when EXPUNGE and EXISTS are sent, and
//! `sync.rs` alone sends those, after each command, as far as the table in `commands.rs` allows.
//!
//! Deviations: what APPEND and COPY brought is `\Recent` for the first session that selects it only while the daemon
//! runs; what came to `new/` also after a restart. No password is read over plain text, on a UNIX socket neither.
//!
//! Must not know: files, DNS, other protocols' sessions.

mod append;
mod body;
mod commands;
mod copy;
mod events;
mod fetch;
mod flags;
mod folders;
mod idle;
mod list;
mod login;
mod matching;
mod modseq;
mod plan;
mod refusal;
mod resync;
mod search;
mod select;
mod session;
mod store;
pub mod summary;
mod sync;
mod uids;
mod view;

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
    /// For STARTTLS; a wire that came with TLS needs none.
    pub tls: Option<Acceptor>,
}

/// Speaks IMAP on one connection until either side ends it.
pub async fn serve(service: Rc<Service>, wire: Wire) {
    session::Session::new(service, wire).serve().await;
}

/// What a client hears whom `net::listen` turns away.
pub const BUSY: &[u8] = b"* BYE [LIMIT] Too many connections; try again later\r\n";
