//! IMAP sessions: state, order and limits over the store.

use crate::{
    accounts::Accounts,
    config::{Config, Live},
    net::{Wire, tls::Acceptor},
    store::Store,
};
use std::{rc::Rc, sync::Arc};

pub mod summary {
    //! ENVELOPE and BODYSTRUCTURE in wire form, made once per message.
    pub fn make(message: &[u8]) -> Vec<u8> {
        let _ = message;
        todo!("imapd room")
    }
}

pub struct Service {
    pub config: Arc<Live<Config>>,
    pub accounts: Arc<Accounts>,
    pub store: Arc<Store>,
    pub tls: Option<Acceptor>,
}

pub async fn serve(service: Rc<Service>, wire: Wire) {
    let _ = (service, wire);
    todo!("imapd room")
}

/// What a client hears whom `net::listen` turns away.
pub const BUSY: &[u8] = b"* BYE [LIMIT] Too many connections; try again later\r\n";
