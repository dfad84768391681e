//! kill -9, EIO and a full disk at every step of accepting a message for two homes and a remote address: what was
//! acknowledged is there for everybody, nothing is there in part. The killed process is this test binary, run again.

use gatepost::{
    config,
    daemon::Rooms,
    disk::{Draft, fault},
    dns,
    message::Address,
    mta::{Client, MailParams, Notify, Origin, Recipient, Transaction},
    spool::{Entry, Spool, State},
};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const DIR: &str = "GATEPOST_CRASH_DIR";
const BODY: &str = "From: x@example.net\r\nDate: x\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n";
/// More steps than it has.
const STEPS: i64 = 200;

fn rooms(dir: &Path) -> Rooms {
    fs::write(dir.join("users"), "alice@example.org:!\nbob@example.org:!\n").expect("written");
    let text = format!(
        "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\nstate = \"{0}/state\"\nrun = \"{0}/run\"\nusers = \"{0}/users\"\naliases = \"{0}/aliases\"\n\
         [listen]\nsmtp = []\nsubmission = []\nsubmissions = []\nimap = []\nimaps = []\npop3 = []\npop3s = []\n[dns]\nservers = [\"127.0.0.1:1\"]\n",
        dir.display()
    );
    let (config, _) = config::parse(&dir.join("gatepost.conf"), &text).expect("a configuration");
    Rooms::build(config).expect("built")
}

/// Not a test by itself: what the killed process does. Writes what it was told to `done`.
#[test]
fn child() {
    let Ok(dir) = std::env::var(DIR).map(PathBuf::from) else { return };
    let rooms = rooms(&dir);
    let address = |a: &str| Address::parse(a).expect("an address");
    let to = ["alice@example.org", "bob@example.org", "carol@example.net"];
    let client = Client { origin: Origin::Internal, address: None, helo: "x".into(), tls: None, with: "LOCAL", conn: "x".into() };
    let transaction = Transaction {
        id: rooms.mta.queue_id(),
        client,
        sender: None,
        params: MailParams::default(),
        recipients: to.iter().map(|a| Recipient { address: address(a), notify: Notify::default(), orcpt: None }).collect(),
        draft: Draft::from_bytes(BODY.into()),
    };
    fault::arm_from_env();
    let answer = smol::block_on(dns::EXECUTOR.run(rooms.mta.accept(transaction)));
    let left = fault::disarm();
    let said = match answer {
        Ok(_) => "250".to_owned(),
        Err(no) => no.code.to_string(),
    };
    fs::write(dir.join("done"), format!("{said} {left}")).expect("written");
}

fn inbox(dir: &Path, user: &str) -> Vec<String> {
    let new = dir.join(format!("state/mail/example.org/{user}/Maildir/new"));
    fs::read_dir(new).map(|d| d.map(|f| fs::read_to_string(f.expect("readable").path()).expect("text")).collect()).unwrap_or_default()
}

/// Whether the step was beyond the last one.
fn attempt(dir: &Path, fault: &str) -> bool {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).expect("made");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "child", "--test-threads=1", "--quiet"]).env(DIR, dir).env("GATEPOST_FAULT", fault).stdout(Stdio::null());
    let killed = child.status().expect("started").signal() == Some(9);
    let said = fs::read_to_string(dir.join("done")).unwrap_or_default();
    assert!(killed == said.is_empty(), "{fault}: neither killed nor answered");
    let acknowledged = said.starts_with("250");
    assert!(acknowledged || killed || said.starts_with("45"), "{fault}: {said}");
    if fault.starts_with("full") && !acknowledged {
        assert!(said.starts_with("452"), "{fault}: {said}");
    }

    let spool = Spool::open(&dir.join("state/spool")).expect("opened after the crash");
    let list = spool.list().expect("listed");
    assert!(!dir.join("state/spool/corrupt").exists(), "{fault}");
    let waiting = |a: &str| list.iter().any(|e: &Entry| e.recipients.iter().any(|r| r.address.to_string() == a && r.state == State::Pending));
    for e in &list {
        let message = fs::read_to_string(spool.message(&e.id)).expect("its message");
        assert!(message.starts_with("Received: ") && message.ends_with(BODY), "{fault}: {message}");
    }
    for user in ["alice", "bob"] {
        let got = inbox(dir, user);
        assert!(got.iter().all(|m| m.starts_with("Return-Path: <>\r\n") && m.ends_with(BODY)), "{fault}: {got:?}");
        assert!(got.len() == 1 || !acknowledged || waiting(&format!("{user}@example.org")), "{fault}: lost for {user}");
        assert!(got.len() <= 1, "{fault}");
    }
    assert!(waiting("carol@example.net") || !acknowledged, "{fault}: lost for carol");
    // The hook counts down; a step beyond the last leaves something to count.
    acknowledged && said.split(' ').nth(1).and_then(|left| left.parse::<i64>().ok()).is_some_and(|left| left >= 0)
}

#[test]
fn what_is_acknowledged_is_there_whatever_step_fails() {
    if std::env::var(DIR).is_ok() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("gatepost-crash-mta-{}", std::process::id()));
    for kind in ["kill", "io", "full"] {
        let last = (0..STEPS).find(|step| attempt(&dir, &format!("{kind}:{step}")));
        assert!(last.is_some_and(|n| n > 10), "{kind}: {last:?}");
    }
    let _ = fs::remove_dir_all(&dir);
}
