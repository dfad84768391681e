//! The part of a notification that people read.

use std::fmt::Write as _;

use super::{Action, Report, Reported, Returned, explain};
use crate::message::{date, decode, header};

impl Report<'_> {
    /// What people read.
    pub(super) fn text(&self, original: &[u8], whole: bool) -> String {
        let mut text = format!("This is the mail server {}.\n", self.reporting_mta);
        let groups: [(&[Action], &str); 4] = [
            (&[Action::Failed], "Your message could not be delivered to the recipients below. It will not be tried again."),
            (
                &[Action::Delayed],
                "Your message could not be delivered yet to the recipients below. We keep trying; there is no need to send it again.",
            ),
            (&[Action::Delivered, Action::Expanded], "Your message was delivered to the recipients below."),
            (&[Action::Relayed], "Your message was handed on for the recipients below, to servers that will not tell more."),
        ];
        for (actions, heading) in groups {
            let members = self.recipients.iter().filter(|r| actions.contains(&r.action));
            for (n, recipient) in members.enumerate() {
                if n == 0 {
                    let _ = write!(text, "\n{}", wrap(heading, ""));
                }
                text.push_str(&recipient.text());
            }
        }
        text.push_str("\nThe message:\n");
        for name in ["Subject", "Date", "To"] {
            if let Some(field) = header::find(original, name) {
                let value = one_line(&decode::encoded_words(&header::unfold(field.value())));
                let _ = writeln!(text, "    {name}: {value}");
            }
        }
        let _ = writeln!(text, "    Received here: {}\n    Queue id: {}", date::rfc5322(self.arrival), self.queue_id);
        if matches!(self.returned, Returned::Full(_)) && !whole {
            text.push_str("\nIt is too large to be returned whole; its header is attached.\n");
        }
        text
    }
}

impl Reported<'_> {
    fn text(&self) -> String {
        let mut text = format!("\n  <{}>\n", self.recipient);
        if matches!(self.action, Action::Failed | Action::Delayed) {
            let explained = explain(self.status);
            text.push_str(&wrap(explained.cause, "    "));
            if self.action == Action::Failed {
                text.push_str(&wrap(explained.advice, "    "));
            }
        }
        if let Some(unix) = self.will_retry_until.filter(|_| self.action == Action::Delayed) {
            let _ = writeln!(text, "    We try until {}.", date::rfc5322(unix));
        }
        match (self.remote_mta, self.diagnostic) {
            (Some(host), Some(said)) => text.push_str(&wrap(&format!("{} said: {}", one_line(host), one_line(said)), "    ")),
            (None, Some(said)) => text.push_str(&wrap(&format!("The reason in full: {}", one_line(said)), "    ")),
            (Some(host), None) => text.push_str(&wrap(&format!("By way of {}.", one_line(host)), "    ")),
            (None, None) => {}
        }
        text
    }
}

/// For the text: one line, not endless.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(1000).collect()
}

/// Filled to 76 columns, with a line end.
fn wrap(text: &str, indent: &str) -> String {
    let mut out = String::from(indent);
    let mut column = indent.len();
    for (n, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if n > 0 && column + 1 + width > 76 {
            let _ = write!(out, "\n{indent}");
            column = indent.len();
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
    out
}
