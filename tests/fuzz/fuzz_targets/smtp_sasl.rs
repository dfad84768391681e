//! PLAIN and LOGIN: any initial response and any answers, without a panic.
#![no_main]

use gatepost::proto::sasl::{Exchange, Mechanism};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|&b| b == b'\n');
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        if let Ok((mut exchange, _)) = Exchange::start(mechanism, lines.next()) {
            for line in lines.clone() {
                let _ = exchange.answer(line);
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = gatepost::proto::sasl::prepare(text);
    }
});
