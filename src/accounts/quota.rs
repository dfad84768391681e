//! What an account may keep: the default of `[quota]`, and what its line in `users` says instead.
//!
//! Read are our own `quota=2G,10000` and Dovecot's `userdb_quota_rule=*:storage=2G:messages=10000` (2.4:
//! `userdb_quota_storage_size`, `userdb_quota_message_count`).

use crate::config::{self, parse_size};

/// 0 means that there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes.
    pub storage: u64,
    pub messages: u64,
}

/// What one user's line says; `None`: as everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Own {
    storage: Option<u64>,
    messages: Option<u64>,
}

impl Own {
    /// `2G`, `2G,10000`, `,10000`; 0 lifts a limit that everybody has.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (storage, messages) = text.split_once(',').map_or((text, None), |(s, m)| (s, Some(m)));
        let size = |text: &str| if text == "0" { Some(0) } else { parse_size(text) };
        let bad = || format!("quota={text} is not a size and a number of messages: write quota=2G or quota=2G,10000");
        let storage = match storage {
            "" if messages.is_some() => None,
            text => Some(size(text).ok_or_else(bad)?),
        };
        Ok(Self { storage, messages: messages.map(|m| m.parse().map_err(|_| bad())).transpose()? })
    }

    pub(super) fn or(self, everybody: &config::Quota) -> Quota {
        Quota { storage: self.storage.unwrap_or(everybody.storage), messages: self.messages.unwrap_or_else(|| everybody.messages.into()) }
    }

    fn set(&mut self, more: Self) -> Result<(), String> {
        let twice = self.storage.is_some() && more.storage.is_some() || self.messages.is_some() && more.messages.is_some();
        *self = Self { storage: self.storage.or(more.storage), messages: self.messages.or(more.messages) };
        if twice { Err("the quota is given twice".into()) } else { Ok(()) }
    }
}

/// Reads the fields of one line; Dovecot's rules are several of them, since a colon separates both.
#[derive(Default)]
pub(super) struct Reader {
    own: Own,
    rule: Rule,
    pub(super) folder_rules: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    None,
    All,
    /// Of a single folder: we count them all alike.
    Folder,
}

impl Reader {
    /// False: not a field about quota.
    pub(super) fn field(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let name = key.strip_prefix("userdb_").unwrap_or(key);
        let own = match name {
            "quota" if key == name => Own::parse(value)?,
            "quota_storage_size" => Own { storage: Some(dovecot_size(value, 1)?), messages: None },
            "quota_message_count" => Own { storage: None, messages: Some(number(value)?) },
            _ if name.strip_prefix("quota_rule").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) => {
                self.rule = if value == "*" { Rule::All } else { Rule::Folder };
                self.folder_rules |= self.rule == Rule::Folder;
                return Ok(true);
            }
            "storage" | "bytes" | "messages" if self.rule == Rule::Folder => return Ok(true),
            "storage" if self.rule == Rule::All => Own { storage: Some(dovecot_size(value, 1024)?), messages: None },
            "bytes" if self.rule == Rule::All => Own { storage: Some(dovecot_size(value, 1)?), messages: None },
            "messages" if self.rule == Rule::All => Own { storage: None, messages: Some(number(value)?) },
            _ => return Ok(false),
        };
        self.own.set(own)?;
        Ok(true)
    }

    /// A field without `=`: `*:ignore`.
    pub(super) fn word(&mut self, word: &str) -> bool {
        if word == "ignore" && self.rule == Rule::All {
            self.own = Own { storage: Some(0), messages: Some(0) };
        }
        self.rule != Rule::None && matches!(word, "ignore" | "noenforcing")
    }

    pub(super) fn end(self) -> Own {
        self.own
    }
}

/// The fields of a line without those about quota.
pub(super) fn without(fields: &str) -> Vec<String> {
    let mut reader = Reader::default();
    let mut other = |word: &str| match word.split_once('=') {
        // One that cannot be read is about quota too, and wrong.
        Some((key, value)) => matches!(reader.field(key, value), Ok(false)),
        None => !reader.word(word),
    };
    let mut kept = Vec::new();
    for field in fields.split(':') {
        let words: Vec<&str> = field.split(' ').filter(|w| w.is_empty() || other(w)).collect();
        if !words.is_empty() {
            kept.push(words.join(" "));
        }
    }
    kept
}

/// Without a unit it counts `scale` bytes.
fn dovecot_size(text: &str, scale: u64) -> Result<u64, String> {
    let plain = text.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    plain.or_else(|| parse_size(text)).ok_or_else(|| format!("{text} is not a size: write quota=2G"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number of messages: write quota=2G,10000"))
}
