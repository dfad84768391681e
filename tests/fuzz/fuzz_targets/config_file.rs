//! gatepost.conf: any text is read or refused, and what was read is rendered to a file that reads the same.
#![no_main]
use gatepost::config;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| {
    // Other files are not under test, and `/dev/zero` is a file.
    if text.contains("include") || text.contains("password") || text.contains('\\') {
        return;
    }
    let file = Path::new("/nonexistent/gatepost.conf");
    if let Ok((read, _)) = config::parse(file, text) {
        let again = config::parse(file, &config::render(&read)).map(|(c, _)| c);
        assert_eq!(again.as_ref(), Ok(&read));
    }
});
