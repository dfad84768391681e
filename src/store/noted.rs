//! What another server noted of messages for its POP3 clients, in extension fields of the UID list.

use super::{Folder, Result, Uid, file, lock, uidlist};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub uid: Uid,
    /// What UIDL says; may be anything but empty.
    pub uidl: Option<Vec<u8>>,
    /// Messages with a number come first, in this order.
    pub order: Option<u32>,
    pub guid: Option<Vec<u8>>,
}

impl Folder {
    /// Job. Messages of which something was noted, ascending; mostly none, and then no file is read.
    pub fn noted(&self) -> Result<Vec<Noted>> {
        let d = lock(&self.disk);
        self.check()?;
        let fields = d.ledger.fields(&self.dir())?;
        drop(d);
        let mut noted = Vec::new();
        for (uid, fields) in fields {
            let value = |letter| uidlist::field(&fields, letter);
            let uidl = match value(b'P') {
                // As Dovecot writes it in short.
                Some(b"") => self.base(Uid(uid)),
                uidl => uidl.map(<[u8]>::to_vec),
            };
            let order = value(b'O').and_then(|n| std::str::from_utf8(n).ok()?.parse().ok());
            let guid = value(b'G').filter(|g| !g.is_empty()).map(<[u8]>::to_vec);
            if uidl.is_some() || order.is_some() || guid.is_some() {
                noted.push(Noted { uid: Uid(uid), uidl, order, guid });
            }
        }
        Ok(noted)
    }

    /// Memory. The file's name without its flags; `None` for what is not there any more.
    pub fn base(&self, uid: Uid) -> Option<Vec<u8>> {
        let (_, name) = lock(&self.state).file(uid.0)?;
        Some(file::base(&name).to_vec())
    }
}
