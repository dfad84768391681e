//! POP3 sessions (RFC 1939, 2449, 2595, 5034, 6856). Deletes only at QUIT.

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
    pub tls: Option<Acceptor>,
}

pub async fn serve(service: Rc<Service>, wire: Wire) {
    let _ = (service, wire);
    todo!("pop3d room")
}
