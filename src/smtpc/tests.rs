//! Dialogues with a scripted host.

use super::*;
use crate::{
    net::{
        Drain, Wire,
        listen::bind,
        tls::{
            Acceptor,
            tests::{Authority, scratch},
        },
    },
    spool::Notify,
};
use smol::{Async, future::zip};
use std::{fs, net::TcpListener, path::Path};

const MESSAGE: &str = "Subject: x\n\n.dot\nline\r\n";
const STUFFED: &str = "Subject: x\r\n\r\n..dot\r\nline\r\n.\r\n";

struct Host {
    listener: Async<TcpListener>,
    acceptor: Acceptor,
    authority: Authority,
    dir: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let dir = scratch(name);
        let authority = Authority::new();
        let acceptor = Acceptor::load(&authority.issue(&dir, "mx.test")).unwrap();
        fs::write(dir.join("message"), MESSAGE).unwrap();
        let listener = Async::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        Self { listener, acceptor, authority, dir }
    }
    fn peer(&self, tls: RouteTls) -> Peer {
        Peer { host: "mx.test".into(), address: self.listener.get_ref().local_addr().unwrap(), tls, auth: None }
    }
    /// Plays one script per connection: `S:` said (`|`: line end), `C:` expected, `TLS` handshake, `BREAK` no handshake, `MESSAGE`
    /// expected. Then hangs up.
    async fn play(&self, scripts: &[&str]) {
        for script in scripts {
            let (stream, _) = self.listener.accept().await.unwrap();
            let mut wire = Wire::plain(stream, Drain::new()).unwrap();
            let wait = Duration::from_secs(30);
            for step in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
                if let Some(line) = step.strip_prefix("S: ") {
                    wire.write(format!("{}\r\n", line.replace('|', "\r\n")).as_bytes()).await.unwrap();
                    wire.flush().await.unwrap();
                } else if let Some(line) = step.strip_prefix("C: ") {
                    let got = wire.next(wait, |b| Some((b.windows(2).position(|w| w == b"\r\n")? + 2, b.to_vec()))).await;
                    let got = String::from_utf8(got.unwrap_or_else(|e| panic!("{e} instead of {step}: {script}"))).unwrap();
                    assert_eq!(got.split("\r\n").next(), Some(line), "{script}");
                } else if step == "TLS" {
                    if wire.start_tls(&self.acceptor, wait).await.is_err() {
                        break;
                    }
                } else if step == "BREAK" {
                    wire.write(b"this is no TLS\r\n").await.unwrap();
                    wire.flush().await.unwrap();
                } else if step == "MESSAGE" {
                    let end = |b: &[u8]| b.ends_with(b"\r\n.\r\n").then(|| (b.len(), String::from_utf8(b.to_vec()).unwrap()));
                    assert_eq!(wire.next(wait, end).await.unwrap(), STUFFED);
                } else {
                    panic!("{step}?");
                }
            }
        }
    }
    /// The outcomes in short: `delivered 250 | refused 550 …`, or `unreachable: why`.
    fn run(&self, peer: &Peer, mail: &Mail, scripts: &[&str]) -> String {
        let roots = self.authority.connector(&self.dir);
        let (got, ()) = smol::block_on(zip(deliver_verifying(peer, mail, || Ok(roots)), self.play(scripts)));
        short(got)
    }
}

fn short(got: Result<Vec<Outcome>, Unreachable>) -> String {
    match got {
        Err(Unreachable { why, .. }) => format!("unreachable: {why}"),
        Ok(all) => {
            let one = |o: Outcome| match o {
                Outcome::Delivered { reply, dsn: false } => format!("delivered {}", reply.code),
                Outcome::Delivered { reply, dsn: true } => format!("delivered {} dsn", reply.code),
                Outcome::Refused(reply) => format!("refused {}", reply.code),
                Outcome::Deferred(reply) => format!("deferred {}", reply.code),
            };
            all.into_iter().map(one).collect::<Vec<_>>().join(" | ")
        }
    }
}

fn address(text: &str) -> Address {
    let (local, domain) = text.split_once('@').unwrap();
    Address { local: local.into(), domain: domain.into() }
}

fn mail(dir: &Path, to: &[&str]) -> Mail {
    Mail {
        helo: "us.test".into(),
        sender: Some(address("a@us.test")),
        recipients: to.iter().map(|t| (address(t), Notify::default(), None)).collect(),
        message: dir.join("message"),
        size: MESSAGE.len() as u64,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        timeout: Duration::from_secs(30),
    }
}

const OPEN: &str = "S: 220 mx.test\nC: EHLO us.test\n";
const BARE: &str = "S: 250 mx.test\n";
const PIPE: &str = "S: 250-mx.test\nS: 250 PIPELINING\n";
const FROM: &str = "C: MAIL FROM:<a@us.test>\n";
const B: &str = "C: RCPT TO:<b@mx.test>\n";
const C: &str = "C: RCPT TO:<c@mx.test>\n";
const D: &str = "C: RCPT TO:<d@mx.test>\n";
const OK: &str = "S: 250 2.0.0 ok\n";
const DATA: &str = "C: DATA\nS: 354 go\nMESSAGE\n";
const QUIT: &str = "C: QUIT\nS: 221 bye\n";

/// One dialogue each, with recipients b, c and d as far as the script is about them.
#[test]
fn dialogues_in_the_clear() {
    let cases: &[(usize, &[&str], &str)] = &[
        (1, &[OPEN, BARE, FROM, OK, B, OK, DATA, OK, QUIT], "delivered 250"),
        (2, &[OPEN, BARE, FROM, OK, B, OK, C, OK, DATA, OK, QUIT], "delivered 250 | delivered 250"),
        (1, &[OPEN, PIPE, FROM, B, OK, OK, DATA, OK, QUIT], "delivered 250"),
        (
            3,
            &[OPEN, PIPE, FROM, B, C, D, OK, OK, "S: 451 later\n", "S: 550 5.1.1 no\n", DATA, OK, QUIT],
            "delivered 250 | deferred 451 | refused 550",
        ),
        // Nobody accepted: no DATA.
        (2, &[OPEN, PIPE, FROM, B, C, OK, "S: 550 no\n", "S: 450 no\n", QUIT], "refused 550 | deferred 450"),
        // MAIL refused: for all.
        (2, &[OPEN, BARE, FROM, "S: 550 5.7.1 no\n", QUIT], "refused 550 | refused 550"),
        (2, &[OPEN, PIPE, FROM, B, C, "S: 451 later\n", "S: 503 x\n", "S: 503 x\n", QUIT], "deferred 451 | deferred 451"),
        (1, &[OPEN, BARE, FROM, "S: 421 closing\n"], "unreachable: mx.test said to MAIL: 421 closing"),
        // Not about this mail: the next host.
        (1, &["S: 554 5.7.1 no SMTP here\n", QUIT], "unreachable: mx.test said to greeting: 554 5.7.1 no SMTP here"),
        (1, &["S: 421 busy\n"], "unreachable: mx.test said to greeting: 421 busy"),
        (1, &["S: hello, this is no SMTP\n"], "unreachable: mx.test after greeting: not an SMTP reply"),
        (1, &[OPEN, "S: 451 not now\n", QUIT], "unreachable: mx.test said to EHLO: 451 not now"),
        // Before ESMTP.
        (1, &[OPEN, "S: 502 what?\nC: HELO us.test\n", OK, FROM, OK, B, OK, DATA, OK, QUIT], "delivered 250"),
        (1, &[OPEN, "S: 502 what?\nC: HELO us.test\n", "S: 550 no\n", QUIT], "unreachable: mx.test said to EHLO: 550 no"),
        // 421 in the middle.
        (2, &[OPEN, BARE, FROM, OK, B, OK, C, "S: 421 closing\n"], "deferred 421 | deferred 421"),
        (3, &[OPEN, PIPE, FROM, B, C, D, OK, "S: 550 no\n", "S: 421 closing\n"], "refused 550 | deferred 421 | deferred 421"),
        (1, &[OPEN, BARE, FROM, OK, B, "S: 421 closing\n"], "unreachable: mx.test said to RCPT: 421 closing"),
        // DATA and its end.
        (2, &[OPEN, PIPE, FROM, B, C, OK, OK, "S: 550 no\n", "C: DATA\nS: 554 5.6.0 no\n", QUIT], "refused 554 | refused 550"),
        (1, &[OPEN, BARE, FROM, OK, B, OK, "C: DATA\nS: 250 what?\n", QUIT], "deferred 250"),
        (1, &[OPEN, BARE, FROM, OK, B, OK, DATA, "S: 451 4.7.1 greylisted\n", QUIT], "deferred 451"),
        (1, &[OPEN, BARE, FROM, OK, B, OK, DATA, "S: 550-5.7.1 spam\nS: 550 5.7.1 really\n", QUIT], "refused 550"),
        // The connection breaks at each stage.
        (1, &[], "unreachable: mx.test after greeting: connection closed"),
        (1, &[OPEN], "unreachable: mx.test after EHLO: connection closed"),
        (1, &[OPEN, BARE, FROM], "unreachable: mx.test after MAIL: connection closed"),
        (1, &[OPEN, BARE, FROM, OK, B], "unreachable: mx.test after RCPT: connection closed"),
        (2, &[OPEN, BARE, FROM, OK, B, OK, C], "deferred 451 | deferred 451"),
        (2, &[OPEN, PIPE, FROM, B, C, OK, "S: 550 no\n"], "refused 550 | deferred 451"),
        (1, &[OPEN, BARE, FROM, OK, B, OK, "C: DATA\n"], "deferred 451"),
        (1, &[OPEN, BARE, FROM, OK, B, OK, DATA], "deferred 451"),
        // Multi-line and odd replies.
        (
            1,
            &["S: 220-mx.test\nS: 220 really\nC: EHLO us.test\n", BARE, FROM, "S: 250\n", B, "S: 251 will forward\n", DATA, OK, QUIT],
            "delivered 250",
        ),
        (1, &[OPEN, "S: 250-mx.test\nS: 250 DSN\n", FROM, OK, B, OK, DATA, OK, QUIT], "delivered 250 dsn"),
    ];
    let host = Host::new("smtpc-clear");
    for (recipients, script, want) in cases {
        let to = ["b@mx.test", "c@mx.test", "d@mx.test"];
        let script = script.concat();
        let got = host.run(&host.peer(RouteTls::Never), &mail(&host.dir, &to[..*recipients]), &[&script]);
        assert_eq!(got, *want, "{script}");
    }
}

#[test]
fn tls_as_the_route_wants_it() {
    const STARTTLS: &str = "S: 250-mx.test\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n";
    const REST: &[&str] = &[FROM, OK, B, OK, DATA, OK, QUIT];
    let tls = [&[OPEN, STARTTLS, "TLS\n", "C: EHLO us.test\n", BARE], REST].concat().concat();
    let plain = [&[OPEN, BARE], REST].concat().concat();
    let ignored = [&[OPEN, "S: 250-mx.test\nS: 250 STARTTLS\n"], REST].concat().concat();
    let broken = [OPEN, STARTTLS, "BREAK\n"].concat();
    let hangs_up = [OPEN, STARTTLS].concat();
    let injected = [OPEN, "S: 250-mx.test\nS: 250 STARTTLS\nC: STARTTLS\n", "S: 220 go|250 injected\n"].concat();
    let not_now = [OPEN, "S: 250-mx.test\nS: 250 STARTTLS\nC: STARTTLS\nS: 454 not now\n"].concat();
    let not_now_plain = [&[not_now.as_str()], REST].concat().concat();
    let implicit = [&["TLS\n", OPEN, BARE], REST].concat().concat();
    let after_all = [OPEN, STARTTLS, "TLS\n"].concat();
    let cases: [(RouteTls, &str, &[&str], &str); 18] = [
        (RouteTls::May, "mx.test", &[&tls], "delivered 250"),
        (RouteTls::May, "any.other.test", &[&tls], "delivered 250"),
        (RouteTls::May, "mx.test", &[&plain], "delivered 250"),
        (RouteTls::May, "mx.test", &[&broken, &plain], "delivered 250"),
        (RouteTls::May, "mx.test", &[&hangs_up, &plain], "delivered 250"),
        (RouteTls::May, "mx.test", &[&after_all, &ignored], "delivered 250"),
        (RouteTls::May, "mx.test", &[&injected, &ignored], "delivered 250"),
        (RouteTls::May, "mx.test", &[&not_now_plain], "delivered 250"),
        (RouteTls::Never, "mx.test", &[&ignored], "delivered 250"),
        (RouteTls::Require, "mx.test", &[&tls], "delivered 250"),
        (RouteTls::Require, "any.other.test", &[&tls], "unreachable: TLS"),
        (RouteTls::Require, "mx.test", &[&[OPEN, BARE, QUIT].concat()], "unreachable: mx.test does not offer STARTTLS"),
        (RouteTls::Require, "mx.test", &[&not_now], "unreachable: mx.test said to STARTTLS: 454"),
        (RouteTls::Require, "mx.test", &[&injected], "unreachable: TLS: plain text"),
        (RouteTls::Require, "mx.test", &[&broken], "unreachable: TLS"),
        (RouteTls::Implicit, "mx.test", &[&implicit], "delivered 250"),
        (RouteTls::Implicit, "any.other.test", &[&implicit], "unreachable: TLS"),
        (RouteTls::Implicit, "mx.test", &["S: 220 plain\n"], "unreachable: TLS"),
    ];
    let host = Host::new("smtpc-tls");
    for (tls, name, scripts, want) in cases {
        let peer = Peer { host: name.into(), ..host.peer(tls) };
        let got = host.run(&peer, &mail(&host.dir, &["b@mx.test"]), scripts);
        assert!(got.starts_with(want), "{got:?} instead of {want:?}: {peer:?} {scripts:?}");
    }
}

#[test]
fn logins() {
    const REST: &[&str] = &[FROM, OK, B, OK, DATA, OK, QUIT];
    // printf '\0u@x\0p w' | base64
    let plain = "S: 250-mx.test\nS: 250 AUTH LOGIN PLAIN\nC: AUTH PLAIN AHVAeABwIHc=\n";
    let login = "S: 250-mx.test\nS: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: dUB4\nS: 334 UGFzc3dvcmQ6\nC: cCB3\n";
    let good = "S: 235 2.7.0 welcome\n";
    let cases: &[(String, &str)] = &[
        ([&[OPEN, plain, good], REST].concat().concat(), "delivered 250"),
        ([&[OPEN, login, good], REST].concat().concat(), "delivered 250"),
        ([OPEN, plain, "S: 535 5.7.8 no\n", QUIT].concat(), "unreachable: mx.test said to AUTH: 535 5.7.8 no"),
        ([OPEN, "S: 250-mx.test\nS: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 504 no\n", QUIT].concat(), "unreachable: mx.test said to AUTH: 504 no"),
        ([OPEN, "S: 250-mx.test\nS: 250 AUTH CRAM-MD5\n", QUIT].concat(), "unreachable: mx.test offers neither AUTH PLAIN nor LOGIN"),
    ];
    let host = Host::new("smtpc-auth");
    let peer = Peer { auth: Some(("u@x".into(), Secret("p w".into()))), ..host.peer(RouteTls::Never) };
    for (script, want) in cases {
        assert_eq!(host.run(&peer, &mail(&host.dir, &["b@mx.test"]), &[script]), *want, "{script}");
    }
}

#[test]
fn parameters_as_the_host_offers_them() {
    let host = Host::new("smtpc-parameters");
    let peer = host.peer(RouteTls::Never);
    let every = "S: 250-mx.test\nS: 250-SIZE 100\nS: 250-8BITMIME\nS: 250-SMTPUTF8\nS: 250-DSN\nS: 250 ENHANCEDSTATUSCODES\n";
    let notify = |never, success, failure, delay| Notify { never, success, failure, delay };
    let full = Mail {
        body_8bit: true,
        smtputf8: true,
        ret_full: Some(true),
        envid: Some("QQ+2B1".into()),
        recipients: vec![
            (address("b@mx.test"), notify(true, true, false, false), Some("rfc822;b+2B@x.test".into())),
            (address("\u{e9} x@mx.test"), notify(false, true, true, true), Some("not an orcpt".into())),
        ],
        ..mail(&host.dir, &[])
    };
    let script = [
        OPEN,
        every,
        &format!("C: MAIL FROM:<a@us.test> SIZE={} BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=QQ+2B1\n", MESSAGE.len()),
        OK,
        "C: RCPT TO:<b@mx.test> NOTIFY=NEVER ORCPT=rfc822;b+2B@x.test\n",
        OK,
        "C: RCPT TO:<\"\u{e9} x\"@mx.test> NOTIFY=SUCCESS,FAILURE,DELAY\n",
        OK,
        DATA,
        OK,
        QUIT,
    ]
    .concat();
    assert_eq!(host.run(&peer, &full, &[&script]), "delivered 250 dsn | delivered 250 dsn");
    let script = script.replace("RET=FULL", "RET=HDRS");
    assert_eq!(host.run(&peer, &Mail { ret_full: Some(false), ..full.clone() }, &[&script]), "delivered 250 dsn | delivered 250 dsn");
    // RFC 3461 §6.1: never for a notice.
    let notice = Mail { sender: None, envid: None, body_8bit: false, smtputf8: false, recipients: full.recipients[..1].to_vec(), ..full.clone() };
    let script = [
        OPEN,
        "S: 250-mx.test\nS: 250 DSN\n",
        "C: MAIL FROM:<>\n",
        OK,
        "C: RCPT TO:<b@mx.test> NOTIFY=NEVER ORCPT=rfc822;b+2B@x.test\n",
        OK,
        DATA,
        OK,
        QUIT,
    ];
    assert_eq!(host.run(&peer, &notice, &[&script.concat()]), "delivered 250 dsn");
    // None of it where nothing is offered; ASCII mail gets by without SMTPUTF8.
    let plain = Mail { recipients: full.recipients[..1].to_vec(), sender: None, ..full.clone() };
    let script = [OPEN, BARE, "C: MAIL FROM:<>\n", OK, B, OK, DATA, OK, QUIT].concat();
    assert_eq!(host.run(&peer, &plain, &[&script]), "delivered 250");
    // What the host cannot take is refused before it is bothered.
    let script = [OPEN, BARE, QUIT].concat();
    assert_eq!(host.run(&peer, &full, &[&script]), "refused 550 | refused 550");
    let script = [OPEN, "S: 250-mx.test\nS: 250 SIZE 10\n", QUIT].concat();
    assert_eq!(host.run(&peer, &plain, &[&script]), "refused 552");
    fs::write(host.dir.join("message"), "Subject: \u{e9}\n\n").unwrap();
    let script = [OPEN, BARE, QUIT].concat();
    assert_eq!(host.run(&peer, &plain, &[&script]), "refused 550");
}

#[test]
fn many_recipients_go_in_batches() {
    let host = Host::new("smtpc-many");
    let to: Vec<String> = (0..120).map(|n| format!("r{n}@mx.test")).collect();
    let mut script = [OPEN, PIPE, FROM].concat();
    for (n, group) in to.chunks(50).enumerate() {
        script += &group.iter().map(|r| format!("C: RCPT TO:<{r}>\n")).collect::<String>();
        script += &OK.repeat(group.len() + usize::from(n == 0));
    }
    script += &[DATA, OK, QUIT].concat();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    assert_eq!(host.run(&host.peer(RouteTls::Never), &mail(&host.dir, &to), &[&script]), vec!["delivered 250"; 120].join(" | "));
}

#[test]
fn a_large_message_goes_through_in_pieces() {
    let host = Host::new("smtpc-large");
    let line = format!(".{}\n", "x".repeat(70));
    fs::write(host.dir.join("message"), line.repeat(60_000)).unwrap();
    let script = [OPEN, BARE, FROM, OK, B, OK, "C: DATA\nS: 354 go\n"].concat();
    let mail = mail(&host.dir, &["b@mx.test"]);
    let peer = host.peer(RouteTls::Never);
    let host_side = async {
        let (stream, _) = host.listener.accept().await.unwrap();
        let mut wire = Wire::plain(stream, Drain::new()).unwrap();
        let wait = Duration::from_secs(30);
        for step in script.lines() {
            if let Some(said) = step.strip_prefix("S: ") {
                wire.write(format!("{said}\r\n").as_bytes()).await.unwrap();
            } else {
                wire.next(wait, |b| Some((b.iter().position(|c| *c == b'\n')? + 1, ()))).await.unwrap();
            }
        }
        let want = 60_000 * (line.len() + 2) + 3;
        let mut got = 0;
        while got < want {
            got += wire.next(wait, |b| (!b.is_empty()).then_some((b.len(), b.len()))).await.unwrap();
        }
        assert_eq!(got, want);
        wire.write(b"250 ok\r\n").await.unwrap();
        wire.flush().await.unwrap();
    };
    let (got, ()) = smol::block_on(zip(deliver(&peer, &mail), host_side));
    assert_eq!(short(got), "delivered 250");
}

#[test]
fn without_a_dialogue() {
    let host = Host::new("smtpc-without");
    let peer = host.peer(RouteTls::Never);
    let missing = Mail { message: host.dir.join("missing"), ..mail(&host.dir, &["b@mx.test", "c@mx.test"]) };
    assert_eq!(short(smol::block_on(deliver(&peer, &missing))), "deferred 451 | deferred 451");
    assert_eq!(short(smol::block_on(deliver(&peer, &mail(&host.dir, &[])))), "");
    // Accepted by the kernel, but nobody speaks.
    let hasty = Mail { timeout: Duration::from_millis(50), ..mail(&host.dir, &["b@mx.test"]) };
    assert_eq!(short(smol::block_on(deliver(&peer, &hasty))), "unreachable: mx.test after greeting: timed out");
    drop(host);
    let got = short(smol::block_on(deliver(&peer, &hasty)));
    assert!(got.starts_with("unreachable: connecting to mx.test"), "{got}");
}
