//! What a host announces in its EHLO reply (RFC 5321 §4.1.1.1).

/// Extensions that matter to a client. Nothing of it survives STARTTLS (RFC 3207 §4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Offer {
    pub pipelining: bool,
    pub starttls: bool,
    pub eight_bit: bool,
    pub smtputf8: bool,
    pub dsn: bool,
    /// RFC 1870 announced at all.
    pub size: bool,
    /// Its limit, in octets.
    pub size_limit: Option<u64>,
    pub auth_plain: bool,
    pub auth_login: bool,
}

impl Offer {
    /// `text`: the reply's lines, the first being the greeting.
    pub(super) fn parse(text: &str) -> Self {
        let mut offer = Self::default();
        for line in text.lines().skip(1) {
            // Old hosts say `AUTH=PLAIN LOGIN`.
            let mut words = line.split([' ', '=', '\t']).filter(|w| !w.is_empty()).map(str::to_ascii_uppercase);
            match words.next().as_deref() {
                Some("PIPELINING") => offer.pipelining = true,
                Some("STARTTLS") => offer.starttls = true,
                Some("8BITMIME") => offer.eight_bit = true,
                Some("SMTPUTF8") => offer.smtputf8 = true,
                Some("DSN") => offer.dsn = true,
                Some("SIZE") => {
                    offer.size = true;
                    // RFC 1870 §4: 0 is no limit.
                    offer.size_limit = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                }
                Some("AUTH") => {
                    for mechanism in words {
                        offer.auth_plain |= mechanism == "PLAIN";
                        offer.auth_login |= mechanism == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements() {
        let none = Offer::default();
        let cases = [
            ("", none.clone()),
            ("STARTTLS is my host name", none.clone()),
            ("mx\nstarttls\nPipelining", Offer { starttls: true, pipelining: true, ..none.clone() }),
            ("mx\n8BITMIME\nSMTPUTF8\nDSN", Offer { eight_bit: true, smtputf8: true, dsn: true, ..none.clone() }),
            ("mx\nSIZE 1000", Offer { size: true, size_limit: Some(1000), ..none.clone() }),
            ("mx\nSIZE 0", Offer { size: true, ..none.clone() }),
            ("mx\nSIZE", Offer { size: true, ..none.clone() }),
            ("mx\nSIZE 99999999999999999999999", Offer { size: true, ..none.clone() }),
            ("mx\nAUTH PLAIN LOGIN CRAM-MD5", Offer { auth_plain: true, auth_login: true, ..none.clone() }),
            ("mx\nAUTH=LOGIN", Offer { auth_login: true, ..none.clone() }),
            ("mx\nXPIPELINING\n\n  ", none),
        ];
        for (text, want) in cases {
            assert_eq!(Offer::parse(text), want, "{text:?}");
        }
    }
}
