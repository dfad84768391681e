//! SMTP sessions: MX on 25, submission on 587 and 465. State, order and limits; `mta` decides.

use crate::{
    mta::Mta,
    net::{Wire, tls::Acceptor},
};
use std::rc::Rc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Mx,
    Submission,
}

/// What sessions share.
pub struct Service {
    pub mta: Rc<Mta>,
    pub tls: Option<Acceptor>,
    pub kind: Kind,
}

pub async fn serve(service: Rc<Service>, wire: Wire) {
    let _ = (service, wire);
    todo!("smtpd room")
}
