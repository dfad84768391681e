//! The daemon and the command line as processes: `sendmail`, `mailq`, `newaliases`, `gatepost queue`, and `kill -9` in between.

use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Server {
    dir: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Server {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("gatepost-control-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("users"), "alice@example.org:!\n").expect("written");
        fs::write(dir.join("aliases"), "root: alice\n").expect("written");
        // Nobody answers at this name server: what goes out is deferred.
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("readable").expect("this user").name;
        let text = "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\nstate = \"state\"\nrun = \"run\"\nusers = \"users\"\naliases = \"aliases\"\n\
                    [listen]\nsmtp = []\nsubmission = []\nsubmissions = []\nimap = []\nimaps = []\npop3 = []\npop3s = []\n\
                    [dns]\nservers = [\"127.0.0.1:1\"]\ntimeout = \"1s\"\n";
        fs::write(dir.join("gatepost.conf"), format!("user = \"{user}\"\n{text}")).expect("written");
        Self { dir, daemon: None }
    }

    fn command(&self, called: &str, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_gatepost"));
        c.arg0(called).args(args).env("GATEPOST_CONFIG", self.dir.join("gatepost.conf")).stdin(Stdio::null());
        c
    }

    fn run(&self, called: &str, args: &[&str]) -> (i32, String, String) {
        words(&self.command(called, args).output().expect("started"))
    }

    fn sendmail(&self, args: &[&str], message: &str) -> (i32, String, String) {
        let mut c = self.command("sendmail", args);
        let mut child = c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        child.stdin.take().expect("piped").write_all(message.as_bytes()).expect("written");
        words(&child.wait_with_output().expect("ended"))
    }

    fn start(&mut self) {
        let log = fs::File::create(self.dir.join("log")).expect("made");
        self.daemon = Some(self.command("gatepost", &["serve"]).stderr(log).spawn().expect("started"));
        self.until("the daemon answers", |s| s.run("gatepost", &["queue", "list"]).2.is_empty());
    }

    /// As the kernel does when memory is short.
    fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn until(&self, what: &str, test: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !test(self) {
            let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn inbox(&self) -> Vec<String> {
        let dir = self.dir.join("state/mail/example.org/alice/Maildir/new");
        let mut files: Vec<PathBuf> = fs::read_dir(dir).map(|d| d.map(|f| f.expect("readable").path()).collect()).unwrap_or_default();
        // Seconds.Mmicroseconds…, which are not padded.
        let name = |f: &PathBuf| f.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbers = |f: &PathBuf| name(f).split(['.', 'M', 'P']).filter_map(|n| n.parse::<u64>().ok()).collect::<Vec<_>>();
        files.sort_by_key(numbers);
        files.iter().map(|f: &PathBuf| fs::read_to_string(f as &Path).expect("readable")).collect()
    }
}

fn words(o: &Output) -> (i32, String, String) {
    (o.status.code().unwrap_or(-1), String::from_utf8_lossy(&o.stdout).into_owned(), String::from_utf8_lossy(&o.stderr).into_owned())
}

#[test]
fn local_mail_and_its_queue() {
    let mut s = Server::new("all");
    let (code, _, said) = s.sendmail(&["alice"], "x\n");
    assert_eq!(code, 75, "{said}");
    s.start();
    assert_eq!(s.run("mailq", &[]), (0, "Mail queue is empty\n".into(), String::new()));
    assert_eq!(s.run("gatepost", &["queue", "list"]).1, "The queue is empty.\n");

    // As cron does it; a dot alone is text with -i.
    let (code, _, said) = s.sendmail(&["-FCron Daemon", "-i", "-B8BITMIME", "-oem", "root"], "Subject: caf\u{e9}\n\na\n.\nb\n");
    assert_eq!((code, said.as_str()), (0, ""));
    let got = s.inbox().remove(0);
    for part in [
        "Return-Path: <",
        "\r\nFrom: Cron Daemon <",
        "@mail.example.org>\r\n",
        "\r\nDate: ",
        "\r\nMessage-ID: <",
        "\r\n\r\na\r\n.\r\nb\r\n",
        "(local user ",
    ] {
        assert!(got.contains(part), "{part:?} in {got}");
    }
    let (code, _, said) = s.sendmail(&["-t"], "To: Alice <alice@example.org>\nBcc: root\n\nx\n.\nnot this\n");
    assert_eq!((code, said.as_str()), (0, ""));
    let got = s.inbox().remove(1);
    assert!(!got.contains("Bcc") && got.ends_with("\r\n\r\nx\r\n") && got.contains("\r\nFrom: "), "{got}");

    let (code, _, said) = s.sendmail(&["nobody"], "x\n");
    assert!(code == 67 && said.contains("5.1.1"), "{code} {said}");
    assert_eq!(s.sendmail(&["-bs"], "").0, 64);
    assert_eq!(s.sendmail(&["not an address@"], "x\n").0, 65);
    assert_eq!(s.inbox().len(), 2, "what is refused is not delivered");

    // Outbound, held, through kill -9 and back.
    let (code, _, said) = s.sendmail(&["-f", "alice@example.org", "carol@example.net"], "Subject: out\n\nx\n");
    assert_eq!((code, said.as_str()), (0, ""));
    s.until("it was deferred", |s| s.run("gatepost", &["queue", "list", "--json"]).1.contains("4.4.3"));
    let (code, out, _) = s.run("gatepost", &["queue", "hold", "example.net"]);
    let id = out.strip_prefix("hold ").expect("which").trim().to_owned();
    assert_eq!((code, id.len()), (0, 10));
    assert!(s.run("mailq", &[]).1.contains(&format!("{id}! ")));
    s.kill();
    let (code, out, said) = s.run("gatepost", &["queue", "show", &id.to_lowercase()]);
    assert!(code == 0 && said.contains("reading the spool itself"), "{said}");
    for part in ["carol@example.net waiting", "next       held", "451 4.4.3"] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
    assert_eq!(s.run("gatepost", &["queue", "retry", "all"]).0, 2);
    s.start();
    let (code, out, _) = s.run("gatepost", &["queue", "list", "--json"]);
    assert!(code == 0 && out.contains("\"held\": true") && out.contains(&id), "{out}");
    let (code, out, _) = s.run("newaliases", &[]);
    assert!(code == 0 && out.contains("nothing needs to be rebuilt"), "{out}");
    assert_eq!(s.run("gatepost", &["queue", "release", "example.com"]).0, 1);
    assert_eq!(s.run("gatepost", &["queue", "drop", &id]).1, format!("drop {id}\n"));
    assert_eq!(s.run("gatepost", &["queue", "show", &id]).0, 1);
    assert_eq!(s.run("gatepost", &["queue", "list"]).1, "The queue is empty.\n");
    assert!(!s.dir.join(format!("state/spool/{id}.msg")).exists());
}

/// A program that dies half-way has not sent half a mail.
#[test]
fn a_message_cut_short_is_no_mail() {
    let mut s = Server::new("cut");
    s.start();
    let path = s.dir.join("run/submit.sock");
    for (request, want) in [
        ("to alice\ndata 100\nSubject: half\n\nonly so m", "451 4.4.2"),
        ("to alice\n", "451 4.4.2"),
        ("to alice\ndata many\n", "501 5.5.4"),
        ("rcpt alice\n", "501 5.5.4"),
        ("data 3\nx\r\n", "554 5.5.1"),
        ("sender zoe@example.net\nto alice\nnotify never,success\ndata 0\n", "501 5.5.4"),
        ("to alice\ndata 99999999999\n", "552 5.3.4"),
    ] {
        use std::{io::Read, net::Shutdown, os::unix::net::UnixStream};
        let mut stream = UnixStream::connect(&path).expect("connected");
        stream.write_all(request.as_bytes()).expect("written");
        stream.shutdown(Shutdown::Write).expect("shut");
        let mut answer = Vec::new();
        // A daemon that has said no does not read the rest, which ends the stream with an error after the answer.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.starts_with(want), "{request:?}: {answer}");
    }
    assert!(s.inbox().is_empty());
}
