//! DATA: whole and byte by byte alike; what is stuffed is unstuffed.
#![no_main]

use gatepost::proto::smtp::{Body, stuff};
use libfuzzer_sys::fuzz_target;

fn unstuff(input: &[u8], size: usize) -> (Vec<u8>, bool, bool) {
    let (mut body, mut buffer, mut out) = (Body::new(), Vec::new(), Vec::new());
    for chunk in input.chunks(size) {
        buffer.extend_from_slice(chunk);
        let (used, end) = body.push(&buffer, &mut out);
        buffer.drain(..used);
        if end {
            return (out, true, body.bare());
        }
    }
    (out, false, body.bare())
}

fuzz_target!(|input: &[u8]| {
    let whole = unstuff(input, usize::MAX);
    let bytes = unstuff(input, 1);
    assert_eq!(bytes, whole);
    if input.ends_with(b"\r\n") {
        let mut wire = Vec::new();
        stuff(input, &mut wire);
        let (content, ended, _) = unstuff(&wire, usize::MAX);
        assert!(ended && content == input);
    }
});
