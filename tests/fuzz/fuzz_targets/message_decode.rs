//! Transfer encodings, charsets, encoded words, parameters: the first octet chooses.
#![no_main]

use gatepost::message::decode::{Charset, encoded_words, transfer};
use gatepost::message::mime::{param_text, wire_params};
use gatepost::message::{Structure, search};
use libfuzzer_sys::fuzz_target;

const ENCODINGS: [&str; 4] = ["7bit", "base64", "quoted-printable", "uuencode"];
const CHARSETS: [&str; 8] = ["utf-8", "utf-7", "iso-2022-jp", "gb18030", "utf-16", "cp850", "big5", ""];

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let encoding = ENCODINGS[usize::from(*choice) % ENCODINGS.len()];
    let whole = transfer(encoding, rest, usize::MAX);
    let bounded = transfer(encoding, rest, 10);
    assert_eq!(bounded.as_deref(), whole.as_deref().map(|w| &w[..w.len().min(10)]));
    let _ = Charset::named(CHARSETS[usize::from(*choice) % CHARSETS.len()].as_bytes()).decode(rest);
    let _ = Charset::named(rest);
    let text = encoded_words(rest);
    let folded = search::fold(&text);
    assert_eq!(search::fold(&folded), folded);
    let message = [b"Content-Type: a/b;", rest, b"\r\n\r\n"].concat();
    let structure = Structure::scan(&message);
    let params = &structure.root().params;
    let _ = wire_params(params);
    for param in params {
        let _ = param_text(params, &param.name);
    }
});
