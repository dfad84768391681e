//! Quota: whether a recipient has room, and what the store must know: limits, and the words of the warning.
//!
//! A mailbox that is full is told to the sender before the message is sent, where it can be (MAIL's SIZE, RFC 1870). What
//! comes all the same is weighed again when it is filed. Our own notices are always filed: a user must hear that a message
//! of theirs came back, also with a full mailbox. For postmaster there is no exception: that is some user's mailbox.

use super::{Mta, Refusal, stamp};
use crate::{
    accounts::{Accounts, Resolved},
    config::{Config, Live, about_size},
    message::{Address, Notice},
    store::{self, Level, Limits},
};
use std::{
    fmt::Write,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

impl Mta {
    /// `size`: what the client said; without, there must be room for something. One with room is enough of several, and
    /// so is an address elsewhere: the others hear of it later.
    pub(super) async fn admit_size(&self, to: &Address, size: Option<u64>) -> Result<(), Refusal> {
        let Resolved::To { accounts, external, .. } = self.resolve(to) else { return Ok(()) };
        let has_none = |account: &crate::accounts::AccountId| self.accounts.quota(&account.0) == Default::default();
        if !external.is_empty() || accounts.iter().any(has_none) {
            return Ok(());
        }
        let (store, size, now) = (self.store.clone(), size.unwrap_or(1), SystemTime::now());
        let ask = move || {
            let mut refused = Vec::new();
            for account in accounts {
                match store.home(&account.0).and_then(|home| home.room(size, now)) {
                    Err(e @ store::Error::OverQuota(_)) => refused.push(e),
                    // Any other trouble shows when it is filed.
                    _ => return Vec::new(),
                }
            }
            refused
        };
        let grace = self.config.get().quota.grace;
        let refusals: Vec<Refusal> = smol::unblock(ask).await.iter().map(|e| Refusal::of(e, grace, now)).collect();
        match refusals.iter().find(|no| no.is_temporary()).or(refusals.first()) {
            Some(no) => Err(no.clone()),
            None => Ok(()),
        }
    }
}

/// What the store asks.
pub struct Quotas {
    accounts: Arc<Accounts>,
    config: Arc<Live<Config>>,
}

impl Quotas {
    pub fn new(accounts: Arc<Accounts>, config: Arc<Live<Config>>) -> Self {
        Self { accounts, config }
    }
}

impl store::Quotas for Quotas {
    fn limits(&self, account: &str) -> Limits {
        let quota = self.accounts.quota(account);
        Limits { bytes: quota.storage, messages: quota.messages }
    }

    fn levels(&self) -> Vec<u8> {
        self.config.get().quota.warn.clone()
    }

    fn warning(&self, account: &str, level: &Level, now: SystemTime) -> Vec<u8> {
        let config = self.config.get();
        let unknown = || Address { local: "postmaster".to_owned(), domain: config.hostname.clone() };
        let to = Address::parse(account).unwrap_or_else(unknown);
        let from = Address { domain: to.domain.clone(), ..unknown() };
        let unix = now.duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX));
        let id = format!("quota.{unix:x}.{:x}@{}", crate::disk::unique(), config.hostname);
        let subject = format!("Your mailbox is {} % full", level.limits.percent(level.usage));
        let text = words(account, level);
        let notice = Notice { from: ("Mail system", &from), to: &to, subject: &subject, date: unix, message_id: &id, answer: false, text: &text };
        [stamp::return_path(None).into_bytes(), notice.build()].concat()
    }
}

fn words(account: &str, level: &Level) -> String {
    let mut text = format!("The mailbox {account} is about to be full. It holds\n\n");
    let (usage, limits) = (level.usage, level.limits);
    let of = |limit: u64, shown: &dyn Fn(u64) -> String| if limit == 0 { String::new() } else { format!(" of at most {}", shown(limit)) };
    let _ = writeln!(text, "    {}{}", about_size(usage.bytes), of(limits.bytes, &about_size));
    let _ = writeln!(text, "    {} messages{}", usage.messages, of(limits.messages, &|n| n.to_string()));
    text.push_str(
        "\nOnce it is full, no more mail can be filed in it: who writes to you gets the message back\n\
         after a while, and your mail program can no longer keep copies of what you send.\n\n\
         Please make room:\n\n\
         - Delete what you do not need, large attachments first. Look into Sent and Junk too.\n\
         - Then empty the Trash: what lies there counts as well.\n\
         - Messages that are only marked as deleted count until they are removed (\"Compact\",\n\
         \x20 \"Purge\" or \"Expunge\" in many mail programs).\n\n\
         If you need more room, ask the postmaster: an answer to this message gets there.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::header;

    #[test]
    fn the_warning_is_a_whole_message() {
        let text = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\n[tls]\ncert = \"c\"\nkey = \"k\"";
        let (config, _) = crate::config::parse(std::path::Path::new("/nonexistent/gatepost.conf"), text).unwrap();
        let (accounts, _) = Accounts::parse(&config, "alice:!:quota=1G,1000", "").unwrap();
        let quotas = Quotas::new(Arc::new(accounts), Arc::new(Live::new(config)));
        let limits = store::Quotas::limits(&quotas, "alice@example.org");
        assert_eq!(limits, Limits { bytes: 1 << 30, messages: 1000 });
        let level = Level { usage: store::Usage { bytes: 900 << 20, messages: 12 }, limits, percent: 80 };
        let bytes = store::Quotas::warning(&quotas, "alice@example.org", &level, UNIX_EPOCH);
        let field = |name: &str| header::find(&bytes, name).map(|f| String::from_utf8_lossy(f.value()).trim().to_owned()).unwrap_or_default();
        assert_eq!(field("return-path"), "<>");
        assert_eq!(field("from"), "Mail system <postmaster@example.org>");
        assert_eq!(field("to"), "<alice@example.org>");
        assert_eq!(field("subject"), "Your mailbox is 87 % full");
        assert_eq!(field("date"), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(field("auto-submitted"), "auto-generated");
        assert!(field("message-id").ends_with("@mail.example.org>"));
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\r\n    900M of at most 1G\r\n    12 messages of at most 1000\r\n"), "{text}");
        assert!(text.lines().all(|l| l.len() <= 90), "{text}");
    }
}
