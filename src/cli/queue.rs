//! `gatepost queue`: look at and act on the outbound queue.
//!
//! The daemon is asked; when it is down, `list` and `show` read the spool themselves and say so.

use super::{Exit, trouble};
use crate::{
    config::{self, Config},
    control::{self, AskError},
    message::date,
    spool::{self, Entry, QueueId, Recipient, State},
};
use argh::FromArgs;
use std::{
    fmt::Write as _,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// look at and act on the outbound queue
#[derive(FromArgs)]
#[argh(subcommand, name = "queue")]
pub(crate) struct Args {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Verb {
    List(List),
    Show(Show),
    Retry(Retry),
    Hold(Hold),
    Release(Release),
    Drop(DropThem),
}

/// all entries, oldest first
#[derive(FromArgs)]
#[argh(subcommand, name = "list")]
struct List {
    /// as JSON
    #[argh(switch)]
    json: bool,
}

/// one entry with all its recipients
#[derive(FromArgs)]
#[argh(subcommand, name = "show")]
struct Show {
    /// queue id
    #[argh(positional)]
    id: String,
    /// as JSON
    #[argh(switch)]
    json: bool,
}

/// attempt delivery now
#[derive(FromArgs)]
#[argh(subcommand, name = "retry")]
struct Retry {
    /// queue id, recipient domain, or all
    #[argh(positional)]
    which: String,
    /// as JSON
    #[argh(switch)]
    json: bool,
}

/// make no attempts until released
#[derive(FromArgs)]
#[argh(subcommand, name = "hold")]
struct Hold {
    /// queue id, recipient domain, or all
    #[argh(positional)]
    which: String,
    /// as JSON
    #[argh(switch)]
    json: bool,
}

/// let go what was held, and attempt it now
#[derive(FromArgs)]
#[argh(subcommand, name = "release")]
struct Release {
    /// queue id, recipient domain, or all
    #[argh(positional)]
    which: String,
    /// as JSON
    #[argh(switch)]
    json: bool,
}

/// remove from the queue; nobody is told
#[derive(FromArgs)]
#[argh(subcommand, name = "drop")]
struct DropThem {
    /// queue id, recipient domain, or all
    #[argh(positional)]
    which: String,
    /// as JSON
    #[argh(switch)]
    json: bool,
}

pub(crate) fn run(args: &Args, config: &Path) -> Exit {
    let config = match config::load(config) {
        Ok((config, _)) => config,
        Err(problems) => {
            let lines: Vec<String> = problems.iter().filter(|p| !p.warning).map(ToString::to_string).collect();
            return trouble(&lines.join("\n"));
        }
    };
    match &args.verb {
        Verb::List(a) => list(&config, a.json),
        Verb::Show(a) => show(&config, &a.id, a.json),
        Verb::Retry(a) => act(&config, "retry", &a.which, a.json),
        Verb::Hold(a) => act(&config, "hold", &a.which, a.json),
        Verb::Release(a) => act(&config, "release", &a.which, a.json),
        Verb::Drop(a) => act(&config, "drop", &a.which, a.json),
    }
}

/// The daemon's table, or the spool when it is down.
pub(super) fn entries(config: &Config) -> Result<Vec<Entry>, String> {
    let down = match control::queue(config) {
        Ok(entries) => return Ok(entries),
        Err(e @ AskError::Down(..)) => e,
        Err(e) => return Err(e.to_string()),
    };
    let entries = spool::peek(&config.state.join("spool")).map_err(|e| format!("{down}; {e}"))?;
    eprintln!("gatepost: {down}; reading the spool itself");
    Ok(entries)
}

fn list(config: &Config, json: bool) -> Exit {
    match entries(config) {
        Err(why) => trouble(&why),
        Ok(entries) if json => {
            let items: Vec<String> = entries.iter().map(to_json).collect();
            say(&format!("[{}]\n", items.join(",\n ")))
        }
        Ok(entries) => say(&table(&entries, SystemTime::now())),
    }
}

fn show(config: &Config, id: &str, json: bool) -> Exit {
    let Some(id) = QueueId::parse(id) else { return trouble(&format!("{id} is no queue id; `gatepost queue list` shows them")) };
    match entries(config) {
        Err(why) => trouble(&why),
        Ok(entries) => match entries.iter().find(|e| e.id == id) {
            None => {
                eprintln!("gatepost: {id} is not in the queue");
                Exit::Found
            }
            Some(e) if json => say(&format!("{}\n", to_json(e))),
            Some(e) => say(&details(e, &config.state.join("spool"))),
        },
    }
}

fn act(config: &Config, verb: &str, which: &str, json: bool) -> Exit {
    if which.is_empty() || which.contains(char::is_whitespace) {
        return trouble("give a queue id, a recipient domain, or all");
    }
    let ids = match control::queue_do(config, verb, which) {
        Ok(ids) => ids,
        Err(e) => return trouble(&e.to_string()),
    };
    if json {
        let items: Vec<String> = ids.iter().map(|id| quote(id.as_str())).collect();
        say(&format!("[{}]\n", items.join(", ")));
    } else {
        say(&ids.iter().fold(String::new(), |text, id| text + &format!("{verb} {id}\n")));
    }
    if !ids.is_empty() {
        return Exit::Ok;
    }
    if !json {
        eprintln!("gatepost: nothing in the queue matches {which}");
    }
    Exit::Found
}

/// A reader that has seen enough (`| head`) is no error.
pub(super) fn say(text: &str) -> Exit {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Exit::Ok
}

fn sender(e: &Entry) -> String {
    e.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string)
}

fn waiting(e: &Entry) -> impl Iterator<Item = &Recipient> {
    e.recipients.iter().filter(|r| r.state == State::Pending)
}

fn table(entries: &[Entry], now: SystemTime) -> String {
    if entries.is_empty() {
        return "The queue is empty.\n".to_owned();
    }
    let mut out = String::from("ID          AGE    SIZE   TRIES  NEXT    SENDER -> RECIPIENTS\n");
    for e in entries {
        let next = if e.held { "held".to_owned() } else { e.next.duration_since(now).map_or_else(|_| "now".to_owned(), |d| short(d.as_secs())) };
        let age = short(now.duration_since(e.arrived).unwrap_or_default().as_secs());
        let to: Vec<String> = waiting(e).map(|r| r.address.to_string()).collect();
        let _ = writeln!(
            out,
            "{:<11} {age:<6} {:<6} {:<6} {next:<7} {} -> {}",
            e.id,
            size(e.size),
            e.attempts,
            printable(&sender(e)),
            printable(&to.join(", "))
        );
        if let Some(error) = waiting(e).find_map(|r| r.last_error.as_ref()) {
            let _ = writeln!(out, "            {}", printable(error));
        }
    }
    out
}

fn details(e: &Entry, spool: &Path) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{key:<10} {}", printable(&value));
    };
    line("id", e.id.to_string());
    line("arrived", date(e.arrived));
    line("sender", sender(e));
    line("size", e.size.to_string());
    line("attempts", e.attempts.to_string());
    line("next", if e.held { "held".to_owned() } else { date(e.next) });
    line("message", spool.join(format!("{}.msg", e.id)).display().to_string());
    for r in &e.recipients {
        line("to", format!("{} {}", r.address, state(r)));
        if let Some(original) = &r.original {
            line("", format!("as {original}"));
        }
        let said = r.last_error.as_ref().or(if let State::Failed(why) = &r.state { Some(why) } else { None });
        if let Some(said) = said {
            line("", r.remote.as_ref().map_or_else(|| said.clone(), |host| format!("{host}: {said}")));
        }
    }
    out
}

fn state(r: &Recipient) -> &'static str {
    match r.state {
        State::Pending => "waiting",
        State::Delivered => "delivered",
        State::Failed(_) => "failed",
    }
}

fn to_json(e: &Entry) -> String {
    let recipients: Vec<String> = e
        .recipients
        .iter()
        .map(|r| {
            let reply = r.last_error.as_deref().or(if let State::Failed(why) = &r.state { Some(why) } else { None });
            format!(
                r#"{{"address": {}, "state": {}, "original": {}, "host": {}, "reply": {}}}"#,
                quote(&r.address.to_string()),
                quote(state(r)),
                optional(r.original.as_deref()),
                optional(r.remote.as_deref()),
                optional(reply)
            )
        })
        .collect();
    format!(
        r#"{{"id": {}, "arrived": {}, "sender": {}, "size": {}, "attempts": {}, "next": {}, "held": {}, "recipients": [{}]}}"#,
        quote(e.id.as_str()),
        unix(e.arrived),
        optional(e.sender.as_ref().map(ToString::to_string).as_deref()),
        e.size,
        e.attempts,
        unix(e.next),
        e.held,
        recipients.join(", ")
    )
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), quote)
}

/// A JSON string (RFC 8259 §7).
/// RFC 8259 §7.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What remote hosts said goes to a terminal: no control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn unix(t: SystemTime) -> u64 {
    t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

pub(super) fn date(t: SystemTime) -> String {
    date::rfc5322(i64::try_from(unix(t)).unwrap_or(i64::MAX))
}

/// `45s`, `12m`, `3h`, `5d`.
fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `831`, `12K`, `5M`.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => bytes.to_string(),
        1024..1_048_576 => format!("{}K", bytes / 1024),
        _ => format!("{}M", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Address;
    use std::time::Duration;

    fn entry() -> Entry {
        let arrived = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let mut to = Recipient::new(Address::parse("c@d.example").expect("an address"));
        to.last_error = Some("451 4.4.1 mx: \x1b[2J \"refused\"".into());
        to.remote = Some("mx.d.example".into());
        let mut gone = Recipient::new(Address::parse("e@d.example").expect("an address"));
        gone.state = State::Delivered;
        Entry {
            id: QueueId::parse("7DK2M9QX4R").expect("an id"),
            arrived,
            sender: None,
            size: 4711,
            body_8bit: false,
            smtputf8: false,
            ret_full: None,
            envid: None,
            recipients: vec![to, gone],
            attempts: 2,
            next: arrived + Duration::from_secs(4000),
            held: false,
            warned: false,
        }
    }

    #[test]
    fn a_table_for_people() {
        let now = UNIX_EPOCH + Duration::from_secs(1_764_000_700);
        let want = "ID          AGE    SIZE   TRIES  NEXT    SENDER -> RECIPIENTS\n\
                    7DK2M9QX4R  11m    4K     2      55m     <> -> c@d.example\n            451 4.4.1 mx: ?[2J \"refused\"\n";
        assert_eq!(table(&[entry()], now), want);
        assert_eq!(table(&[], now), "The queue is empty.\n");
        let held = Entry { held: true, ..entry() };
        assert!(table(&[held], now).contains(" held "));
        assert!(table(&[entry()], now + Duration::from_secs(9000)).contains(" now "));
    }

    #[test]
    fn json_for_programs() {
        let want = r#"{"id": "7DK2M9QX4R", "arrived": 1764000000, "sender": null, "size": 4711, "attempts": 2, "next": 1764004000, "held": false, "recipients": [{"address": "c@d.example", "state": "waiting", "original": null, "host": "mx.d.example", "reply": "451 4.4.1 mx: \u001b[2J \"refused\""}, {"address": "e@d.example", "state": "delivered", "original": null, "host": null, "reply": null}]}"#;
        assert_eq!(to_json(&entry()), want.replace(r#" "refused""#, r#" \"refused\""#).replace(r#"\\""#, r#"\""#));
    }

    #[test]
    fn details_name_every_recipient() {
        let text = details(&entry(), Path::new("/var/lib/gatepost/spool"));
        for want in ["to         c@d.example waiting", "mx.d.example: 451", "to         e@d.example delivered", "spool/7DK2M9QX4R.msg"] {
            assert!(text.contains(want), "{want:?} in {text}");
        }
    }
}
