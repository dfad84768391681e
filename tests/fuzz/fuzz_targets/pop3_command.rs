//! POP3 commands, TOP's cut and dot-stuffing, on any bytes.
#![no_main]

use gatepost::proto::{pop3, smtp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = pop3::Command::parse(input);
    let lines = u32::from(input.first().copied().unwrap_or(0));
    assert!(input.starts_with(pop3::top(input, lines)));
    let mut wire = Vec::new();
    smtp::stuff(input, &mut wire);
    assert_eq!(pop3::stuffed(input).collect::<Vec<_>>().concat(), wire);
});
