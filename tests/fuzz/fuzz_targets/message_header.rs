//! Header blocks: fields lie in order inside the header.
#![no_main]

use gatepost::message::header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut at = 0;
    for field in header::fields(input) {
        assert!(at <= field.whole.start && field.whole.start == field.name.start && field.name.end < field.value.start);
        assert!(field.value.start <= field.value.end && field.value.end <= field.whole.end);
        assert!(!header::unfold(field.value()).contains(&b'\n'));
        at = field.whole.end;
    }
    let end = header::header_end(input);
    assert!(at <= end && end <= input.len());
});
