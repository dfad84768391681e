//! A client that talks before the greeting is hung up on (RFC 5321 §4.3.1). Not a session file: the player cannot
//! have bytes on the wire before the server looks.

use gatepost::{
    daemon::Rooms,
    net::Wire,
    smtpd::{self, Kind},
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

fn rooms(dir: &std::path::Path) -> Result<Rooms, Box<dyn std::error::Error>> {
    let path = |name: &str| dir.join(name).display().to_string();
    std::fs::create_dir_all(dir.join("run"))?;
    std::fs::write(dir.join("users"), "")?;
    std::fs::write(dir.join("aliases"), "")?;
    let file = dir.join("gatepost.conf");
    let text = format!(
        "hostname = \"mail.example.org\"\ndomains = [\"example.org\"]\nstate = \"{}\"\nrun = \"{}\"\nusers = \"{}\"\naliases = \"{}\"\n\
         [listen]\nsmtp = [\"127.0.0.1:2525\"]\nsubmission = []\nsubmissions = []\nimap = []\nimaps = []\npop3 = []\npop3s = []\n",
        path("state"),
        path("run"),
        path("users"),
        path("aliases")
    );
    std::fs::write(&file, text)?;
    std::fs::create_dir_all(dir.join("state"))?;
    let (config, _) = gatepost::config::load(&file).map_err(|p| format!("{p:?}"))?;
    Ok(Rooms::build(config)?)
}

#[test]
fn who_does_not_wait_for_the_greeting_is_hung_up_on() {
    let dir = std::env::temp_dir().join(format!("gatepost-early-{}", std::process::id()));
    let rooms = rooms(&dir).unwrap();
    let play = |early: &[u8]| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(early).unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        smol::block_on(smtpd::serve(rooms.smtp(Kind::Mx), Wire::unix(smol::Async::new(theirs).unwrap(), rooms.drain.clone())));
        let mut said = String::new();
        ours.read_to_string(&mut said).unwrap();
        said
    };
    for early in ["EHLO bot.example\r\n", "\r\n", "G"] {
        assert_eq!(play(early.as_bytes()), "554 5.5.1 You did not wait for the reply\r\n", "{early:?}");
    }
    // It hung up before it was greeted; nobody is there to hear anything.
    assert_eq!(play(b""), "");
    let _ = std::fs::remove_dir_all(&dir);
}
