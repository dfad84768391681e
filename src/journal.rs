//! The log: one line per event, `room event key=value …`, keys in fixed order.
//!
//! Values with spaces, quotes or control bytes are quoted and escaped, so a line stays a line whatever a
//! peer sends. No message content and no secret is ever handed to this room. A room adds a function per
//! event at the foot of this file; a key name exists in one place only.

use std::fmt::{Display, Write};

/// Every room that logs; the log shows these and nothing of the libraries below.
pub const ROOMS: &[&str] =
    &["daemon", "net", "smtpd", "imapd", "pop3d", "mta", "queue", "smtpc", "accounts", "store", "spool", "config", "dns", "os", "control"];

/// A line in the making. Does nothing when its level is off.
pub struct Line {
    level: log::Level,
    room: &'static str,
    text: Option<String>,
}

impl Line {
    pub fn new(level: log::Level, room: &'static str, event: &str) -> Self {
        debug_assert!(ROOMS.contains(&room), "{room} is none of ROOMS, and its lines would not be shown");
        let text = (level <= log::max_level()).then(|| format!("{room} {event}"));
        Self { level, room, text }
    }
    pub fn info(room: &'static str, event: &str) -> Self {
        Self::new(log::Level::Info, room, event)
    }
    /// Somebody should look.
    pub fn warn(room: &'static str, event: &str) -> Self {
        Self::new(log::Level::Warn, room, event)
    }
    pub fn error(room: &'static str, event: &str) -> Self {
        Self::new(log::Level::Error, room, event)
    }
    pub fn debug(room: &'static str, event: &str) -> Self {
        Self::new(log::Level::Debug, room, event)
    }
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        if let Some(t) = &mut self.text {
            let _ = write!(t, " {key}=");
            escape(t, &value.to_string());
        }
        self
    }
    /// Leaves the key out when there is no value.
    pub fn with_some(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(v) => self.with(key, v),
            None => self,
        }
    }
    pub fn send(self) {
        if let Some(t) = self.text {
            log::log!(target: self.room, self.level, "{t}");
        }
    }
}

fn escape(out: &mut String, v: &str) {
    let plain = !v.is_empty() && v.chars().all(|c| !c.is_control() && !matches!(c, ' ' | '"' | '\\' | '\u{85}' | '\u{2028}' | '\u{2029}'));
    if plain {
        out.push_str(v);
        return;
    }
    out.push('"');
    for c in v.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    /// A room that is missing in the list is silent, and so are its failed logins.
    #[test]
    fn every_room_that_logs_is_shown() {
        let mut files = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut named = 0;
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let starts = ["const ROOM: &str = \"", "Line::error(\"", "Line::warn(\"", "Line::info(\"", "Line::debug(\""];
            for room in starts.iter().flat_map(|start| text.split(start).skip(1)).filter_map(|rest| rest.split('"').next()) {
                let shown = super::ROOMS.contains(&room) || path.ends_with("journal.rs");
                assert!(shown, "{}: {room:?} is not in ROOMS", path.display());
                named += 1;
            }
        }
        assert!(named > 20, "{named}");
    }

    #[test]
    fn a_value_never_ends_its_line() {
        const CASES: &[(&str, &str)] =
            &[("a", "a"), ("", "\"\""), ("a b", "\"a b\""), ("x\r\ny", "\"x\\r\\ny\""), ("q\"", "\"q\\\"\""), ("\x1b[0m", "\"\\u{1b}[0m\"")];
        for (value, want) in CASES {
            let mut s = String::new();
            super::escape(&mut s, value);
            assert_eq!(s, *want, "{value:?}");
        }
    }
}
