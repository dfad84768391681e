//! BODYSTRUCTURE and BODY (RFC 3501 §7.4.2).

use super::envelope;
use crate::{
    message::mime::{Param, Part, Shape, Structure, wire_params},
    proto::imap::response::{nstring, string},
};

/// `extended`: BODYSTRUCTURE, else BODY. Goes through the parts with a stack of its own.
pub(super) fn write(out: &mut Vec<u8>, message: &[u8], structure: &Structure, extended: bool) {
    let mut open: Vec<(&Part, std::slice::Iter<'_, usize>)> = Vec::new();
    begin(out, message, structure, structure.root());
    open.push((structure.root(), structure.root().children.iter()));
    while let Some((part, children)) = open.last_mut() {
        if let Some(child) = children.next().and_then(|i| structure.part(*i)) {
            begin(out, message, structure, child);
            open.push((child, child.children.iter()));
        } else {
            end(out, part, extended);
            open.pop();
        }
    }
}

/// Up to the parts inside.
fn begin(out: &mut Vec<u8>, message: &[u8], structure: &Structure, part: &Part) {
    out.push(b'(');
    if part.shape == Shape::Multipart {
        return;
    }
    string(out, part.kind.as_bytes());
    out.push(b' ');
    string(out, part.subtype.as_bytes());
    out.push(b' ');
    params(out, &part.params);
    out.push(b' ');
    nstring(out, part.id.as_deref());
    out.push(b' ');
    nstring(out, part.description.as_deref());
    out.push(b' ');
    string(out, part.encoding.as_bytes());
    out.extend_from_slice(format!(" {}", part.body.len()).as_bytes());
    if let Some(inside) = structure.nested(part) {
        out.push(b' ');
        envelope::write(out, message, &inside.header);
        out.push(b' ');
    }
}

/// From behind the parts inside.
fn end(out: &mut Vec<u8>, part: &Part, extended: bool) {
    match part.shape {
        Shape::Multipart => {
            out.push(b' ');
            string(out, part.subtype.as_bytes());
            if extended {
                out.push(b' ');
                params(out, &part.params);
            }
        }
        Shape::Message => out.extend_from_slice(format!(" {}", part.lines).as_bytes()),
        Shape::Leaf if part.kind == "text" => out.extend_from_slice(format!(" {}", part.lines).as_bytes()),
        Shape::Leaf => {}
    }
    if extended {
        extension(out, part);
    }
    out.push(b')');
}

fn extension(out: &mut Vec<u8>, part: &Part) {
    if part.shape != Shape::Multipart {
        out.push(b' ');
        nstring(out, part.md5.as_deref());
    }
    out.push(b' ');
    match &part.disposition {
        None => out.extend_from_slice(b"NIL"),
        Some((kind, of)) => {
            out.push(b'(');
            string(out, kind.as_bytes());
            out.push(b' ');
            params(out, of);
            out.push(b')');
        }
    }
    out.push(b' ');
    match &part.language[..] {
        [] => out.extend_from_slice(b"NIL"),
        [one] => string(out, one.as_bytes()),
        many => {
            for (i, tag) in many.iter().enumerate() {
                out.push(if i == 0 { b'(' } else { b' ' });
                string(out, tag.as_bytes());
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    nstring(out, part.location.as_deref());
}

fn params(out: &mut Vec<u8>, params: &[Param]) {
    let pairs = wire_params(params);
    if pairs.is_empty() {
        return out.extend_from_slice(b"NIL");
    }
    for (i, (name, value)) in pairs.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b' ' });
        string(out, name.as_bytes());
        out.push(b' ');
        string(out, value);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(message: &str, extended: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, message.as_bytes(), &Structure::scan(message.as_bytes()), extended);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn structures() {
        let cases = [
            ("Subject: x\r\n\r\none\r\ntwo\r\n", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 10 2 NIL NIL NIL NIL)"),
            ("", "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0 NIL NIL NIL NIL)"),
            (
                "Content-Type: image/png; name=\"a b.png\"\r\nContent-Transfer-Encoding: BASE64\r\nContent-ID: <1@x>\r\n\
                 Content-Disposition: attachment; filename=x\r\nContent-Language: en, de\r\nContent-MD5: Q==\r\nContent-Location: http://x\r\n\r\nAAAA",
                "(\"image\" \"png\" (\"name\" \"a b.png\") \"<1@x>\" NIL \"base64\" 4 \"Q==\" (\"attachment\" (\"filename\" \"x\")) (\"en\" \"de\") \"http://x\")",
            ),
            (
                "Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\nhi\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n",
                "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 2 0 NIL NIL NIL NIL)\
                 (\"text\" \"html\" NIL NIL NIL \"7bit\" 3 0 NIL NIL NIL NIL) \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)",
            ),
            (
                "Content-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nbody\r\n",
                "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 21 (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) \
                 (\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 6 1 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)",
            ),
        ];
        for (message, want) in cases {
            assert_eq!(shown(message, true), want, "{message}");
        }
    }
    #[test]
    fn body_has_no_extension_data() {
        let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhi\r\n--b--\r\n";
        assert_eq!(shown(message, false), "((\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 2 0) \"mixed\")");
    }
    /// Others' trees of such a mail overflow the stack.
    #[test]
    fn a_deep_mail_is_no_deeper_than_the_walker_goes() {
        let mut message = String::new();
        for _ in 0..50_000 {
            message.push_str("Content-Type: message/rfc822\r\n\r\n");
        }
        let text = shown(&message, true);
        assert_eq!(text.matches('(').count(), text.matches(')').count());
    }
}
