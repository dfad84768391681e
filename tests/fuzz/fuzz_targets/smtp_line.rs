//! Command lines: cut whole and byte by byte alike, then parsed; never a panic.
#![no_main]

use gatepost::proto::smtp::{Command, Frame, Framer};
use libfuzzer_sys::fuzz_target;

fn frames(input: &[u8], size: usize) -> Vec<Frame> {
    let (mut framer, mut buffer, mut out) = (Framer::new(), Vec::new(), Vec::new());
    for chunk in input.chunks(size) {
        buffer.extend_from_slice(chunk);
        while let Some((used, frame)) = framer.command(&buffer) {
            buffer.drain(..used);
            let stop = matches!(frame, Frame::Bare | Frame::Endless);
            if frame != Frame::Skipping {
                out.push(frame);
            }
            if stop {
                return out;
            }
        }
    }
    out
}

fuzz_target!(|input: &[u8]| {
    let whole = frames(input, usize::MAX);
    assert_eq!(frames(input, 1), whole);
    for frame in whole {
        if let Frame::Line(line) = frame {
            let _ = Command::parse(&line);
        }
    }
});
