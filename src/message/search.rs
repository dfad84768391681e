//! Texts as SEARCH compares them: decoded, in UTF-8, without case (RFC 9051 §6.4.4; a close relative of
//! i;unicode-casemap, RFC 5051). The key goes through [`fold`] as well, and then it is a plain substring search.

use std::borrow::Cow;

use super::decode::{Charset, encoded_words, transfer};
use super::header::{fields_in, slice, unfold};
use super::mime::{Part, Shape, Structure};

/// Of each leaf so much of the decoded text is looked at, in octets.
pub const MAX_TEXT: usize = 4 << 20;

/// Without case, and any white space as single spaces, since a line may end anywhere.
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else {
            // By way of upper case, so that ß meets SS and final sigma the other one.
            c.to_uppercase().flat_map(char::to_lowercase).for_each(|c| out.push(if c == 'ς' { 'σ' } else { c }));
        }
    }
    out
}

/// A field's value, decoded and folded.
pub fn field_value(value: &[u8]) -> String {
    fold(&encoded_words(&unfold(value)))
}

/// Whether any field of that name has the folded key in its value; an empty key asks whether there is such a field.
pub fn header_has(message: &[u8], header: &std::ops::Range<usize>, name: &str, key: &str) -> bool {
    fields_in(message, header).any(|field| field.is(name) && (key.is_empty() || field_value(field.value()).contains(key)))
}

/// The text of a leaf in UTF-8, not folded; `None` when it is no text or its encoding is unknown. At most `max`
/// octets are decoded.
pub fn leaf_text(message: &[u8], part: &Part, max: usize) -> Option<String> {
    if part.shape != Shape::Leaf || part.kind != "text" {
        return None;
    }
    let octets: Cow<'_, [u8]> = transfer(&part.encoding, slice(message, &part.body), max)?;
    let charset = part.param("charset").unwrap_or_default();
    Some(Charset::named(charset.as_bytes()).decode(&octets))
}

/// Whether any text of the message has the folded key: SEARCH BODY. Headers of parts and of messages inside count as
/// they do in the texts people see; memory is bounded by [`MAX_TEXT`].
pub fn body_has(message: &[u8], structure: &Structure, key: &str) -> bool {
    let in_part = |(index, part): (usize, &Part)| {
        let own_header = index > 0 && fields_in(message, &part.header).any(|field| field_value(field.value()).contains(key));
        own_header || leaf_text(message, part, MAX_TEXT).is_some_and(|text| fold(&text).contains(key))
    };
    key.is_empty() || structure.parts().iter().enumerate().any(in_part)
}

/// Whether header or body has the folded key: SEARCH TEXT.
pub fn text_has(message: &[u8], structure: &Structure, key: &str) -> bool {
    let in_field =
        |field: super::header::Field<'_>| field_value(field.value()).contains(key) || fold(&String::from_utf8_lossy(field.name())).contains(key);
    fields_in(message, &structure.root().header).any(in_field) || body_has(message, structure, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds() {
        let cases = [
            ("ABC", "abc"),
            ("Straße", "strasse"),
            ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
            ("Σίσυφος", "σίσυφοσ"),
            ("ÄÖÜ", "äöü"),
            ("a \r\n\tb", "a b"),
            ("ǅ", "ǆ"),
            ("ﬀ", "ff"),
        ];
        for (text, folded) in cases {
            assert_eq!(fold(text), folded, "{text}");
            assert_eq!(fold(folded), folded, "{text}");
        }
    }

    #[test]
    fn finds() {
        let message = "Subject: =?utf-8?q?Gr=C3=BC=C3=9F?=\r\n =?utf-8?q?e?=\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nBlaue Bl=FCm=\r\nchen\r\nauf\r\n\
            --b\r\nContent-Type: application/pdf; name=Plan.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQkxBVQ==\r\n\
            --b\r\nContent-Type: text/html; charset=nonsense\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+w6k8L2I+\r\n--b--\r\n"
            .as_bytes();
        let structure = Structure::scan(message);
        let body = |key: &str| body_has(message, &structure, &fold(key));
        assert!(body("BLÜMCHEN AUF") && body("plan.PDF") && body("<B>É</B>") && body(""));
        assert!(!body("grüße") && !body("blau\u{0}") && !body("qkxbvq"));
        let header = structure.root().header.clone();
        let subject = |key: &str| header_has(message, &header, "subject", &fold(key));
        assert!(subject("GRÜSSE") && subject("") && !subject("blau"));
        assert!(!header_has(message, &header, "x-none", ""));
        assert!(text_has(message, &structure, &fold("Grüße")) && text_has(message, &structure, "blau") && text_has(message, &structure, "subject"));
    }
}
