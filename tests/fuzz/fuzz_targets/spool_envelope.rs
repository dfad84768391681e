//! Envelope files: any bytes are read or refused, and what was read is written the same way again.
#![no_main]
use gatepost::spool::envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(entry) = envelope::parse(bytes) {
        assert_eq!(envelope::parse(envelope::write(&entry).as_bytes()), Ok(entry));
    }
});
