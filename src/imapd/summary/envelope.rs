//! ENVELOPE (RFC 3501 §7.4.2): header values as they came, unfolded, encoded words and all.

use crate::{
    message::{
        address_list::{self, Listed},
        header::{self, Field},
    },
    proto::imap::response,
};
use std::ops::Range;

const ADDRESSES: [&str; 6] = ["from", "sender", "reply-to", "to", "cc", "bcc"];
const SINGLE: [&str; 4] = ["date", "subject", "in-reply-to", "message-id"];

/// For the message whose header lies at `range`.
pub(super) fn write(out: &mut Vec<u8>, message: &[u8], range: &Range<usize>) {
    let mut single: [Option<Field<'_>>; 4] = Default::default();
    let mut lists: [Vec<Listed>; 6] = Default::default();
    for field in header::fields_in(message, range) {
        if let Some(slot) = index(&SINGLE, &field).and_then(|i| single.get_mut(i)) {
            slot.get_or_insert(field);
        } else if let Some(list) = index(&ADDRESSES, &field).and_then(|i| lists.get_mut(i)) {
            // A second To is against RFC 5322 and still meant.
            list.extend(address_list::header_addresses(field.value()));
        }
    }
    let [date, subject, in_reply_to, message_id] = single;
    let [from, sender, reply_to, to, cc, bcc] = lists;
    out.push(b'(');
    value(out, date.as_ref());
    out.push(b' ');
    value(out, subject.as_ref());
    for list in [&from, or(&sender, &from), or(&reply_to, &from), &to, &cc, &bcc] {
        out.push(b' ');
        addresses(out, list);
    }
    out.push(b' ');
    value(out, in_reply_to.as_ref());
    out.push(b' ');
    value(out, message_id.as_ref());
    out.push(b')');
}

fn index(names: &[&str], field: &Field<'_>) -> Option<usize> {
    names.iter().position(|n| field.is(n))
}

/// Sender and Reply-To that are missing or empty are From's.
fn or<'a>(list: &'a Vec<Listed>, from: &'a Vec<Listed>) -> &'a Vec<Listed> {
    if list.is_empty() { from } else { list }
}

fn value(out: &mut Vec<u8>, field: Option<&Field<'_>>) {
    let unfolded = field.map(|f| header::unfold(f.value()));
    response::nstring(out, unfolded.as_deref());
}

fn addresses(out: &mut Vec<u8>, list: &[Listed]) {
    if list.is_empty() {
        return out.extend_from_slice(b"NIL");
    }
    out.push(b'(');
    for item in list {
        out.push(b'(');
        match item {
            Listed::Mailbox(m) => {
                response::nstring(out, m.name.as_deref());
                out.push(b' ');
                response::nstring(out, m.adl.as_deref());
                out.push(b' ');
                // NIL would say that a group begins or ends.
                response::string(out, &m.local);
                out.push(b' ');
                response::string(out, &m.domain);
            }
            Listed::GroupStart(name) => {
                out.extend_from_slice(b"NIL NIL ");
                response::string(out, name);
                out.extend_from_slice(b" NIL");
            }
            Listed::GroupEnd => out.extend_from_slice(b"NIL NIL NIL NIL"),
        }
        out.push(b')');
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes() {
        const CASES: &[(&str, &str)] = &[
            (
                // RFC 3501 §8
                "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nFrom: Terry Gray <gray@cac.washington.edu>\r\n\
                 Subject: IMAP4rev1 WG mtg summary and minutes\r\nTo: imap@cac.washington.edu\r\n\
                 cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\r\n\
                 Message-Id: <B27397-0100000@cac.washington.edu>\r\nMIME-Version: 1.0\r\n\r\n",
                "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev1 WG mtg summary and minutes\" \
                 ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
                 ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) ((NIL NIL \"imap\" \"cac.washington.edu\")) \
                 ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \
                 \"<B27397-0100000@cac.washington.edu>\")",
            ),
            ("\r\n", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)"),
            ("Subject:\r\n\r\n", "(NIL \"\" NIL NIL NIL NIL NIL NIL NIL NIL)"),
            ("To: list: a@b, c@d;\r\n\r\n", {
                "(NIL NIL NIL NIL NIL ((NIL NIL \"list\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL \"c\" \"d\")(NIL NIL NIL NIL)) NIL NIL NIL NIL)"
            }),
            (
                "Sender: s@x\r\nReply-To:\r\nFrom: \"A \\\"B\" <a@b>\r\nSubject: =?utf-8?q?=C3=BC?=\r\n\tx\r\n\r\n",
                "(NIL \"=?utf-8?q?=C3=BC?=\tx\" ((\"A \\\"B\" NIL \"a\" \"b\")) ((NIL NIL \"s\" \"x\")) ((\"A \\\"B\" NIL \"a\" \"b\")) NIL NIL NIL NIL NIL)",
            ),
            ("Subject: ü\r\nFrom: root\r\n\r\n", {
                "(NIL {2}\r\nü ((NIL NIL \"root\" \"\")) ((NIL NIL \"root\" \"\")) ((NIL NIL \"root\" \"\")) NIL NIL NIL NIL NIL)"
            }),
        ];
        for (header, want) in CASES {
            let mut out = Vec::new();
            write(&mut out, header.as_bytes(), &(0..header.len()));
            assert_eq!(String::from_utf8_lossy(&out), *want);
        }
    }
}
