//! The header fields that we add: Return-Path, Delivered-To, Received (RFC 5321 §4.4), and what a submission lacks.

use super::{Client, Origin, QueueId};
use crate::{
    config::Config,
    message::{self, Address},
};
use std::{fmt::Write, time::SystemTime};

/// RFC 5321 §4.4. The client of a submission is not named unless configured: its address is where a person is.
pub(super) fn received(config: &Config, client: &Client, id: &QueueId, only: Option<&Address>, now: SystemTime) -> String {
    let mut out = String::from("Received: ");
    match &client.origin {
        Origin::Mx => from(&mut out, client),
        Origin::Submission(_) if config.smtp.submission_received_client => from(&mut out, client),
        Origin::Submission(_) => out.push_str("from localhost (authenticated)\r\n\t"),
        Origin::Local(_) | Origin::Internal => {}
    }
    let _ = write!(out, "by {}", config.hostname);
    match &client.origin {
        Origin::Local(user) => {
            let _ = write!(out, " (local user {})", atom(user));
        }
        Origin::Internal => out.push_str(" (internal)"),
        Origin::Mx | Origin::Submission(_) => {
            let _ = write!(out, " with {}", client.with);
        }
    }
    if let Some(tls) = &client.tls {
        let _ = write!(out, "\r\n\t({})", tls.split(' ').map(atom).collect::<Vec<_>>().join(" "));
    }
    let _ = write!(out, "\r\n\tid {id}");
    // One recipient, or none: several would tell each of the others (RFC 5321 §7.2).
    if let Some(to) = only {
        let _ = write!(out, " for <{to}>");
    }
    let _ = write!(out, ";\r\n\t{}\r\n", date(now));
    out
}

fn from(out: &mut String, client: &Client) {
    let helo = atom(&client.helo);
    let _ = match client.address {
        Some(ip) if ip.is_ipv6() => write!(out, "from {helo} ([IPv6:{ip}])\r\n\t"),
        Some(ip) => write!(out, "from {helo} ([{ip}])\r\n\t"),
        None => write!(out, "from {helo}\r\n\t"),
    };
}

/// What a peer or a user said of itself, safe inside a structured field.
fn atom(text: &str) -> String {
    let safe: String = text.chars().take(255).map(|c| if c.is_ascii_alphanumeric() || "-._:[]+".contains(c) { c } else { '?' }).collect();
    if safe.is_empty() { "unknown".to_owned() } else { safe }
}

/// On final delivery (RFC 5321 §4.4).
pub(super) fn return_path(sender: Option<&Address>) -> String {
    sender.map_or_else(|| "Return-Path: <>\r\n".to_owned(), |s| format!("Return-Path: <{s}>\r\n"))
}

/// Not in any RFC before 9228, but what everybody detects loops by.
pub(super) fn delivered_to(to: &str) -> String {
    format!("Delivered-To: {to}\r\n")
}

/// RFC 6409 §8: what a submission may lack and we may add.
pub(super) fn message_id(config: &Config, id: &QueueId) -> String {
    format!("<{id}.{:x}@{}>", crate::disk::unique(), config.hostname)
}

/// RFC 5322 §3.3, in UTC: a server's own zone says nothing to anybody.
pub(super) fn date(now: SystemTime) -> String {
    let unix = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    message::date::rfc5322(i64::try_from(unix).unwrap_or(i64::MAX))
}
