//! The file names of one folder in little memory: what differs between two names is some ten bytes.
//!
//! A base is cut into literal pieces and numbers. The pieces are a template, and few programs write into one folder,
//! so few templates do; a name is the number of its template and its numbers as varints, each as its distance from
//! that of the template's first name. What the message's record says already costs nothing or little: `W=`, the
//! date behind `D`, the time and `S=` (a distance from date and size), and the info when it is as we would write it
//! for these flags. Names that fit no template are kept as they are. Every name comes back byte for byte.

use super::{
    Flags,
    file::{self, write_decimal},
    index::Reader,
};

/// What the record of a message says, without which its name cannot be read. When it changes, the name is put anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub size: u64,
    pub date: i64,
    pub flags: Flags,
    pub letters: u32,
}

#[derive(Default)]
pub(super) struct PackedNames {
    bytes: Vec<u8>,
    templates: Vec<Template>,
    /// Bytes of names that are not used any more.
    dead: usize,
    /// The template of the last name: most often that of the next.
    last: usize,
    work: Work,
}

#[derive(Default)]
struct Work {
    entry: Vec<u8>,
    holes: Vec<u8>,
    text: Vec<u8>,
    numbers: Vec<u64>,
}

struct Template {
    /// Two bytes each: place in the text, kind.
    holes: Box<[u8]>,
    text: Box<[u8]>,
    /// The numbers of its first name.
    first: Box<[u64]>,
}

/// More are not remembered; names of others stay as they are.
const TEMPLATES: usize = 255;
const HOLES: usize = 32;
const TEXT: usize = 255;
/// No more decimal or hexadecimal digits fit into a number.
const DECIMAL: usize = 19;
const HEX: usize = 16;

/// Kinds of numbers. Below `PAD` what has no width; else three bits say what it is and five how wide.
const PLAIN: u8 = 0;
/// The time that a name begins with, near the date.
const TIME: u8 = 1;
/// Just the date; no number is kept.
const DATE: u8 = 2;
/// `S=`, near the size.
const SIZE: u8 = 3;
/// `W=`, just the size.
const VSIZE: u8 = 4;
const PAD: u8 = 0x20;
const UPPER: u8 = 0x40;
const LOWER: u8 = 0x60;

/// The low bits of an entry's first number: what its info is.
const NONE: u64 = 0;
const USUAL: u64 = 1;
const ODD: u64 = 2;

impl PackedNames {
    /// Where it is from now on. Names of more than four thousand million bytes are not kept: their messages
    /// cannot be read.
    pub(super) fn add(&mut self, name: &[u8], facts: &Facts) -> u32 {
        let mut work = std::mem::take(&mut self.work);
        self.encode(name, facts, &mut work);
        let at = self.put(&work.entry);
        self.work = work;
        at
    }
    fn put(&mut self, entry: &[u8]) -> u32 {
        let Ok(at) = u32::try_from(self.bytes.len()) else { return u32::MAX };
        make_room(&mut self.bytes, entry.len());
        self.bytes.extend_from_slice(entry);
        at
    }
    /// Another name in the place of the one at `at`; most often it takes no more room, since the base is the same.
    pub(super) fn replace(&mut self, at: u32, name: &[u8], facts: &Facts) -> u32 {
        let mut work = std::mem::take(&mut self.work);
        self.encode(name, facts, &mut work);
        let old = self.entry_len(at);
        let (from, new) = (at as usize, work.entry.len());
        let at = if new <= old {
            self.bytes[from..from + new].copy_from_slice(&work.entry);
            self.dead += old - new;
            at
        } else {
            self.dead += old;
            self.put(&work.entry)
        };
        self.work = work;
        at
    }
    pub(super) fn remove(&mut self, at: u32) {
        self.dead += self.entry_len(at);
    }
    /// More than half of it is dead.
    pub(super) fn is_wasteful(&self) -> bool {
        self.dead > self.bytes.len() / 2 && self.dead > 1024
    }
    /// Begins anew with the names in use: hand each of them to [`PackedNames::move_to`].
    pub(super) fn successor(&self) -> Self {
        Self { bytes: Vec::with_capacity(self.bytes.len().saturating_sub(self.dead)), ..Self::default() }
    }
    /// `map`: the templates of `to` by those here; begins empty.
    pub(super) fn move_to(&self, at: u32, to: &mut Self, map: &mut Vec<u32>) -> u32 {
        let from = self.bytes.get(at as usize..).unwrap_or_default();
        let entry = from.get(..self.entry_len(at)).unwrap_or_default();
        let mut rest = entry;
        let code = varint(&mut rest);
        let Some(template) = self.template(code) else { return to.put(entry) };
        let old = usize::try_from(code >> 2).unwrap_or_default();
        if map.len() <= old {
            map.resize(old + 1, 0);
        }
        if map[old] == 0 {
            to.templates.push(Template { holes: template.holes.clone(), text: template.text.clone(), first: template.first.clone() });
            map[old] = to.templates.len() as u32;
        }
        to.work.entry.clear();
        push_varint(&mut to.work.entry, u64::from(map[old]) << 2 | code & 3);
        to.work.entry.extend_from_slice(rest);
        let entry = std::mem::take(&mut to.work.entry);
        let at = to.put(&entry);
        to.work.entry = entry;
        at
    }
    /// For the index.
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for n in [self.dead, self.templates.len(), self.bytes.len()] {
            out.extend_from_slice(&(n as u64).to_le_bytes());
        }
        for t in &self.templates {
            out.extend([t.holes.len() as u8, t.text.len() as u8, t.first.len() as u8]);
            out.extend_from_slice(&t.holes);
            out.extend_from_slice(&t.text);
            t.first.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        }
        out.extend_from_slice(&self.bytes);
    }
    /// Takes what was saved off the front.
    pub(super) fn load(from: &mut &[u8]) -> Option<Self> {
        let mut reader = Reader(from);
        let mut size = || usize::try_from(reader.u64()?).ok();
        let (dead, templates, len) = (size()?, size()?, size()?);
        let mut names = Self { dead, ..Self::default() };
        for _ in 0..Some(templates).filter(|n| *n <= TEMPLATES)? {
            let [holes, text, first] = *reader.take::<3>()?;
            let (holes, text) = (reader.slice(holes.into())?.into(), reader.slice(text.into())?.into());
            let first: Option<Vec<u64>> = (0..first).map(|_| reader.u64()).collect();
            let template = Template { holes, text, first: first?.into() };
            if template.holes.chunks(2).filter(|h| h.get(1).is_some_and(|k| is_kept(*k))).count() != template.first.len() {
                return None;
            }
            names.templates.push(template);
        }
        names.bytes = reader.slice(len)?.to_vec();
        *from = reader.0;
        Some(names)
    }
    /// Bytes of memory.
    #[cfg(test)]
    pub(super) fn cost(&self) -> usize {
        let of = |t: &Template| size_of::<Template>() + t.holes.len() + t.text.len() + 8 * t.first.len() + 3 * 16;
        let work = self.work.entry.capacity() + self.work.holes.capacity() + self.work.text.capacity() + 8 * self.work.numbers.capacity();
        self.bytes.capacity() + work + self.templates.iter().map(of).sum::<usize>()
    }

    fn template(&self, code: u64) -> Option<&Template> {
        self.templates.get(usize::try_from(code >> 2).ok()?.checked_sub(1)?)
    }

    /// Appends the name to `out`.
    pub(super) fn get(&self, at: u32, facts: &Facts, out: &mut Vec<u8>) {
        let mut entry = self.bytes.get(at as usize..).unwrap_or_default();
        let code = varint(&mut entry);
        match self.template(code) {
            Some(template) => template.write(&mut entry, facts, out),
            None => out.extend_from_slice(text(&mut entry)),
        }
        match code & 3 {
            USUAL => file::write_info(out, facts.flags, facts.letters),
            ODD => out.extend_from_slice(text(&mut entry)),
            _ => {}
        }
    }

    fn entry_len(&self, at: u32) -> usize {
        let from = self.bytes.get(at as usize..).unwrap_or_default();
        let mut entry = from;
        let code = varint(&mut entry);
        match self.template(code) {
            Some(template) => template.kept().for_each(|_| _ = varint(&mut entry)),
            None => drop(text(&mut entry)),
        }
        if code & 3 == ODD {
            text(&mut entry);
        }
        from.len() - entry.len()
    }

    fn encode(&mut self, name: &[u8], facts: &Facts, work: &mut Work) {
        let (base, info) = name.split_at(file::base(name).len());
        work.entry.clear();
        file::write_info(&mut work.entry, facts.flags, facts.letters);
        let kind = match info {
            [] => NONE,
            _ if info == work.entry => USUAL,
            _ => ODD,
        };
        work.entry.clear();
        match work.cut(base, facts).then(|| self.find(work)).flatten() {
            Some(n) => {
                push_varint(&mut work.entry, (n as u64 + 1) << 2 | kind);
                let template = &self.templates[n];
                for (n, (kind, first)) in work.numbers.iter().zip(template.kept()) {
                    push_varint(&mut work.entry, zigzag(if matches!(kind, TIME | SIZE) { *n } else { n.wrapping_sub(first) }));
                }
            }
            None => {
                push_varint(&mut work.entry, kind);
                push_text(&mut work.entry, base);
            }
        }
        if kind == ODD {
            push_text(&mut work.entry, info);
        }
    }

    fn find(&mut self, work: &Work) -> Option<usize> {
        let is = |t: &Template| *t.holes == work.holes[..] && *t.text == work.text[..];
        if !self.templates.get(self.last).is_some_and(is) {
            self.last = match self.templates.iter().position(is) {
                Some(n) => n,
                None if self.templates.len() == TEMPLATES => return None,
                None => {
                    let (holes, text) = (work.holes.as_slice().into(), work.text.as_slice().into());
                    self.templates.push(Template { holes, text, first: work.numbers.as_slice().into() });
                    self.templates.len() - 1
                }
            };
        }
        Some(self.last)
    }
}

impl Template {
    /// Kinds of the numbers that entries hold, and their first values.
    fn kept(&self) -> impl Iterator<Item = (u8, u64)> {
        let kinds = self.holes.chunks_exact(2).map(|h| h[1]).filter(|k| is_kept(*k));
        kinds.zip(self.first.iter().copied())
    }
    fn write(&self, entry: &mut &[u8], facts: &Facts, out: &mut Vec<u8>) {
        let mut done = 0;
        let mut first = self.first.iter();
        for hole in self.holes.chunks_exact(2) {
            let (at, kind) = (usize::from(hole[0]).clamp(done, self.text.len()), hole[1]);
            out.extend_from_slice(&self.text[done..at]);
            done = at;
            let near = if is_kept(kind) {
                let first = first.next().copied().unwrap_or_default();
                let by = unzigzag(varint(entry));
                match kind {
                    TIME => by.wrapping_add(facts.date.cast_unsigned()),
                    SIZE => by.wrapping_add(facts.size),
                    _ => by.wrapping_add(first),
                }
            } else {
                facts.size
            };
            match kind & 0xe0 {
                PAD => write_decimal(out, near, usize::from(kind & 0x1f)),
                UPPER => write_hex(out, near, kind & 0x1f, b"0123456789ABCDEF"),
                LOWER => write_hex(out, near, kind & 0x1f, b"0123456789abcdef"),
                _ if kind == DATE => write_signed(out, facts.date),
                _ => write_decimal(out, near, 0),
            }
        }
        out.extend_from_slice(&self.text[done..]);
    }
}

fn is_kept(kind: u8) -> bool {
    !matches!(kind, DATE | VSIZE)
}

impl Work {
    /// Cuts a base into text, holes and numbers. False: better kept as it is.
    fn cut(&mut self, base: &[u8], facts: &Facts) -> bool {
        self.holes.clear();
        self.text.clear();
        self.numbers.clear();
        if base.len() > TEXT {
            return false;
        }
        // `TIME.UNIQUE.HOST,FIELDS`: digits of a host's name are the same in all its names.
        let fields = memchr::memchr(b',', base).unwrap_or(base.len());
        let mut dots = memchr::memchr_iter(b'.', &base[..fields]);
        let host = dots.nth(1).unwrap_or(fields);
        let mut at = 0;
        while let Some(rest) = base.get(at..).filter(|r| !r.is_empty()) {
            if at == host {
                self.text.extend_from_slice(&base[host..fields]);
                at = fields.max(at);
                if host < fields {
                    continue;
                }
            }
            at += self.cut_one(base, at, rest, facts);
        }
        let n = self.holes.len() / 2;
        (1..=HOLES).contains(&n)
    }

    /// One number or one byte of text; how long it is.
    fn cut_one(&mut self, base: &[u8], at: usize, rest: &[u8], facts: &Facts) -> usize {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let before = &base[..at];
        if before.ends_with(b"D") && self.cut_date(rest, facts) {
            return decimal_len(facts.date);
        }
        // Our names with a date of their own: `Q12D345` is no hexadecimal number.
        let is_before_date = digits > 0 && rest.get(digits) == Some(&b'D') && starts_with_date(&rest[digits + 1..], facts);
        let hex = if is_before_date { None } else { hex(rest, digits) };
        if let Some((len, kind)) = hex {
            return self.number(rest, len, kind | len as u8, 16);
        }
        let kind = match rest.first() {
            Some(b'0') if digits > 1 => PAD | digits.min(31) as u8,
            _ if at == 0 => TIME,
            _ if before.ends_with(b",S=") => SIZE,
            _ if before.ends_with(b",W=") && number(&rest[..digits], 10) == Some(facts.size) => VSIZE,
            // Written with six digits by all who fill up; most of them need not.
            _ if digits == 6 && before.ends_with(b"M") => PAD | 6,
            _ => PLAIN,
        };
        if (1..=DECIMAL).contains(&digits) {
            let given = self.number(rest, digits, kind, 10);
            match (kind, self.numbers.last_mut()) {
                (VSIZE, _) => drop(self.numbers.pop()),
                (TIME, Some(n)) => *n = n.wrapping_sub(facts.date.cast_unsigned()),
                (SIZE, Some(n)) => *n = n.wrapping_sub(facts.size),
                _ => {}
            }
            return given;
        }
        let len = digits.max(1);
        self.text.extend_from_slice(&rest[..len]);
        len
    }

    fn cut_date(&mut self, rest: &[u8], facts: &Facts) -> bool {
        let is = starts_with_date(rest, facts);
        if is {
            self.holes.extend([self.text.len() as u8, DATE]);
        }
        is
    }

    fn number(&mut self, rest: &[u8], len: usize, kind: u8, radix: u32) -> usize {
        self.holes.extend([self.text.len() as u8, kind]);
        self.numbers.push(number(&rest[..len], radix).unwrap_or_default());
        len
    }
}

/// At the end of the unique part, as [`file::fresh`] writes it.
fn starts_with_date(rest: &[u8], facts: &Facts) -> bool {
    let len = decimal_len(facts.date);
    let mut date = [0; 20];
    let mut out = &mut date[..];
    let written = std::io::Write::write_fmt(&mut out, format_args!("{}", facts.date)).is_ok();
    written && rest.get(len) == Some(&b'.') && rest[..len] == date[..len]
}

fn decimal_len(n: i64) -> usize {
    usize::from(n < 0) + n.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1
}

/// The length and kind of a hexadecimal number: sixteen digits, or at least four that are not all decimal ones.
fn hex(rest: &[u8], digits: usize) -> Option<(usize, u8)> {
    let (upper, lower) = (|b: &&u8| matches!(b, b'0'..=b'9' | b'A'..=b'F'), |b: &&u8| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let upper = rest.iter().take(HEX).take_while(upper).count();
    let lower = rest.iter().take(HEX).take_while(lower).count();
    let (len, kind) = if lower > upper { (lower, LOWER) } else { (upper, UPPER) };
    let has_digit = rest[..len].iter().any(u8::is_ascii_digit);
    (has_digit && (len == HEX || len >= 4 && len > digits)).then_some((len, kind))
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

fn write_hex(out: &mut Vec<u8>, n: u64, width: u8, digits: &[u8; 16]) {
    for place in (0..u32::from(width).min(16)).rev() {
        out.push(digits[(n >> (4 * place) & 15) as usize]);
    }
}

fn write_signed(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    write_decimal(out, n.unsigned_abs(), 0);
}

fn zigzag(n: u64) -> u64 {
    n << 1 ^ (n.cast_signed() >> 63).cast_unsigned()
}
fn unzigzag(n: u64) -> u64 {
    n >> 1 ^ (n & 1).wrapping_neg()
}

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}
/// Takes it off the front; what is not there is 0.
fn varint(from: &mut &[u8]) -> u64 {
    let mut n = 0;
    for shift in (0..70).step_by(7) {
        let Some((b, rest)) = from.split_first() else { break };
        *from = rest;
        n |= u64::from(b & 0x7f).checked_shl(shift).unwrap_or(0);
        if *b < 0x80 {
            break;
        }
    }
    n
}
fn push_text(out: &mut Vec<u8>, text: &[u8]) {
    push_varint(out, text.len() as u64);
    out.extend_from_slice(text);
}
fn text<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let len = usize::try_from(varint(from)).unwrap_or(usize::MAX).min(from.len());
    let (text, rest) = from.split_at(len);
    *from = rest;
    text
}

/// As `Vec::reserve`, but what is never used is a sixteenth and not half.
pub(super) fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 16 + 16));
    }
}
/// Gives memory back when much of it is not needed any more.
pub(super) fn give_back<T>(vec: &mut Vec<T>) {
    if vec.capacity() > vec.len() + vec.len() / 8 + 64 {
        vec.shrink_to(vec.len() + vec.len() / 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &[
        "1276528487.M364837P9451.kurkku,S=2355,W=2420:2,S",
        "1276528488.M004837P9452.kurkku,S=2355:2,",
        "1276528487.M364837P9451V000000000000FD03I00000000005B3D40_0.host7,S=2355:2,FS",
        "1276528487.M364837P9451V000000000000FD03I000000000012345_0.host7,S=2355",
        "1700000000.M000001P77Q5.mail1.example.org,S=100,W=110:2,FSab",
        "1700000001.M000001P77Q678D1600000000.mail1.example.org,S=100,W=110:2,",
        "1700000001.M000001P77Q678D-5.mail1.example.org,S=100,W=110:2,AS",
        "1700000000.R12ab34CD.h:2,S,extra",
        "1700000000_0.12.h,U=3,FMD5=7e33429f656f1e6e9d79b29c3f82c57e:2,S",
        "1.a1b2c3d4-e5f6-0123-abcd-0123456789ab.h",
        "99999999999999999999999999999999.2.h,S=00012,W=,S=12x",
        "odd name",
        "",
        ":",
        ":2,S",
        "0.0.0,0",
        "00.00.00,00:1,x",
        "1.2.h,S=18446744073709551615,W=18446744073709551615",
        "9999999999999999999.9999999999999999999",
        "1.D5.h",
    ];

    #[test]
    fn every_name_comes_back() {
        let mut names = PackedNames::default();
        let facts = [(0, 0), (110, 1_600_000_000), (2420, 1_276_528_487), (u64::MAX >> 24, -5), (5, 5)];
        let facts = facts.map(|(size, date)| Facts { size, date, flags: Flags(size as u8 & 63), letters: size as u32 & 3 });
        let mut kept = Vec::new();
        for facts in facts {
            for name in NAMES {
                kept.push((names.add(name.as_bytes(), &facts), facts, *name));
            }
        }
        let look = |names: &PackedNames, at, facts: &Facts| {
            let mut out = b"x".to_vec();
            names.get(at, facts, &mut out);
            String::from_utf8(out[1..].to_vec()).unwrap()
        };
        for (at, facts, name) in &kept {
            assert_eq!(look(&names, *at, facts), *name, "{facts:?}");
        }
        // Replaced in place, removed, and moved together.
        for (at, facts, name) in kept.iter_mut().step_by(3) {
            let flags = Flags(63);
            let renamed = file::with_flags(name.as_bytes(), flags, 7);
            *facts = Facts { flags, letters: 7, ..*facts };
            *at = names.replace(*at, &renamed, facts);
            assert_eq!(look(&names, *at, facts).as_bytes(), &*renamed);
            *at = names.replace(*at, name.as_bytes(), facts);
        }
        for n in (1..kept.len()).step_by(2).rev() {
            names.remove(kept.swap_remove(n).0);
        }
        let (mut new, mut map) = (names.successor(), Vec::new());
        for (at, facts, name) in &mut kept {
            *at = names.move_to(*at, &mut new, &mut map);
            assert_eq!(look(&new, *at, facts), *name);
        }
        assert_eq!((new.dead, new.bytes.len()), (0, names.bytes.len() - names.dead));
        assert!(new.templates.len() <= names.templates.len());
    }

    #[test]
    fn usual_names_are_short() {
        // Entry, and the second of its kind, with other numbers.
        const CASES: &[(&str, &str, usize)] = &[
            ("1700000000.M123456P4242Q8.mx1.example.org,S=2355,W=2400:2,S", "1700003600.M023456P4242Q900.mx1.example.org,S=9000,W=9200:2,S", 12),
            ("1276528487.M364837P9451.kurkku,S=2355:2,S", "1276529999.M999999P31000.kurkku,S=2355:2,S", 11),
            (
                "1276528487.M364837P9451V000000000000FD03I00000000005B3D40_0.h,S=2355",
                "1276529999.M999999P31000V000000000000FD03I00000000075B3D4A_0.h,S=2355",
                18,
            ),
        ];
        for (first, second, most) in CASES {
            let mut names = PackedNames::default();
            let facts = |n: &str| {
                let (size, vsize) = file::sizes(n.as_bytes());
                let flags = file::flags(n.as_bytes());
                Facts { size: vsize.or(size).unwrap() + 9, date: file::time(n.as_bytes()).0 as i64 + 40, flags: flags.0, letters: flags.1 }
            };
            names.add(first.as_bytes(), &facts(first));
            let before = names.bytes.len();
            names.add(second.as_bytes(), &facts(second));
            let cost = names.bytes.len() - before;
            assert!(cost <= *most && names.templates.len() == 1, "{second}: {cost} bytes, {} templates", names.templates.len());
        }
    }

    #[test]
    fn many_kinds_of_names_cost_no_more_templates() {
        let mut names = PackedNames::default();
        let facts = Facts { size: 1, date: 1, flags: Flags(0), letters: 0 };
        let all: Vec<String> = (0..1000).map(|n| format!("{}{}{n}", "x".repeat(n / 250), "y".repeat(n % 250))).collect();
        let at: Vec<u32> = all.iter().map(|n| names.add(n.as_bytes(), &facts)).collect();
        assert_eq!(names.templates.len(), TEMPLATES);
        for (at, name) in at.into_iter().zip(&all) {
            let mut out = Vec::new();
            names.get(at, &facts, &mut out);
            assert_eq!(out, name.as_bytes());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_come_back(
            names in proptest::collection::vec(proptest::string::bytes_regex(r"(?s-u:[0-9]{0,20}(\.M[0-9]{0,7}P[0-9]+(Q[0-9]D-?[0-9]|V[0-9A-F]{16})?\.[a-z0-9]*(,[SW]=[0-9]{0,12})*)?.{0,300}(:2,[A-Za-z,]{0,5})?)").unwrap(), 1..8),
            size: u64, date: i64, flags in 0..64u8, letters in 0..1u32 << 26,
        ) {
            let facts = Facts { size: size >> (size & 63), date: date >> (date & 63), flags: Flags(flags), letters };
            let mut packed = PackedNames::default();
            let mut at: Vec<u32> = names.iter().map(|n| packed.add(n, &facts)).collect();
            for (n, name) in names.iter().enumerate() {
                let twin = &names[(n + 1) % names.len()];
                at[n] = packed.replace(at[n], twin, &facts);
                at[n] = packed.replace(at[n], name, &facts);
            }
            for (at, name) in at.into_iter().zip(&names) {
                let mut out = Vec::new();
                packed.get(at, &facts, &mut out);
                proptest::prop_assert_eq!(&out, name);
            }
        }

        #[test]
        fn damage_is_no_panic(bytes: Vec<u8>, at: u32) {
            let mut packed = PackedNames::default();
            let facts = Facts { size: 1, date: 1, flags: Flags(0), letters: 0 };
            packed.add(b"1.M1P1.h,S=1,W=1", &facts);
            packed.bytes.extend(bytes);
            let mut out = Vec::new();
            packed.get(at % packed.bytes.len() as u32, &facts, &mut out);
            packed.entry_len(at);
        }
    }
}
