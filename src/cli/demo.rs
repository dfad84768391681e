//! `gatepost demo`: the whole server as an ordinary user on loopback, in a throwaway directory.
//!
//! Two hosts in one process, mx.example.org (alice) and mx.example.net (bob), and a name server stub between them,
//! so that a message goes the long way: submission, queue, MX lookup, SMTP in, Maildir, IMAP and POP3.

mod client;

use super::{Exit, out, trouble};
use crate::{
    accounts::scheme,
    config::{self, Config},
    daemon::{Executor, Listeners, Port, Rooms},
    disk,
    dns::{self, stub},
    message::Address,
    net, os, smtpc,
};
use argh::FromArgs;
use std::{
    cell::RefCell,
    net::{SocketAddr, TcpListener},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// run the whole server in a throwaway directory, without root and without network, and show a message's way
#[derive(FromArgs)]
#[argh(subcommand, name = "demo")]
pub(crate) struct Args {
    /// end after the message arrived; exit status 0 when IMAP and POP3 both served it
    #[argh(switch)]
    once: bool,
    /// work here and keep it afterwards (default: a new directory under $TMPDIR, removed at the end)
    #[argh(option)]
    dir: Option<PathBuf>,
}

const PASSWORD: &str = "gatepost";
const ALICE: &str = "alice@example.org";
const BOB: &str = "bob@example.net";

pub(crate) fn run(args: &Args) -> Exit {
    let (dir, keep) = match &args.dir {
        Some(d) => (d.clone(), true),
        None => (std::env::temp_dir().join(format!("gatepost-demo-{:x}", disk::unique())), false),
    };
    // A directory of its own that nobody made before us: everybody may write to /tmp.
    let made = std::fs::DirBuilder::new().recursive(keep).mode(0o700).create(&dir);
    if let Err(e) = made {
        return trouble(&format!("cannot create {}: {e}; `--dir DIR` works elsewhere", dir.display()));
    }
    let dir = std::fs::canonicalize(&dir).unwrap_or(dir);
    super::start_log(if args.once { "error" } else { "warn" });
    if let Err(e) = os::blocking_threads(8) {
        return trouble(&e);
    }
    let ex: Executor = Rc::new(smol::LocalExecutor::new());
    let result = smol::block_on(ex.run(dns::EXECUTOR.run(show(ex.clone(), &dir, args.once))));
    if !keep {
        let _ = std::fs::remove_dir_all(&dir);
    }
    match result {
        Ok(()) => Exit::Ok,
        Err(e) => trouble(&format!("demo: {e}")),
    }
}

/// One of the two hosts.
struct Host {
    rooms: Rooms,
    tasks: Vec<smol::Task<()>>,
    ports: Vec<(Port, SocketAddr)>,
}

impl Host {
    fn at(&self, port: Port) -> SocketAddr {
        self.ports.iter().find(|(p, _)| *p == port).map_or(([127, 0, 0, 1], 0).into(), |(_, a)| *a)
    }
}

async fn show(ex: Executor, dir: &Path, once: bool) -> Result<(), String> {
    // From here on Ctrl-C, and a terminal that is closed, leave nothing behind.
    let mut end = os::signals::Signals::new().map_err(|e| format!("signals: {e}"))?;
    let certificate = certificate(dir)?;
    let (socket, dns) = stub::bind().await.map_err(|e| format!("name server stub: {e}"))?;
    let asked = Rc::new(RefCell::new(Vec::new()));
    let zone = stub::Zone::parse(
        "example.net MX 10 mx.example.net\nmx.example.net A 127.0.0.1\nexample.org MX 10 mx.example.org\nmx.example.org A 127.0.0.1\n",
    )?;
    let heard = asked.clone();
    let name_server = ex.spawn(async move { stub::serve(socket, Rc::new(RefCell::new(zone)), |q| heard.borrow_mut().push(q.to_owned())).await });

    // The receiving host first: the sender must know its port, since on loopback nobody may bind 25.
    let net = start(&ex, dir, "example.net", BOB, 0, dns, 25).await?;
    let org = start(&ex, dir, "example.org", ALICE, 20, dns, net.at(Port::Smtp).port()).await?;

    println!("gatepost {}: two mail hosts on loopback, both in {}", env!("CARGO_PKG_VERSION"), dir.display());
    println!("  mx.example.org  user {ALICE}   password {PASSWORD}");
    println!("  mx.example.net  user {BOB}     password {PASSWORD}\n");
    let whole = async {
        story(dir, &certificate, &org, &net, &asked).await?;
        // With nobody left to read, nobody will press Ctrl-C either.
        if !once && !out::lost() {
            commands(dir, &certificate, &org, &net);
            smol::future::pending::<()>().await;
        }
        Ok(())
    };
    let interrupted = async {
        end.next().await;
        println!("\nStopping.");
        if once { Err("interrupted".to_owned()) } else { Ok(()) }
    };
    smol::future::or(whole, interrupted).await?;
    for host in [org, net] {
        host.rooms.drain.start();
        let ended = async {
            for task in host.tasks {
                task.await;
            }
        };
        smol::future::or(ended, async {
            smol::Timer::after(Duration::from_secs(3)).await;
        })
        .await;
    }
    drop(name_server);
    Ok(())
}

/// A certificate for both hosts and for localhost, valid in the demo only.
fn certificate(dir: &Path) -> Result<PathBuf, String> {
    let names = ["localhost", "mx.example.org", "mx.example.net", "127.0.0.1"];
    let (cert, key) = net::self_signed(&names)?;
    let path = dir.join("cert.pem");
    std::fs::write(&path, cert).map_err(|e| format!("{}: {e}", path.display()))?;
    std::fs::write(dir.join("key.pem"), key).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(path)
}

/// Familiar numbers where they are free, so that the printed lines stay the same from run to run.
fn free_port(preferred: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", preferred))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        .map_err(|e| format!("no loopback port to listen on: {e}"))
}

async fn start(ex: &Executor, dir: &Path, domain: &str, user: &str, shift: u16, dns: SocketAddr, mx_port: u16) -> Result<Host, String> {
    use std::fmt::Write;
    let home = dir.join(domain);
    let mut listeners = Vec::new();
    let mut ports = Vec::new();
    let mut listen = String::new();
    let wanted = [
        (Port::Smtp, 2525),
        (Port::Submission, 2587),
        (Port::Submissions, 2465),
        (Port::Imap, 2143),
        (Port::Imaps, 2993),
        (Port::Pop3, 2110),
        (Port::Pop3s, 2995),
    ];
    for (port, number) in wanted {
        let listener = free_port(number + shift)?;
        listener.set_nonblocking(true).map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let _ = writeln!(listen, "{} = \"{address}\"", port.name());
        ports.push((port, address));
        listeners.push((port, listener));
    }
    let text = format!(
        "hostname = \"mx.{domain}\"\ndomains = [\"{domain}\"]\nstate = \"state\"\nrun = \"run\"\nusers = \"users\"\naliases = \"aliases\"\n\n[listen]\n{listen}\n[tls]\ncert = \"../cert.pem\"\nkey = \"../key.pem\"\n\n[dns]\nservers = [\"{dns}\"]\n\n[smtp]\nmx-port = {mx_port}\n"
    );
    let write = |name: &str, text: &str| std::fs::write(home.join(name), text).map_err(|e| format!("{}: {e}", home.join(name).display()));
    for folder in ["state", "run"] {
        std::fs::create_dir_all(home.join(folder)).map_err(|e| format!("{}: {e}", home.display()))?;
    }
    write("gatepost.conf", &text)?;
    let hash = smol::unblock(|| scheme::make(scheme::Scheme::Argon2id, PASSWORD)).await?;
    write("users", &format!("{user}:{hash}\n"))?;
    write("aliases", &format!("postmaster: {user}\n"))?;
    let file = home.join("gatepost.conf");
    let config: Config = smol::unblock(move || config::load(&file))
        .await
        .map(|(c, _)| c)
        .map_err(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let rooms = Rooms::build(config)?;
    let tasks = rooms.start(ex, Listeners(listeners));
    Ok(Host { rooms, tasks, ports })
}

const MAIL: &str = "From: Alice <alice@example.org>\r\nTo: Bob <bob@example.net>\r\nSubject: Between you, me and the gatepost\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello Bob,\r\n\r\nthis went the long way round.\r\n\r\nAlice\r\n";

async fn story(dir: &Path, certificate: &Path, org: &Host, net: &Host, asked: &RefCell<Vec<String>>) -> Result<(), String> {
    let say = |text: &str| println!("     {text}");
    let step = |n: u8, text: &str| println!("  {n}. {text}");
    let mail = dir.join("first-mail.eml");
    std::fs::write(&mail, MAIL).map_err(|e| format!("{}: {e}", mail.display()))?;

    let submission = org.at(Port::Submission);
    step(1, &format!("Submission: alice logs in at {submission} (STARTTLS, AUTH PLAIN) and sends {}", mail.display()));
    let reply = submit(submission, mail).await?;
    say(&format!("S: {} {}", reply.code, reply.text));

    step(2, "Spool: mx.example.org holds it on disk, as a message file and a readable envelope, until somebody took it");
    say(&dir.join("example.org/state/spool").display().to_string());

    step(3, "MX lookup: who takes mail for example.net?");
    let host = certificate.to_owned();
    let fetched = client::by_imap(net.at(Port::Imaps), &host, BOB, PASSWORD, |_| ()).await;
    for question in asked.borrow().iter() {
        say(&format!("asked the name server: {question}"));
    }
    let message = fetched.map_err(|e| format!("the message did not arrive by IMAP: {e}"))?;

    step(4, &format!("SMTP in: mx.example.net took it at {} over TLS; what the ways wrote on it:", net.at(Port::Smtp)));
    message
        .lines()
        .skip_while(|l| !l.starts_with("Return-Path") && !l.starts_with("Received"))
        .take_while(|l| !l.starts_with("From:") && !l.is_empty())
        .take(14)
        .for_each(say);

    step(5, "Maildir: one plain file in bob's home");
    for file in mail_files(&dir.join("example.net/state/mail/example.net/bob/Maildir")) {
        say(&file.display().to_string());
    }
    step(6, &format!("IMAP: bob reads it at {}", net.at(Port::Imaps)));
    let again = client::by_imap(net.at(Port::Imaps), &host, BOB, PASSWORD, say).await.map_err(|e| format!("IMAP: {e}"))?;
    again.lines().find(|l| l.contains("ENVELOPE")).into_iter().for_each(|l| say(&format!("S: {l}")));
    step(7, &format!("POP3: and at {}", net.at(Port::Pop3s)));
    let popped = client::by_pop3(net.at(Port::Pop3s), &host, BOB, PASSWORD, say).await.map_err(|e| format!("POP3: {e}"))?;
    for (by, text) in [("IMAP", &message), ("POP3", &popped)] {
        if !text.contains("this went the long way round.") {
            return Err(format!("by {by} came another message than the one that was sent"));
        }
    }
    println!("\nThe message arrived, by IMAP and by POP3.");
    Ok(())
}

async fn submit(address: SocketAddr, message: PathBuf) -> Result<smtpc::Reply, String> {
    let sender = Address::parse(ALICE).ok_or("alice")?;
    let recipient = Address::parse(BOB).ok_or("bob")?;
    let peer = smtpc::Peer {
        host: "localhost".to_owned(),
        address,
        tls: config::RouteTls::May,
        auth: Some((ALICE.to_owned(), config::Secret(PASSWORD.to_owned()))),
    };
    let mail = smtpc::Mail {
        helo: "laptop.example.org".to_owned(),
        sender: Some(sender),
        recipients: vec![(recipient, crate::spool::Notify::default(), None)],
        size: MAIL.len() as u64,
        message,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        timeout: Duration::from_secs(20),
    };
    match smtpc::deliver(&peer, &mail).await.map_err(|e| e.why)?.into_iter().next() {
        Some(smtpc::Outcome::Delivered { reply, .. }) => Ok(reply),
        Some(smtpc::Outcome::Refused(r) | smtpc::Outcome::Deferred(r)) => Err(format!("submission refused: {} {}", r.code, r.text)),
        None => Err("submission: no answer".to_owned()),
    }
}

fn mail_files(maildir: &Path) -> Vec<PathBuf> {
    ["new", "cur"]
        .iter()
        .filter_map(|sub| std::fs::read_dir(maildir.join(sub)).ok())
        .flat_map(|entries| entries.filter_map(|e| Some(e.ok()?.path())))
        .collect()
}

/// Lines to paste, each alone on its line, and none that needs more than a Debian package.
fn commands(dir: &Path, certificate: &Path, org: &Host, net: &Host) {
    let cert = certificate.display();
    let first = dir.join("first-mail.eml");
    let port = |h: &Host, p| h.at(p).port();
    println!("\nTry it (the daemon runs until Ctrl-C); each line works when pasted into another terminal:\n");
    println!("# send another mail, with curl");
    println!(
        "curl -s --cacert {cert} --ssl-reqd --url smtp://localhost:{} --user {ALICE}:{PASSWORD} --mail-from {ALICE} --mail-rcpt {BOB} --upload-file {}",
        port(org, Port::Submission),
        first.display()
    );
    println!("# or with swaks (apt install swaks)");
    println!(
        "swaks --server localhost:{} --tls --auth PLAIN --auth-user {ALICE} --auth-password {PASSWORD} --from {ALICE} --to {BOB} --header 'Subject: from swaks'",
        port(org, Port::Submission)
    );
    println!("# list bob's folders, then read his first mail");
    println!("curl -s --cacert {cert} --url imaps://localhost:{}/ --user {BOB}:{PASSWORD}", port(net, Port::Imaps));
    println!("curl -s --cacert {cert} --url 'imaps://localhost:{}/INBOX;MAILINDEX=1' --user {BOB}:{PASSWORD}", port(net, Port::Imaps));
    println!("# the same by POP3");
    println!("curl -s --cacert {cert} --url pop3s://localhost:{}/1 --user {BOB}:{PASSWORD}", port(net, Port::Pop3s));
    println!("# bob's mailbox in mutt (apt install mutt)");
    println!(
        "mutt -n -F /dev/null -e 'set ssl_force_tls=yes certificate_file={cert} imap_pass={PASSWORD} from={BOB} folder={}' -f imaps://bob%40example.net@localhost:{}/INBOX",
        dir.display(),
        port(net, Port::Imaps)
    );
    println!("# mail is plain files, and so is the configuration");
    println!("find {} -type f", dir.join("example.net/state/mail").display());
    println!("cat {}", dir.join("example.net/gatepost.conf").display());
}
