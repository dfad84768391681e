//! Sockets: listen, [`Wire`] (buffer, TLS, deadlines), limits. Knows no protocol: it is handed a `serve`.
//!
//! RFC 3207 §6 (nothing in the clear crosses into TLS), RFC 8446 and RFC 5246 through rustls, RFC 7435
//! (opportunistic TLS). Single-threaded: everything but the TLS configurations is `!Send`.

pub mod wire;
pub use wire::{Ended, Wire};
mod events;
mod limits;
pub mod listen;
mod self_signed;
mod stream;
pub mod tls;
pub use self_signed::self_signed;

use event_listener::Event;
use std::{cell::Cell, rc::Rc};

/// The daemon is stopping: sessions end at their next idle point.
#[derive(Clone, Default)]
pub struct Drain(Rc<(Cell<bool>, Event)>);

impl Drain {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn start(&self) {
        self.0.0.set(true);
        self.0.1.notify(usize::MAX);
    }
    pub fn started(&self) -> bool {
        self.0.0.get()
    }
    pub async fn wait(&self) {
        while !self.started() {
            let l = self.0.1.listen();
            if self.started() {
                return;
            }
            l.await;
        }
    }
}
