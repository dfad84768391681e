//! ENVELOPE and BODYSTRUCTURE of any bytes: never a panic, and strings and parentheses in order, for a client reads
//! the rest of its session by them.
#![no_main]

use gatepost::{
    imapd::summary::{self, Summary},
    proto::imap::cursor::Cursor,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let made = summary::make(bytes);
    let summary = Summary::read(&made).expect("just made");
    well_formed(summary.envelope);
    well_formed(summary.structure);
});

fn well_formed(text: &[u8]) {
    let (mut c, mut depth) = (Cursor::new(text), 0u32);
    while let Some(b) = c.peek() {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1).expect("no more closed than opened"),
            b'"' | b'{' => {
                c.string("a string").expect("a whole string");
                assert!(depth > 0);
                continue;
            }
            _ => assert!(b == b' ' || b.is_ascii_alphanumeric(), "{b:#x} outside of a string"),
        }
        c.eat(b);
    }
    assert_eq!(depth, 0);
}
