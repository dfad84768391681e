//! users and aliases: any text is read or refused, and every address then has a meaning.
#![no_main]
use gatepost::{accounts::{Accounts, Resolved}, config, message::Address};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const CONFIG: &str = "hostname = \"mail.example.org\"\ndomains = [\"example.org\", \"example.net\"]\nsubaddress = \"+-\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n";

fuzz_target!(|texts: (&str, &str, &str)| {
    let (users, aliases, name) = texts;
    let Ok((config, _)) = config::parse(Path::new("/nonexistent/gatepost.conf"), CONFIG) else { unreachable!("it is right") };
    let Ok((accounts, _)) = Accounts::parse(&config, users, aliases) else { return };
    let list = accounts.list();
    for address in list.iter().filter_map(|id| Address::parse(&id.0)).chain(Address::parse(name)) {
        match accounts.resolve(&address) {
            Resolved::To { accounts: reached, external, .. } => {
                assert!(reached.iter().all(|id| list.contains(id)));
                assert!(!reached.is_empty() || !external.is_empty());
            }
            Resolved::Unknown | Resolved::NotOurs => {}
        }
    }
    for id in &list {
        assert!(Address::parse(&id.0).is_some_and(|own| accounts.may_send_as(id, &own)));
    }
});
