//! IMAP's wire language under arbitrary input: any chunking cuts the same frames, what was written reads back, and
//! nothing panics.

use gatepost::{
    imapd::summary,
    proto::imap::{
        Command, Frame, Framer, SequenceSet, Tagged, command,
        cursor::Cursor,
        framer::{self, Limits},
        mailbox, response, sequence,
    },
};
use proptest::prelude::*;

/// What a framer makes of `input` that arrives in pieces of these sizes, over and over.
fn frames(limits: Limits, input: &[u8], steps: &[usize]) -> Vec<Frame> {
    let mut framer = Framer::new(limits);
    let (mut out, mut buffered, mut rest) = (Vec::new(), Vec::new(), input);
    let mut steps = steps.iter().cycle();
    loop {
        match framer.cut(&buffered) {
            Some((used, frame)) => {
                assert!(used <= buffered.len());
                buffered.drain(..used);
                let fatal = matches!(&frame, Frame::Refused(r) if r.fatal);
                out.push(frame);
                if fatal {
                    return out;
                }
            }
            None if rest.is_empty() => return out,
            None => {
                let (now, later) = rest.split_at(rest.len().min(*steps.next().expect("a cycle")));
                buffered.extend_from_slice(now);
                rest = later;
            }
        }
    }
}

/// Lines that look like commands, with literals that may lie about themselves.
fn commands() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "[a-c]{1,2} (NOOP|LOGIN|APPEND|FETCH|SEARCH) ?",
        "[ -~]{0,20}",
        (0u64..40, any::<bool>()).prop_map(|(n, sync)| format!("{{{n}{}}}", if sync { "" } else { "+" })),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("{18446744073709551616}\r\n".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

/// A line that is too long is refused as soon as it is, so what was seen of it, and of its tag, may differ.
fn shown(frames: Vec<Frame>) -> Vec<String> {
    let show = |frame| match frame {
        Frame::Refused(r) => format!("{} {}", r.text, r.fatal),
        other => format!("{other:?}"),
    };
    frames.into_iter().map(show).collect()
}

/// `*` and `%` by the book, in exponential time.
fn slow(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => slow(rest, name) || name.split_first().is_some_and(|(_, n)| slow(pattern, n)),
        (Some((b'%', rest)), _) => slow(rest, name) || name.split_first().is_some_and(|(c, n)| *c != b'/' && slow(pattern, n)),
        (Some((a, p)), Some((b, n))) => a == b && slow(p, n),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_chunking_cuts_the_same(input in commands(), steps in prop::collection::vec(1usize..30, 1..6)) {
        for limits in [Limits::BEFORE_LOGIN, Limits::AFTER_LOGIN, Limits { line: 30, literals: 2, command: 90, append: true }] {
            let whole = shown(frames(limits, &input, &[input.len().max(1)]));
            prop_assert_eq!(&shown(frames(limits, &input, &steps)), &whole);
            prop_assert_eq!(&shown(frames(limits, &input, &[1])), &whole);
        }
    }
    #[test]
    fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Tagged::parse(&bytes);
        let _ = framer::tag(&bytes);
    }
    #[test]
    fn parsing_words_is_total(text in "[a-z]{1,3} (UID )?(SELECT|FETCH|STORE|SEARCH|LIST|STATUS|ID|LOGIN|ENABLE|APPEND) [ -~]{0,60}") {
        let _ = Tagged::parse(text.as_bytes());
    }
    #[test]
    fn folder_names_read_back(name in any::<String>()) {
        let wire = mailbox::encode(&name);
        prop_assert!(wire.bytes().all(|b| (b' '..=b'~').contains(&b)));
        prop_assert_eq!(mailbox::decode(wire.as_bytes()), Some(name.clone()));
        let mut out = b"a SELECT ".to_vec();
        response::folder(&mut out, &name);
        if name.len() < 200 && !name.eq_ignore_ascii_case("INBOX") {
            prop_assert_eq!(Tagged::parse(&out).map(|t| t.command), Ok(Command::Select { folder: name, read_only: false, opening: Default::default() }));
        }
    }
    #[test]
    fn strings_read_back(text in prop::collection::vec(1u8.., 0..1200)) {
        let mut out = Vec::new();
        response::string(&mut out, &text);
        prop_assert_eq!(Cursor::new(&out).string("a string").map(|s| s.into_owned()), Ok(text.clone()));
        out.clear();
        response::astring(&mut out, &text);
        prop_assert_eq!(Cursor::new(&out).astring("a string").map(|s| s.into_owned()), Ok(text));
    }
    #[test]
    fn sets_read_back(mut numbers in prop::collection::vec(prop_oneof![1u32..50, 1u32..], 1..60)) {
        numbers.sort_unstable();
        numbers.dedup();
        let mut out = Vec::new();
        sequence::write(&mut out, &numbers);
        let set = SequenceSet::parse(&mut Cursor::new(&out)).expect("written by us");
        let back: Vec<u32> = set.ranges(u32::MAX).into_iter().flat_map(|(a, b)| a..=b).collect();
        prop_assert_eq!(back, numbers);
    }
    #[test]
    fn patterns_match_as_by_the_book(pattern in "[ab/*%]{0,7}", name in "[ab/]{0,7}") {
        prop_assert_eq!(mailbox::matches(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
    }
    #[test]
    fn summaries_are_made_of_anything(pieces in prop::collection::vec(prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=b".to_owned()), Just("Content-Type: message/rfc822".to_owned()),
        "From: [ -~]{0,30}", Just("--b".to_owned()), Just("--b--".to_owned()), Just(String::new()), any::<String>(),
    ], 0..30)) {
        let _ = summary::make(pieces.join("\r\n").as_bytes());
    }
}

/// The secret of a command is not in its error either.
#[test]
fn refusals_quote_nothing() {
    let refused = Tagged::parse(b"a LOGIN alice sesame extra").expect_err("too many arguments");
    assert!(matches!(refused.why, command::Why::Syntax(e) if !e.to_string().contains("sesame")));
}
