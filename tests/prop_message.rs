//! Properties of the message room: any bytes are survived, ranges nest, and what is written parses to the same.

use gatepost::message::mime::{MAX_DEPTH, MAX_PARTS};
use gatepost::message::{Address, DateTime, Listed, Notice, Section, Shape, Structure, date, decode, dsn, header, search};
use proptest::collection::vec;
use proptest::prelude::*;

/// Pieces that mean something to the parsers, so that random mails are not just text.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "--",
    "--a",
    "--a--",
    "--ab",
    "\n--a\n",
    "\n--a--\n",
    "\n--ab\n",
    "\n--ab--\n",
    "Content-Type: multipart/mixed; boundary=a\n\n",
    "Content-Type: multipart/digest; boundary=\"ab\"\n\n",
    "Content-Type: message/rfc822\n\n",
    "Content-Type: text/html; charset=utf-8\n",
    "Content-Transfer-Encoding: base64\n",
    "Content-Transfer-Encoding: quoted-printable\n",
    "Content-Disposition: attachment; filename*0*=utf-8''%C3; filename*1*=%BC\n",
    "Subject: =?utf-8?q?=C3?= =?utf-8?q?=BC?=\n",
    "From: A: \"b\" <c@d> (e), f@g;\n",
    "Date: Fri, 21 Nov 1997 09:55:06 -0600\n",
    "Received: x\n",
    ":",
    ";",
    ",",
    "\"",
    "\\",
    "(",
    ")",
    "<",
    ">",
    "@",
    ".",
    "=",
    "?",
    "=?",
    "?=",
    "=\n",
    "=C3=BC",
    "ü",
    "text",
    "\0",
    "aGVsbG8=",
];

fn mail() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

fn address() -> impl Strategy<Value = Address> {
    let local = vec(prop_oneof!["[a-zA-Z0-9.+_ @\"\\\\-]", "[äöü日本]"].boxed(), 0..16).prop_map(|chars| chars.concat());
    let domain = prop_oneof!["[a-z0-9]{1,8}(\\.[a-z0-9]{1,8}){0,3}", Just("[192.0.2.1]".to_owned()), Just("[IPv6:2001:db8::1]".to_owned())];
    (local, domain).prop_map(|(local, domain)| Address { local, domain })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn parts_nest(bytes in mail()) {
        let structure = Structure::scan(&bytes);
        prop_assert!(structure.parts().len() <= MAX_PARTS);
        prop_assert_eq!(structure.root().whole.clone(), 0..bytes.len());
        let mut depths = Vec::new();
        for (index, part) in structure.parts().iter().enumerate() {
            prop_assert_eq!(part.whole.start, part.header.start);
            prop_assert_eq!(part.header.end, part.body.start);
            prop_assert_eq!(part.body.end, part.whole.end);
            prop_assert!(part.whole.start <= part.body.start && part.body.start <= part.body.end);
            prop_assert_eq!(part.lines, bytes[part.body.clone()].iter().filter(|b| **b == b'\n').count());
            match part.shape {
                Shape::Leaf => prop_assert!(part.children.is_empty() && part.kind != "multipart"),
                Shape::Multipart => prop_assert!(!part.children.is_empty() && part.kind == "multipart"),
                Shape::Message => prop_assert!(part.children.len() == 1 && part.kind == "message"),
            }
            let mut at = part.body.start;
            for child in structure.children(part) {
                prop_assert!(at <= child.whole.start && child.whole.end <= part.body.end);
                prop_assert_eq!(child.parent, Some(index));
                at = child.whole.end;
            }
            // Depth first: a parent comes before its children.
            let depth = part.parent.map_or(0, |parent| depths[parent] + 1);
            prop_assert!(depth <= MAX_DEPTH);
            depths.push(depth);
        }
    }

    #[test]
    fn numbers_are_total(bytes in mail(), path in vec(0u32..4, 0..6)) {
        let structure = Structure::scan(&bytes);
        for section in [Section::Content, Section::Header, Section::Text, Section::Mime] {
            if let Some(range) = structure.section(&path, section) {
                prop_assert!(bytes.get(range).is_some());
                prop_assert!(structure.locate(&path).is_some());
            }
        }
    }

    #[test]
    fn every_reader_survives(bytes in mail()) {
        let structure = Structure::scan(&bytes);
        for part in structure.parts() {
            let _ = (part.filename(), search::leaf_text(&bytes, part, 100));
        }
        let key = search::fold(&String::from_utf8_lossy(bytes.get(..3).unwrap_or_default()));
        let _ = search::text_has(&bytes, &structure, &key);
        let _ = (date::parse(&bytes), decode::encoded_words(&bytes));
        for encoding in ["base64", "quoted-printable", "uuencode"] {
            let _ = decode::transfer(encoding, &bytes, 50);
        }
        let starts = gatepost::message::header_addresses(&bytes).iter().filter(|i| matches!(i, Listed::GroupStart(_))).count();
        let ends = gatepost::message::header_addresses(&bytes).iter().filter(|i| matches!(i, Listed::GroupEnd)).count();
        prop_assert_eq!(starts, ends);
    }

    #[test]
    fn header_fields_lie_in_order(bytes in mail()) {
        let mut at = 0;
        for field in header::fields(&bytes) {
            prop_assert!(at <= field.whole.start && field.value.start <= field.value.end && field.value.end <= field.whole.end);
            at = field.whole.end;
        }
        prop_assert!(at <= header::header_end(&bytes));
    }

    #[test]
    fn addresses_come_back(address in address()) {
        let shown = address.to_string();
        prop_assert_eq!(Address::parse(&shown), Some(address.clone()));
        if !address.local.is_empty() {
            let listed: Vec<_> = gatepost::message::address_list::mailboxes(format!("\"N, n\" <{shown}>, {shown}").as_bytes()).collect();
            prop_assert_eq!(listed.len(), 2);
            prop_assert!(listed.iter().all(|m| m.address().as_ref() == Some(&address)), "{:?}", listed);
        }
    }

    #[test]
    fn any_address_text_is_survived(text in "\\PC{0,40}") {
        if let Some(address) = Address::parse(&text) {
            prop_assert_eq!(Address::parse(&address.to_string()), Some(address));
        }
    }

    #[test]
    fn dates_come_back(unix in 0i64..253_000_000_000, zone in -1439i16..=1439) {
        let moment = DateTime { unix, zone };
        prop_assert_eq!(date::parse(moment.rfc5322().as_bytes()), Some(moment));
        prop_assert_eq!(date::parse_imap(&moment.imap()), Some(moment));
        prop_assert_eq!(moment.day(), (unix + i64::from(zone) * 60).div_euclid(86_400));
    }

    #[test]
    fn xtext_comes_back(text in "\\PC{0,40}") {
        let coded = dsn::xtext(&text);
        prop_assert!(coded.bytes().all(|b| b.is_ascii_graphic() && b != b'='));
        prop_assert_eq!(dsn::xtext_decode(&coded), text);
    }

    #[test]
    fn notices_come_back(subject in "\\PC{0,80}", text in "(\\PC{0,90}\n){0,4}") {
        let address = Address { local: "a".to_owned(), domain: "b.example".to_owned() };
        let notice = Notice { from: ("N", &address), to: &address, subject: &subject, date: 0, message_id: "1@b.example", answer: false, text: &text };
        let bytes = notice.build();
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            prop_assert!(line.ends_with(b"\r\n") && line.len() <= 1000);
        }
        let structure = Structure::scan(&bytes);
        let body = search::leaf_text(&bytes, structure.root(), usize::MAX).unwrap_or_default();
        let body = body.replace("\r\n", "\n");
        prop_assert_eq!(body.trim_end_matches('\n'), text.trim_end_matches('\n'));
        let shown = header::find(&bytes, "Subject").map(|field| decode::encoded_words(&header::unfold(field.value()))).unwrap_or_default();
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        prop_assert_eq!(words(&shown), words(&subject));
    }

    #[test]
    fn quoted_printable_and_base64_come_back(octets in vec(any::<u8>(), 0..200)) {
        use base64::Engine as _;
        let coded = base64::engine::general_purpose::STANDARD.encode(&octets);
        let lines = coded.as_bytes().chunks(17).collect::<Vec<_>>().join(&b"\r\n"[..]);
        prop_assert!(decode::transfer("base64", &lines, usize::MAX).is_some_and(|plain| plain == octets));
        let coded: String = octets.iter().map(|b| format!("={b:02x}")).collect();
        prop_assert!(decode::transfer("quoted-printable", coded.as_bytes(), usize::MAX).is_some_and(|plain| plain == octets));
    }
}
