//! The session player: fixtures, a server of real rooms, and the dialogue.

pub(crate) mod log;

mod conn;
mod fixtures;
mod host;
mod pattern;
mod script;
mod server;

use conn::Conn;
use fixtures::Fixtures;
use pattern::{Captures, Pattern};
use script::{Action, Line, Step};
use server::Server;
use std::{
    collections::HashMap,
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a line, a message or a connection may take before the session has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays one file. The error is what a person needs on one screen.
pub(crate) fn play(file: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let script = script::read(&text).map_err(|e| format!("{}:{e}", file.display()))?;
    let log = log::Buffer::default();
    let scratch = Scratch::new();
    let place = file.parent().and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut session = Session::start(script.fixtures, &scratch.0, &place, log.clone()).map_err(|e| format!("{}: {e}", file.display()))?;
    for line in &script.lines {
        if let Err(why) = session.step(line) {
            let mut report = format!("{}:{}: {}\n", file.display(), line.number, why);
            session.report(&mut report);
            let _ = writeln!(report, "log:\n{}", log.last(25));
            return Err(report);
        }
    }
    session.end().map_err(|why| format!("{}: after the last line: {why}\nlog:\n{}", file.display(), log.last(25)))
}

/// The player itself: which text stands for which line.
pub(crate) fn check() -> Result<(), String> {
    const CASES: &[(&str, &[u8], bool)] = &[
        ("a OK …", b"a OK done", true),
        ("a OK …", b"a NO done", false),
        ("…(\\Seen)…", b"* 1 FETCH (FLAGS (\\Seen))", true),
        ("* $n EXISTS $n", b"* 12 EXISTS 12", true),
        ("* $n EXISTS $n", b"* 12 EXISTS 13", false),
        ("[$a $b]", b"[12 x]", true),
        ("$Junk $5", b"$Junk $5", true),
        ("<CR><x00><a*3>", b"\r\0aaa", true),
        ("<base64:^@alice^@sesame>", b"AGFsaWNlAHNlc2FtZQ==", true),
        ("<alice@example.org>", b"<alice@example.org>", true),
        ("x…", b"x", true),
        ("", b"x", false),
    ];
    for (text, line, want) in CASES {
        let pattern = Pattern::read(text)?;
        if pattern.matches(line, &mut Captures::default()) != *want {
            return Err(format!("`{text}` and `{}`: expected {want}", pattern::show(line)));
        }
    }
    Ok(())
}

/// A directory of this session's own, in memory where that can be had.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        let dir = base.join(format!("gatepost-session.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&dir).expect("a scratch directory can be made");
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Session {
    server: Server,
    dir: PathBuf,
    /// The service that the session's folder speaks for.
    service: &'static str,
    conns: HashMap<String, Conn>,
    captures: Captures,
    /// What was said so far, for the report.
    dialogue: Vec<String>,
    remotes: Vec<server::Remote>,
    log: log::Buffer,
    fixtures: Fixtures,
}

impl Session {
    fn start(fixtures: Fixtures, dir: &Path, place: &str, log: log::Buffer) -> Result<Self, String> {
        let remotes = server::remotes(&fixtures.remotes)?;
        let port = remotes.first().map_or(0, |r| r.port);
        let mut captures = Captures::default();
        captures.set("mxport", port.to_string().into_bytes());
        host::prepare(dir, &fixtures, port)?;
        let server = Server::start(dir, &fixtures, log.clone())?;
        let service = match place {
            "imap" => "imaps",
            "pop3" => "pop3s",
            "submission" => "submissions",
            _ => "smtp",
        };
        Ok(Self { server, dir: dir.to_owned(), service, conns: HashMap::new(), captures, dialogue: Vec::new(), remotes, log, fixtures })
    }

    fn step(&mut self, line: &Line) -> Result<(), String> {
        let who = line.conn.as_str();
        match &line.action {
            Action::Connect { service, tcp } => self.connect(who, service, *tcp),
            Action::Accept { address } => self.accept(who, address),
            Action::Host(action) => {
                self.dialogue.push(format!("    ! {}", action.first().map_or("", String::as_str)));
                self.host(action)
            }
            Action::Step(step) => self.talk(who, step),
        }
    }

    fn connect(&mut self, who: &str, service: &str, tcp: bool) -> Result<(), String> {
        let service = server::SERVICES.iter().find(|s| **s == service).ok_or(format!("no service `{service}`: {}", server::SERVICES.join(" ")))?;
        let mut conn = Conn::client(self.server.connect(service, tcp)?, service.starts_with("imap"));
        if service.ends_with('s') {
            conn.start_tls_as_client()?;
        }
        self.conns.insert(who.to_owned(), conn);
        Ok(())
    }

    fn accept(&mut self, who: &str, address: &str) -> Result<(), String> {
        let remote =
            self.remotes.iter().find(|r| r.address == address).ok_or(format!("nothing accepts on {address}: `remote {address}` is missing"))?;
        let conn = Conn::remote(remote.accept(PATIENCE)?);
        self.conns.insert(who.to_owned(), conn);
        Ok(())
    }

    fn conn(&mut self, who: &str) -> Result<&mut Conn, String> {
        if !self.conns.contains_key(who) {
            self.connect(who, self.service, false)?;
        }
        self.conns.get_mut(who).ok_or_else(|| format!("no connection [{who}]"))
    }

    fn talk(&mut self, who: &str, step: &Step) -> Result<(), String> {
        match step {
            Step::Send(text) => {
                let bytes = text.fill(&self.captures)?;
                self.send(who, &bytes)
            }
            Step::Expect(lines) => self.expect_lines(who, lines),
            Step::ExpectBlock(lines) => self.expect_block(who, lines),
            Step::Unordered { must, may, last } => self.expect_unordered(who, must, may, last),
            Step::Tls => {
                let conn = self.conn(who)?;
                if conn.is_remote() { conn.start_tls_as_server() } else { conn.start_tls_as_client() }
            }
            Step::Close => {
                self.conns.remove(who);
                Ok(())
            }
            Step::Finish => self.conn(who)?.finish(),
            Step::Closed => self.conn(who)?.expect_end(),
        }
    }

    fn send(&mut self, who: &str, bytes: &[u8]) -> Result<(), String> {
        let mark = if self.conn(who)?.is_remote() { 'S' } else { 'C' };
        self.dialogue.push(format!("[{who}] {mark}: {}", pattern::show(bytes)));
        self.conn(who)?.send(bytes)
    }

    /// The next line (on IMAP with its literals), and into the dialogue.
    fn hear(&mut self, who: &str, wanted: &dyn std::fmt::Display) -> Result<Vec<u8>, String> {
        let mark = if self.conn(who)?.is_remote() { 'C' } else { 'S' };
        let line = self.conn(who)?.line().map_err(|why| format!("expected  {wanted}\n     got  {why}"))?;
        self.dialogue.push(format!("[{who}] {mark}: {}", pattern::show(&line)));
        Ok(line)
    }

    fn expect_lines(&mut self, who: &str, lines: &[Pattern]) -> Result<(), String> {
        for want in lines {
            let got = self.hear(who, want)?;
            if !want.matches(&got, &mut self.captures) {
                return Err(differ(want, &got, &self.captures));
            }
        }
        Ok(())
    }

    /// On IMAP one response; else lines, where a pattern that is only `…` stands for any number of them.
    fn expect_block(&mut self, who: &str, lines: &[Pattern]) -> Result<(), String> {
        if self.conn(who)?.is_imap() {
            return self.expect_lines(who, &[Pattern::join(lines)]);
        }
        let mut any = false;
        for want in lines {
            if want.is_anything() {
                any = true;
                continue;
            }
            loop {
                let got = self.hear(who, want)?;
                if want.matches(&got, &mut self.captures) {
                    any = false;
                    break;
                }
                if !any {
                    return Err(differ(want, &got, &self.captures));
                }
            }
        }
        Ok(())
    }

    fn expect_unordered(&mut self, who: &str, must: &[Pattern], may: &[Pattern], last: &Pattern) -> Result<(), String> {
        let mut open: Vec<&Pattern> = must.iter().collect();
        loop {
            let wanted = open.first().copied().unwrap_or(last);
            let got = self.hear(who, wanted)?;
            if let Some(i) = open.iter().position(|p| p.matches(&got, &mut self.captures)) {
                open.remove(i);
            } else if last.matches(&got, &mut self.captures) {
                return match open.first() {
                    None => Ok(()),
                    Some(missing) => Err(format!("never came  {missing}")),
                };
            } else if !may.iter().any(|p| p.matches(&got, &mut self.captures)) {
                let mut all: Vec<String> = open.iter().map(|p| format!("S* {p}")).collect();
                all.extend(may.iter().map(|p| format!("S? {p}")));
                all.push(format!("S: {last}"));
                return Err(format!("expected one of\n          {}\n     got  {}", all.join("\n          "), pattern::show(&got)));
            }
        }
    }

    fn host(&mut self, action: &[String]) -> Result<(), String> {
        let line = action.first().map_or("", String::as_str);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "restart" => {
                self.conns.clear();
                self.server.stop()?;
                if !rest.is_empty() {
                    host::act(&self.dir, "sh", rest, &[], &mut self.captures)?;
                }
                self.server = Server::start(&self.dir, &self.fixtures, self.log.clone())?;
                Ok(())
            }
            "drain" => self.server.drain(),
            _ => host::act(&self.dir, word, rest.trim(), action.get(1..).unwrap_or_default(), &mut self.captures),
        }
    }

    fn report(&mut self, out: &mut String) {
        let from = self.dialogue.len().saturating_sub(40);
        let _ = writeln!(out, "dialogue so far{}:", if from > 0 { " (its end)" } else { "" });
        for line in &self.dialogue[from..] {
            let _ = writeln!(out, "  {line}");
        }
        for (who, conn) in &mut self.conns {
            let rest = conn.unread();
            if !rest.is_empty() {
                let _ = writeln!(out, "  [{who}] not read yet: {}", pattern::show(&rest));
            }
        }
    }

    fn end(mut self) -> Result<(), String> {
        self.conns.clear();
        self.server.stop()
    }
}

fn differ(want: &Pattern, got: &[u8], captures: &Captures) -> String {
    let known = want.known(captures);
    format!("expected  {want}\n     got  {}{known}", pattern::show(got))
}
