//! The IMAP framer: whatever arrives, and however it is cut up, the same frames come out.
#![no_main]

use gatepost::proto::imap::{Frame, Framer, framer::Limits};
use libfuzzer_sys::fuzz_target;

fn frames(limits: Limits, input: &[u8], step: usize) -> Vec<String> {
    let (mut framer, mut out, mut buffered, mut rest) = (Framer::new(limits), Vec::new(), Vec::new(), input);
    loop {
        match framer.cut(&buffered) {
            Some((used, frame)) => {
                buffered.drain(..used);
                let (text, fatal) = match frame {
                    // A line that is too long is refused as soon as it is: its tag may not be whole yet.
                    Frame::Refused(r) => (r.text.to_owned(), r.fatal),
                    other => (format!("{other:?}"), false),
                };
                out.push(text);
                if fatal {
                    return out;
                }
            }
            None if rest.is_empty() => return out,
            None => {
                let (now, later) = rest.split_at(rest.len().min(step));
                buffered.extend_from_slice(now);
                rest = later;
            }
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (step, bytes) = input;
    for limits in [Limits::BEFORE_LOGIN, Limits::AFTER_LOGIN, Limits { line: 40, literals: 2, command: 100, append: true }] {
        assert_eq!(frames(limits, bytes, usize::from(step) + 1), frames(limits, bytes, bytes.len().max(1)));
    }
});
