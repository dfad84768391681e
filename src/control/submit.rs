//! Local submission: what `sendmail` says to the daemon on `submit.sock`.
//!
//! ```text
//! C: sender alice@example.org          none: the user at this host. `sender <>`: the null sender
//! C: to bob@example.net                once for each recipient; a name alone is one of ours
//! C: notify success,failure            for those that follow (RFC 3461); ret full (or hdrs), envid X, 8bit
//! C: data 4711                         and so many octets: a message cut short is not mail
//! S: 250 2.0.0 Ok: queued as 7DK2M9QX4R
//! ```
//! The answer is one line as in SMTP. All recipients are taken, or none.

use super::{IDLE, SUBMIT, line, talk, timeout};
use crate::{
    disk::Draft,
    journal::Line,
    message::{Address, dsn},
    mta::{Client, MailParams, Mta, Notify, Origin, QueueId, Recipient, Refusal, Transaction},
};
use smol::{
    Async,
    future::FutureExt as _,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};
use std::{fmt::Write as _, io, os::unix::net::UnixStream, path::Path, rc::Rc, time::Duration};

/// For a whole submission: places here are few, and a local program that dribbles must not keep one.
const TOTAL: Duration = Duration::from_secs(300);

/// What a local program hands in. Addresses as typed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Submission {
    /// `None`: whoever runs this; `<>`: nobody.
    pub sender: Option<String>,
    pub recipients: Vec<String>,
    pub notify: Option<String>,
    pub ret_full: Option<bool>,
    pub envid: Option<String>,
    pub body_8bit: bool,
    /// With CRLF line ends.
    pub message: Vec<u8>,
}

/// The daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub code: u16,
    /// The whole line.
    pub text: String,
}

/// The client's end; blocking. `Err`: the daemon is not there.
pub fn send(run: &Path, mail: &Submission) -> io::Result<Answer> {
    let mut head = String::new();
    if let Some(sender) = &mail.sender {
        let _ = writeln!(head, "sender {}", one_line(sender));
    }
    if let Some(notify) = &mail.notify {
        let _ = writeln!(head, "notify {}", one_line(notify));
    }
    if let Some(full) = mail.ret_full {
        head.push_str(if full { "ret full\n" } else { "ret hdrs\n" });
    }
    if mail.body_8bit {
        head.push_str("8bit\n");
    }
    if let Some(envid) = &mail.envid {
        let _ = writeln!(head, "envid {}", one_line(envid));
    }
    for to in &mail.recipients {
        let _ = writeln!(head, "to {}", one_line(to));
    }
    let _ = writeln!(head, "data {}", mail.message.len());
    let mut request = head.into_bytes();
    request.extend_from_slice(&mail.message);
    let text = talk(&run.join(SUBMIT), &request, TOTAL + IDLE)?.trim_end().to_owned();
    let code = text.get(..3).and_then(|c| c.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { code, text })
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// The daemon's end.
pub(super) async fn serve(mta: Rc<Mta>, mut stream: Async<UnixStream>, uid: u32) {
    // The user database may be far away.
    let user = smol::unblock(move || nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|u| u.name)).await;
    let user = user.unwrap_or_else(|| format!("uid{uid}"));
    let id = mta.queue_id();
    // Only the reading is given up: what is being filed is not left half way.
    let late = async {
        smol::Timer::after(TOTAL).await;
        Err(cut_short(io::ErrorKind::TimedOut.into()))
    };
    let taken = match receive(&mta, &mut stream, &user, id.clone()).or(late).await {
        Ok(transaction) => mta.accept(transaction).await,
        Err(no) => Err(no),
    };
    let answer = match taken {
        Ok(text) => format!("250 2.0.0 {text}\n"),
        Err(no) => {
            Line::info("control", "refuse").with("qid", &id).with("user", &user).with("reply", &no).with_some("cause", no.cause.as_ref()).send();
            format!("{no}\n")
        }
    };
    let _ = stream.write_all(answer.as_bytes()).or(timeout()).await;
}

async fn receive(mta: &Rc<Mta>, stream: &mut Async<UnixStream>, user: &str, id: QueueId) -> Result<Transaction, Refusal> {
    let config = mta.config.get();
    let mut t = Transaction {
        id,
        client: Client {
            origin: Origin::Local(user.to_owned()),
            address: None,
            helo: config.hostname.clone(),
            tls: None,
            with: "LOCAL",
            conn: "local".to_owned(),
        },
        sender: Address::parse(&format!("{user}@{}", config.hostname)),
        params: MailParams::default(),
        recipients: Vec::new(),
        draft: Draft::new(),
    };
    let mut notify = Notify::default();
    let size = loop {
        let text = line(stream).or(timeout()).await.map_err(cut_short)?;
        let (key, value) = text.split_once(' ').unwrap_or((&text, ""));
        match key {
            "sender" if value == "<>" => t.sender = None,
            "sender" => t.sender = Some(address(mta, value)?),
            "to" if t.recipients.len() >= config.limits.recipients => {
                return Err(Refusal::new(452, (4, 5, 3), format!("More than {} recipients", config.limits.recipients)));
            }
            "to" => t.recipients.push(Recipient { address: address(mta, value)?, notify, orcpt: None }),
            "notify" => notify = parse_notify(value).ok_or_else(|| syntax("notify"))?,
            "ret" => t.params.ret_full = Some(value == "full"),
            "8bit" => t.params.body_8bit = true,
            "envid" => t.params.envid = Some(dsn::xtext(value)),
            "data" => break value.parse::<u64>().map_err(|_| syntax("data"))?,
            _ => return Err(syntax(key)),
        }
    };
    t.params.size = Some(size);
    t.params.smtputf8 = t.sender.iter().chain(t.recipients.iter().map(|r| &r.address)).any(|a| !a.is_ascii());
    mta.mail(&t.client, t.sender.as_ref(), &t.params)?;
    for to in &t.recipients {
        mta.rcpt(&t.client, &t.params, &to.address).await?;
    }
    read(mta, stream, &mut t.draft, size).await?;
    Ok(t)
}

async fn read(mta: &Rc<Mta>, stream: &mut Async<UnixStream>, draft: &mut Draft, size: u64) -> Result<(), Refusal> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = stream.read(&mut buffer[..want]).or(timeout()).await.map_err(cut_short)?;
        if n == 0 {
            return Err(cut_short(io::ErrorKind::UnexpectedEof.into()));
        }
        draft.push(&buffer[..n]);
        left -= n as u64;
        if draft.wants_spill() {
            let (mut d, dir) = (std::mem::take(draft), mta.spool.tmp().to_owned());
            let (d, spilled) = smol::unblock(move || {
                let spilled = d.spill(&dir);
                (d, spilled)
            })
            .await;
            *draft = d;
            spilled.map_err(|e| Refusal::from(&e))?;
        }
    }
    Ok(())
}

/// A name alone means one of ours: the alias or user of that name in the first domain.
fn address(mta: &Mta, text: &str) -> Result<Address, Refusal> {
    let text = text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text);
    let bad = || Refusal::new(501, (5, 1, 3), format!("{text:?} is not an address"));
    if text.contains('@') {
        return Address::parse(text).ok_or_else(bad);
    }
    mta.local_address(text).ok_or_else(bad)
}

fn parse_notify(value: &str) -> Option<Notify> {
    let mut n = Notify::default();
    for word in value.split(',') {
        match word.trim().to_ascii_lowercase().as_str() {
            "never" => n.never = true,
            "success" => n.success = true,
            "failure" => n.failure = true,
            "delay" => n.delay = true,
            _ => return None,
        }
    }
    // RFC 3461 §4.1: NEVER stands alone.
    (!n.never || value.trim().eq_ignore_ascii_case("never")).then_some(n)
}

fn syntax(what: &str) -> Refusal {
    Refusal::new(501, (5, 5, 4), format!("{what:?}: not understood"))
}

fn cut_short(e: io::Error) -> Refusal {
    Refusal::new(451, (4, 4, 2), format!("The message did not arrive within {} seconds", IDLE.as_secs())).because(e)
}
