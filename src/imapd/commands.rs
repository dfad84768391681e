//! The commands: where each is allowed, and what may be told after it.

use super::session::State;

/// Bits for the states of RFC 3501 §3.
const NOT_AUTHENTICATED: u8 = 1;
const AUTHENTICATED: u8 = 2;
const SELECTED: u8 = 4;
const LOGGED_IN: u8 = AUTHENTICATED | SELECTED;
const ANY: u8 = NOT_AUTHENTICATED | LOGGED_IN;

pub(super) struct Rule {
    verb: &'static str,
    states: u8,
    /// RFC 3501 §7.4.1: no EXPUNGE while the client counts on sequence numbers it may have sent already.
    pub(super) expunge: bool,
    /// FETCH responses that follow carry the UID.
    pub(super) uid: bool,
    /// Looks into the directory for what other programs did.
    pub(super) refresh: bool,
}

const fn rule(verb: &'static str, states: u8) -> Rule {
    Rule { verb, states, expunge: true, uid: false, refresh: false }
}
const fn by_seq(verb: &'static str) -> Rule {
    Rule { expunge: false, ..rule(verb, SELECTED) }
}
const fn by_uid(verb: &'static str) -> Rule {
    Rule { uid: true, ..rule(verb, SELECTED) }
}
const fn refreshing(verb: &'static str, states: u8) -> Rule {
    Rule { refresh: true, ..rule(verb, states) }
}

const COMMANDS: &[Rule] = &[
    rule("CAPABILITY", ANY),
    refreshing("NOOP", ANY),
    rule("LOGOUT", ANY),
    rule("ID", ANY),
    rule("STARTTLS", NOT_AUTHENTICATED),
    rule("AUTHENTICATE", NOT_AUTHENTICATED),
    rule("LOGIN", NOT_AUTHENTICATED),
    rule("ENABLE", LOGGED_IN),
    rule("SELECT", LOGGED_IN),
    rule("EXAMINE", LOGGED_IN),
    rule("CREATE", LOGGED_IN),
    rule("DELETE", LOGGED_IN),
    rule("RENAME", LOGGED_IN),
    rule("SUBSCRIBE", LOGGED_IN),
    rule("UNSUBSCRIBE", LOGGED_IN),
    rule("LIST", LOGGED_IN),
    rule("LSUB", LOGGED_IN),
    rule("NAMESPACE", LOGGED_IN),
    rule("STATUS", LOGGED_IN),
    rule("IDLE", LOGGED_IN),
    refreshing("CHECK", SELECTED),
    rule("CLOSE", SELECTED),
    rule("UNSELECT", SELECTED),
    rule("EXPUNGE", SELECTED),
    by_uid("UID EXPUNGE"),
    by_seq("SEARCH"),
    by_uid("UID SEARCH"),
    by_seq("FETCH"),
    by_uid("UID FETCH"),
    by_seq("STORE"),
    by_uid("UID STORE"),
    rule("COPY", SELECTED),
    by_uid("UID COPY"),
    rule("MOVE", SELECTED),
    by_uid("UID MOVE"),
];

/// After APPEND, which comes as a frame of its own.
pub(super) const APPEND: Rule = rule("APPEND", LOGGED_IN);

/// Every verb that the parser knows has a row.
pub(super) fn rule_of(verb: &str) -> Option<&'static Rule> {
    COMMANDS.iter().find(|r| r.verb == verb)
}

impl Rule {
    /// For a UID command that names sequence numbers all the same.
    pub(super) fn without_expunge(&self) -> Self {
        Self { expunge: false, ..*self }
    }
    pub(super) fn allowed(&self, state: &State) -> bool {
        let bit = match state {
            State::NotAuthenticated => NOT_AUTHENTICATED,
            State::Authenticated(_) => AUTHENTICATED,
            State::Selected(..) => SELECTED,
            State::Logout => 0,
        };
        self.states & bit != 0
    }
}
