//! The room as a whole: real files, a zone of records, a remote host on loopback.

use super::*;
use crate::{
    config, dns,
    spool::{Entry, State},
};
use smol::{
    Async, LocalExecutor,
    channel::{Receiver, Sender, unbounded},
    future::FutureExt as _,
    io::{AsyncReadExt as _, AsyncWriteExt as _},
};
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    time::{Duration, SystemTime},
};

type Enhanced = (u8, u8, u8);
type Answer<T> = Result<T, (u16, Enhanced)>;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

const ZONE: &str = "example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1\nnull.example MX 0 .\n\
                    loop.example MX 10 mail.example.org\ndead.example A 127.0.0.7\naddress.example A 127.0.0.1\nother.example MX 5 mx.example.net\n";

/// One server with users alice and bob, a remote host, and an executor.
struct World {
    dir: PathBuf,
    mta: Rc<Mta>,
    ex: Rc<LocalExecutor<'static>>,
    drain: crate::net::Drain,
    /// Transactions that the remote host took.
    remote: Receiver<Taken>,
}

#[derive(Debug)]
struct Taken {
    sender: String,
    recipients: Vec<String>,
    message: String,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// What the remote host says to RCPT: by the local part.
fn answer(rcpt: &str) -> &'static str {
    if rcpt.contains("nobody") {
        "550 5.1.1 No such user"
    } else if rcpt.contains("later") {
        "450 4.2.0 Try later"
    } else {
        "250 2.1.5 ok"
    }
}

async fn remote(listener: Async<TcpListener>, ex: Rc<LocalExecutor<'static>>, tell: Sender<Taken>) {
    while let Ok((stream, _)) = listener.accept().await {
        ex.spawn(talk(stream, tell.clone())).detach();
    }
}

async fn talk(mut stream: Async<TcpStream>, tell: Sender<Taken>) {
    let mut t = Taken { sender: String::new(), recipients: Vec::new(), message: String::new() };
    let _ = stream.write_all(b"220 mx.example.net\r\n").await;
    while let Some(line) = line(&mut stream).await {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-mx.example.net\r\n250-8BITMIME\r\n250 SIZE".to_owned(),
            "MAIL" => {
                t.sender = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 2.1.0 ok".to_owned()
            }
            "RCPT" => {
                let to = line.split(['<', '>']).nth(1).unwrap_or_default();
                let a = answer(to);
                if a.starts_with('2') {
                    t.recipients.push(to.to_owned());
                }
                a.to_owned()
            }
            "DATA" => {
                let _ = stream.write_all(b"354 go\r\n").await;
                while let Some(l) = self::line(&mut stream).await {
                    if l == "." {
                        break;
                    }
                    t.message.push_str(l.strip_prefix('.').unwrap_or(&l));
                    t.message.push_str("\r\n");
                }
                let done = std::mem::replace(&mut t, Taken { sender: String::new(), recipients: Vec::new(), message: String::new() });
                let _ = stream.write_all(b"250 2.0.0 ok\r\n").await;
                let _ = tell.send(done).await;
                continue;
            }
            "QUIT" => {
                let _ = stream.write_all(b"221 bye\r\n").await;
                return;
            }
            _ => "250 ok".to_owned(),
        };
        let _ = stream.write_all(format!("{reply}\r\n").as_bytes()).await;
    }
}

async fn line(stream: &mut Async<TcpStream>) -> Option<String> {
    let mut out = Vec::new();
    let mut b = [0];
    loop {
        stream.read_exact(&mut b).await.ok()?;
        out.push(b[0]);
        if out.ends_with(b"\r\n") {
            out.truncate(out.len() - 2);
            return Some(String::from_utf8_lossy(&out).into_owned());
        }
    }
}

/// Runs `test` in a world of its own. `more` goes to the end of the configuration.
fn world(name: &str, more: &str, aliases: &str, test: impl AsyncFnOnce(&World)) {
    let dir = std::env::temp_dir().join(format!("gatepost-mta-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("users"), "alice@example.org:{PLAIN}x\nbob@example.org:{PLAIN}x\n").unwrap();
    fs::write(dir.join("aliases"), aliases).unwrap();
    let ex = Rc::new(LocalExecutor::new());
    let run = async {
        let (socket, server) = dns::stub::bind().await.unwrap();
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let port = listener.get_ref().local_addr().unwrap().port();
        let text = format!(
            "hostname = \"mail.example.org\"\ndomains = [\"example.org\", \"example.com\"]\nstate = \"{0}/state\"\nrun = \"{0}/run\"\n\
             users = \"{0}/users\"\naliases = \"{0}/aliases\"\ndns.servers = [\"{server}\"]\nsmtp.mx-port = {port}\n\
             listen.smtp = []\nlisten.submission = []\nlisten.submissions = []\nlisten.imap = []\nlisten.imaps = []\nlisten.pop3 = []\nlisten.pop3s = []\n{more}",
            dir.display()
        );
        let (config, _) = config::parse(&dir.join("gatepost.conf"), &text).unwrap_or_else(|p| panic!("{p:?}"));
        let (accounts, _) = Accounts::load(&config).unwrap_or_else(|p| panic!("{p:?}"));
        let store = Store::open(&config.state.join("mail"), "mail.example.org", |_| Vec::new()).unwrap();
        let spool = Arc::new(Spool::open(&config.state.join("spool")).unwrap());
        let dns = Dns::new(&config.dns).unwrap();
        let mta = Mta::new(Arc::new(Live::new(config)), Arc::new(accounts), store, spool, dns);
        let (tell, taken) = unbounded();
        ex.spawn(remote(listener, ex.clone(), tell)).detach();
        let zone = Rc::new(std::cell::RefCell::new(dns::stub::Zone::parse(ZONE).unwrap()));
        ex.spawn(async move { dns::stub::serve(socket, zone, |_| ()).await }).detach();
        let w = World { dir: dir.clone(), mta, ex: ex.clone(), drain: crate::net::Drain::new(), remote: taken };
        test(&w).await;
    };
    let patience = async {
        smol::Timer::after(PATIENCE).await;
        panic!("nothing happens any more");
    };
    smol::block_on(ex.run(dns::EXECUTOR.run(run.or(patience))));
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap_or_else(|| panic!("{text}"))
}

fn client(origin: Origin) -> Client {
    Client {
        origin,
        address: Some([192, 0, 2, 7].into()),
        helo: "client.example".into(),
        tls: Some("TLSv1.3 TLS13_AES_256_GCM_SHA384".into()),
        with: "ESMTPS",
        conn: "5F2".into(),
    }
}

fn alice() -> Origin {
    Origin::Submission(AccountId("alice@example.org".into()))
}

impl World {
    fn mail(&self, origin: Origin, from: &str, to: &[&str], message: &str) -> Transaction {
        Transaction {
            id: self.mta.queue_id(),
            client: client(origin),
            sender: Address::parse(from),
            params: MailParams::default(),
            recipients: to.iter().map(|t| Recipient { address: address(t), notify: Notify::default(), orcpt: None }).collect(),
            draft: Draft::from_bytes(message.replace('\n', "\r\n").into_bytes()),
        }
    }
    async fn accept(&self, origin: Origin, from: &str, to: &[&str], message: &str) -> Result<String, Refusal> {
        self.mta.accept(self.mail(origin, from, to, message)).await
    }
    fn start(&self) -> smol::Task<()> {
        self.ex.spawn(self.mta.clone().run_queue(self.ex.clone(), self.drain.clone()))
    }
    /// Waits for the queue to look so.
    async fn until(&self, test: impl Fn(&[Entry]) -> bool) {
        loop {
            let changed = self.mta.queue.changed.listen();
            if self.mta.queue.busy.get() == 0 && test(&self.mta.queue_list()) {
                return;
            }
            changed.await;
        }
    }
    /// The messages in somebody's INBOX, oldest first.
    fn inbox(&self, user: &str) -> Vec<String> {
        let dir = self.dir.join(format!("state/mail/example.org/{user}/Maildir/new"));
        let mut files: Vec<PathBuf> = fs::read_dir(dir).map(|d| d.map(|f| f.unwrap().path()).collect()).unwrap_or_default();
        files.sort();
        files.into_iter().map(|f| String::from_utf8_lossy(&fs::read(f).unwrap()).into_owned()).collect()
    }
    fn spooled(&self) -> Vec<String> {
        let list = self.mta.spool.list().unwrap();
        list.iter().map(|e| String::from_utf8_lossy(&fs::read(self.mta.spool.message(&e.id)).unwrap()).into_owned()).collect()
    }
}

const MAIL: &str = "From: carol@example.net\nTo: x\nDate: x\nMessage-ID: <1@example.net>\n\nhello\n";
const MINE: &str = "From: alice@example.org\nTo: x\nSubject: hi\nDate: x\nMessage-ID: <1@example.org>\n\nhello\n";

#[test]
fn nobody_relays_by_any_spelling() {
    world("relay", "", "list: alice, carol@example.net\n", async |w| {
        const CASES: &[(&str, Answer<()>)] = &[
            ("alice@example.org", Ok(())),
            ("ALICE@example.org", Ok(())),
            ("alice+x@example.org", Ok(())),
            ("list@example.org", Ok(())),
            ("postmaster@example.org", Ok(())),
            ("postmaster@mail.example.org", Ok(())),
            ("alice@mail.example.org", Ok(())),
            ("zoe@example.org", Err((550, (5, 1, 1)))),
            ("carol@example.net", Err((550, (5, 7, 1)))),
            ("alice@sub.example.org", Err((550, (5, 7, 1)))),
            ("alice@[127.0.0.1]", Err((550, (5, 7, 1)))),
            ("alice@[192.0.2.1]", Err((550, (5, 7, 1)))),
            ("carol%example.net@example.org", Err((550, (5, 1, 1)))),
            ("carol%example.net@mail.example.org", Err((550, (5, 1, 1)))),
            ("carol%example.net@[127.0.0.1]", Err((550, (5, 7, 1)))),
            ("example.net!carol@example.org", Err((550, (5, 1, 1)))),
            ("\"carol@example.net\"@example.org", Err((550, (5, 1, 1)))),
            ("\"@example.org:carol@example.net\"@example.org", Err((550, (5, 1, 1)))),
            ("\"carol%example.net\"@example.org", Err((550, (5, 1, 1)))),
            ("\"example.net!carol\"@example.org", Err((550, (5, 1, 1)))),
            ("\"alice\"@example.org", Ok(())),
        ];
        for (to, want) in CASES {
            let got = w.mta.rcpt(&client(Origin::Mx), &MailParams::default(), &address(to)).await.map_err(|r| (r.code, r.enhanced));
            assert_eq!(got, *want, "{to}");
        }
        for spelling in ["@example.org:carol@example.net", "carol@example.net@example.org", "carol@example.org@example.net"] {
            assert_eq!(Address::parse(spelling), None, "{spelling}");
        }
        assert!(w.mta.rcpt(&client(alice()), &MailParams::default(), &address("carol@example.net")).await.is_ok());
        assert!(w.mta.rcpt(&client(alice()), &MailParams::default(), &address("zoe@example.org")).await.is_err());
    });
}

#[test]
fn who_may_send_as_whom() {
    world("senders", "", "sales: alice\n", async |w| {
        let cases: &[(Origin, Option<&str>, Result<(), u16>)] = &[
            (Origin::Mx, Some("anybody@example.net"), Ok(())),
            (Origin::Mx, Some("alice@example.org"), Ok(())),
            (Origin::Mx, None, Ok(())),
            (alice(), Some("alice@example.org"), Ok(())),
            (alice(), Some("alice+x@example.org"), Ok(())),
            (alice(), Some("sales@example.org"), Ok(())),
            (alice(), Some("bob@example.org"), Err(553)),
            (alice(), Some("carol@example.net"), Err(553)),
            (alice(), None, Ok(())),
            (Origin::Local("alice".into()), Some("alice@mail.example.org"), Ok(())),
            (Origin::Local("alice".into()), Some("alice@example.com"), Ok(())),
            (Origin::Local("alice".into()), Some("bob@example.org"), Err(553)),
            (Origin::Local("alice".into()), Some("alice@example.net"), Err(553)),
            (Origin::Local("alice".into()), None, Ok(())),
            (Origin::Local("root".into()), Some("bob@example.org"), Ok(())),
        ];
        for (origin, sender, want) in cases {
            let sender = sender.map(address);
            let got = w.mta.mail(&client(origin.clone()), sender.as_ref(), &MailParams::default()).map_err(|r| r.code);
            assert_eq!(got, *want, "{origin:?} {sender:?}");
        }
        let big = MailParams { size: Some(u64::MAX), ..MailParams::default() };
        assert_eq!(w.mta.mail(&client(Origin::Mx), None, &big).map_err(|r| r.code), Err(552));
        let utf8 = Address { local: "jürgen".into(), domain: "example.net".into() };
        assert_eq!(w.mta.mail(&client(Origin::Mx), Some(&utf8), &MailParams::default()).map_err(|r| r.code), Err(553));
        assert!(w.mta.mail(&client(Origin::Mx), Some(&utf8), &MailParams { smtputf8: true, ..MailParams::default() }).is_ok());
    });
}

#[test]
fn a_delivered_message_says_where_it_came_from() {
    world("stamp", "", "", async |w| {
        let text = w.accept(Origin::Mx, "carol@example.net", &["alice+x@example.org"], &format!("Return-Path: <old@example.net>\n{MAIL}")).await;
        let id = text.unwrap().replace("Ok: queued as ", "");
        let got = w.inbox("alice").remove(0);
        let want = format!(
            "Return-Path: <carol@example.net>\r\nDelivered-To: alice+x@example.org\r\n\
             Received: from client.example ([192.0.2.7])\r\n\tby mail.example.org with ESMTPS\r\n\t(TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\
             \tid {id} for <alice+x@example.org>;\r\n\t"
        );
        assert!(got.starts_with(&want), "{got}");
        assert!(got.ends_with(&MAIL.replace('\n', "\r\n")) && !got.contains("old@example.net"), "{got}");
        w.accept(Origin::Mx, "", &["alice@example.org", "bob@example.org"], MAIL).await.unwrap();
        for got in [w.inbox("alice").remove(1), w.inbox("bob").remove(0)] {
            assert!(got.starts_with("Return-Path: <>\r\nReceived: ") && !got.contains("Delivered-To") && !got.contains(" for <"), "{got}");
        }
        w.accept(Origin::Mx, "", &["bob@example.org"], "no header at all\n").await.unwrap();
        assert!(w.inbox("bob").remove(1).contains("+0000\r\n\r\nno header at all\r\n"));
        assert!(w.mta.queue_list().is_empty() && w.spooled().is_empty());
    });
}

#[test]
fn a_submission_is_completed_and_tells_no_secrets() {
    world("submission", "", "", async |w| {
        let text = "From: Alice <alice@example.org>\nBcc: dave@example.net,\n eve@example.net\nTo: x\n\nhello\n";
        w.accept(alice(), "alice@example.org", &["bob@example.org", "carol@example.net"], text).await.unwrap();
        for got in [w.inbox("bob").remove(0), w.spooled().remove(0)] {
            assert!(got.contains("\r\nDate: ") && got.contains("\r\nMessage-ID: <") && got.contains("@mail.example.org>\r\n"), "{got}");
            for secret in ["192.0.2.7", "client.example", "dave", "eve", "Bcc"] {
                assert!(!got.contains(secret), "{secret} in {got}");
            }
        }
        let cases: &[(&str, Option<(u16, Enhanced)>)] = &[
            (MINE, None),
            ("From: Alice <ALICE@example.org>\n\nx\n", None),
            ("From: alice@example.org\n", None),
            ("To: x\n\nx\n", Some((550, (5, 7, 1)))),
            ("From: bob@example.org\n\nx\n", Some((550, (5, 7, 1)))),
            ("From: alice@example.org\nFrom: bob@example.org\n\nx\n", Some((550, (5, 7, 1)))),
            ("From: alice@example.org, bob@example.org\n\nx\n", Some((550, (5, 7, 1)))),
            ("From: alice\n\nx\n", Some((550, (5, 7, 1)))),
            ("From:\n\nx\n", Some((550, (5, 7, 1)))),
            ("From: alice@example.org\ngarbage\nFrom: bob@example.org\n\nx\n", Some((550, (5, 7, 1)))),
        ];
        for (text, want) in cases {
            let got = w.accept(alice(), "alice@example.org", &["bob@example.org"], text).await.map_err(|r| (r.code, r.enhanced));
            assert_eq!(got.err(), *want, "{text}");
        }
    });
}

#[test]
fn a_loop_ends() {
    world("loop", "", "list: carol@example.net\n", async |w| {
        let hops = |n| format!("{}{MAIL}", "Received: from a by b\n".repeat(n));
        let cases: &[(String, &str, bool)] = &[
            (hops(50), "alice@example.org", true),
            (hops(51), "alice@example.org", false),
            (format!("Delivered-To: alice@example.org\n{MAIL}"), "alice@example.org", false),
            (format!("Delivered-To: Alice@Example.ORG \n{MAIL}"), "alice+x@example.org", false),
            (format!("Delivered-To: bob@example.org\n{MAIL}"), "alice@example.org", true),
            (format!("Delivered-To: list@example.org\n{MAIL}"), "list@example.org", false),
        ];
        for (text, to, good) in cases {
            let got = w.accept(Origin::Mx, "carol@example.net", &[to], text).await.map_err(|r| (r.code, r.enhanced));
            assert_eq!(got.is_ok(), *good, "{text}");
            assert!(*good || got == Err((554, (5, 4, 6))), "{got:?}");
        }
        // What an alias sends on says so, and so is known when it comes back.
        w.accept(Origin::Mx, "carol@example.net", &["list@example.org"], MAIL).await.unwrap();
        let sent = w.spooled().pop().unwrap().replace("\r\n", "\n");
        assert!(sent.starts_with("Delivered-To: list@example.org\nReceived: "), "{sent}");
        assert_eq!(w.accept(Origin::Mx, "carol@example.net", &["list@example.org"], &sent).await.map_err(|r| r.code), Err(554));
    });
}

#[test]
fn mail_goes_out_and_state_is_kept() {
    world("out", "", "list: bob, dave@other.example, erin@example.net\n", async |w| {
        let _queue = w.start();
        w.accept(alice(), "alice@example.org", &["carol@example.net", "list@example.org", "erin@example.net"], MINE).await.unwrap();
        let mut got = vec![w.remote.recv().await.unwrap(), w.remote.recv().await.unwrap()];
        w.until(<[Entry]>::is_empty).await;
        got.sort_by_key(|t| t.recipients.len());
        assert_eq!(got[0].recipients, ["dave@other.example"]);
        assert_eq!(got[1].recipients, ["carol@example.net", "erin@example.net"]);
        assert!(got.iter().all(|t| t.sender == "alice@example.org"), "{got:?}");
        assert!(got[0].message.ends_with("\r\n\r\nhello\r\n"));
        assert_eq!(w.inbox("bob").len(), 1);
        assert!(w.spooled().is_empty());
    });
}

#[test]
fn a_refused_recipient_bounces_while_others_go_on() {
    world("bounce", "", "", async |w| {
        let _queue = w.start();
        let to = ["nobody@example.net", "carol@example.net", "later@example.net"];
        w.accept(alice(), "alice@example.org", &to, MINE).await.unwrap();
        assert_eq!(w.remote.recv().await.unwrap().recipients, ["carol@example.net"]);
        w.until(|q| q.len() == 1 && q[0].recipients.iter().all(|r| !r.notice) && q[0].attempts == 1).await;
        let states = |e: &Entry| e.recipients.iter().map(|r| (r.address.local.clone(), r.state.clone())).collect::<Vec<_>>();
        let want = [
            ("nobody".to_owned(), State::Failed("550 5.1.1 No such user".into())),
            ("carol".into(), State::Delivered),
            ("later".into(), State::Pending),
        ];
        let disk = w.mta.spool.list().unwrap();
        assert_eq!(states(&disk[0]), want);
        assert_eq!(disk[0].recipients[2].last_error.as_deref(), Some("450 4.2.0 Try later"));
        let bounce = w.inbox("alice").remove(0);
        for part in [
            "Return-Path: <>",
            "report-type=delivery-status",
            "Final-Recipient: rfc822; nobody@example.net",
            "Action: failed",
            "Status: 5.1.1",
            "Remote-MTA: dns; mx.example.net",
            "Subject: hi",
        ] {
            assert!(bounce.contains(part), "{part} in {bounce}");
        }
        assert!(!bounce.contains("carol@example.net") && !bounce.contains("later@example.net"), "{bounce}");
        // Nobody is sent to twice.
        w.mta.queue_do(Verb::Retry, &Which::All).await.unwrap();
        w.until(|q| q.len() == 1 && q[0].attempts == 2).await;
        assert!(w.remote.is_empty());
        assert_eq!(w.inbox("alice").len(), 1);
    });
}

#[test]
fn domains_that_take_no_mail() {
    world("nowhere", "", "", async |w| {
        let _queue = w.start();
        const CASES: &[(&str, &str)] =
            &[("x@null.example", "5.1.10"), ("x@missing.example", "5.1.2"), ("x@loop.example", "5.4.6"), ("x@[example]", "5.1.2")];
        for (n, (to, status)) in CASES.iter().enumerate() {
            let Some(to) = Address::parse(to) else { continue };
            w.accept(alice(), "alice@example.org", &[&to.to_string()], MINE).await.unwrap();
            w.until(<[Entry]>::is_empty).await;
            let bounce = w.inbox("alice").remove(n);
            assert!(bounce.contains(&format!("Status: {status}")), "{to}: {bounce}");
        }
        w.accept(alice(), "alice@example.org", &["x@address.example", "y@[127.0.0.1]"], MINE).await.unwrap();
        let mut got = vec![w.remote.recv().await.unwrap().recipients, w.remote.recv().await.unwrap().recipients];
        got.sort();
        assert_eq!(got, [["x@address.example"], ["y@[127.0.0.1]"]]);
    });
}

/// With one connection for it, the second message waits for the first, and does not try again what just failed.
#[test]
fn a_dead_host_is_not_tried_for_every_message() {
    world("dead", "queue.connections-per-host = 1\nqueue.lifetime = \"5d\"\n", "", async |w| {
        let failed = |q: &[Entry]| -> Vec<String> { q.iter().filter_map(|e| e.recipients[0].last_error.clone()).collect() };
        let _queue = w.start();
        w.accept(alice(), "alice@example.org", &["x@dead.example"], MINE).await.unwrap();
        w.accept(alice(), "alice@example.org", &["y@dead.example"], MINE).await.unwrap();
        w.until(|q| failed(q).len() == 2).await;
        let skipped = |q: &[Entry]| failed(q).iter().filter(|e| e.contains("dead.example") && e.ends_with("(not tried again so soon)")).count();
        assert_eq!(skipped(&w.mta.queue_list()), 1, "{:?}", failed(&w.mta.queue_list()));
        // Who says retry knows better.
        w.mta.queue_do(Verb::Retry, &Which::All).await.unwrap();
        w.until(|q| q.len() == 2 && q.iter().all(|e| e.attempts == 2)).await;
        assert_eq!(skipped(&w.mta.queue_list()), 1);
        let old = aged(w, Duration::from_secs(6 * 86_400), Some("bob@example.org"), "x@dead.example");
        w.mta.queue.add(old);
        w.until(|q| q.len() == 2).await;
        let bounce = w.inbox("bob").remove(0);
        assert!(bounce.contains("Diagnostic-Code: x-gatepost; 451 4.4.1 ") && !bounce.contains("Remote-MTA"), "{bounce}");
    });
}

/// As if it came long ago.
fn aged(w: &World, age: Duration, from: Option<&str>, to: &str) -> Entry {
    let e = Entry {
        id: w.mta.queue_id(),
        arrived: SystemTime::now() - age,
        sender: from.map(address),
        size: 0,
        body_8bit: false,
        smtputf8: false,
        ret_full: Some(true),
        envid: None,
        recipients: vec![crate::spool::Recipient::new(address(to))],
        attempts: 3,
        next: SystemTime::now(),
        held: false,
        warned: false,
    };
    w.mta.spool.prepare(e, b"", &Draft::from_bytes(MINE.replace('\n', "\r\n").into_bytes())).unwrap().commit().unwrap()
}

#[test]
fn old_mail_is_warned_of_once_and_then_bounces() {
    world("old", "queue.lifetime = \"5d\"\nqueue.warn-after = \"4h\"\n", "", async |w| {
        let day = Duration::from_secs(86_400);
        aged(w, day, Some("alice@example.org"), "later@example.net");
        aged(w, 6 * day, Some("bob@example.org"), "later@example.net");
        aged(w, 6 * day, None, "later@example.net");
        let _queue = w.start();
        w.until(|q| q.len() == 1 && q[0].warned).await;
        let warning = w.inbox("alice").remove(0);
        assert!(warning.contains("Action: delayed") && warning.contains("Status: 4.2.0") && warning.contains("Will-Retry-Until: "), "{warning}");
        let bounce = w.inbox("bob").remove(0);
        assert!(bounce.contains("Action: failed") && bounce.contains("smtp; 450 4.2.0 Try later") && bounce.contains("\r\nhello\r\n"), "{bounce}");
        assert!(bounce.contains("Status: 4.4.7"), "{bounce}");
        w.mta.queue_do(Verb::Retry, &Which::All).await.unwrap();
        w.until(|q| q.len() == 1 && q[0].attempts == 5).await;
        assert_eq!((w.inbox("alice").len(), w.inbox("bob").len()), (1, 1));
    });
}

#[test]
fn nothing_is_said_about_mail_from_nobody() {
    world("null", "", "", async |w| {
        let _queue = w.start();
        w.accept(Origin::Internal, "", &["nobody@example.net"], MINE).await.unwrap();
        w.until(<[Entry]>::is_empty).await;
        let mut t = w.mail(alice(), "alice@example.org", &["nobody@example.net"], MINE);
        t.recipients[0].notify.never = true;
        w.mta.accept(t).await.unwrap();
        w.until(<[Entry]>::is_empty).await;
        assert!(w.inbox("alice").is_empty());
    });
}

#[test]
fn success_is_told_when_asked_for() {
    world("success", "", "list: bob, carol@example.net\n", async |w| {
        let _queue = w.start();
        let mut t = w.mail(alice(), "alice@example.org", &["bob@example.org", "carol@example.net"], MINE);
        t.params.envid = Some("QQ1".into());
        t.recipients.iter_mut().for_each(|r| r.notify.success = true);
        t.recipients[0].orcpt = Some("rfc822;bob@example.org".into());
        w.mta.accept(t).await.unwrap();
        w.until(<[Entry]>::is_empty).await;
        let told = w.inbox("alice").remove(0);
        for part in ["Action: delivered", "Action: relayed", "Final-Recipient: rfc822; bob@example.org", "Original-Envelope-Id: QQ1", "Status: 2.0.0"]
        {
            assert!(told.contains(part), "{part} in {told}");
        }
        assert_eq!((w.inbox("alice").len(), w.inbox("bob").len()), (1, 1));
    });
}

#[test]
fn a_home_that_cannot_be_written_gets_its_mail_later() {
    world("late", "", "", async |w| {
        let _queue = w.start();
        let home = w.dir.join("state/mail/example.org/alice");
        fs::create_dir_all(w.dir.join("state/mail/example.org")).unwrap();
        fs::write(&home, "in the way").unwrap();
        let no = w.accept(Origin::Mx, "carol@example.net", &["alice@example.org"], MAIL).await.unwrap_err();
        assert!(no.is_temporary(), "{no}");
        w.accept(Origin::Mx, "carol@example.net", &["alice@example.org", "bob@example.org"], MAIL).await.unwrap();
        w.until(|q| q.len() == 1 && q[0].attempts == 1).await;
        assert_eq!(w.inbox("bob").len(), 1);
        fs::remove_file(&home).unwrap();
        w.mta.queue_do(Verb::Retry, &Which::Domain("example.org".into())).await.unwrap();
        w.until(<[Entry]>::is_empty).await;
        let got = w.inbox("alice");
        assert!(got.len() == 1 && got[0].starts_with("Return-Path: <carol@example.net>\r\nDelivered-To: alice@example.org\r\n"), "{got:?}");
        assert_eq!(w.inbox("bob").len(), 1);
    });
}

#[test]
fn a_removed_account_does_not_come_back_to_life() {
    world("removed", "", "", async |w| {
        let _queue = w.start();
        let home = w.dir.join("state/mail/example.org/alice");
        fs::create_dir_all(w.dir.join("state/mail/example.org")).unwrap();
        fs::write(&home, "in the way").unwrap();
        w.accept(
            Origin::Submission(AccountId("bob@example.org".into())),
            "bob@example.org",
            &["alice@example.org", "bob@example.org"],
            &MINE.replace("alice", "bob"),
        )
        .await
        .unwrap();
        w.until(|q| q.len() == 1 && q[0].attempts == 1).await;
        fs::remove_file(&home).unwrap();
        fs::write(w.dir.join("users"), "bob@example.org:{PLAIN}x\n").unwrap();
        w.mta.accounts.reload(&w.mta.config.get()).unwrap();
        w.mta.queue_do(Verb::Retry, &Which::All).await.unwrap();
        w.until(<[Entry]>::is_empty).await;
        assert!(!home.exists());
        assert!(w.inbox("bob").iter().any(|m| m.contains("Status: 5.1.1") && m.contains("alice@example.org")));
    });
}

#[test]
fn verbs_of_the_queue() {
    world("verbs", "", "", async |w| {
        let queue = w.start();
        let id = |text: String| QueueId::parse(text.rsplit(' ').next().unwrap()).unwrap();
        let later = id(w.accept(alice(), "alice@example.org", &["later@example.net"], MINE).await.unwrap());
        w.until(|q| q.len() == 1 && q[0].attempts == 1).await;
        assert_eq!(w.mta.queue_do(Verb::Hold, &Which::parse("example.net")).await, Ok(vec![later.clone()]));
        assert!(w.mta.spool.load(&later).unwrap().unwrap().held);
        assert_eq!(w.mta.queue_do(Verb::Retry, &Which::Id(later.clone())).await, Ok(vec![later.clone()]));
        assert_eq!(w.mta.queue_list()[0].attempts, 1, "what is held is not attempted");
        assert_eq!(w.mta.queue_do(Verb::Release, &Which::All).await, Ok(vec![later.clone()]));
        w.until(|q| q.len() == 1 && q[0].attempts == 2 && !q[0].held).await;
        assert_eq!(w.mta.queue_do(Verb::Hold, &Which::Domain("example.com".into())).await, Ok(vec![]));
        assert_eq!(w.mta.queue_do(Verb::Drop, &Which::Id(later.clone())).await, Ok(vec![later]));
        w.until(<[Entry]>::is_empty).await;
        assert!(w.spooled().is_empty() && w.inbox("alice").is_empty());
        w.drain.start();
        queue.await;
    });
}

#[test]
fn a_route_has_its_own_host() {
    // The port is the remote host's, known only later: the route names the host, the port comes from mx-port.
    world("route", "[[route]]\nto = [\"far.example\"]\ntls = \"require\"\n", "", async |w| {
        let mut config = (*w.mta.config.get()).clone();
        config.routes[0].via = Some(("[127.0.0.1]".into(), config.smtp.mx_port));
        config.routes[0].tls = config::RouteTls::May;
        w.mta.config.set(config);
        let _queue = w.start();
        w.accept(alice(), "alice@example.org", &["x@far.example", "y@far.example"], MINE).await.unwrap();
        assert_eq!(w.remote.recv().await.unwrap().recipients, ["x@far.example", "y@far.example"]);
        w.until(<[Entry]>::is_empty).await;
    });
}

#[test]
fn waits_grow_and_end() {
    world("backoff", "queue.retry = \"10m\"\nqueue.retry-max = \"4h\"\n", "", async |w| {
        let config = w.mta.config.get();
        let entry = aged(w, Duration::ZERO, None, "x@example.net");
        let minutes = |attempts| queue::backoff(&config.queue, &Entry { attempts, ..entry.clone() }).as_secs_f64() / 60.0;
        for (attempts, base) in [(1, 10.0), (2, 20.0), (3, 40.0), (5, 160.0), (6, 240.0), (40, 240.0), (u32::MAX, 240.0)] {
            let m = minutes(attempts);
            assert!((base * 0.9..=base * 1.11).contains(&m), "{attempts}: {m}");
            assert!((m - minutes(attempts)).abs() < f64::EPSILON, "the same entry waits the same time");
        }
    });
}
