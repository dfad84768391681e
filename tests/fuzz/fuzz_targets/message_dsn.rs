//! Notifications stay well-formed whatever remote hosts and returned messages hold.
#![no_main]

use gatepost::message::dsn::{Action, Report, Reported, Returned};
use gatepost::message::{Address, Structure};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let address = Address { local: "a".to_owned(), domain: "b.example".to_owned() };
    let text = String::from_utf8_lossy(input);
    let recipients = [Reported {
        recipient: &address,
        original: Some(&text),
        action: Action::Failed,
        status: (5, input.first().copied().unwrap_or(0), 0),
        remote_mta: Some(&text),
        diagnostic: Some(&text),
        last_attempt: Some(0),
        will_retry_until: None,
    }];
    for returned in [Returned::Full(input), Returned::Header(input)] {
        let report = Report {
            reporting_mta: "mx.example",
            to: &address,
            date: 0,
            message_id: "1@mx.example",
            arrival: 0,
            envid: Some(&text),
            queue_id: "0",
            recipients: &recipients,
            returned,
            smtputf8: input.len() % 2 == 0,
        };
        let message = report.build();
        assert!(message.split_inclusive(|b| *b == b'\n').all(|line| line.ends_with(b"\r\n") && !line[..line.len() - 2].contains(&b'\r')));
        assert_eq!(Structure::scan(&message).root().children.len(), 3);
    }
});
