//! Properties of `proto::{smtp, pop3, sasl}`: chunking never matters, writing then parsing is the identity, and no
//! bytes make a parser panic.

use gatepost::proto::{
    pop3,
    sasl::{Exchange, Mechanism},
    smtp::{Body, Chunks, Command, Frame, Framer, Reply, ReplyParser, stuff},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// What line ends, dots and verbs can be made of; random bytes would hardly ever make any.
fn dialogue() -> impl Strategy<Value = Vec<u8>> {
    let long = || "x".repeat(1500);
    let pieces =
        ["\r\n", "\r\n", "\r", "\n", ".", "..", "\r\n.\r\n", "\n.\n", "\0", "a", "MAIL FROM:<a@b>", "AUTH ", "250-", "250 2.1.0 ", "é", &long()]
            .map(|s| s.as_bytes().to_vec());
    vec(prop_oneof![8 => select(pieces.to_vec()), 1 => vec(any::<u8>(), 0..4)], 0..40).prop_map(|p| p.concat())
}

/// Sizes of the pieces in which input arrives, over and over.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    vec(prop_oneof![4 => 1..4usize, 1 => 1..3000usize], 1..8)
}

/// Hands `input` over piece by piece as `Wire` does: `cut` sees all that is not consumed yet, until it says stop.
fn feed(input: &[u8], sizes: &[usize], mut cut: impl FnMut(&[u8]) -> Option<(usize, bool)>) -> Vec<u8> {
    let (mut buffer, mut rest) = (Vec::new(), input);
    for size in sizes.iter().cycle() {
        while let Some((used, stop)) = cut(&buffer) {
            assert!(used <= buffer.len(), "consumed more than there was");
            buffer.drain(..used);
            if stop {
                buffer.extend_from_slice(rest);
                return buffer;
            }
        }
        if rest.is_empty() {
            return buffer;
        }
        let (now, later) = rest.split_at((*size).min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
    }
    buffer
}

fn frames(input: &[u8], sizes: &[usize]) -> Vec<Frame> {
    let (mut framer, mut out) = (Framer::new(), Vec::new());
    feed(input, sizes, |bytes| {
        let (used, frame) = framer.command(bytes)?;
        let stop = matches!(frame, Frame::Bare | Frame::Endless);
        if frame != Frame::Skipping {
            out.push(frame);
        }
        Some((used, stop))
    });
    out
}

/// Content, whether it ended, lone CR or LF, what is left.
fn unstuff(input: &[u8], sizes: &[usize]) -> (Vec<u8>, bool, bool, Vec<u8>) {
    let (mut body, mut out, mut ended) = (Body::new(), Vec::new(), false);
    let rest = feed(input, sizes, |bytes| {
        let (used, end) = body.push(bytes, &mut out);
        ended = end;
        (used > 0).then_some((used, end))
    });
    (out, ended, body.bare(), rest)
}

/// RFC 5321 §4.5.2 read literally, over the whole input at once.
fn unstuff_by_the_book(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut rest) = (Vec::new(), input);
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")? + 2;
        let (line, after) = rest.split_at(end);
        if line == b".\r\n" {
            return Some((out, after.to_vec()));
        }
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = after;
    }
}

fn lone(content: &[u8]) -> bool {
    let at = |i: usize| content.get(i).copied();
    (0..content.len()).any(|i| match content[i] {
        // CR CR LF is let through.
        b'\r' => content[i..].iter().find(|b| **b != b'\r') != Some(&b'\n'),
        b'\n' => i == 0 || at(i - 1) != Some(b'\r'),
        _ => false,
    })
}

fn replies(input: &[u8], sizes: &[usize]) -> Vec<Result<Reply, gatepost::proto::smtp::BadReply>> {
    let (mut parser, mut out) = (ReplyParser::new(), Vec::new());
    feed(input, sizes, |bytes| {
        let (used, reply) = parser.cut(bytes)?;
        let stop = matches!(reply, Some(Err(_)));
        out.extend(reply);
        Some((used, stop))
    });
    out
}

proptest! {
    #[test]
    fn command_lines_at_any_chunking(input in dialogue(), sizes in sizes()) {
        let whole = frames(&input, &[usize::MAX]);
        prop_assert_eq!(&frames(&input, &sizes), &whole);
        for frame in whole {
            if let Frame::Line(line) = frame {
                prop_assert!(!line.contains(&b'\r') && !line.contains(&b'\n'));
                let _ = Command::parse(&line);
                let _ = pop3::Command::parse(&line);
            }
        }
    }

    #[test]
    fn data_ends_as_the_rfc_says_at_any_chunking(input in dialogue(), sizes in sizes()) {
        let (content, ended, bare, rest) = unstuff(&input, &sizes);
        let whole = unstuff(&input, &[usize::MAX]);
        prop_assert_eq!(&(content.clone(), ended, bare, rest.clone()), &whole);
        match unstuff_by_the_book(&input) {
            Some((by_the_book, after)) => {
                prop_assert!(ended);
                prop_assert_eq!((&content, &rest), (&by_the_book, &after));
                prop_assert_eq!(bare, lone(&input[..input.len() - after.len()]));
            }
            None => prop_assert!(!ended),
        }
    }

    #[test]
    fn stuffed_then_unstuffed(content in dialogue(), sizes in sizes()) {
        // A lone CR at the end would become half of the CRLF that is added.
        prop_assume!(content.last() != Some(&b'\r'));
        let mut wire = Vec::new();
        stuff(&content, &mut wire);
        prop_assert_eq!(&pop3::stuffed(&content).collect::<Vec<_>>().concat(), &wire);
        let mut want = content;
        if !want.is_empty() && !want.ends_with(b"\r\n") {
            want.extend_from_slice(b"\r\n");
        }
        let bare = lone(&want);
        prop_assert_eq!(unstuff(&wire, &sizes), (want, true, bare, vec![]));
    }

    #[test]
    fn chunks_at_any_chunking(parts in vec(dialogue(), 0..4), sizes in sizes()) {
        let (mut chunks, mut out) = (Chunks::new(), Vec::new());
        for part in &parts {
            chunks.begin(part.len() as u64);
            let input = [part.as_slice(), b"NOOP\r\n"].concat();
            let rest = feed(&input, &sizes, |bytes| {
                let used = chunks.push(bytes, &mut out);
                (used > 0).then_some((used, chunks.left() == 0))
            });
            prop_assert!(part.is_empty() || rest == b"NOOP\r\n");
        }
        prop_assert_eq!(&out, &parts.concat());
        prop_assert_eq!(chunks.bare(), lone(&out));
    }

    #[test]
    fn replies_at_any_chunking(input in dialogue(), sizes in sizes()) {
        prop_assert_eq!(replies(&input, &sizes), replies(&input, &[usize::MAX]));
    }

    #[test]
    fn replies_written_then_parsed(code in 200..600u16, detail in any::<(u8, u8)>(), enhanced in any::<bool>(), lines in vec("[a-zA-Z<>@ ]{0,80}", 1..6), sizes in sizes()) {
        let enhanced = (enhanced && code / 100 != 3).then_some(((code / 100) as u8, detail.0, detail.1));
        let reply = Reply { code, enhanced, text: lines.join("\n") };
        prop_assert_eq!(replies(&reply.to_bytes(), &sizes), vec![Ok(reply)]);
    }

    #[test]
    fn whatever_text_a_reply_has_its_lines_are_lines(text in any::<String>()) {
        let bytes = Reply::new(550, (5, 7, 1), text).to_bytes();
        let text = String::from_utf8(bytes).expect("ASCII");
        prop_assert!(text.split_inclusive("\r\n").all(|l| l.starts_with("550") && l.ends_with("\r\n") && l.len() <= 512));
        prop_assert!(text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n')));
    }

    #[test]
    fn no_bytes_make_a_parser_panic(line in vec(any::<u8>(), 0..300), words in select(vec!["MAIL FROM:", "RCPT TO:", "BDAT ", "AUTH ", "EHLO ", "TOP ", "PASS "])) {
        for input in [line.clone(), [words.as_bytes(), &line].concat()] {
            let _ = Command::parse(&input);
            let _ = pop3::Command::parse(&input);
        }
        for mechanism in [Mechanism::Plain, Mechanism::Login] {
            if let Ok((mut exchange, _)) = Exchange::start(mechanism, None) {
                let _ = exchange.answer(&line);
                let _ = exchange.answer(&line);
            }
        }
        let _ = pop3::top(&line, 1);
    }
}
