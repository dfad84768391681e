//! Delivery status notifications: multipart/report of a text for people, fields for programs, and the message
//! (RFC 3461, RFC 3464, RFC 6522; RFC 6533 for addresses in UTF-8).

mod encode;
mod explain;
mod text;

pub use encode::{orcpt, xtext, xtext_decode};
pub use explain::{Explained, explain};

use super::compose::{Notice, Writer};
use super::{Address, date, header};
use encode::{unitext, unitext_decode};

/// Of a returned message at most this many octets come back; of a longer one only its header (RFC 3461 §6.2 leaves
/// that to us).
pub const MAX_RETURNED: usize = 1 << 20;
/// Of a returned header.
const MAX_HEADER: usize = 64 << 10;

/// What became of the message for one recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Failed,
    Delayed,
    Delivered,
    /// Handed to a server that sends no notices of success itself.
    Relayed,
    Expanded,
}

/// One recipient's group of fields.
#[derive(Clone, Copy, Debug)]
pub struct Reported<'a> {
    /// As we accepted it.
    pub recipient: &'a Address,
    /// ORCPT as it was given, in xtext: `rfc822;bob+2Bx@example.org`.
    pub original: Option<&'a str>,
    pub action: Action,
    /// RFC 3463.
    pub status: (u8, u8, u8),
    /// The host that said it, when one did.
    pub remote_mta: Option<&'a str>,
    /// Its reply: `550 5.1.1 No such user`.
    pub diagnostic: Option<&'a str>,
    /// Seconds since 1970, as is the next.
    pub last_attempt: Option<i64>,
    pub will_retry_until: Option<i64>,
}

/// How much of the original goes back.
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    /// The header of these bytes, be they a whole message or its beginning.
    Header(&'a [u8]),
    /// The message, if it is not above [`MAX_RETURNED`]; its header else.
    Full(&'a [u8]),
}

/// Everything a notification says.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Our host name.
    pub reporting_mta: &'a str,
    /// The sender of the original, who gets this.
    pub to: &'a Address,
    /// When this is written, seconds since 1970.
    pub date: i64,
    /// `id@host`, without angles, for this message.
    pub message_id: &'a str,
    /// When the original came, seconds since 1970.
    pub arrival: i64,
    /// ENVID as it was given, in xtext.
    pub envid: Option<&'a str>,
    /// Our queue id of the original: administrators search logs for it.
    pub queue_id: &'a str,
    /// At least one.
    pub recipients: &'a [Reported<'a>],
    pub returned: Returned<'a>,
    /// The original came with SMTPUTF8, so its sender can take UTF-8.
    pub smtputf8: bool,
}

impl Report<'_> {
    /// The message with CRLF line ends. It holds octets above 127 when the original does; it is to be sent with
    /// SMTPUTF8 when [`Report::needs_utf8`].
    pub fn build(&self) -> Vec<u8> {
        let utf8 = self.needs_utf8();
        let (part, whole) = self.original_part();
        let boundary = self.boundary(part);
        let mut out = Writer::default();
        self.top(&mut out, &boundary);

        out.line(&format!("--{boundary}"));
        out.text_part(&self.text(part, whole));
        out.line("");

        out.line(&format!("--{boundary}"));
        out.field("Content-Type", if utf8 { "message/global-delivery-status" } else { "message/delivery-status" });
        if utf8 {
            out.field("Content-Transfer-Encoding", "8bit");
        }
        out.line("");
        self.status_fields(&mut out, utf8);
        out.line("");

        out.line(&format!("--{boundary}"));
        original(&mut out, part, whole, utf8);
        out.line("");
        out.line(&format!("--{boundary}--"));
        out.0
    }

    /// Whether header fields or addresses in the notification are UTF-8 (RFC 6533 §4.4).
    pub fn needs_utf8(&self) -> bool {
        let addresses = !self.to.is_ascii() || self.recipients.iter().any(|r| !r.recipient.is_ascii());
        let originals = self.recipients.iter().any(|r| r.original.is_some_and(|o| o.get(..6).is_some_and(|t| t.eq_ignore_ascii_case("utf-8;"))));
        self.smtputf8 && (addresses || originals || !head(self.bytes()).is_ascii())
    }

    fn bytes(&self) -> &[u8] {
        match self.returned {
            Returned::Header(bytes) | Returned::Full(bytes) => bytes,
        }
    }

    /// The octets to return, and whether they are the whole message.
    fn original_part(&self) -> (&[u8], bool) {
        match self.returned {
            Returned::Full(bytes) if bytes.len() <= MAX_RETURNED => (bytes, true),
            Returned::Full(bytes) | Returned::Header(bytes) => (head(bytes), false),
        }
    }

    /// One that no line of the original holds; the message id is fresh, so the first will do.
    fn boundary(&self, original: &[u8]) -> String {
        let id: String = self.message_id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        let candidate = |n: u32| format!("=_{id}_{n}");
        (0..1000).map(candidate).find(|b| memchr::memmem::find(original, b.as_bytes()).is_none()).unwrap_or_else(|| candidate(1000))
    }

    fn top(&self, out: &mut Writer, boundary: &str) {
        let from = Address { local: "MAILER-DAEMON".to_owned(), domain: self.reporting_mta.to_owned() };
        let subject = match self.worst() {
            Action::Failed => "Your message could not be delivered",
            Action::Delayed => "Your message is delayed",
            Action::Delivered | Action::Relayed | Action::Expanded => "Your message was delivered",
        };
        let (date, message_id) = (self.date, self.message_id);
        Notice { from: ("Mail Delivery", &from), to: self.to, subject, date, message_id, answer: true, text: "" }.header(out);
        if let Some(id) = message_id_of(self.bytes()) {
            out.field("In-Reply-To", id);
            out.field("References", id);
        }
        out.field("MIME-Version", "1.0");
        out.field("Content-Type", &format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""));
        out.line("");
    }

    fn worst(&self) -> Action {
        let any = |action| self.recipients.iter().any(|r| r.action == action);
        if any(Action::Failed) {
            Action::Failed
        } else if any(Action::Delayed) {
            Action::Delayed
        } else {
            Action::Delivered
        }
    }

    /// RFC 3464 §2.2, §2.3.
    fn status_fields(&self, out: &mut Writer, utf8: bool) {
        if let Some(envid) = self.envid {
            out.field("Original-Envelope-Id", &safe(&xtext_decode(envid)));
        }
        out.field("Reporting-MTA", &format!("dns; {}", self.reporting_mta));
        out.field("Arrival-Date", &date::rfc5322(self.arrival));
        for recipient in self.recipients {
            out.line("");
            recipient.fields(out, utf8);
        }
    }
}

impl Reported<'_> {
    fn fields(&self, out: &mut Writer, utf8: bool) {
        if let Some(original) = self.original {
            out.field("Original-Recipient", &original_recipient(original, utf8));
        }
        let address = self.recipient.to_string();
        out.field("Final-Recipient", &typed_address(&address, utf8));
        let action = match self.action {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
            Action::Expanded => "expanded",
        };
        out.field("Action", action);
        let (class, subject, detail) = self.status;
        out.field("Status", &format!("{class}.{subject}.{detail}"));
        if let Some(host) = self.remote_mta {
            out.field("Remote-MTA", &format!("dns; {}", safe(host)));
        }
        if let Some(diagnostic) = self.diagnostic {
            // RFC 3464 §2.3.6: `smtp` is what another server said; the rest is in our own words.
            let kind = if self.remote_mta.is_some() { "smtp" } else { "x-gatepost" };
            out.field("Diagnostic-Code", &format!("{kind}; {}", safe(diagnostic)));
        }
        if let Some(unix) = self.last_attempt {
            out.field("Last-Attempt-Date", &date::rfc5322(unix));
        }
        if let Some(unix) = self.will_retry_until.filter(|_| self.action == Action::Delayed) {
            out.field("Will-Retry-Until", &date::rfc5322(unix));
        }
    }
}

/// The third part: the message or its header.
fn original(out: &mut Writer, octets: &[u8], whole: bool, utf8: bool) {
    let ascii = octets.is_ascii();
    let kind = match (whole, utf8) {
        (true, false) => "message/rfc822",
        (true, true) => "message/global",
        (false, false) => "text/rfc822-headers",
        (false, true) => "message/global-headers",
    };
    out.field("Content-Type", kind);
    if ascii {
        out.line("");
        out.lines(octets);
    } else if kind.starts_with("text/") {
        // Raw octets in a header that came without SMTPUTF8: they must not spoil the notification.
        out.field("Content-Transfer-Encoding", "quoted-printable");
        out.line("");
        out.quoted_printable(octets);
    } else {
        out.field("Content-Transfer-Encoding", "8bit");
        out.line("");
        out.lines(octets);
    }
}

/// The header without the empty line; a huge one is cut after a whole field.
fn head(bytes: &[u8]) -> &[u8] {
    let end = header::fields(bytes).map(|field| field.whole.end).take_while(|end| *end <= MAX_HEADER).last();
    bytes.get(..end.unwrap_or(0)).unwrap_or_default()
}

fn message_id_of(bytes: &[u8]) -> Option<&str> {
    let value = header::find(bytes, "Message-ID")?.value();
    let id = std::str::from_utf8(value).ok()?.trim();
    let valid = id.len() < 500 && id.starts_with('<') && id.ends_with('>') && id.bytes().all(|b| b.is_ascii_graphic());
    valid.then_some(id)
}

/// `type; address` for an address of ours.
fn typed_address(address: &str, utf8: bool) -> String {
    match (address.is_ascii(), utf8) {
        (true, _) => format!("rfc822; {address}"),
        (false, true) => format!("utf-8; {address}"),
        (false, false) => format!("utf-8; {}", unitext(address)),
    }
}

/// ORCPT out of its encoding (RFC 3461 §5.2, RFC 6533 §3).
fn original_recipient(orcpt: &str, utf8: bool) -> String {
    let (kind, address) = orcpt.split_once(';').unwrap_or(("rfc822", orcpt));
    if !kind.trim().eq_ignore_ascii_case("utf-8") {
        return format!("{}; {}", safe(kind.trim()), safe(&xtext_decode(address)));
    }
    let plain = unitext_decode(address);
    // RFC 6533 §3: what is no UTF-8 address is passed on as it came.
    match (utf8, Address::parse(&plain)) {
        (true, Some(_)) => format!("utf-8; {plain}"),
        (false, Some(_)) => format!("utf-8; {}", unitext(&plain)),
        (_, None) => format!("utf-8; {}", safe(address)),
    }
}

/// ASCII without control characters: all that these fields may hold, also in RFC 6533 §4.1.
fn safe(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_control() {
                ' '
            } else if c.is_ascii() {
                c
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Structure;

    const ORIGINAL: &[u8] = b"Received: x\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@a>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n--=_9mx_0\nbody\r\n";

    fn address(text: &str) -> Address {
        Address::parse(text).expect("written well")
    }

    fn reported(recipient: &Address) -> Reported<'_> {
        Reported {
            recipient,
            original: None,
            action: Action::Failed,
            status: (5, 1, 1),
            remote_mta: Some("mail.b.example"),
            diagnostic: Some("550 5.1.1 No such user\r\nEvil: x"),
            last_attempt: Some(60),
            will_retry_until: None,
        }
    }

    fn report<'a>(to: &'a Address, recipients: &'a [Reported<'a>], returned: Returned<'a>) -> Report<'a> {
        Report {
            reporting_mta: "mx.example",
            to,
            date: 100,
            message_id: "9@mx",
            arrival: 0,
            envid: Some("QQ+2B1"),
            queue_id: "7DK2M9QX4R",
            recipients,
            returned,
            smtputf8: false,
        }
    }

    /// The types of the parts, and all of the text.
    fn built(report: &Report<'_>) -> (String, String) {
        let bytes = report.build();
        assert!(!bytes.windows(2).any(|w| (w[0] == b'\r') != (w[1] == b'\n')));
        assert!(bytes.ends_with(b"\r\n"));
        let structure = Structure::scan(&bytes);
        let root = structure.root();
        assert!(root.is("multipart", "report") && root.children.len() == 3, "{}", String::from_utf8_lossy(&bytes));
        let kinds: Vec<_> = structure.children(root).map(|p| format!("{}/{}", p.kind, p.subtype)).collect();
        (kinds.join(" "), String::from_utf8_lossy(&bytes).into_owned())
    }

    #[test]
    fn failure() {
        let (to, bob) = (address("alice@a.example"), address("bob@b.example"));
        let recipients = [Reported { original: Some("rfc822;Bob+2Bx@b.example"), ..reported(&bob) }];
        let (kinds, text) = built(&report(&to, &recipients, Returned::Full(ORIGINAL)));
        assert_eq!(kinds, "text/plain message/delivery-status message/rfc822");
        let expect = "Original-Envelope-Id: QQ+1\r\nReporting-MTA: dns; mx.example\r\nArrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n\r\n\
            Original-Recipient: rfc822; Bob+x@b.example\r\nFinal-Recipient: rfc822; bob@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
            Remote-MTA: dns; mail.b.example\r\nDiagnostic-Code: smtp; 550 5.1.1 No such user Evil: x\r\n\
            Last-Attempt-Date: Thu, 1 Jan 1970 00:01:00 +0000\r\n\r\n--=_";
        assert!(text.contains(expect), "{text}");
        for part in [
            "From: Mail Delivery <MAILER-DAEMON@mx.example>\r\nTo: <alice@a.example>\r\n",
            "Auto-Submitted: auto-replied\r\nIn-Reply-To: <1@a>\r\n",
            "There is no mailbox of that name",
            "mail.b.example said: 550 5.1.1",
            "Queue id: 7DK2M9QX4R",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // The first candidate for the boundary is in the original.
        assert!(text.contains("boundary=\"=_9mx_1\""), "{text}");
    }

    #[test]
    fn our_own_words_are_not_a_servers() {
        let (to, bob) = (address("alice@a.example"), address("bob@b.example"));
        let ours = [Reported { remote_mta: None, diagnostic: Some("451 4.4.1 mx.b.example: refused"), ..reported(&bob) }];
        let (_, text) = built(&report(&to, &ours, Returned::Header(ORIGINAL)));
        assert!(text.contains("Diagnostic-Code: x-gatepost; 451 4.4.1 mx.b") && !text.contains("Remote-MTA") && !text.contains(" said:"), "{text}");
    }

    #[test]
    fn parts_by_action_and_size() {
        let (to, bob) = (address("alice@a.example"), address("bob@b.example"));
        let delayed = [Reported { action: Action::Delayed, status: (4, 4, 1), will_retry_until: Some(3600), ..reported(&bob) }];
        let (kinds, text) = built(&report(&to, &delayed, Returned::Header(ORIGINAL)));
        assert_eq!(kinds, "text/plain message/delivery-status text/rfc822-headers");
        assert!(text.contains("Will-Retry-Until: Thu, 1 Jan 1970 01:00:00 +0000\r\n") && text.contains("is delayed"), "{text}");
        assert!(!text.contains("body"));
        let done = [Reported { action: Action::Relayed, status: (2, 0, 0), diagnostic: None, ..reported(&bob) }];
        let (_, text) = built(&report(&to, &done, Returned::Header(b"")));
        assert!(text.contains("was delivered") && text.contains("Action: relayed"), "{text}");
        let huge = [ORIGINAL, &b"x".repeat(MAX_RETURNED)].concat();
        let failed = [reported(&bob)];
        let (kinds, text) = built(&report(&to, &failed, Returned::Full(&huge)));
        assert_eq!(kinds, "text/plain message/delivery-status text/rfc822-headers");
        assert!(text.contains("too large") && text.len() < 10_000);
        let long = [&b"X: y\r\n".repeat(MAX_HEADER)[..], b"\r\nbody"].concat();
        assert!(built(&report(&to, &failed, Returned::Header(&long))).1.len() < MAX_HEADER + 10_000);
    }

    #[test]
    fn addresses_in_utf8() {
        let (to, bob) = (address("alice@a.example"), address("böb@b.example"));
        let recipients = [Reported { original: Some("utf-8;b\\x{F6}b@b.example"), ..reported(&bob) }];
        let mut plain = report(&to, &recipients, Returned::Full(ORIGINAL));
        let (kinds, text) = built(&plain);
        assert_eq!(kinds, "text/plain message/delivery-status message/rfc822");
        let ascii = "Original-Recipient: utf-8; b\\x{F6}b@b.example\r\nFinal-Recipient: utf-8; b\\x{F6}b@b.example\r\n";
        assert!(text.contains(ascii) && text.is_ascii(), "{text}");
        plain.smtputf8 = true;
        let (kinds, text) = built(&plain);
        assert_eq!(kinds, "text/plain message/global-delivery-status message/global");
        assert!(text.contains("Original-Recipient: utf-8; böb@b.example\r\nFinal-Recipient: utf-8; böb@b.example\r\n"), "{text}");
        let ascii = [reported(&to)];
        let raw = "Subject: ü\r\n\r\nbody".as_bytes();
        let (kinds, text) = built(&report(&to, &ascii, Returned::Header(raw)));
        assert_eq!(kinds, "text/plain message/delivery-status text/rfc822-headers");
        assert!(text.contains("Subject: =C3=BC\r\n"), "{text}");
        let global = Report { smtputf8: true, ..report(&to, &ascii, Returned::Header(raw)) };
        assert_eq!(built(&global).0, "text/plain message/global-delivery-status message/global-headers");
    }
}
