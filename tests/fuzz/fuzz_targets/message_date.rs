//! Dates: what parses is written in both forms and parses to the same moment.
#![no_main]

use gatepost::message::date;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = std::str::from_utf8(input).unwrap_or_default();
    let _ = date::parse_imap_date(text);
    for moment in date::parse(input).into_iter().chain(date::parse_imap(text)) {
        // A zone may move the last day of the calendar beyond it.
        if (0..=253_000_000_000).contains(&moment.unix) {
            assert_eq!(date::parse(moment.rfc5322().as_bytes()), Some(moment));
            assert_eq!(date::parse_imap(&moment.imap()), Some(moment));
        }
    }
});
