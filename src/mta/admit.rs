//! Who may send as whom, and to whom: the answers to MAIL and RCPT.

use super::{Client, MailParams, Mta, Origin, Refusal};
use crate::{
    accounts::{AccountId, Resolved},
    config::Config,
    message::Address,
};

impl Mta {
    pub(super) fn admit_sender(&self, client: &Client, sender: Option<&Address>, params: &MailParams) -> Result<(), Refusal> {
        let config = self.config.get();
        if params.size.is_some_and(|s| s > config.limits.message_size) {
            return Err(Refusal::too_big(config.limits.message_size));
        }
        // The null sender is for anybody: mail clients send disposition notices (RFC 8098 §3) with it.
        let Some(sender) = sender else { return Ok(()) };
        if !params.smtputf8 && !sender.is_ascii() {
            return Err(Refusal::needs_smtputf8());
        }
        match &client.origin {
            Origin::Mx | Origin::Internal => Ok(()),
            Origin::Submission(account) => self.may_send_as(account, sender).then_some(()).ok_or_else(|| Refusal::sender_not_owned(account, sender)),
            Origin::Local(user) => {
                local_may_send_as(&config, user, sender).then_some(()).ok_or_else(|| Refusal::local_sender_not_owned(user, sender))
            }
        }
    }

    /// What an address means. Our hostname is always ours: where it is no domain of its own, its mail (`root@` of cron,
    /// `postmaster@`) is that of the first domain.
    pub(super) fn resolve(&self, address: &Address) -> Resolved {
        let found = self.accounts.resolve(address);
        let config = self.config.get();
        match config.domains.first() {
            Some(first) if found == Resolved::NotOurs && address.domain.eq_ignore_ascii_case(&config.hostname) => {
                self.accounts.resolve(&Address { local: address.local.clone(), domain: first.clone() })
            }
            _ => found,
        }
    }

    /// A name alone means one of ours: that of the first domain where there is one.
    pub fn local_address(&self, name: &str) -> Option<Address> {
        let config = self.config.get();
        let at = |domain: &String| Address::parse(&format!("{name}@{domain}"));
        let known = config.domains.iter().filter_map(at).find(|a| matches!(self.accounts.resolve(a), Resolved::To { .. }));
        known.or_else(|| config.domains.first().and_then(at))
    }

    fn may_send_as(&self, account: &AccountId, address: &Address) -> bool {
        self.accounts.may_send_as(account, address)
    }

    /// Nothing but [`crate::accounts`] reads the address: `a%b@ours`, `b!a@ours` and `"a@b"@ours` are local parts like
    /// any other, of users who are not there; so no spelling makes us a relay.
    pub(super) fn admit_recipient(&self, client: &Client, to: &Address) -> Result<(), Refusal> {
        match (self.resolve(to), &client.origin) {
            (Resolved::To { .. }, _) => Ok(()),
            (Resolved::Unknown, _) => Err(Refusal::no_such_user(to)),
            (Resolved::NotOurs, Origin::Mx) => Err(Refusal::relay_denied(to)),
            (Resolved::NotOurs, Origin::Submission(_) | Origin::Local(_) | Origin::Internal) => Ok(()),
        }
    }
}

/// `user@hostname` and `user@` any of our domains; root and the daemon's own user may choose freely (they read all mail anyway).
fn local_may_send_as(config: &Config, user: &str, sender: &Address) -> bool {
    if user == "root" || config.user.as_deref() == Some(user) {
        return true;
    }
    sender.local.eq_ignore_ascii_case(user) && (sender.domain.eq_ignore_ascii_case(&config.hostname) || config.domains.contains(&sender.domain))
}
