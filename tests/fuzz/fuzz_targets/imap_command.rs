//! The IMAP command parser is total, and names of folders that it takes are written back as they were.
#![no_main]

use gatepost::proto::imap::{Command, Tagged, response};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Tagged { command: Command::Create(name), .. }) = Tagged::parse(bytes) else { return };
    if name.len() > 200 {
        return; // may be longer than a name can be once it is in modified UTF-7
    }
    let mut again = b"a CREATE ".to_vec();
    response::folder(&mut again, &name);
    assert_eq!(Tagged::parse(&again).map(|t| t.command), Ok(Command::Create(name)));
});
