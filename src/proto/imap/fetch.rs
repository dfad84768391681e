//! FETCH items and body sections (RFC 3501 §6.4.5).

use super::{
    cursor::{Cursor, Parse},
    response,
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    Flags,
    Uid,
    ModSeq,
    InternalDate,
    Size,
    Envelope,
    /// BODY without a section.
    Body,
    BodyStructure,
    Section(Section),
}

/// What of a message, and how the response names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Section {
    /// `1.2` of BODY[1.2.MIME]; empty for the message itself.
    pub part: Vec<u32>,
    pub text: Text,
    pub peek: bool,
    /// `<start.count>`.
    pub partial: Option<(u32, u32)>,
    pub spelling: Spelling,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Text {
    /// The whole part.
    All,
    Header,
    /// HEADER.FIELDS
    Fields(Vec<String>),
    /// HEADER.FIELDS.NOT
    FieldsNot(Vec<String>),
    Body,
    Mime,
}

/// BODY[…] or one of its older names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    Body,
    Rfc822,
    Rfc822Header,
    Rfc822Text,
}

/// More items in one command serve nobody.
const ITEMS_MAX: usize = 64;
/// A message's parts do not nest deeper than the walker goes.
const PART_DEPTH_MAX: usize = 128;

/// What follows the sequence set.
pub fn items(c: &mut Cursor<'_>) -> Parse<Vec<Item>> {
    if c.peek() == Some(b'(') {
        let items = c.list(item)?;
        return if items.is_empty() || items.len() > ITEMS_MAX { c.fail("1 to 64 items") } else { Ok(items) };
    }
    let fast = [Item::Flags, Item::InternalDate, Item::Size];
    if c.word("FAST") {
        return Ok(fast.to_vec());
    }
    if c.word("ALL") {
        return Ok([&fast[..], &[Item::Envelope]].concat());
    }
    if c.word("FULL") {
        return Ok([&fast[..], &[Item::Envelope, Item::Body]].concat());
    }
    item(c).map(|i| vec![i])
}

fn item(c: &mut Cursor<'_>) -> Parse<Item> {
    let whole = |spelling, text, peek| Item::Section(Section { part: Vec::new(), text, peek, partial: None, spelling });
    let start = c.clone();
    let name = c.name().to_ascii_uppercase();
    Ok(match name.as_str() {
        "FLAGS" => Item::Flags,
        "UID" => Item::Uid,
        "MODSEQ" => Item::ModSeq,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "ENVELOPE" => Item::Envelope,
        "BODYSTRUCTURE" => Item::BodyStructure,
        "RFC822" => whole(Spelling::Rfc822, Text::All, false),
        "RFC822.HEADER" => whole(Spelling::Rfc822Header, Text::Header, true),
        "RFC822.TEXT" => whole(Spelling::Rfc822Text, Text::Body, false),
        "BODY" if c.peek() == Some(b'[') => section(c, false)?,
        "BODY.PEEK" => section(c, true)?,
        "BODY" => Item::Body,
        _ => return start.fail("a FETCH item"),
    })
}

fn section(c: &mut Cursor<'_>, peek: bool) -> Parse<Item> {
    c.want(b'[', "[")?;
    let mut part = Vec::new();
    let mut text = Text::All;
    while c.peek() != Some(b']') {
        if c.peek().is_some_and(|b| b.is_ascii_digit()) {
            if part.len() == PART_DEPTH_MAX {
                return c.fail("a shorter part number");
            }
            part.push(c.non_zero()?);
            if !c.eat(b'.') {
                break;
            }
            if c.peek() == Some(b']') {
                return c.fail("a part number");
            }
            continue;
        }
        text = section_text(c, !part.is_empty())?;
        break;
    }
    c.want(b']', "]")?;
    let mut partial = None;
    if c.eat(b'<') {
        let from = c.number()?;
        c.want(b'.', ".")?;
        partial = Some((from, c.non_zero()?));
        c.want(b'>', ">")?;
    }
    Ok(Item::Section(Section { part, text, peek, partial, spelling: Spelling::Body }))
}

fn section_text(c: &mut Cursor<'_>, in_part: bool) -> Parse<Text> {
    let start = c.clone();
    let name = c.name().to_ascii_uppercase();
    Ok(match name.as_str() {
        "HEADER" => Text::Header,
        "HEADER.FIELDS" => Text::Fields(fields(c)?),
        "HEADER.FIELDS.NOT" => Text::FieldsNot(fields(c)?),
        "TEXT" => Text::Body,
        "MIME" if in_part => Text::Mime,
        _ => return start.fail("a section"),
    })
}

fn fields(c: &mut Cursor<'_>) -> Parse<Vec<String>> {
    c.space()?;
    let names = c.list(|c| c.text("a field name"))?;
    if names.is_empty() { c.fail("a field name") } else { Ok(names) }
}

impl Section {
    /// The name in the response, `BODY[1.HEADER.FIELDS (To)]<0>`.
    pub fn write_name(&self, out: &mut Vec<u8>) {
        match self.spelling {
            Spelling::Rfc822 => return out.extend_from_slice(b"RFC822"),
            Spelling::Rfc822Header => return out.extend_from_slice(b"RFC822.HEADER"),
            Spelling::Rfc822Text => return out.extend_from_slice(b"RFC822.TEXT"),
            Spelling::Body => out.extend_from_slice(b"BODY["),
        }
        let mut name: Vec<String> = self.part.iter().map(u32::to_string).collect();
        let fields = match &self.text {
            Text::All => None,
            Text::Header => Some(("HEADER", None)),
            Text::Fields(f) => Some(("HEADER.FIELDS", Some(f))),
            Text::FieldsNot(f) => Some(("HEADER.FIELDS.NOT", Some(f))),
            Text::Body => Some(("TEXT", None)),
            Text::Mime => Some(("MIME", None)),
        };
        name.extend(fields.iter().map(|(word, _)| (*word).to_owned()));
        out.extend_from_slice(name.join(".").as_bytes());
        if let Some((_, Some(names))) = fields {
            out.extend_from_slice(b" (");
            for (i, name) in names.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                response::astring(out, name.as_bytes());
            }
            out.push(b')');
        }
        out.push(b']');
        if let Some((from, _)) = self.partial {
            out.extend_from_slice(format!("<{from}>").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(part: &[u32], text: Text, peek: bool, partial: Option<(u32, u32)>) -> Item {
        Item::Section(Section { part: part.to_vec(), text, peek, partial, spelling: Spelling::Body })
    }

    #[test]
    fn items_and_their_names() {
        let fields = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let cases = [
            ("FAST", vec![Item::Flags, Item::InternalDate, Item::Size], None),
            ("all", vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope], None),
            ("FULL", vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, Item::Body], None),
            ("(UID flags MODSEQ)", vec![Item::Uid, Item::Flags, Item::ModSeq], None),
            ("BODYSTRUCTURE", vec![Item::BodyStructure], None),
            ("BODY", vec![Item::Body], None),
            ("BODY[]", vec![body(&[], Text::All, false, None)], Some("BODY[]")),
            ("body.peek[]<0.2048>", vec![body(&[], Text::All, true, Some((0, 2048)))], Some("BODY[]<0>")),
            ("BODY[1.2.3]", vec![body(&[1, 2, 3], Text::All, false, None)], Some("BODY[1.2.3]")),
            ("BODY[4.1.MIME]", vec![body(&[4, 1], Text::Mime, false, None)], Some("BODY[4.1.MIME]")),
            ("BODY[text]", vec![body(&[], Text::Body, false, None)], Some("BODY[TEXT]")),
            (
                "BODY.PEEK[HEADER.FIELDS (DATE FROM)]",
                vec![body(&[], Text::Fields(fields(&["DATE", "FROM"])), true, None)],
                Some("BODY[HEADER.FIELDS (DATE FROM)]"),
            ),
            (
                "BODY[2.HEADER.FIELDS.NOT (\"x y\")]<5.1>",
                vec![body(&[2], Text::FieldsNot(fields(&["x y"])), false, Some((5, 1)))],
                Some("BODY[2.HEADER.FIELDS.NOT (\"x y\")]<5>"),
            ),
            (
                "RFC822.HEADER",
                vec![Item::Section(Section { part: vec![], text: Text::Header, peek: true, partial: None, spelling: Spelling::Rfc822Header })],
                Some("RFC822.HEADER"),
            ),
        ];
        for (text, want, name) in cases {
            let got = items(&mut Cursor::new(text.as_bytes()));
            assert_eq!(got.as_ref(), Ok(&want), "{text}");
            if let (Some(name), Some(Item::Section(s))) = (name, want.first()) {
                let mut out = Vec::new();
                s.write_name(&mut out);
                assert_eq!(String::from_utf8(out).unwrap(), name);
            }
        }
    }
    #[test]
    fn not_items() {
        for bad in [
            "",
            "()",
            "(ALL)",
            "BODY[MIME]",
            "BODY[1.]",
            "BODY[0]",
            "BODY[1",
            "BODY[]<0.0>",
            "BODY[]<0>",
            "BODY[HEADER.FIELDS ()]",
            "BODYX",
            "BODY.PEEK",
        ] {
            let mut c = Cursor::new(bad.as_bytes());
            assert!(items(&mut c).is_err(), "{bad}");
        }
    }
}
