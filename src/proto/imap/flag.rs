//! Flags and keywords (RFC 3501 §2.3.2).

use super::cursor::{Cursor, Parse};

#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Flag {
    Seen,
    Answered,
    Flagged,
    Deleted,
    Draft,
    /// An atom, in the client's spelling; compares without case on the store's side.
    Keyword(String),
}

/// A keyword is written into a file of the folder and repeated in every FETCH: no room for prose.
const KEYWORD_MAX: usize = 128;

/// `flag-list`: in parentheses, possibly empty. `\Recent` is not the client's to set and is passed over.
pub fn list(c: &mut Cursor<'_>) -> Parse<Vec<Flag>> {
    Ok(c.list(flag)?.into_iter().flatten().collect())
}

/// STORE also takes flags without parentheses.
pub fn list_or_bare(c: &mut Cursor<'_>) -> Parse<Vec<Flag>> {
    if c.peek() == Some(b'(') {
        return list(c);
    }
    let mut out = Vec::new();
    loop {
        out.extend(flag(c)?);
        if !c.is_done() {
            c.space()?;
        }
        if c.is_done() {
            return Ok(out);
        }
    }
}

/// One flag; `None` for `\Recent`.
pub fn flag(c: &mut Cursor<'_>) -> Parse<Option<Flag>> {
    if !c.eat(b'\\') {
        let word = c.atom("a flag")?;
        return if word.len() <= KEYWORD_MAX { Ok(Some(Flag::Keyword(word.to_owned()))) } else { c.fail("a keyword of 128 letters at most") };
    }
    let word = c.atom("a system flag")?;
    for (name, flag) in
        [("Seen", Flag::Seen), ("Answered", Flag::Answered), ("Flagged", Flag::Flagged), ("Deleted", Flag::Deleted), ("Draft", Flag::Draft)]
    {
        if word.eq_ignore_ascii_case(name) {
            return Ok(Some(flag));
        }
    }
    if word.eq_ignore_ascii_case("Recent") { Ok(None) } else { c.fail("a system flag of RFC 3501") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let cases: [(&str, Option<Vec<Flag>>); 9] = [
            ("(\\Seen \\DELETED)", Some(vec![Flag::Seen, Flag::Deleted])),
            ("()", Some(vec![])),
            ("\\Flagged $Junk", Some(vec![Flag::Flagged, Flag::Keyword("$Junk".into())])),
            ("(\\Recent \\Draft)", Some(vec![Flag::Draft])),
            ("\\Seen ", Some(vec![Flag::Seen])),
            ("(\\Bogus)", None),
            ("(\\*)", None),
            ("(a", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(list_or_bare(&mut Cursor::new(text.as_bytes())).ok(), want, "{text:?}");
        }
    }
}
