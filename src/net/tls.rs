//! Server certificates with hot reload, client configurations. ring only.

use crate::config::Tls;
use std::sync::Arc;

/// The server side; SIGHUP replaces the certificate inside.
#[derive(Clone)]
pub struct Acceptor {
    _private: Arc<()>,
}

impl Acceptor {
    /// Reads certificate and key (PEM). The error text names file and remedy.
    pub fn load(tls: &Tls) -> Result<Self, String> {
        let _ = tls;
        todo!("net room")
    }
    pub fn reload(&self, tls: &Tls) -> Result<(), String> {
        let _ = tls;
        todo!("net room")
    }
}
