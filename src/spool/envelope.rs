//! The envelope file: `key: value` lines for people and for us.
//!
//! ```text
//! gatepost-envelope: 1
//! id: 7DK2M9QX4R
//! arrived: 1764000000
//! sender: a@b.example
//! size: 4711
//! attempts: 1
//! next: 1764000900
//! to: c@d.example pending notify=failure,delay remote=mx.d.example error="450 4.2.0 Try later"
//! end: 1
//! ```
//! No `sender:` is the null sender. Words hold no space; what does is quoted, with `\"`, `\\` and `\u{…}`. `end:`
//! counts the recipients, so a file that was cut short is never taken for a whole one.

use super::{Entry, Notify, QueueId, Recipient, State};
use crate::message::Address;
use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const VERSION: &str = "1";

/// Times are written in whole seconds.
pub fn write(entry: &Entry) -> String {
    let mut out = String::with_capacity(256 + entry.recipients.len() * 64);
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(out, "{key}: {value}");
    };
    line("gatepost-envelope", &VERSION);
    line("id", &entry.id);
    line("arrived", &seconds(entry.arrived));
    if let Some(sender) = &entry.sender {
        line("sender", &word(&sender.to_string()));
    }
    line("size", &entry.size);
    for (key, on) in [("body-8bit", entry.body_8bit), ("smtputf8", entry.smtputf8), ("held", entry.held), ("warned", entry.warned)] {
        if on {
            line(key, &"yes");
        }
    }
    if let Some(full) = entry.ret_full {
        line("ret-full", &if full { "yes" } else { "no" });
    }
    if let Some(envid) = &entry.envid {
        line("envid", &word(envid));
    }
    line("attempts", &entry.attempts);
    line("next", &seconds(entry.next));
    for r in &entry.recipients {
        line("to", &recipient(r));
    }
    line("end", &entry.recipients.len());
    out
}

fn recipient(r: &Recipient) -> String {
    let mut out = word(&r.address.to_string());
    out.push_str(match r.state {
        State::Pending => " pending",
        State::Delivered => " delivered",
        State::Failed(_) => " failed",
    });
    if r.local {
        out.push_str(" local");
    }
    if r.notice {
        out.push_str(" notice");
    }
    if r.notify != Notify::default() {
        let n = r.notify;
        let words: Vec<&str> = [("never", n.never), ("success", n.success), ("failure", n.failure), ("delay", n.delay)]
            .into_iter()
            .filter_map(|(w, on)| on.then_some(w))
            .collect();
        let _ = write!(out, " notify={}", words.join(","));
    }
    let reason = if let State::Failed(text) = &r.state { Some(text) } else { None };
    for (key, value) in [("orcpt", r.original.as_ref()), ("remote", r.remote.as_ref()), ("reply", reason), ("error", r.last_error.as_ref())] {
        if let Some(v) = value {
            let _ = write!(out, " {key}={}", word(v));
        }
    }
    out
}

/// `Err` says which line is wrong and why.
pub fn parse(bytes: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let mut entry = Entry {
        id: QueueId::parse("0000000000").expect("ten digits are an id"),
        arrived: UNIX_EPOCH,
        sender: None,
        size: 0,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        recipients: Vec::new(),
        attempts: 0,
        next: UNIX_EPOCH,
        held: false,
        warned: false,
    };
    let mut seen = Vec::new();
    let mut end = None;
    for (n, line) in text.lines().enumerate() {
        let at = |what: &str| format!("line {}: {what}", n + 1);
        if end.is_some() {
            return Err(at("something stands after `end:`"));
        }
        let (key, value) = line.split_once(": ").ok_or_else(|| at("not `key: value`"))?;
        if n == 0 {
            if (key, value) != ("gatepost-envelope", VERSION) {
                return Err(at("not `gatepost-envelope: 1`"));
            }
            continue;
        }
        if key != "to" {
            if seen.contains(&key) {
                return Err(at("a key stands twice"));
            }
            seen.push(key);
        }
        let bad = || at(&format!("`{key}` has a wrong value"));
        match key {
            "id" => entry.id = QueueId::parse(value).ok_or_else(bad)?,
            "arrived" => entry.arrived = time(value).ok_or_else(bad)?,
            "sender" => entry.sender = Some(one_word(value).and_then(|w| Address::parse(&w)).ok_or_else(bad)?),
            "size" => entry.size = value.parse().map_err(|_| bad())?,
            "body-8bit" => entry.body_8bit = value == "yes",
            "smtputf8" => entry.smtputf8 = value == "yes",
            "ret-full" => entry.ret_full = Some(value == "yes"),
            "held" => entry.held = value == "yes",
            "warned" => entry.warned = value == "yes",
            "envid" => entry.envid = Some(one_word(value).ok_or_else(bad)?),
            "attempts" => entry.attempts = value.parse().map_err(|_| bad())?,
            "next" => entry.next = time(value).ok_or_else(bad)?,
            "to" => entry.recipients.push(parse_recipient(value).ok_or_else(bad)?),
            "end" => end = Some(value.parse::<usize>().map_err(|_| bad())?),
            _ => return Err(at("unknown key")),
        }
    }
    if end != Some(entry.recipients.len()) {
        return Err("cut short: `end:` is missing or counts other recipients".to_owned());
    }
    for key in ["id", "arrived", "size", "next"] {
        if !seen.contains(&key) {
            return Err(format!("`{key}:` is missing"));
        }
    }
    Ok(entry)
}

fn parse_recipient(value: &str) -> Option<Recipient> {
    let mut words = Words(value);
    let address = Address::parse(&words.next()??)?;
    let state = words.next()??;
    let mut r = Recipient::new(address);
    let mut reply = None;
    for w in words {
        let w = w?;
        match w.split_once('=') {
            None if w == "local" => r.local = true,
            None if w == "notice" => r.notice = true,
            Some(("notify", v)) => r.notify = notify(v)?,
            Some(("orcpt", v)) => r.original = Some(v.to_owned()),
            Some(("remote", v)) => r.remote = Some(v.to_owned()),
            Some(("reply", v)) => reply = Some(v.to_owned()),
            Some(("error", v)) => r.last_error = Some(v.to_owned()),
            _ => return None,
        }
    }
    r.state = match state.as_str() {
        "pending" => State::Pending,
        "delivered" => State::Delivered,
        "failed" => State::Failed(reply.take().unwrap_or_default()),
        _ => return None,
    };
    reply.is_none().then_some(r)
}

fn notify(value: &str) -> Option<Notify> {
    let mut n = Notify::default();
    for w in value.split(',') {
        match w {
            "never" => n.never = true,
            "success" => n.success = true,
            "failure" => n.failure = true,
            "delay" => n.delay = true,
            _ => return None,
        }
    }
    Some(n)
}

/// Seconds of UNIX time; what lies before 1970 is 0.
pub fn seconds(t: SystemTime) -> u64 {
    t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn time(value: &str) -> Option<SystemTime> {
    let seconds: u64 = value.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Quoted where it must be. `key=` before a quoted word is part of the word for the reader.
fn word(v: &str) -> String {
    if !v.is_empty() && !v.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '\\') {
        return v.to_owned();
    }
    let mut out = String::with_capacity(v.len() + 2);
    out.push('"');
    for c in v.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            // Any other kind of white space could end a line for some reader.
            c if c != ' ' && (c.is_control() || c.is_whitespace()) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn one_word(value: &str) -> Option<String> {
    let mut words = Words(value);
    let first = words.next()??;
    words.next().is_none().then_some(first)
}

/// Words divided by single spaces, quotes resolved. `None` inside: not well formed; nothing comes after it.
struct Words<'a>(&'a str);

impl Iterator for Words<'_> {
    type Item = Option<String>;

    fn next(&mut self) -> Option<Option<String>> {
        if self.0.is_empty() {
            return None;
        }
        let word = self.cut();
        if word.is_none() {
            self.0 = "";
        }
        Some(word)
    }
}

impl Words<'_> {
    fn cut(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut quoted = false;
        let mut chars = self.0.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => {
                    self.0 = &self.0[i + 1..];
                    return (!self.0.is_empty()).then_some(out);
                }
                '\\' if quoted => out.push(unescape(&mut chars)?),
                c => out.push(c),
            }
        }
        self.0 = "";
        (!quoted).then_some(out)
    }
}

fn unescape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    match chars.next()?.1 {
        c @ ('"' | '\\') => Some(c),
        'u' => {
            if chars.next()?.1 != '{' {
                return None;
            }
            let mut n: u32 = 0;
            loop {
                match chars.next()?.1 {
                    '}' => return char::from_u32(n),
                    c => n = n.checked_mul(16)?.checked_add(c.to_digit(16)?)?,
                }
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry {
        let mut failed = Recipient::new(Address::parse("c@d.example").expect("an address"));
        failed.state = State::Failed("550 5.1.1 no \"such\" user".into());
        failed.notify = Notify { failure: true, delay: true, ..Notify::default() };
        failed.original = Some("rfc822;list@b.example".into());
        failed.remote = Some("mx.d.example".into());
        failed.notice = true;
        let mut local = Recipient::new(Address::parse("\"a b\"@b.example").expect("an address"));
        local.local = true;
        local.last_error = Some("line\r\nend: 0".into());
        Entry {
            id: QueueId::parse("7DK2M9QX4R").expect("an id"),
            arrived: UNIX_EPOCH + Duration::from_secs(1_764_000_000),
            sender: Some(Address::parse("a@b.example").expect("an address")),
            size: 4711,
            body_8bit: true,
            smtputf8: false,
            ret_full: Some(true),
            envid: Some("QQ 1".into()),
            recipients: vec![failed, local],
            attempts: 1,
            next: UNIX_EPOCH + Duration::from_secs(1_764_000_900),
            held: false,
            warned: true,
        }
    }

    const TEXT: &str = r#"gatepost-envelope: 1
id: 7DK2M9QX4R
arrived: 1764000000
sender: a@b.example
size: 4711
body-8bit: yes
warned: yes
ret-full: yes
envid: "QQ 1"
attempts: 1
next: 1764000900
to: c@d.example failed notice notify=failure,delay orcpt=rfc822;list@b.example remote=mx.d.example reply="550 5.1.1 no \"such\" user"
to: "\"a b\"@b.example" pending local error="line\u{d}\u{a}end: 0"
end: 2
"#;

    #[test]
    fn the_text_stays_as_it_is() {
        assert_eq!(write(&entry()), TEXT);
        assert_eq!(parse(TEXT.as_bytes()), Ok(entry()));
    }

    /// `(what is replaced, by what, what the error says)`
    #[test]
    fn what_is_not_whole_is_refused() {
        const CASES: &[(&str, &str, &str)] = &[
            ("end: 2\n", "", "cut short"),
            ("end: 2", "end: 3", "cut short"),
            ("end: 2", "end: x", "`end`"),
            ("end: 2\n", "end: 2\nto: x@y.example pending\n", "after `end:`"),
            ("gatepost-envelope: 1", "gatepost-envelope: 2", "line 1"),
            ("size: 4711", "size: -1", "line 5: `size`"),
            ("size: 4711\n", "", "`size:` is missing"),
            ("size: 4711\n", "size: 4711\nsize: 1\n", "twice"),
            ("size: 4711\n", "size: 4711\ncolour: red\n", "unknown key"),
            ("size: 4711\n", "size: 4711\n\n", "not `key: value`"),
            ("arrived: 1764000000", "arrived: 99999999999999999999", "`arrived`"),
            ("arrived: 1764000000", "arrived: 18446744073709551615", "`arrived`"),
            ("c@d.example failed", "c@d.example bounced", "`to`"),
            ("c@d.example failed", "failed", "`to`"),
            ("c@d.example failed", "c@d.example  failed", "`to`"),
            ("notify=failure,delay", "notify=sometimes", "`to`"),
            ("reply=\"550", "reply=550", "`to`"),
            ("user\"\n", "user\n", "`to`"),
            ("\\u{d}", "\\u{ffffffffff}", "`to`"),
            ("\\u{d}", "\\x", "`to`"),
            ("pending local", "pending reply=x local", "`to`"),
        ];
        for (from, to, want) in CASES {
            let text = TEXT.replacen(from, to, 1);
            assert_ne!(text, TEXT, "{from:?}");
            let got = parse(text.as_bytes()).expect_err(to);
            assert!(got.contains(want), "{from:?} → {to:?}: {got:?}");
        }
        for n in 0..TEXT.len() - 1 {
            assert!(parse(&TEXT.as_bytes()[..n]).is_err(), "cut after {n}");
        }
        assert!(parse(b"\xff").is_err());
    }

    fn address() -> impl Strategy<Value = Address> {
        ("[a-zA-Z0-9 .\"\\\\@é-]{1,12}", "[a-z]{1,8}\\.example").prop_map(|(local, domain)| {
            let a = Address { local, domain };
            // Not every string is a local part; what the room of addresses accepts is what comes to us.
            Address::parse(&a.to_string()).unwrap_or_else(|| Address { local: "x".into(), domain: a.domain })
        })
    }

    prop_compose! {
        fn recipient()(address in address(), original in any::<Option<String>>(), bits in any::<[bool; 6]>(), state in 0..3,
                       reply in any::<String>(), last_error in any::<Option<String>>(), remote in any::<Option<String>>()) -> Recipient {
            let [never, success, failure, delay, local, notice] = bits;
            let state = match state { 0 => State::Pending, 1 => State::Delivered, _ => State::Failed(reply) };
            Recipient { address, original, notify: Notify { never, success, failure, delay }, state, last_error, remote, local, notice }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(recipients in prop::collection::vec(recipient(), 0..4), sender in prop::option::of(address()),
                                   bits in any::<[bool; 4]>(), ret_full in any::<Option<bool>>(), envid in any::<Option<String>>(), times in any::<(u32, u32)>(),
                                   size in any::<u64>(), attempts in any::<u32>()) {
            let [body_8bit, smtputf8, held, warned] = bits;
            let at = |s: u32| UNIX_EPOCH + Duration::from_secs(s.into());
            let e = Entry { id: QueueId::parse("7DK2M9QX4R").expect("an id"), arrived: at(times.0), sender, size, body_8bit, smtputf8, ret_full,
                            envid, recipients, attempts, next: at(times.1), held, warned };
            prop_assert_eq!(parse(write(&e).as_bytes()), Ok(e));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), at in 0..TEXT.len(), b in any::<u8>()) {
            let _ = parse(&bytes);
            let mut text = TEXT.as_bytes().to_vec();
            text[at] = b;
            let _ = parse(&text);
        }
    }
}
