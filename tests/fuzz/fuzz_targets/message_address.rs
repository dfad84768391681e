//! Addresses: strict ones are shown as they parse; lists take any octets.
#![no_main]

use gatepost::message::{Address, Listed, header_addresses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(address) = std::str::from_utf8(input).ok().and_then(Address::parse) {
        assert!(!address.to_string().contains(char::is_control));
        assert_eq!(Address::parse(&address.to_string()), Some(address));
    }
    let mut depth = 0;
    for item in header_addresses(input) {
        match item {
            Listed::GroupStart(_) => depth += 1,
            Listed::GroupEnd => depth -= 1,
            Listed::Mailbox(mailbox) => drop(mailbox.address()),
        }
        assert!((0..=1).contains(&depth));
    }
    assert_eq!(depth, 0);
});
