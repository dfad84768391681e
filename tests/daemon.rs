//! The daemon and the demo as processes: start, reload, drain, what systemd hears, and output that nobody reads.
//! Every wait is for a line or a datagram, never for a time.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A folder of its own, with a configuration whose services listen on free loopback ports.
struct Place {
    dir: PathBuf,
    smtp: u16,
    imap: u16,
    pop3: u16,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatepost-daemon-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("made");
        let made = gatepost(&["demo", "--once", "--dir", &dir.join("demo").to_string_lossy()]).output().expect("started");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for file in ["cert.pem", "key.pem"] {
            fs::rename(dir.join("demo").join(file), dir.join(file)).expect("moved");
        }
        let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("bound")).collect();
        let port = |n: usize| free[n].local_addr().expect("bound").port();
        let place = Self { smtp: port(0), imap: port(1), pop3: port(2), dir };
        place.write("users", "alice@example.org:!\n");
        fs::set_permissions(place.dir.join("users"), PermissionsExt::from_mode(0o600)).expect("set");
        place.write("aliases", "root: alice\n");
        place.configure("");
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).expect("written");
    }

    /// `more` stands at the top of the file, in line 8.
    fn configure(&self, more: &str) {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("readable").expect("this user").name;
        let Self { smtp, imap, pop3, .. } = self;
        self.write(
            "gatepost.conf",
            &format!(
                "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\npostmaster = \"alice@example.org\"\nuser = \"{user}\"\nstate = \"state\"\n\
                 run = \"run\"\ndns.servers = [\"127.0.0.1:1\"]\n{more}\n[listen]\nsmtp = \"127.0.0.1:{smtp}\"\nsubmission = []\nsubmissions = []\n\
                 imap = \"127.0.0.1:{imap}\"\nimaps = []\npop3 = \"127.0.0.1:{pop3}\"\npop3s = []\n[tls]\ncert = \"cert.pem\"\nkey = \"key.pem\"\n"
            ),
        );
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut c = gatepost(args);
        c.env("GATEPOST_CONFIG", self.dir.join("gatepost.conf"));
        c
    }

    fn serve(&self) -> Daemon {
        Daemon::of(&mut self.command(&["serve"]))
    }
}

fn gatepost(args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_gatepost"));
    c.args(args).stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    c
}

/// What a shell must prepare; `$0` is the program.
fn shell(place: &Place, line: &str) -> Command {
    let mut c = Command::new("sh");
    c.args(["-c", line, env!("CARGO_BIN_EXE_gatepost")]).env("GATEPOST_CONFIG", place.dir.join("gatepost.conf"));
    c.stdin(Stdio::null()).env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM");
    c
}

/// A running daemon and its log.
struct Daemon {
    child: Child,
    log: Receiver<String>,
    heard: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("started");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (line, log) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|l| line.send(l + "\n")));
        let mut daemon = Self { child, log, heard: String::new() };
        daemon.until(" daemon ready ");
        daemon
    }

    /// The next line of the log that holds `words`.
    fn until(&mut self, words: &str) -> String {
        loop {
            let Ok(line) = self.log.recv_timeout(PATIENCE) else { panic!("no {words:?} in the log:\n{}", self.heard) };
            self.heard.push_str(&line);
            if line.contains(words) {
                return line;
            }
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("small"));
        nix::sys::signal::kill(pid, signal).expect("sent");
    }

    fn hup(&self) {
        self.signal(nix::sys::signal::SIGHUP);
    }

    fn term(&self) {
        self.signal(nix::sys::signal::SIGTERM);
    }

    fn ended(&mut self) -> ExitStatus {
        self.heard.extend(self.log.iter());
        self.child.wait().expect("ended")
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut client = Self(BufReader::new(stream));
        assert!(!client.line().is_empty());
        client
    }

    /// Empty: the server hung up.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("heard in time");
        line
    }

    fn ask(&mut self, words: &str) -> String {
        self.0.get_mut().write_all(format!("{words}\r\n").as_bytes()).expect("said");
        self.line()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_reload_takes_all_or_keeps_the_old() {
    let place = Place::new("reload");
    let mut daemon = place.serve();
    let wrong: &[(&str, &str, &str)] = &[
        ("users", "alice@example.org:!\nbob:{FOO}x\n", "users:2: "),
        ("aliases", "root: alice\nx: nobody\n", "aliases:2: "),
        ("cert.pem", "junk\n", "cert.pem: no BEGIN CERTIFICATE"),
        ("gatepost.conf", "hostname = 3\n", "gatepost.conf:1: "),
    ];
    for (file, text, want) in wrong {
        let good = fs::read_to_string(place.dir.join(file)).expect("readable");
        place.write(file, text);
        daemon.hup();
        let line = daemon.until(" ERROR daemon reload error=");
        assert!(line.contains(want), "{file}: {line}");
        daemon.until("the old configuration stays in force");
        place.write(file, &good);
    }
    assert!(Client::to(place.smtp).ask("VRFY x").starts_with("252"), "it serves as before");
    assert!(Client::to(place.smtp).ask("EHLO x").contains("mail.example.org"));

    place.configure("subaddress = \"-\"");
    place.write("users", "alice@example.org:!\ncarol@example.org:!\n");
    daemon.hup();
    daemon.until(" daemon reloaded");
    let mut smtp = Client::to(place.smtp);
    smtp.ask("HELO client.example.net");
    smtp.ask("MAIL FROM:<>");
    for (to, code) in [("carol@example.org", "250"), ("alice-x@example.org", "250"), ("alice+x@example.org", "550")] {
        let reply = smtp.ask(&format!("RCPT TO:<{to}>"));
        assert!(reply.starts_with(code), "{to}: {reply}");
    }
    drop(smtp);
    daemon.term();
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn a_drain_says_goodbye_and_lets_a_message_finish() {
    let place = Place::new("drain");
    let mut daemon = place.serve();
    let idle = [("421 ", Client::to(place.smtp)), ("* BYE ", Client::to(place.imap)), ("-ERR ", Client::to(place.pop3))];
    let mut sending = Client::to(place.smtp);
    sending.ask("HELO client.example.net");
    for (words, code) in [("MAIL FROM:<>", "250"), ("RCPT TO:<alice@example.org>", "250"), ("DATA", "354")] {
        let reply = sending.ask(words);
        assert!(reply.starts_with(code), "{words}: {reply}");
    }
    daemon.term();
    for (goodbye, mut client) in idle {
        let line = client.line();
        assert!(line.starts_with(goodbye), "{line}");
        assert_eq!(client.line(), "");
    }
    let reply = sending.ask("Subject: in flight\r\n\r\nx\r\n.");
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    assert!(sending.line().starts_with("421 "));
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(daemon.heard.contains("daemon stopped clean=true"), "{}", daemon.heard);
    assert_eq!(fs::read_dir(place.dir.join("state/mail/example.org/alice/Maildir/new")).expect("there").count(), 1);
}

#[test]
fn failed_logins_are_logged_without_the_password() {
    let place = Place::new("logins");
    let mut daemon = Daemon::of(&mut place.command(&["serve", "--log", "debug"]));
    let mut say = |port, commands: &[&str], want: &str| {
        let mut client = Client::to(port);
        for words in commands {
            client.ask(words);
        }
        drop(client);
        let line = daemon.until(want);
        assert!(line.contains("conn=") && line.contains("client=127.0.0.1"), "{line}");
    };
    // Nobody can log in without TLS; that somebody tried is in the log all the same.
    say(place.imap, &["a LOGIN alice tell-nobody"], " imapd end ");
    say(place.pop3, &["USER alice", "QUIT"], " pop3d end ");
    let curl = Command::new("curl")
        .args(["-s", "-k", "--ssl-reqd", "--user", "alice:tell-nobody", &format!("imap://127.0.0.1:{}/", place.imap)])
        .stdin(Stdio::null())
        .output();
    if curl.is_ok() {
        let line = daemon.until(" imapd login-failed ");
        assert!(line.contains("client=127.0.0.1 user=alice"), "{line}");
    }
    daemon.term();
    daemon.ended();
    assert!(!daemon.heard.contains("tell-nobody"), "{}", daemon.heard);
}

#[test]
fn a_second_term_ends_at_once() {
    let place = Place::new("twice");
    let mut daemon = place.serve();
    let mut sending = Client::to(place.smtp);
    sending.ask("HELO client.example.net");
    sending.ask("MAIL FROM:<>");
    sending.ask("RCPT TO:<alice@example.org>");
    assert!(sending.ask("DATA").starts_with("354"));
    daemon.term();
    daemon.until(" daemon stopping");
    daemon.term();
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(daemon.heard.contains("daemon stopped clean=false"), "{}", daemon.heard);
}

#[test]
fn the_second_on_the_same_state_refuses_and_a_killed_one_leaves_no_lock() {
    let place = Place::new("second");
    let mut first = place.serve();
    let second = place.command(&["serve"]).output().expect("started");
    assert_eq!(second.status.code(), Some(2));
    assert!(said(&second).contains("listen.smtp: cannot listen on"), "{}", said(&second));
    let text = fs::read_to_string(place.dir.join("gatepost.conf")).expect("readable");
    let other = place.dir.join("other.conf");
    let without = |text: String, port: u16| text.replace(&format!("\"127.0.0.1:{port}\""), "[]");
    fs::write(&other, [place.smtp, place.imap, place.pop3].into_iter().fold(text, without)).expect("written");
    let second = gatepost(&["-c", &other.to_string_lossy(), "serve"]).output().expect("started");
    assert_eq!(second.status.code(), Some(2));
    assert!(said(&second).contains("another gatepost has this spool open"), "{}", said(&second));
    first.child.kill().expect("killed");
    first.ended();
    let _again = place.serve();
    let reload = place.command(&["queue", "list"]).output().expect("started");
    assert!(reload.status.success(), "a stale socket is replaced: {}", said(&reload));
}

#[test]
fn systemd_hears_all_of_it() {
    let place = Place::new("notify");
    let socket = UnixDatagram::bind(place.dir.join("notify")).expect("bound");
    socket.set_read_timeout(Some(PATIENCE)).expect("set");
    let mut buffer = [0; 512];
    let mut hear = |want: &str| {
        loop {
            let n = socket.recv(&mut buffer).expect("heard in time");
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            if text.contains(want) {
                return text;
            }
        }
    };
    let mut command = shell(&place, "WATCHDOG_PID=$$ exec \"$0\" serve");
    command.env("NOTIFY_SOCKET", place.dir.join("notify")).env("WATCHDOG_USEC", "200000");
    let mut daemon = Daemon::of(&mut command);
    hear("READY=1");
    for _ in 0..3 {
        hear("WATCHDOG=1");
    }
    place.write("users", "junk\n");
    daemon.hup();
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("STATUS=serving with the old configuration");
    hear("READY=1");
    daemon.term();
    hear("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn few_descriptors_mean_fewer_connections() {
    let place = Place::new("few");
    let mut daemon = Daemon::of(&mut shell(&place, "ulimit -n 64; exec \"$0\" serve"));
    assert!(daemon.heard.contains("only 64 files may be open, which is enough for 10 connections"), "{}", daemon.heard);
    place.configure("log = \"info\"");
    daemon.hup();
    daemon.until("enough for 10 connections");
}

#[test]
fn a_log_level_that_is_none_is_said_so() {
    let out = gatepost(&["-c", "/nonexistent", "serve", "--log", "loud"]).output().expect("started");
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("--log loud is not a level"), "{}", said(&out));
    let out = gatepost(&["-c", "/nonexistent", "check"]).output().expect("started");
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    assert!(said(&out).contains("gatepost setup writes one"), "{}", said(&out));
}

#[test]
fn output_that_nobody_reads_is_no_panic() {
    let place = Place::new("pipe");
    for args in [&["check", "--defaults"][..], &["user", "list"], &["check", "--man"], &["--help"], &["--version"]] {
        let (reader, writer) = std::io::pipe().expect("made");
        drop(reader);
        let out = place.command(args).stdout(writer).output().expect("started");
        assert_eq!((out.status.code(), said(&out).as_str()), (Some(2), ""), "{args:?}");
        let full = fs::File::options().write(true).open("/dev/full").expect("there");
        let out = place.command(args).stdout(full).output().expect("started");
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        assert!(said(&out).starts_with("gatepost: standard output: No space left"), "{}", said(&out));
    }
}

fn left(dir: &PathBuf) -> usize {
    fs::read_dir(dir).expect("there").count()
}

#[test]
fn the_demo_leaves_nothing_behind() {
    let dir = std::env::temp_dir().join(format!("gatepost-daemon-{}-demo", std::process::id()));
    fs::create_dir_all(&dir).expect("made");
    // Ctrl-C, and a terminal that was closed.
    for signal in [nix::sys::signal::SIGINT, nix::sys::signal::SIGHUP] {
        let mut demo = gatepost(&["demo"]).env("TMPDIR", &dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut first = String::new();
        BufReader::new(demo.stdout.as_mut().expect("piped")).read_line(&mut first).expect("readable");
        assert_eq!(left(&dir), 1);
        let made = fs::read_dir(&dir).expect("there").next().expect("one").expect("readable");
        let mode = made.metadata().expect("readable").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "it holds a key");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(demo.id().try_into().expect("small")), signal).expect("sent");
        let out = demo.wait_with_output().expect("ended");
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
        assert_eq!(left(&dir), 0, "{signal}");
    }
    // `| head -3`
    let (reader, writer) = std::io::pipe().expect("made");
    drop(reader);
    let out = gatepost(&["demo"]).env("TMPDIR", &dir).stdout(writer).output().expect("started");
    assert_eq!((out.status.code(), said(&out).as_str()), (Some(2), ""));
    assert_eq!(left(&dir), 0);
    let out = gatepost(&["demo", "--once"]).env("TMPDIR", dir.join("nowhere")).output().expect("started");
    assert_eq!(out.status.code(), Some(2));
    fs::remove_dir_all(&dir).expect("removed");
}
