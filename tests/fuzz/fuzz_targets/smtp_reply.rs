//! A remote's replies: whole and byte by byte alike, bounded; what parsed is written as lines.
#![no_main]

use gatepost::proto::smtp::{BadReply, Reply, ReplyParser};
use libfuzzer_sys::fuzz_target;

fn replies(input: &[u8], size: usize) -> Vec<Result<Reply, BadReply>> {
    let (mut parser, mut buffer, mut out) = (ReplyParser::new(), Vec::new(), Vec::new());
    for chunk in input.chunks(size) {
        buffer.extend_from_slice(chunk);
        while let Some((used, reply)) = parser.cut(&buffer) {
            buffer.drain(..used);
            let stop = matches!(reply, Some(Err(_)));
            out.extend(reply);
            if stop {
                return out;
            }
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let whole = replies(input, usize::MAX);
    assert_eq!(replies(input, 1), whole);
    for reply in whole.into_iter().flatten() {
        assert!(reply.to_bytes().split_inclusive(|&b| b == b'\n').all(|line| line.ends_with(b"\r\n") && line.len() <= 512));
    }
});
