//! Addresses as they stand in an envelope: `local-part@domain` (RFC 5321 §4.1.2, RFC 6531 §3.3).

use std::fmt;

/// An envelope address. `local` is unquoted and keeps its case; `domain` is lower case, U-labels as given
/// turned into A-labels (`xn--…`), an address literal keeps its brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Address {
    pub local: String,
    pub domain: String,
}

impl Address {
    /// From `local@domain`, `"quoted local"@domain` or `local@[192.0.2.1]`. `None` when it is none of these.
    /// The local part may be UTF-8; callers that did not see SMTPUTF8 check [`Address::is_ascii`].
    pub fn parse(text: &str) -> Option<Self> {
        let _ = text;
        todo!("message room")
    }
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii()
    }
}

/// With the local part quoted where it must be.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!("message room")
    }
}
