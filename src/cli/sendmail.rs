//! `sendmail`, `mailq`, `newaliases`: the names every Debian program expects.
//!
//! `sendmail` hands the message to the daemon on `submit.sock` and tells what became of it by the exit codes of
//! sysexits(3): the message is queued durably, or it is not and the caller hears why. Nothing is kept while the
//! daemon is down: 75, try again.

use super::{DEFAULT_CONFIG, Exit, queue};
use crate::{
    config::{self, Config},
    control::{
        self,
        submit::{self, Answer, Submission},
    },
    message::{address_list, header},
    spool::{Entry, State},
};
use std::{fmt::Write as _, io::Read as _, path::PathBuf};

/// Of sysexits(3).
mod code {
    pub(super) const USAGE: u8 = 64;
    pub(super) const DATA: u8 = 65;
    pub(super) const NO_USER: u8 = 67;
    pub(super) const UNAVAILABLE: u8 = 69;
    pub(super) const IO: u8 = 74;
    pub(super) const TEMPORARY: u8 = 75;
    pub(super) const NO_PERMISSION: u8 = 77;
}

/// No program mails more through standard input.
const MAX_INPUT: u64 = 512 << 20;

pub(crate) fn main(called: &str, args: &[String]) -> Exit {
    let code = match Options::parse(called, args) {
        Err(why) => complain(code::USAGE, &why),
        Ok(options) => match options.mode {
            Mode::Send => send(&options),
            Mode::Queue => mailq(),
            Mode::Aliases => newaliases(),
            Mode::Flush => flush(),
        },
    };
    if code == 0 {
        return Exit::Ok;
    }
    // Programs tell these codes apart; ours know only three.
    std::process::exit(code.into());
}

fn complain(code: u8, why: &str) -> u8 {
    eprintln!("sendmail: {why}");
    code
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Send,
    Queue,
    Aliases,
    Flush,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    mode: Mode,
    /// `-t`: recipients stand in the header.
    from_header: bool,
    /// `-i`: a line with a dot alone does not end the message.
    ignore_dots: bool,
    sender: Option<String>,
    full_name: Option<String>,
    notify: Option<String>,
    ret_full: Option<bool>,
    envid: Option<String>,
    body_8bit: bool,
    recipients: Vec<String>,
}

impl Options {
    /// As sendmail takes them: short options, some with a value attached or apart, addresses last or between.
    fn parse(called: &str, args: &[String]) -> Result<Self, String> {
        let mode = match called {
            "mailq" => Mode::Queue,
            "newaliases" => Mode::Aliases,
            _ => Mode::Send,
        };
        let mut o = Self { mode, ..Self::default() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let Some(flag) = arg.strip_prefix('-').filter(|f| !f.is_empty()) else {
                o.recipients.push(arg.clone());
                continue;
            };
            if flag == "-" {
                o.recipients.extend(args.by_ref().cloned());
                break;
            }
            let (name, attached) = flag.split_at(flag.chars().next().map_or(0, char::len_utf8));
            match name {
                "t" | "i" | "v" | "n" | "m" | "U" | "G" | "x" => o.switches(flag)?,
                "b" => o.mode(attached)?,
                "o" => o.dash_o(if attached.is_empty() { args.next().map_or("", String::as_str) } else { attached }),
                // `-q30m` would start a daemon that looks every half hour; `-q` alone looks now.
                "q" => o.mode = Mode::Flush,
                "f" | "r" | "F" | "N" | "R" | "V" | "O" | "B" | "C" | "h" | "L" | "p" | "d" | "X" | "A" => {
                    let value = if attached.is_empty() { args.next().ok_or_else(|| format!("-{name} needs a value"))? } else { attached };
                    o.value(name, value)?;
                }
                _ => return Err(format!("unknown option -{flag}")),
            }
        }
        Ok(o)
    }

    /// Options without value may stand together: `-ti`.
    fn switches(&mut self, flags: &str) -> Result<(), String> {
        for c in flags.chars() {
            match c {
                't' => self.from_header = true,
                'i' => self.ignore_dots = true,
                'v' | 'n' | 'm' | 'U' | 'G' | 'x' => {}
                _ => return Err(format!("unknown option -{flags}")),
            }
        }
        Ok(())
    }

    fn mode(&mut self, which: &str) -> Result<(), String> {
        match which {
            "m" => self.mode = Mode::Send,
            "p" => self.mode = Mode::Queue,
            "i" => self.mode = Mode::Aliases,
            "s" => return Err("-bs is not offered: speak SMTP to port 25, or give the message on standard input".to_owned()),
            "d" | "D" => return Err("-bd: the daemon is started by systemd, or with `gatepost serve`".to_owned()),
            other => return Err(format!("-b{other} is not offered")),
        }
        Ok(())
    }

    /// `-oi`, `-o i`, `-oi=…`, and the many that do nothing here (`-oem`, `-odb`).
    fn dash_o(&mut self, option: &str) {
        if option == "i" || option == "7" {
            self.ignore_dots |= option == "i";
        }
    }

    fn value(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "f" | "r" => self.sender = Some(if value.is_empty() { "<>".to_owned() } else { value.to_owned() }),
            "F" => self.full_name = Some(value.to_owned()),
            "N" => self.notify = Some(value.to_owned()),
            "V" => self.envid = Some(value.to_owned()),
            "R" => self.ret_full = Some(value.eq_ignore_ascii_case("full")),
            "B" => self.body_8bit = value.eq_ignore_ascii_case("8bitmime"),
            _ => {}
        }
        Ok(())
    }
}

fn config_file() -> PathBuf {
    std::env::var_os("GATEPOST_CONFIG").map_or_else(|| PathBuf::from(DEFAULT_CONFIG), PathBuf::from)
}

/// Where the sockets are. Users need not be able to read the configuration.
fn run_folder() -> PathBuf {
    config::load(&config_file()).map_or_else(|_| PathBuf::from("/run/gatepost"), |(c, _)| c.run)
}

fn send(options: &Options) -> u8 {
    let mut input = Vec::new();
    match std::io::stdin().lock().take(MAX_INPUT + 1).read_to_end(&mut input) {
        Err(e) => return complain(code::IO, &format!("cannot read the message: {e}")),
        Ok(_) if input.len() as u64 > MAX_INPUT => return complain(code::UNAVAILABLE, "the message is too large"),
        Ok(_) => {}
    }
    let message = wire(&input, options.ignore_dots);
    let mail = match submission(options, message) {
        Ok(mail) => mail,
        Err(why) => return complain(code::USAGE, &why),
    };
    let run = run_folder();
    match submit::send(&run, &mail) {
        Ok(answer) => finish(&answer),
        Err(e) => complain(code::TEMPORARY, &format!("the daemon does not answer at {}: {e}", run.join(control::SUBMIT).display())),
    }
}

fn finish(answer: &Answer) -> u8 {
    let text = queue::printable(&answer.text);
    match (answer.code, text.get(4..9)) {
        (200..=299, _) => 0,
        (400..=499, _) => complain(code::TEMPORARY, &text),
        (_, Some("5.1.1")) => complain(code::NO_USER, &text),
        (_, Some("5.7.1")) => complain(code::NO_PERMISSION, &text),
        (_, Some("5.1.3" | "5.6.0" | "5.4.6")) => complain(code::DATA, &text),
        _ => complain(code::UNAVAILABLE, &text),
    }
}

fn submission(options: &Options, mut message: Vec<u8>) -> Result<Submission, String> {
    let mut recipients = options.recipients.clone();
    if options.from_header {
        let listed: Vec<String> = ["to", "cc", "bcc"]
            .into_iter()
            .flat_map(|name| header::find_all(&message, name).flat_map(|f| address_list::mailboxes(f.value())).collect::<Vec<_>>())
            .filter_map(|m| m.address().map(|a| a.to_string()).or_else(|| bare_name(&m)))
            .collect();
        recipients.extend(listed);
    }
    let mut seen = std::collections::HashSet::new();
    recipients.retain(|r| seen.insert(r.clone()));
    if recipients.is_empty() {
        return Err("no recipients: name them, or use -t with To, Cc or Bcc in the message".to_owned());
    }
    if header::find(&message, "from").is_none()
        && let Some(name) = &options.full_name
    {
        let address = options.sender.clone().filter(|s| s.contains('@')).or_else(own_address);
        if let Some(address) = address {
            let mut with = format!("From: {} <{address}>\r\n", phrase(name)).into_bytes();
            with.append(&mut message);
            message = with;
        }
    }
    let body_8bit = options.body_8bit || !message.is_ascii();
    Ok(Submission {
        sender: options.sender.clone(),
        recipients,
        notify: options.notify.clone(),
        ret_full: options.ret_full,
        envid: options.envid.clone(),
        body_8bit,
        message,
    })
}

/// `To: root`: a name alone is one of ours.
fn bare_name(m: &address_list::Mailbox) -> Option<String> {
    let name = std::str::from_utf8(&m.local).ok()?;
    (m.domain.is_empty() && !name.is_empty()).then(|| name.to_owned())
}

fn own_address() -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
    let host = config::load(&config_file()).map_or_else(|_| None, |(c, _)| Some(c.hostname));
    let host = host.or_else(|| nix::unistd::gethostname().ok()?.into_string().ok())?;
    Some(format!("{}@{host}", user.name))
}

/// A display name, quoted when it is not only words (RFC 5322 §3.2.5).
fn phrase(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).collect();
    if clean.chars().all(|c| c.is_alphanumeric() || c == ' ' || c == '-') {
        clean
    } else {
        format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// CRLF line ends, no mbox `From ` line, and without `-i` the end at a line with a dot alone.
fn wire(input: &[u8], ignore_dots: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() + input.len() / 32);
    let mut lines = input.split_inclusive(|b| *b == b'\n').peekable();
    lines.next_if(|first| first.starts_with(b"From ") || first.starts_with(b">From "));
    for line in lines {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == b"." && !ignore_dots {
            break;
        }
        // A lone CR is no line end anywhere, and other servers refuse or misread it.
        out.extend(line.iter().filter(|b| **b != b'\r'));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The daemon looks at the aliases again; there is no database to rebuild.
fn newaliases() -> u8 {
    println!("gatepost reads aliases as they are; nothing needs to be rebuilt.");
    match config::load(&config_file()).map(|(config, _)| control::ask(&config, "reload")) {
        Ok(Ok(text)) => print!("{text}"),
        Ok(Err(why)) => eprintln!("newaliases: not reloaded: {why}"),
        Err(_) => eprintln!("newaliases: not reloaded: the configuration cannot be read"),
    }
    0
}

fn flush() -> u8 {
    match config::load(&config_file()).map(|(config, _)| control::queue_do(&config, "retry", "all")) {
        Ok(Ok(_)) => 0,
        Ok(Err(why)) => complain(code::TEMPORARY, &why.to_string()),
        Err(_) => complain(code::UNAVAILABLE, "the configuration cannot be read"),
    }
}

fn mailq() -> u8 {
    let config: Config = match config::load(&config_file()) {
        Ok((config, _)) => config,
        Err(problems) => return complain(code::UNAVAILABLE, &problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    };
    match queue::entries(&config) {
        Ok(entries) => {
            queue::say(&postfix_table(&entries));
            0
        }
        Err(why) => complain(code::UNAVAILABLE, &why),
    }
}

/// As Postfix prints it, for the scripts that read it: `!` is on hold.
fn postfix_table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "Mail queue is empty\n".to_owned();
    }
    let mut out = String::from("-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n");
    for e in entries {
        let sender = e.sender.as_ref().map_or_else(|| "MAILER-DAEMON".to_owned(), ToString::to_string);
        let id = format!("{}{}", e.id, if e.held { "!" } else { " " });
        let _ = writeln!(out, "{id:<12}{:>8} {} {}", e.size, arrival(e), queue::printable(&sender));
        for r in e.recipients.iter().filter(|r| r.state == State::Pending) {
            if let Some(why) = &r.last_error {
                let host = r.remote.as_ref().map_or_else(String::new, |h| format!("host {h} said: "));
                let _ = writeln!(out, "{:>40}", format!("({host}{})", queue::printable(why)));
            }
            let _ = writeln!(out, "{:41} {}", "", queue::printable(&r.address.to_string()));
        }
        out.push('\n');
    }
    let kbytes = entries.iter().map(|e| e.size).sum::<u64>().div_ceil(1024);
    let _ = writeln!(out, "-- {kbytes} Kbytes in {} Request{}.", entries.len(), if entries.len() == 1 { "" } else { "s" });
    out
}

/// `Tue Nov 24 11:35:46`, in UTC.
fn arrival(e: &Entry) -> String {
    let date = queue::date(e.arrived);
    let words: Vec<&str> = date.split([' ', ',']).filter(|w| !w.is_empty()).collect();
    match words.as_slice() {
        [weekday, day, month, _, time, ..] => format!("{weekday} {month} {day:>2} {time} "),
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        message::Address,
        spool::{QueueId, Recipient},
    };
    use std::time::{Duration, UNIX_EPOCH};

    fn parse(called: &str, line: &str) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(called, &args)
    }

    /// Lines that real programs use.
    #[test]
    fn options() {
        let rcpt = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let cases: &[(&str, Options)] = &[
            (
                "-FCronDaemon -i -B8BITMIME -oem root",
                Options {
                    full_name: Some("CronDaemon".into()),
                    ignore_dots: true,
                    body_8bit: true,
                    recipients: rcpt(&["root"]),
                    ..Options::default()
                },
            ),
            ("-t -i", Options { from_header: true, ignore_dots: true, ..Options::default() }),
            ("-ti", Options { from_header: true, ignore_dots: true, ..Options::default() }),
            (
                "-oi -f a@b.example -- -c@d.example",
                Options { ignore_dots: true, sender: Some("a@b.example".into()), recipients: rcpt(&["-c@d.example"]), ..Options::default() },
            ),
            ("-fa@b.example -odb x y", Options { sender: Some("a@b.example".into()), recipients: rcpt(&["x", "y"]), ..Options::default() }),
            ("-f <> x", Options { sender: Some("<>".into()), recipients: rcpt(&["x"]), ..Options::default() }),
            (
                "-r a@b.example -N success,delay -R full -V ID7 x",
                Options {
                    sender: Some("a@b.example".into()),
                    notify: Some("success,delay".into()),
                    ret_full: Some(true),
                    envid: Some("ID7".into()),
                    recipients: rcpt(&["x"]),
                    ..Options::default()
                },
            ),
            ("-O DeliveryMode=b -v x", Options { recipients: rcpt(&["x"]), ..Options::default() }),
            ("-o i x", Options { ignore_dots: true, recipients: rcpt(&["x"]), ..Options::default() }),
            ("-bp", Options { mode: Mode::Queue, ..Options::default() }),
            ("-bi", Options { mode: Mode::Aliases, ..Options::default() }),
            ("-q", Options { mode: Mode::Flush, ..Options::default() }),
            ("-bm x", Options { recipients: rcpt(&["x"]), ..Options::default() }),
        ];
        for (line, want) in cases {
            assert_eq!(parse("sendmail", line).as_ref(), Ok(want), "{line}");
        }
        assert_eq!(parse("mailq", "").map(|o| o.mode), Ok(Mode::Queue));
        assert_eq!(parse("newaliases", "").map(|o| o.mode), Ok(Mode::Aliases));
        for line in ["-bs", "-bd", "-bz", "-Z", "-tz", "-f"] {
            assert!(parse("sendmail", line).is_err(), "{line}");
        }
        assert_eq!(Options::parse("sendmail", &["-f".into(), String::new(), "x".into()]).map(|o| o.sender), Ok(Some("<>".into())));
    }

    #[test]
    fn lines_go_out_as_the_wire_wants_them() {
        const CASES: &[(&[u8], bool, &[u8])] = &[
            (b"A: b\n\nx\n", true, b"A: b\r\n\r\nx\r\n"),
            (b"A: b\r\n\r\nx", true, b"A: b\r\n\r\nx\r\n"),
            (b"a\n.\nb\n", false, b"a\r\n"),
            (b"a\n.\nb\n", true, b"a\r\n.\r\nb\r\n"),
            (b"a\n..\n", false, b"a\r\n..\r\n"),
            (b"From alice Tue\nA: b\n", true, b"A: b\r\n"),
            (b"A: b\nFrom x\n", true, b"A: b\r\nFrom x\r\n"),
            (b"a\rb\n", true, b"ab\r\n"),
            (b"", true, b""),
        ];
        for (input, ignore, want) in CASES {
            assert_eq!(wire(input, *ignore), *want, "{:?}", String::from_utf8_lossy(input));
        }
    }

    #[test]
    fn recipients_from_the_header() {
        let o = Options {
            from_header: true,
            recipients: vec!["x@y.example".into()],
            full_name: Some("Al Ice, Jr.".into()),
            sender: Some("a@b.example".into()),
            ..Options::default()
        };
        let message =
            b"To: Bob <bob@c.example>, root\r\nCc: friends: x@y.example, d@e.example;\r\nBCC: \"q q\"@r.example\r\n\r\nTo: no@no.example\r\n";
        let mail = submission(&o, message.to_vec()).expect("recipients");
        assert_eq!(mail.recipients, ["x@y.example", "bob@c.example", "root", "d@e.example", "\"q q\"@r.example"]);
        assert!(mail.message.starts_with(b"From: \"Al Ice, Jr.\" <a@b.example>\r\nTo: "));
        assert!(submission(&Options { from_header: true, ..Options::default() }, b"A: b\r\n\r\n".to_vec()).is_err());
    }

    #[test]
    fn answers_become_exit_codes() {
        const CASES: &[(&str, u8)] = &[
            ("250 2.0.0 Ok: queued as 7DK2M9QX4R", 0),
            ("452 4.3.1 The disk is full", 75),
            ("550 5.1.1 <x@y> is not a mailbox here", 67),
            ("553 5.7.1 Local user x may not send as", 77),
            ("501 5.1.3 \"x\" is not an address", 65),
            ("552 5.3.4 too big", 69),
            ("550", 69),
        ];
        for (text, want) in CASES {
            let code = text.get(..3).and_then(|c| c.parse().ok()).expect("a code");
            assert_eq!(finish(&Answer { code, text: (*text).to_owned() }), *want, "{text}");
        }
    }

    #[test]
    fn mailq_prints_what_scripts_read() {
        let arrived = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
        let mut to = Recipient::new(Address::parse("c@d.example").expect("an address"));
        to.last_error = Some("450 4.2.0 Try later".into());
        to.remote = Some("mx.d.example".into());
        let e = Entry {
            id: QueueId::parse("7DK2M9QX4R").expect("an id"),
            arrived,
            sender: Address::parse("a@b.example"),
            size: 4711,
            body_8bit: false,
            smtputf8: false,
            ret_full: None,
            envid: None,
            recipients: vec![to],
            attempts: 1,
            next: arrived,
            held: true,
            warned: false,
        };
        let want = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n\
                    7DK2M9QX4R!     4711 Mon Nov 24 16:00:00  a@b.example\n\
                    (host mx.d.example said: 450 4.2.0 Try later)\n                                          c@d.example\n\n\
                    -- 5 Kbytes in 1 Request.\n";
        assert_eq!(postfix_table(&[e]), want);
        assert_eq!(postfix_table(&[]), "Mail queue is empty\n");
    }
}
