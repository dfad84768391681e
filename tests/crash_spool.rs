//! kill -9, EIO and a full disk at every step of every spool operation: an entry is whole or not there, and what
//! was acknowledged stays. The killed process is this test binary, run again.

use gatepost::{
    disk::{Draft, fault},
    message::Address,
    spool::{Entry, QueueId, Recipient, Spool, State},
};
use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

const DIR: &str = "GATEPOST_CRASH_DIR";
const VERB: &str = "GATEPOST_CRASH_VERB";
const BODY: &[u8] = b"A: b\r\n\r\nbody\r\n";
/// More steps than any operation has.
const STEPS: i64 = 60;

fn entry(id: &str) -> Entry {
    let now = UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    Entry {
        id: QueueId::parse(id).expect("an id"),
        arrived: now,
        sender: None,
        size: 0,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        recipients: vec![Recipient::new(Address::parse("c@d.example").expect("an address"))],
        attempts: 0,
        next: now,
        held: false,
        warned: false,
    }
}

fn put(spool: &Spool, id: &str) -> gatepost::disk::Result<Entry> {
    spool.prepare(entry(id), b"", &Draft::from_bytes(BODY.to_vec()))?.commit()
}

fn delivered(mut e: Entry) -> Entry {
    e.recipients[0].state = State::Delivered;
    e
}

fn run(spool: &Spool, verb: &str) -> gatepost::disk::Result<()> {
    let old = QueueId::parse("0000000001").expect("an id");
    match verb {
        "put" => put(spool, "0000000002").map(drop),
        "update" => spool.update(&delivered(Entry { size: BODY.len() as u64, ..entry("0000000001") })),
        "remove" => spool.remove(&old),
        other => unreachable!("{other}"),
    }
}

/// Not a test by itself: what the killed process does. Writes `done` when the operation was acknowledged.
#[test]
fn child() {
    let (Ok(dir), Ok(verb)) = (std::env::var(DIR), std::env::var(VERB)) else { return };
    let dir = PathBuf::from(dir);
    let spool = Spool::open(&dir.join("spool")).expect("opened");
    fault::arm_from_env();
    let done = run(&spool, &verb);
    fault::disarm();
    if done.is_ok() {
        std::fs::write(dir.join("done"), "").expect("written");
    }
}

struct Outcome {
    acknowledged: bool,
    killed: bool,
}

fn attempt(dir: &Path, verb: &str, fault: &str) -> Outcome {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).expect("made");
    let spool = Spool::open(&dir.join("spool")).expect("opened");
    put(&spool, "0000000001").expect("put");
    drop(spool);
    let status = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--test-threads=1", "--quiet"])
        .env(DIR, dir)
        .env(VERB, verb)
        .env("GATEPOST_FAULT", fault)
        .stdout(std::process::Stdio::null())
        .status()
        .expect("started");
    Outcome { acknowledged: dir.join("done").exists(), killed: status.signal() == Some(9) }
}

fn check(dir: &Path, verb: &str, fault: &str, outcome: &Outcome) {
    let at = format!("{verb} with {fault}");
    let spool = Spool::open(&dir.join("spool")).expect("opened after the crash");
    let list = spool.list().expect("listed");
    assert!(!dir.join("spool/corrupt").exists(), "{at}: something was not whole");
    for e in &list {
        assert_eq!(std::fs::read(spool.message(&e.id)).expect("its message"), BODY, "{at}");
    }
    let has = |id: &str| list.iter().find(|e| e.id.as_str() == id);
    let old = has("0000000001");
    match verb {
        "put" => {
            assert!(old.is_some(), "{at}: another entry was lost");
            assert!(has("0000000002").is_some() || !outcome.acknowledged, "{at}: acknowledged and lost");
            assert!(has("0000000002").is_none() || outcome.acknowledged || outcome.killed, "{at}: refused and kept");
        }
        "update" => {
            let state = &old.expect("an update never loses the entry").recipients[0].state;
            assert!(*state == State::Delivered || !outcome.acknowledged, "{at}: sent twice");
        }
        _ => assert!(old.is_none() || !outcome.acknowledged, "{at}: removed and back"),
    }
    let files = std::fs::read_dir(dir.join("spool")).expect("readable").count();
    assert_eq!(files, 2 + 2 * list.len(), "{at}: rubbish was left (beside lock and tmp)");
    assert_eq!(std::fs::read_dir(dir.join("spool/tmp")).expect("readable").count(), 0, "{at}");
}

#[test]
fn nothing_is_lost_or_torn_whatever_step_fails() {
    if std::env::var(DIR).is_ok() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("gatepost-crash-spool-{}", std::process::id()));
    for verb in ["put", "update", "remove"] {
        for kind in ["kill", "io", "full"] {
            let mut ran_through = false;
            for step in 0..STEPS {
                let fault = format!("{kind}:{step}");
                let outcome = attempt(&dir, verb, &fault);
                check(&dir, verb, &fault, &outcome);
                // Beyond the last step nothing happens any more.
                if outcome.acknowledged && step > 0 {
                    ran_through = true;
                    break;
                }
            }
            assert!(ran_through, "{verb} has more steps than {STEPS}");
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
}
